"""What a check of the arranged data found."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """What a check found.

    Attributes
    ----------
    name : str
        What was checked.
    severity : {'ok', 'warning', 'error'}
        An error stops the night.
    message : str
        One line for a person, with up to five examples.
    counts : dict of str to int
        Numbers behind it.
    """

    name: str
    severity: Severity
    message: str
    counts: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self)
