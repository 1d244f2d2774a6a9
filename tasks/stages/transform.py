"""Applies column functions to the metadata."""

from typing import Any

from tasks.data.functions import apply_transform
from tasks.data.tables import read_table, write_table
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext


class TransformStage(Stage):
    """Applies the functions of ``transform`` to columns of the metadata, in order.

    Functions are parsed, never executed: replace, map, lower, upper, strip, regex, to_number, fill,
    bin, merge_rare. A blank stays blank except with fill.
    """

    name = "transform"
    reads = ("ingest",)
    produces = {"metadata.parquet": "the table with its columns changed or added"}

    def config(self, pipeline: Pipeline) -> Any:
        return {"transform": [each.model_dump(mode="json") for each in pipeline.transform]}

    def run(self, context: StageContext) -> Outcome:
        table = read_table(context.input("ingest").path("metadata.parquet"))
        warnings: list[str] = []
        for transform in context.pipeline.transform:
            warnings += apply_transform(table, transform)
        write_table(table, context.out / "metadata.parquet")
        return Outcome(
            metrics={"columns": table.shape[1]},
            warnings=warnings,
            rows_in=len(table),
            rows_out=len(table),
        )


STAGE = TransformStage()
