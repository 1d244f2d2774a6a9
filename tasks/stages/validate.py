"""Checks the arranged data."""

import json
from typing import TYPE_CHECKING, Any

from tasks.contract import BadInput
from tasks.data import Arranged
from tasks.data.near_duplicates_checks import FAMILY, pairs_to_show
from tasks.data.validation import validate
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

if TYPE_CHECKING:
    import pandas as pd


class ValidateStage(Stage):
    """Checks the arranged data: columns, counts by class and group, missing and duplicate images,
    and the same patient or the same image on both sides of the split.

    Errors stop the night before a GPU is spent on it; warnings go to the report.
    """

    name = "validate"
    reads = ("ingest", "arrange")
    produces = {
        "validation.json": "every check with its severity, message and counts",
        "near_duplicates.png": "pairs of images that show nearly the same picture, where there are",
    }

    def config(self, pipeline: Pipeline) -> Any:
        fairness = pipeline.fairness
        return {
            "validate": pipeline.validation.model_dump(mode="json"),
            "fairness": {
                "protected": [entry.model_dump(mode="json") for entry in fairness.protected],
                "min_group": fairness.min_group,
                "favourable": fairness.favourable,
            },
            "label": {"max_conflicting": pipeline.label.max_conflicting},
            "split": {"group": pipeline.split.group},
        }

    def run(self, context: StageContext) -> Outcome:
        arranged = Arranged(context.input("arrange"))
        summary = context.input("ingest").read("summary.json")
        table = arranged.table()
        found = json.loads(context.input("arrange").read("near_duplicates.json"))
        checks = validate(
            table,
            arranged.classes,
            taken_in=json.loads(summary),
            pipeline=context.pipeline,
            near_duplicates=found,
        )
        document = {"checks": [check.to_dict() for check in checks]}
        path = context.out / "validation.json"
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
        errors = [check for check in checks if check.severity == "error"]
        if errors:
            listed = "; ".join(f"{check.name}: {check.message}" for check in errors[:5])
            raise BadInput(f"{len(errors)} of {len(checks)} checks failed: {listed}")
        _draw_near_duplicates(context, arranged, table)
        warnings = [f"{c.name}: {c.message}" for c in checks if c.severity == "warning"]
        return Outcome(
            metrics={"checks": len(checks), "errors": 0, "warnings": len(warnings)},
            warnings=warnings,
            rows_in=len(table),
            rows_out=len(table),
        )


def _draw_near_duplicates(context: StageContext, arranged: Arranged, table: "pd.DataFrame") -> None:
    group = context.pipeline.split.group
    pairs = pairs_to_show(table, group)
    if not pairs:
        return
    from tasks.data.near_duplicates_figure import Shown, draw_pairs
    from tasks.figures import save_figure

    rows = table.loc[[position for pair in pairs for position in pair]]
    groups = rows[group].astype("str") if group else rows["group_key"].map(lambda _: "")
    shown = [
        Shown(
            content=content,
            name=str(row.image_id),
            group=f"{group} {value}" if group else "",
            side=str(row.split_side),
            label=str(row.class_name),
        )
        for content, row, value in zip(
            arranged.read_bytes(rows), rows.itertuples(), groups, strict=True
        )
    ]
    families = table[FAMILY].nunique()
    title = f"Near duplicates: {len(pairs)} of {families} families"
    figure = draw_pairs(list(zip(shown[::2], shown[1::2], strict=True)), title=title)
    save_figure(figure, context.out / "near_duplicates.png")


STAGE = ValidateStage()
