"""What a run changed of its pipeline file, by whom, and what was said of its model before."""

from typing import Any

from tasks.contract import EarlierVerdict
from tasks.reporting import wording
from tasks.reporting.view import Cell, Table
from tasks.spec import Change
from tasks.spec.foreign_text import visible
from tasks.spec.masking import without_queries


def changes_table(changed: list[Change], requested_by: str) -> Table | None:
    """Return each changed field with its value in the file and in the run; rules come first."""
    if not changed:
        return None
    ordered = sorted(changed, key=lambda change: (not change.is_rule, change.field))
    return Table(
        title=f"Changed for this run{by(requested_by)}",
        headings=["Field", "In the pipeline file", "In this run"],
        rows=[
            [
                Cell(change.field, "code", "decides what is judged" if change.is_rule else ""),
                Cell(value_text(change.file), "lines"),
                Cell(value_text(change.run), "lines"),
            ]
            for change in ordered
        ],
    )


def earlier_table(earlier: list[EarlierVerdict]) -> Table | None:
    """Return the earlier verdicts on the very same model, the latest first."""
    if not earlier:
        return None
    return Table(
        title="Earlier verdicts on this very model (equal digest)",
        headings=["When", "Verdict", "Triggered by", "Reasons"],
        rows=[
            [
                Cell(wording.moment(each.at) if each.at else "before verdicts were kept"),
                Cell(each.verdict, "fail" if each.verdict == "rejected" else "text"),
                Cell(each.requested_by or "not recorded"),
                Cell(
                    "; ".join(each.reasons) or "none",
                    hint=f"changed: {', '.join(each.changed)}" if each.changed else "",
                ),
            ]
            for each in reversed(earlier)
        ],
    )


def summary(changed: list[Change], requested_by: str) -> str:
    """Return in a few words which rules were changed, and by whom: ``6 removed, by admin``."""
    rules = [change for change in changed if change.is_rule]
    parts = []
    for change in rules:
        if change.field != "blessing.rules":
            continue
        before, after = _entries(change.file), _entries(change.run)
        removed = [rule for rule in before if rule not in after]
        added = [rule for rule in after if rule not in before]
        parts += [f"{len(removed)} removed"] if removed else []
        parts += [f"{len(added)} added"] if added else []
    others = [change.field for change in rules if change.field != "blessing.rules"]
    parts += others[:3] + ([f"{len(others) - 3} more fields"] if len(others) > 3 else [])
    return ", ".join(parts) + by(requested_by)


def by(requested_by: str) -> str:
    """Return ``, by NAME``; empty when nobody is known."""
    return f", by {visible(requested_by)}" if requested_by else ""


def value_text(value: Any) -> str:
    """Return a value as people read it: rules and other entries of a list line by line."""
    if value is None:
        return "not set"
    if isinstance(value, list):
        return without_queries("\n".join(_entry(each) for each in value)) or "none"
    return without_queries(_entry(value))


def _entry(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    if "metric" not in value:
        return ", ".join(f"{key} {each}" for key, each in value.items() if each)
    given = [name for name in ("min", "max") if value.get(name) is not None]
    bounds = ", ".join(f"{name} {value[name]:g}" for name in given)
    return f"{value['metric']}: {bounds}{' (interval)' if value.get('on') == 'interval' else ''}"


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
