"""Keeps the rows that satisfy the predicates."""

import json
from typing import Any

from tasks.data.filtering import apply_filters
from tasks.data.tables import read_table, write_table
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext


class Filter(Stage):
    """Keeps the rows that satisfy every predicate of ``filter``, counting before and after each.

    Predicates are written as in pandas, ``~metadata.filename.str.contains('.gz')``; they are parsed
    against a grammar and never executed. A blank cell is unequal to everything and satisfies no
    other test.
    """

    name = "filter"
    reads = ("transform",)
    produces = {
        "metadata.parquet": "the rows that are left",
        "steps.json": "each predicate with the rows before and after it",
    }

    def config(self, pipeline: Pipeline) -> Any:
        return {"filter": pipeline.filter}

    def run(self, context: StageContext) -> Outcome:
        table = read_table(context.input("transform").path("metadata.parquet"))
        kept, steps = apply_filters(table, context.pipeline.filter)
        write_table(kept, context.out / "metadata.parquet")
        document = [step.to_dict() for step in steps]
        (context.out / "steps.json").write_text(json.dumps(document, indent=1))
        return Outcome(
            metrics={"rows": len(kept)},
            notes={"rows": "; ".join(f"{s.predicate}: {s.before} to {s.after}" for s in steps)},
            rows_in=len(table),
            rows_out=len(kept),
        )


STAGE = Filter()
