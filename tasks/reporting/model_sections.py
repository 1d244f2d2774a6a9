"""Sections on the model: how it was trained, and what it does on the test images."""

import csv
import io
import re

from tasks.reporting import wording
from tasks.reporting.facts import RunFacts, StageFacts
from tasks.reporting.metric_tables import is_bound, metric_table, other_metrics
from tasks.reporting.view import Cell, Figure, Section, Table, number_cell

_CAPTIONS = {
    "curves.png": (
        "Loss and accuracy by epoch",
        "A validation curve that parts from the training curve is overfitting.",
    ),
    "confusion_matrix.png": (
        "Confusion matrix",
        "Rows are the true classes, columns the predicted ones; right answers on the diagonal.",
    ),
    "mistakes.png": (
        "Worst mistakes",
        "Test images that were misclassified with the greatest confidence.",
    ),
    "answers.png": (
        "Answers",
        "Test images of every class, chosen by chance, with the answer and its confidence.",
    ),
}

_SETTINGS = (
    "architecture",
    "alpha",
    "image_size",
    "channels",
    "exif_orientation",
    "weights",
    "frozen",
    "head",
    "optimizer",
    "learning_rate",
    "epochs",
    "batch_size",
    "validation_split",
    "class_weights",
    "early_stopping",
    "mixed_precision",
    "augmentation",
    "privacy",
    "seed",
)

_TRAINING = ("accuracy_inference", "accuracy_logged", "val_accuracy", "epochs", "images_per_second")
"""The figures of training that come first."""

_PRIVACY = (
    *("dp.epsilon", "dp.epsilon_rdp", "dp.epsilon_group", "dp.delta", "dp.noise_multiplier"),
    *("dp.l2_norm_clip", "dp.sampling_rate", "dp.steps", "dp.images_per_group"),
)

_EVALUATION = (
    "balanced_accuracy",
    "balanced_accuracy_above_chance",
    "accuracy",
    "least_recall",
    "roc_auc",
    "rows",
    "champion.balanced_accuracy",
    "champion.accuracy",
)


_SHARED = ("the same group", "the same image", "nearly the same image")
"""What ``validate`` looks for on both sides of the split."""


def training_section(run: RunFacts) -> Section:
    """Return settings, figures and curves of the training."""
    stage = run.stages["train"]
    section = Section(key="training", title="Training", absence=stage.absence)
    settings = run.pipeline.get("train")
    if isinstance(settings, dict):
        section.facts = [
            (name.replace("_", " ").capitalize(), _setting(settings[name], name))
            for name in _SETTINGS
            if settings.get(name) is not None and not _idle(name, settings)
        ]
    tables = [
        metric_table(stage, list(_TRAINING)),
        metric_table(stage, list(_PRIVACY), title="Differential privacy"),
        _history_table(stage),
        other_metrics(stage, {*_TRAINING, *_PRIVACY}),
    ]
    section.tables = [table for table in tables if table is not None]
    section.figures = figures_of(stage) + [
        figure for figure in figures_of(run.stages["evaluate"]) if figure.name == "curves.png"
    ]
    return section


def evaluation_section(run: RunFacts) -> Section:
    """Return the metrics on the test images, class by class, with the pictures."""
    stage = run.stages["evaluate"]
    section = Section(key="evaluation", title="Evaluation", absence=stage.absence)
    if stage.manifest is not None:
        section.lead = (
            "On the test images, by the exported model that would be served."
            f" {_held_out(run.stages['validate'])}"
            f" {wording.intervals(stage.read_json('evaluation.json'))}, from a bootstrap over"
            " the groups of the split (patients, where that is its key)."
        )
    classes, shown = _class_table(stage)
    tables = [
        metric_table(stage, list(_EVALUATION)),
        classes,
        _confusion_table(stage),
        other_metrics(stage, {*_EVALUATION, *shown}),
    ]
    section.tables = [table for table in tables if table is not None]
    section.figures = [figure for figure in figures_of(stage) if figure.name != "curves.png"]
    return section


