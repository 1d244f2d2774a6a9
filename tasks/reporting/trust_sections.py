"""Sections on the checks: fairness, explanations, adversarial robustness."""

import re
from typing import Any

from tasks.reporting import wording
from tasks.reporting.facts import RunFacts, StageFacts
from tasks.reporting.metric_tables import metric_table, other_metrics
from tasks.reporting.model_sections import figures_of
from tasks.reporting.view import Cell, Remark, Section, Table, number_cell

_FAIRNESS = (
    "statistical_parity_difference",
    "disparate_impact",
    "equal_opportunity_difference",
    "average_odds_difference",
    "theil_index",
    "accuracy_gap",
    "true_positive_rate_gap",
    "false_positive_rate_gap",
)

_EXPLANATIONS = {
    "explanations.png": (
        "Where the model looks",
        "Each test image with the superpixels that speak for its predicted class (LIME); the"
        " relevant region is outlined where it is known.",
    )
}

_ROBUSTNESS = {
    "accuracy_by_strength.png": (
        "Accuracy against strength of attack",
        "Strength is the largest change of a pixel, as a share of the pixel range.",
    ),
    "adversarial_examples.png": (
        "Adversarial examples",
        "The original, the change that was added (amplified), and what the model then saw.",
    ),
}


def fairness_section(run: RunFacts) -> Section:
    """Return AIF360's measures for each protected attribute, with the groups and pictures."""
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
    names, shown = _attributes(stage), set()
    for attribute in names:
        ordered = [f"{attribute}.{name}" for name in _FAIRNESS]
        table = metric_table(stage, ordered, title=f"By {attribute}")
        if table is not None:
            section.tables.append(table)
        shown |= {*ordered, *(f"{name}{end}" for name in ordered for end in (".low", ".high"))}
        groups = _groups_table(document, attribute)
        if groups is not None:
            section.tables.append(groups)
    if not names:
        section.remarks.append(Remark(text="No protected attribute was declared or judged."))
    rest = other_metrics(stage, shown)
    section.tables += [rest] if rest else []
    section.figures = figures_of(
        stage, {f"fairness_{name}.png": (f"Groups by {name}", "") for name in names}
    )
    return section


def explanations_section(run: RunFacts) -> Section:
    """Return the heat maps and the share of explanation mass inside the relevant region."""
    stage = run.stages["explain"]
    section = Section(key="explanations", title="Explanations", absence=stage.absence)
    names = ["mass_inside_region", "region_area"]
    tables = [metric_table(stage, names), other_metrics(stage, set(names))]
    section.tables = [table for table in tables if table is not None]
    if stage.manifest is not None and "mass_inside_region" not in stage.metrics:
        section.remarks.append(
            Remark(text="The data hold no masks of the relevant region: judge by eye.")
        )
    section.figures = figures_of(stage, _EXPLANATIONS)
    return section


def robustness_section(run: RunFacts) -> Section:
    """Return accuracy under attack by strength, and examples."""
    stage = run.stages["robustness"]
    section = Section(key="robustness", title="Adversarial robustness", absence=stage.absence)
    attacks, shown = _attacks_table(stage)
    tables = [
        metric_table(stage, ["clean_accuracy"]),
        attacks,
        other_metrics(stage, {"clean_accuracy", *shown}),
    ]
    section.tables = [table for table in tables if table is not None]
    section.figures = figures_of(stage, _ROBUSTNESS)
    return section


def _attributes(stage: StageFacts) -> list[str]:
    """Return the protected attributes in the order of their metrics; a name may hold dots."""
    found = (
        name.rpartition(".")[0] for name in stage.metrics if name.rpartition(".")[2] in _FAIRNESS
    )
    return list(dict.fromkeys(name for name in found if name))


def _groups_table(document: dict[str, Any], attribute: str) -> Table | None:
    """Return the figures of each group, whatever figures the check computed."""
    attributes = document.get("attributes")
    entry = attributes.get(attribute) if isinstance(attributes, dict) else None
    if isinstance(attributes, list):
        matching = (e for e in attributes if isinstance(e, dict))
        entry = next((e for e in matching if e.get("attribute") == attribute), None)
    groups = entry.get("groups") if isinstance(entry, dict) else None
    if isinstance(groups, dict):
        groups = [{"group": name, **values} for name, values in groups.items()]
    rows = [group for group in groups or [] if isinstance(group, dict)]
    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return Table(
        title=f"Groups of {attribute}",
        headings=[column.replace("_", " ").capitalize() for column in columns],
        rows=[[_cell(row.get(column), column) for column in columns] for row in rows],
    )


def _attacks_table(stage: StageFacts) -> tuple[Table | None, set[str]]:
    """Return accuracy by attack and strength, and the names of the metrics shown."""
    found: dict[str, dict[str, str]] = {}
    shown, strengths = set(), set()
    for name in stage.metrics:
        match = re.fullmatch(r"(.+)\.accuracy_at_([\d.e-]+)", name)
        if match:
            attack, strength = match.groups()
            found.setdefault(attack, {})[strength] = name
            strengths.add(strength)
            shown |= {name, f"{name}.low", f"{name}.high"}
    if not found:
        return None, set()
    columns = sorted(strengths, key=float)
    rows = []
    for attack, names in found.items():
        cells = [Cell(attack.upper())]
        for strength in columns:
            name = names.get(strength, "")
            around = wording.interval(
                stage.metrics.get(f"{name}.low"), stage.metrics.get(f"{name}.high")
            )
            value = stage.metrics.get(name)
            cells.append(number_cell("" if value is None else wording.number(value), around))
        rows.append(cells)
    headings = ["Attack", *(f"at {strength}" for strength in columns)]
    return Table(title="Accuracy under attack, by strength", headings=headings, rows=rows), shown


def _cell(value: object, column: str) -> Cell:
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int):
        return number_cell(f"{value:,}")
    if isinstance(value, float):
        return number_cell(wording.number(value, name=column))
    return Cell("" if value is None else str(value))
