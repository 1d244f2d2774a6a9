"""Section on fairness: what AIF360 and Fairlearn measured, group by group."""

from typing import Any

from tasks.reporting import wording
from tasks.reporting.facts import RunFacts, StageFacts
from tasks.reporting.metric_tables import metric_table, other_metrics, value_cell
from tasks.reporting.model_sections import figures_of
from tasks.reporting.view import Cell, Remark, Section, Table

_FAIRNESS = (
    "statistical_parity_difference",
    "disparate_impact",
    "equal_opportunity_difference",
    "average_odds_difference",
    "theil_index",
    "accuracy_gap",
    "true_positive_rate_gap",
    "false_positive_rate_gap",
    "worst_group_accuracy",
)

_FAIRLEARN = tuple(
    f"fairlearn.{name}_{what}"
    for name in (
        *("accuracy", "demographic_parity", "equal_opportunity"),
        *("false_positive_rate", "equalized_odds"),
    )
    for what in ("difference", "ratio")
)

_MANY_GROUPS = 24
"""Groups above which their table, as of an intersection, is shown on demand."""

_RATES = {
    "accuracy": "Accuracy",
    "selection_rate": "Favourable outcome",
    "true_positive_rate": "Findings found (TPR)",
    "false_positive_rate": "False alarms (FPR)",
    "false_negative_rate": "Findings missed (FNR)",
}
"""Rates of a group as ``fairness.json`` names them, and as people do."""


def fairness_section(run: RunFacts) -> Section:
    """Return AIF360's and Fairlearn's measures for each protected attribute, with the groups and
    pictures."""
    stage = run.stages["fairness"]
    section = Section(key="fairness", title="Fairness", absence=stage.absence)
    if stage.manifest is None:
        return section
    settings = run.pipeline.get("fairness")
    favourable = settings.get("favourable") if isinstance(settings, dict) else None
    outcome = "classified correctly" if favourable in (None, "correct") else str(favourable)
    section.lead = (
        f"The favourable outcome is: {outcome}. Differences are the unprivileged group's figure"
        " less the privileged group's."
    )
    document = stage.read_json("fairness.json")
    section.lead += (
        f" {wording.intervals(document)}: those of differences and gaps from a bootstrap over"
        " the groups of the split, those of a single group Wilson's, which take its images as"
        " independent."
    )
    names, shown = _attributes(stage), set()
    for attribute in names:
        ordered = [f"{attribute}.{name}" for name in _FAIRNESS]
        first = attribute == names[0]
        table = metric_table(stage, ordered, title=f"By {attribute}", explain=first)
        if table is not None:
            section.tables.append(table)
        shown |= {*ordered, *(f"{name}{end}" for name in ordered for end in (".low", ".high"))}
        compared = [f"{attribute}.{name}" for name in _FAIRLEARN]
        shown |= {*compared, *(f"{name}{end}" for name in compared for end in (".low", ".high"))}
        for found in (
            _groups_table(document, attribute),
            metric_table(
                stage, compared, title=_fairlearn_title(document, attribute), explain=first
            ),
            _frame_table(document, attribute),
        ):
            section.tables += [found] if found is not None else []
    if any(f"{attribute}.{name}" in stage.metrics for attribute in names for name in _FAIRLEARN):
        section.lead += (
            " Fairlearn compares the two groups that differ most, whichever they are, and draws"
            " images rather than groups of the split: its intervals are the narrower ones, and that"
            " of a difference never reaches 0."
        )
    if not names:
        section.remarks.append(Remark(text="No protected attribute was declared or judged."))
    rest = other_metrics(stage, shown)
    section.tables += [rest] if rest else []
    section.figures = figures_of(stage, _pictures(document))
    return section


def _attributes(stage: StageFacts) -> list[str]:
    """Return the protected attributes in the order of their metrics; a name may hold dots."""
    found = (
        name.rpartition(".")[0] for name in stage.metrics if name.rpartition(".")[2] in _FAIRNESS
    )
    # both libraries have an equal opportunity difference
    return list(dict.fromkeys(n for n in found if n and not n.endswith(".fairlearn")))


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the check wrote of each attribute."""
    entries = document.get("attributes")
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def _pictures(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        str(entry.get("picture")): (f"Groups of {entry.get('attribute')}", "")
        for entry in _entries(document)
    }


def _groups_table(document: dict[str, Any], attribute: str) -> Table | None:
    """Return the rates of each group, with what they rest on."""
    entries = (e for e in _entries(document) if e.get("attribute") == attribute)
    entry = next(entries, {})
    groups = entry.get("groups")
    rows = [group for group in groups if isinstance(group, dict)] if groups else []
    rates = [key for key in _RATES if any(isinstance(row.get(key), dict) for row in rows)]
    if document.get("favourable") == "correct" and "selection_rate" in rates:
        # then it is the accuracy, said twice
        rates.remove("selection_rate")
    if not rows:
        return None
    return Table(
        title=f"Groups of {attribute}",
        headings=["Group", "Role", "Rows", *(_RATES[key] for key in rates)],
        rows=[
            [
                Cell(str(row.get("group"))),
                Cell(str(row.get("role", "")), hint=str(row.get("why_not_judged") or "")),
                value_cell(row.get("rows"), "rows"),
                *(value_cell(row.get(key), key) for key in rates),
            ]
            for row in rows
        ],
        folded=len(rows) > _MANY_GROUPS,
    )


def _fairlearn_title(document: dict[str, Any], attribute: str) -> str:
    """Return a heading that says of which outcome Fairlearn's figures are."""
    found = _frame(document, attribute).get("outcome")
    what = f": {found} predicted" if found not in (None, "correct") else ""
    return f"By {attribute}, Fairlearn{what}"


def _frame(document: dict[str, Any], attribute: str) -> dict[str, Any]:
    entry = next((e for e in _entries(document) if e.get("attribute") == attribute), {})
    frame = entry.get("fairlearn")
    return frame if isinstance(frame, dict) else {}


def _frame_table(document: dict[str, Any], attribute: str) -> Table | None:
    """Return the rates of each group as Fairlearn's MetricFrame has them."""
    groups = _frame(document, attribute).get("by_group")
    rows = [row for row in groups if isinstance(row, dict)] if isinstance(groups, list) else []
    labels = {**_RATES, "selection_rate": "Selection rate", "true_positive_rate": "TPR"}
    labels["false_positive_rate"] = "FPR"
    rates = [key for key in labels if any(isinstance(row.get(key), dict) for row in rows)]
    if not rows:
        return None
    return Table(
        title=f"Groups of {attribute}, Fairlearn's MetricFrame",
        headings=["Group", "Count", *(labels[key] for key in rates)],
        rows=[
            [
                Cell(str(row.get("group"))),
                value_cell(row.get("count"), "count"),
                *(value_cell(row.get(key, _TOO_FEW), key) for key in rates),
            ]
            for row in rows
        ],
        folded=True,
    )


_TOO_FEW = {"value": None, "absent": "too few rows"}