def _held_out(validate: StageFacts) -> str:
    """Say what the test images do not share with the training images, as far as it was checked."""
    checks = validate.read_json("validation.json").get("checks")
    sound = {
        str(check.get("name")): check.get("severity") == "ok"
        for check in (checks if isinstance(checks, list) else [])
        if isinstance(check, dict)
    }
    apart = [what for what in _SHARED if sound.get(f"{what} on both sides of the split", False)]
    if not apart:
        return "What they share with the training images is not known."
    text = f"Checked: {' or '.join(apart)} is never on both sides of the split."
    others = [what for what in _SHARED if what not in apart]
    if others:
        text += f" That is not so, or was not looked for, with {' and '.join(others)}."
    return f"{text} Different images of one event or source, which no column names, may be."


def figures_of(
    stage: StageFacts, captions: dict[str, tuple[str, str]] | None = None
) -> list[Figure]:
    """Return every picture that the stage committed, with a title and how to read it."""
    captions = _CAPTIONS if captions is None else captions
    figures = []
    for name in stage.outputs(".png"):
        title, caption = captions.get(name, (_title(name), ""))
        figures.append(Figure(stage=stage.name, name=name, title=title, caption=caption))
    return figures


def _class_table(stage: StageFacts) -> tuple[Table | None, set[str]]:
    """Return the table of per-class measures, and the names of the metrics that it shows."""
    metrics = stage.metrics
    measures = ("recall", "precision", "f1")
    # a class name may hold dots itself, so only the first one divides
    classes = [
        name.removeprefix("recall.")
        for name in metrics
        if name.startswith("recall.") and not is_bound(name, metrics)
    ]
    rows, shown = [], set()
    for label in classes:
        cells = [Cell(label)]
        for measure in measures:
            name = f"{measure}.{label}"
            shown |= {name, f"{name}.low", f"{name}.high"}
            around = wording.interval(metrics.get(f"{name}.low"), metrics.get(f"{name}.high"))
            cells.append(number_cell(wording.number(metrics.get(name)), around))
        rows.append(cells)
    if not rows:
        return None, set()
    headings = ["Class", "Recall", "Precision", "F1"]
    return Table(title="Class by class", headings=headings, rows=rows), shown


def _confusion_table(stage: StageFacts) -> Table | None:
    """Return the confusion matrix in numbers, for those who cannot see the picture."""
    document = stage.read_json("evaluation.json")
    classes, counts = document.get("classes"), document.get("confusion_matrix")
    if not isinstance(classes, list) or not isinstance(counts, list):
        return None
    return Table(
        title="Confusion matrix in numbers",
        headings=["True class", *(f"as {name}" for name in classes)],
        rows=[
            [Cell(str(name)), *(number_cell(f"{count:,}") for count in row)]
            for name, row in zip(classes, counts, strict=True)
        ],
        folded=True,
    )


def _history_table(stage: StageFacts) -> Table | None:
    raw = stage.read_bytes("history.csv")
    if raw is None:
        return None
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8", errors="replace"))))
    if len(rows) < 2:
        return None
    headings, *epochs = rows
    return Table(
        title="Epoch by epoch",
        headings=[heading.replace("_", " ") for heading in headings],
        rows=[[number_cell(_decimals(text)) for text in epoch] for epoch in epochs],
        folded=True,
    )


def _decimals(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    return text if re.fullmatch(r"-?\d+", text) else f"{value:.4f}"


def _idle(name: str, settings: dict[str, object]) -> bool:
    """Tell whether the architecture does not use a setting."""
    architecture = settings.get("architecture")
    if name == "alpha":
        return architecture != "mobilenet_v2"
    return name == "head" and architecture in ("cnn", "dense")


def _setting(value: object, name: str = "") -> str:
    if isinstance(value, dict):
        parts = [f"{key} {_setting(part)}" for key, part in value.items() if part]
        return ", ".join(parts) or "off"
    if isinstance(value, list):
        return (" by " if name == "image_size" else ", ").join(map(str, value)) or "none"
    return str(value)


def _title(name: str) -> str:
    words = name.removesuffix(".png").replace("_", " ")
    return words[:1].upper() + words[1:]
