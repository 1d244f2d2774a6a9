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
    "worst_group_accuracy",
)

_RATES = {
    "accuracy": "Accuracy",
    "selection_rate": "Favourable outcome",
    "true_positive_rate": "Findings found (TPR)",
    "false_positive_rate": "False alarms (FPR)",
    "false_negative_rate": "Findings missed (FNR)",
}
"""Rates of a group as ``fairness.json`` names them, and as people do."""

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
    section.lead += (
        f" {wording.intervals(document)}: those of differences and gaps from a bootstrap over"
        " patients, those of a single group Wilson's, which take its images as independent."
    )
    names, shown = _attributes(stage), set()
    for attribute in names:
        ordered = [f"{attribute}.{name}" for name in _FAIRNESS]
        first = attribute == names[0]
        table = metric_table(stage, ordered, title=f"By {attribute}", explain=first)
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
    section.figures = figures_of(stage, _pictures(document))
    return section


def explanations_section(run: RunFacts) -> Section:
    """Return the heat maps and the share of explanation mass inside the relevant region."""
    stage = run.stages["explain"]
    section = Section(key="explanations", title="Explanations", absence=stage.absence)
    if stage.manifest is not None:
        section.lead = (
            "What speaks for the predicted class, on images taken in turn from every class, rightly"
            " and wrongly classified: mistakes are more frequent among them than among all test"
            " images."
        )
    names = ["mass_inside_region", "region_area", "focus", "fidelity", "images"]
    shown = {*names, *(f"{name}{end}" for name in names for end in (".low", ".high"))}
    tables = [
        metric_table(stage, names),
        other_metrics(stage, shown),
        _explained_table(stage.read_json("explanations.json")),
    ]
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
    section.lead = (
        "Test images whose pixels are each changed by at most the strength, a share of the pixel"
        " range, so as to mislead the model. FGSM takes one step, PGD several. One grey level of an"
        " 8-bit image is 0.0039 of the range. These attacks bound the accuracy under attack from"
        " above only: a stronger one may find more."
    )
    accuracy, shown = _attacks_table(stage, "accuracy", title="Accuracy under attack, by strength")
    success, fooled = _attacks_table(
        stage, "success_rate", title="Share of right answers turned wrong, by strength"
    )
    names = ["clean_accuracy", "images"]
    tables = [
        metric_table(stage, names),
        accuracy,
        success,
        other_metrics(stage, {*names, *shown, *fooled}),
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
                _cell(row.get("rows"), "rows"),
                *(_cell(row.get(key), key) for key in rates),
            ]
            for row in rows
        ],
    )


def _explained_table(document: dict[str, Any]) -> Table | None:
    """Return what is known of each explained image."""
    images = document.get("images")
    rows = [image for image in images if isinstance(image, dict)] if images else []
    if not rows:
        return None
    columns = {
        "image_id": "Image",
        "true_class": "True class",
        "predicted_class": "Predicted",
        "probability": "Probability",
        "mass_inside_region": "Mass inside",
        "region_area": "Region's area",
        "fidelity": "Fidelity",
    }
    return Table(
        title="Image by image",
        headings=list(columns.values()),
        rows=[[_cell(row.get(column), column) for column in columns] for row in rows],
        folded=True,
    )


def _attacks_table(stage: StageFacts, measure: str, *, title: str) -> tuple[Table | None, set[str]]:
    """Return a measure by attack and strength, and the names of the metrics shown."""
    found: dict[str, dict[str, str]] = {}
    shown, strengths = set(), set()
    for name in stage.metrics:
        match = re.fullmatch(rf"(.+)\.{measure}_at_([\d.e-]+)", name)
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
    return Table(title=title, headings=headings, rows=rows), shown


def _cell(value: object, column: str) -> Cell:
    if isinstance(value, dict):
        # a rate with its interval and the counts that it rests on
        low, high = _as_float(value.get("low")), _as_float(value.get("high"))
        if value.get("value") is None:
            return number_cell("no rows")
        text = f"{value.get('hits')} of {value.get('rows')}"
        around = wording.interval(low, high)
        hint = f"{text}\n{around}" if around else text
        return number_cell(wording.number(_as_float(value["value"])), hint)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int):
        return number_cell(f"{value:,}")
    if isinstance(value, float):
        return number_cell(wording.number(value, name=column))
    return Cell("" if value is None else str(value))


def _as_float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
