"""Checks the arranged data."""

import json
from typing import Any

from tasks.contract import BadInput
from tasks.data import Arranged
from tasks.data.validation import validate
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext


class ValidateStage(Stage):
    """Checks the arranged data: columns, counts by class and group, missing and duplicate images,
    and the same patient or the same image on both sides of the split.

    Errors stop the night before a GPU is spent on it; warnings go to the report.
    """

    name = "validate"
    reads = ("ingest", "arrange")
    produces = {"validation.json": "every check with its severity, message and counts"}

    def config(self, pipeline: Pipeline) -> Any:
        fairness = pipeline.fairness.model_dump(mode="json")
        return {
            "validate": pipeline.validation.model_dump(mode="json"),
            "fairness": {name: fairness[name] for name in ("protected", "min_group", "favourable")},
            "label": {"max_conflicting": pipeline.label.max_conflicting},
        }

    def run(self, context: StageContext) -> Outcome:
        arranged = Arranged(context.input("arrange"))
        summary = context.input("ingest").read("summary.json")
        table = arranged.table()
        checks = validate(
            table, arranged.classes, taken_in=json.loads(summary), pipeline=context.pipeline
        )
        document = {"checks": [check.to_dict() for check in checks]}
        path = context.out / "validation.json"
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
        errors = [check for check in checks if check.severity == "error"]
        if errors:
            listed = "; ".join(f"{check.name}: {check.message}" for check in errors[:5])
            raise BadInput(f"{len(errors)} of {len(checks)} checks failed: {listed}")
        warnings = [f"{c.name}: {c.message}" for c in checks if c.severity == "warning"]
        return Outcome(
            metrics={"checks": len(checks), "errors": 0, "warnings": len(warnings)},
            warnings=warnings,
            rows_in=len(table),
            rows_out=len(table),
        )


STAGE = ValidateStage()
