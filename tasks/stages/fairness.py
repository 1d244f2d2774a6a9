"""Whether the model serves the groups of a protected attribute alike."""

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

if TYPE_CHECKING:
    import pandas as pd

    from tasks.trust.fairlearn_frame import FrameReport
    from tasks.trust.fairness import AttributeReport, Figures

log = logging.getLogger("tasks")


class FairnessStage(Stage):
    """Compare how the groups of each protected attribute are served (AIF360, Fairlearn).

    An attribute is a column, or the intersection of several (``race*age``), whose groups are named
    after the values of all (``White & 20-29``).

    For each attribute: statistical parity difference, disparate impact, equal opportunity
    difference, average odds difference, Theil index, error rates of every group and their largest
    differences, with bootstrap intervals. The favourable outcome is a class, or "classified
    correctly": then it is due to everybody, equal opportunity difference is the difference of
    accuracy, and average odds difference does not exist. Groups under ``min_group`` test rows and
    blanks are listed, not judged.

    Beside them, as ``fairlearn.NAME``, the largest differences and smallest ratios between any two
    groups by Fairlearn's MetricFrame: accuracy, demographic parity, equal opportunity, false
    positive rate, equalized odds; where the favourable outcome is "classified correctly", those of
    the finding.
    """

    name = "fairness"
    reads = ("arrange", "evaluate")
    produces = {
        "fairness.json": "metrics and error rates of every group of every attribute",
        "fairness_<attribute>.png": "error rates of the groups with their intervals",
    }

    def config(self, pipeline: Pipeline) -> Any:
        """Return the section and the intervals' settings."""
        section = pipeline.fairness.model_dump(mode="json")
        return {"fairness": section, "evaluate": _intervals(pipeline)}

    def run(self, context: StageContext) -> Outcome:
        """Judge each protected attribute on the test predictions."""
        from tasks.data import Arranged
        from tasks.trust.attributes import examine_attribute
        from tasks.trust.predictions import join_predictions

        arranged = Arranged(context.input("arrange"))
        rows = join_predictions(
            arranged.table("test"), context.input("evaluate").read("predictions.parquet")
        )
        outcome = Outcome(rows_in=len(rows))
        attributes = context.pipeline.fairness.protected
        if not attributes:
            outcome.warnings.append(
                "fairness: no protected attribute is declared, so nothing was compared"
            )
        documents = []
        for attribute in attributes:
            for column in attribute.columns:
                _require_column(rows, column)
            report, frame = examine_attribute(context.pipeline, arranged, rows, attribute)
            documents.append(_write(context, report, frame, outcome))
        document = {
            "favourable": context.pipeline.fairness.favourable,
            "positive": arranged.positive,
            "min_group": context.pipeline.fairness.min_group,
            "rows": len(rows),
            **_intervals(context.pipeline),
            "attributes": documents,
        }
        (context.out / "fairness.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        return outcome


def _intervals(pipeline: Pipeline) -> dict[str, Any]:
    # one setting for the intervals of all measures on the test rows
    return {
        "bootstrap": pipeline.evaluate.bootstrap,
        "confidence": pipeline.evaluate.confidence,
    }


def _require_column(rows: "pd.DataFrame", column: str) -> None:
    if column not in rows.columns:
        raise BadInput(
            f"fairness.protected: column {column!r} is not in the arranged data; "
            f"there are {', '.join(sorted(rows.columns))}"
        )


def _add(outcome: Outcome, metric: str, found: "Figures") -> None:
    outcome.metrics |= found.named(metric)
    outcome.notes[metric] = found.note


def _write(
    context: StageContext, report: "AttributeReport", frame: "FrameReport", outcome: Outcome
) -> dict[str, Any]:
    """Add a report to the outcome, draw it, and return it as JSON-able data."""
    from tasks.figures import save_figure
    from tasks.trust.fairness import group_table
    from tasks.trust.fairness_figure import draw_groups

    attribute = report.attribute
    for name, found in report.metrics.items():
        _add(outcome, f"{attribute}.{name}", found)
    for name, found in frame.metrics.items():
        _add(outcome, f"{attribute}.fairlearn.{name}", found)
    outcome.warnings.extend([*report.warnings, *frame.warnings])
    confidence = context.pipeline.evaluate.confidence
    table = group_table(report, confidence=confidence)
    # an intersection of a and b is not the column a_b
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", attribute.replace("*", "-x-"))
    picture = f"fairness_{name}.png"
    figure = draw_groups(
        table,
        attribute=attribute,
        favourable=context.pipeline.fairness.favourable,
        positive=report.positive,
        confidence=confidence,
    )
    save_figure(figure, context.out / picture)
    gap = report.metrics.get("accuracy_gap")
    log.info("fairness: %s: %s", attribute, gap.note if gap else "no two groups to compare")
    return {
        "attribute": attribute,
        "picture": picture,
        "positive": report.positive,
        "privileged": [group.name for group in report.groups if group.role == "privileged"],
        "unprivileged": [group.name for group in report.groups if group.role == "unprivileged"],
        "metrics": {name: vars(found) for name, found in report.metrics.items()},
        "groups": table,
        "fairlearn": {
            "outcome": frame.outcome,
            "n_boot": context.pipeline.fairness.n_boot,
            "metrics": {name: vars(found) for name, found in frame.metrics.items()},
            "overall": frame.overall,
            "by_group": frame.by_group,
        },
        "warnings": report.warnings,
    }


STAGE = FairnessStage()
