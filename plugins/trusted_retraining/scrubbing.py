"""Keeps credentials and control characters out of log lines.

Airflow's masker knows the values of its own connections. What a pod holds comes from secrets that
Airflow never sees, so its lines are searched for what credentials look like.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from tasks.spec.foreign_text import visible
from tasks.spec.masking import MASK, masked


def scrub(text: str) -> str:
    """Return a text without what looks like credentials, and without control characters.

    Parameters
    ----------
    text : str
        A log line, or several.
    """
    return visible(masked(text), keep="\n\t")


def scrub_pod(document: dict[str, Any], *, known: Collection[str]) -> dict[str, Any]:
    """Return a pod as it may be logged: without the values of variables that are not ours.

    A template file may hold credentials, and a name and its value are lines of their own in YAML.

    Parameters
    ----------
    document : dict
        As the API server has it.
    known : collection of str
        Names of the variables whose values are no secrets.
    """
    told = copy.deepcopy(document)
    told["metadata"].pop("managedFields", None)
    for kind in ("initContainers", "containers"):
        for container in told["spec"].get(kind) or ():
            for variable in container.get("env") or ():
                if "value" in variable and variable["name"] not in known:
                    variable["value"] = MASK
    return told


class ScrubbedLog:
    """A logger that masks what looks like credentials in all that passes through it.

    Parameters
    ----------
    log : object
        The logger that writes the lines.
    """

    _METHODS = ("debug", "info", "warning", "error", "critical", "exception", "log")

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._log, name)
        if name not in self._METHODS:
            return method
        first = 1 if name == "log" else 0

        def write(*arguments: Any, **more: Any) -> Any:
            level, rest = arguments[:first], arguments[first:]
            text = (scrub(_formatted(*rest)).rstrip("\n"),) if rest else ()
            return method(*level, *text, **more)

        return write


def _formatted(message: Any, *values: Any) -> str:
    """Put the values into a line before it is searched: name and value may come apart in it."""
    if not values:
        return str(message)
    try:
        named = len(values) == 1 and isinstance(values[0], Mapping)
        return str(message) % (values[0] if named else values)
    except (TypeError, ValueError, KeyError):
        # a line that was put together wrongly is better than none
        return " ".join(str(each) for each in (message, *values))
