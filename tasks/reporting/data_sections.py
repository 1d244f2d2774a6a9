"""The section on the data: what came in, what was kept, what was set aside, and why."""

import csv
import io
import json
from collections import Counter
from typing import Any

from tasks.reporting.facts import RunFacts, StageFacts
from tasks.reporting.metric_tables import other_metrics
from tasks.reporting.model_sections import figures_of
from tasks.reporting.view import Cell, Remark, Section, Table, number_cell

_EXAMPLES, _REASONS = 5, 12

_COUNTS = {
    "rows": "Rows in the source",
    "usable": "Rows with a usable image",
    "missing": "Rows whose image is absent",
    "quarantined": "Rows whose image is broken",
    "duplicates": "Images that repeat another",
    "turned": "Images whose EXIF data turn them upright",
    "regions": "Images with a mask of the relevant region",
}
"""Metrics of ingest that are counts."""


_CAPTIONS = {
    "near_duplicates.png": (
        "Near duplicates",
        "Images that show nearly the same picture. They are kept on one side of the split, unless "
        "the data say the side themselves or too many images look alike.",
    )
}


def data_section(run: RunFacts) -> Section:
    """Return counts, quarantine, filter steps, classes by split and the validation's findings."""
    ingest, arrange = run.stages["ingest"], run.stages["arrange"]
    section = Section(key="data", title="Data")
    if ingest.manifest is None:
        section.absence = f"ingest {ingest.absence}"
    for name in ("transform", "filter", "arrange", "validate"):
        stage = run.stages[name]
        if stage.manifest is None:
            section.remarks.append(Remark(text=f"{name}: {stage.absence}.", serious=True))
    section.facts = _facts(ingest, arrange)
    candidates = [
        _classes_table(arrange),
        _filter_table(run.stages["filter"]),
        _quarantine_table(ingest),
        _checks_table(run.stages["validate"]),
        other_metrics(arrange, set(), title="All figures of arrange"),
        other_metrics(run.stages["validate"], set(), title="All figures of validate"),
    ]
    section.tables = [table for table in candidates if table is not None]
    section.figures = figures_of(run.stages["validate"], _CAPTIONS)
    return section


def _facts(ingest: StageFacts, arrange: StageFacts) -> list[tuple[str, str]]:
    facts = []
    for name, label in _COUNTS.items():
        if name in ingest.metrics:
            facts.append((label, f"{ingest.metrics[name]:,.0f}"))
    if arrange.manifest is not None and arrange.manifest.rows_out is not None:
        facts.append(("Labelled images used", f"{arrange.manifest.rows_out:,}"))
    return facts


def _quarantine_rows(ingest: StageFacts) -> list[dict[str, str]]:
    raw = ingest.read_bytes("quarantine.csv")
    if raw is None:
        return []
    reader = csv.DictReader(io.StringIO(raw.decode("utf-8", errors="replace")))
    return [row for row in reader if row.get("reason")]


def _quarantine_table(ingest: StageFacts) -> Table | None:
    files: dict[str, list[str]] = {}
    for row in _quarantine_rows(ingest):
        # what a broken file happens to hold is no reason of its own
        kind = row["reason"].partition("; it begins with ")[0]
        files.setdefault(kind, []).append(str(row.get("filename") or ""))
    if not files:
        return None
    ranked = sorted(files.items(), key=lambda item: -len(item[1]))
    rarest = [name for _, names in ranked[_REASONS:] for name in names]
    if rarest:
        ranked = [*ranked[:_REASONS], ("any other reason: see ingest/quarantine.csv", rarest)]
    return Table(
        title="Quarantined",
        headings=["Reason", "Rows", "For example"],
        rows=[
            [
                Cell(reason),
                number_cell(f"{len(names):,}"),
                Cell(", ".join(name for name in names[:_EXAMPLES] if name), "quiet"),
            ]
            for reason, names in ranked
        ],
    )


def _filter_table(stage: StageFacts) -> Table | None:
    raw = stage.read_bytes("steps.json")
    try:
        steps = json.loads(raw) if raw is not None else []
    except ValueError:
        return None
    if isinstance(steps, dict):
        steps = steps.get("steps")
    if not isinstance(steps, list):
        return None
    rows = [_filter_row(step) for step in steps if isinstance(step, dict)]
    if not rows:
        return None
    return Table(
        title="Filter steps",
        headings=["Predicate", "Rows before", "Rows after", "Removed"],
        rows=rows,
    )


def _filter_row(step: dict[str, Any]) -> list[Cell]:
    before = step.get("rows_before", step.get("before"))
    after = step.get("rows_after", step.get("after"))
    both = isinstance(before, int) and isinstance(after, int)
    return [
        Cell(str(step.get("predicate", "")), "code"),
        number_cell(f"{before:,}" if isinstance(before, int) else "unknown"),
        number_cell(f"{after:,}" if isinstance(after, int) else "unknown"),
        number_cell(f"{before - after:,}" if both else ""),  # type: ignore[operator]
    ]


def _classes_table(arrange: StageFacts) -> Table | None:
    """Count the arranged images by class and side, from the table that training reads."""
    raw = arrange.read_bytes("images.parquet")
    if raw is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(raw), columns=["class_name", "split_side"])
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    sides = zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True)
    counts: Counter[tuple[str, str]] = Counter(sides)
    total = sum(counts.values())
    classes = _class_order(arrange, {name for name, _ in counts})
    rows = []
    for name in classes:
        train, test = counts[name, "train"], counts[name, "test"]
        share = (train + test) / total if total else 0.0
        rows.append(
            [
                Cell(str(name)),
                number_cell(f"{train:,}"),
                number_cell(f"{test:,}"),
                number_cell(f"{train + test:,}"),
                number_cell(f"{share:.1%}"),
            ]
        )
    return Table(
        title="Images by class and side of the split",
        headings=["Class", "Training", "Test", "Together", "Share"],
        rows=rows,
    )


def _class_order(arrange: StageFacts, found: set[str]) -> list[str]:
    document = arrange.read_json("classes.json")
    declared = document.get("classes")
    order = [str(name) for name in declared] if isinstance(declared, list) else []
    return order + sorted(name for name in found if name not in order)


def _checks_table(stage: StageFacts) -> Table | None:
    checks = stage.read_json("validation.json").get("checks")
    if not isinstance(checks, list):
        return None
    rows = []
    for check in checks:
        if not isinstance(check, dict):
            continue
        severity = str(check.get("severity", ""))
        rows.append(
            [
                Cell(str(check.get("name", "")).replace("_", " ")),
                Cell(severity, "fail" if severity == "error" else "text"),
                Cell(str(check.get("message", ""))),
            ]
        )
    if not rows:
        return None
    return Table(title="Validation", headings=["Check", "Severity", "Finding"], rows=rows)
