"""Sections on the checks of the model itself: explanations, adversarial robustness."""

import re
from typing import Any

from tasks.reporting import wording
from tasks.reporting.facts import RunFacts, StageFacts
from tasks.reporting.metric_tables import is_bound, metric_table, other_metrics, value_cell
from tasks.reporting.model_sections import figures_of
from tasks.reporting.view import Cell, Remark, Section, Table, number_cell

_METHODS = {
    "": "LIME, superpixels",
    "gradient_shap": "SHAP, expected gradients",
    "partition_shap": "SHAP, Owen values of halves",
}
"""Methods of explanation by the prefix of their metrics, and as the field calls them."""

_EXPLANATIONS = {
    "explanations.png": (
        "Where the model looks",
        "Each test image with the superpixels that speak for its predicted class (LIME); the"
        " relevant region is outlined where it is known.",
    ),
    "explanations_gradient_shap.png": (
        "What each class rests on, pixel by pixel",
        "Attributions of the pixels by expected gradients (SHAP) to the probability of each class,"
        " whose name and probability stand above. Over the image: the share of what speaks for the"
        " predicted class inside the relevant region, and the region's share of the area.",
    ),
    "explanations_partition_shap.png": (
        "What each class rests on, by halves of halves",
        "Owen values (SHAP) of rectangles that are halved as long as they change the answer, to the"
        " probability of each class; hidden parts are blurred. Shares over the image as above.",
    ),
}

_EXPLANATIONS |= {
    name.replace(".png", "_parts.png"): (
        f"{title}: part by part",
        "Means over the images of each predicted class, and each part's share of what speaks for"
        " the class over its share of the image: 1 where it counts as much as anywhere.",
    )
    for name, (title, _) in _EXPLANATIONS.items()
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
    tables, shown = [], set()
    prefixes = [prefix for prefix in _METHODS if _explains(stage, prefix)]
    for number, prefix in enumerate(prefixes):
        dot = f"{prefix}." if prefix else ""
        names = [f"{dot}{name}" for name in _EXPLAINED]
        names += ["images"] if number == 0 else []
        shown |= {*names, *(f"{name}{end}" for name in names for end in (".low", ".high"))}
        title = _METHODS[prefix] if prefixes != [""] else ""
        tables.append(metric_table(stage, names, title=title, explain=number == 0))
        parts, of_parts = _parts_table(stage, dot, title=title)
        tables.append(parts)
        shown |= of_parts
    tables.append(other_metrics(stage, shown))
    for prefix in prefixes:
        name = f"explanations_{prefix}.json" if prefix else "explanations.json"
        title = "Image by image" + (f": {_METHODS[prefix]}" if prefixes != [""] else "")
        tables.append(_explained_table(stage.read_json(name), title))
    section.tables = [table for table in tables if table is not None]
    if stage.manifest is not None and not any(
        name.endswith("mass_inside_region") or "part_focus." in name for name in stage.metrics
    ):
        section.remarks.append(
            Remark(text="The data hold no masks of the relevant region: judge by eye.")
        )
    section.figures = figures_of(stage, _EXPLANATIONS)
    return section


_EXPLAINED = (
    *("mass_inside_region", "region_area", "focus", "fidelity", "additivity_gap"),
    "images_with_mass",
)
"""What is told of each method of explanation."""


def _explains(stage: StageFacts, prefix: str) -> bool:
    """Tell whether a method was used; of LIME, whose metrics have no prefix, the file tells it."""
    if prefix:
        return any(name.startswith(f"{prefix}.") for name in stage.metrics)
    others = [method for method in _METHODS if method and _explains(stage, method)]
    return "explanations.json" in stage.outputs(".json") or not others


def _parts_table(stage: StageFacts, dot: str, *, title: str) -> tuple[Table | None, set[str]]:
    """Return what rests on each part of aligned images, and the names of the metrics shown."""
    measures = {
        f"{dot}mass_inside_part.": "Share of what speaks for the class",
        f"{dot}part_focus.": "Focus (1: as anywhere)",
    }
    parts = [
        name.removeprefix(f"{dot}part_focus.")
        for name in stage.metrics
        if name.startswith(f"{dot}part_focus.") and not is_bound(name, stage.metrics)
    ]
    rows, shown = [], set()
    for part in parts:
        cells = [Cell(part, hint=f"{stage.name}.{dot}part_focus.{part}")]
        for measure in measures:
            name = f"{measure}{part}"
            around = wording.interval(
                stage.metrics.get(f"{name}.low"), stage.metrics.get(f"{name}.high")
            )
            cells.append(number_cell(wording.number(stage.metrics.get(name)), around))
            shown |= {name, f"{name}.low", f"{name}.high"}
        rows.append([*cells, Cell(stage.notes.get(f"{dot}part_focus.{part}", ""))])
    if not rows:
        return None, set()
    headings = ["Part", *measures.values(), "What it says"]
    return Table(
        title=f"{title or 'Explanations'}, part by part", headings=headings, rows=rows
    ), shown


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


def _explained_table(document: dict[str, Any], title: str) -> Table | None:
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
        "expected": "Probability without the image",
        "additivity_gap": "Gap of the sum",
    }
    columns = {key: text for key, text in columns.items() if any(key in row for row in rows)}
    return Table(
        title=title,
        headings=list(columns.values()),
        rows=[[value_cell(row.get(column), column) for column in columns] for row in rows],
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
