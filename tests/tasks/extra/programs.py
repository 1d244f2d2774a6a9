"""Extra stages whose program is a few lines of a test's, and the pipelines that have them."""

from collections.abc import Callable
from typing import Any

from tasks.contract import Manifest, RunDirectory
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.spec import ExtraStage, Pipeline
from tasks.stages.extra import Extra

Script = Callable[[str], list[str]]

MATRIX = [[40, 10], [5, 45]]
"""What ``evaluate`` has counted."""


def pipeline_with(extra: ExtraStage | dict[str, Any]) -> Pipeline:
    document = extra if isinstance(extra, dict) else extra.model_dump(mode="json")
    return Pipeline.model_validate(
        {
            "name": "films",
            "source": {"kind": "synthetic"},
            "label": {"column": "finding"},
            "extra_stages": [document],
        }
    )


def extra(command: list[str], **more: Any) -> ExtraStage:
    fields = {"name": "judge", "command": command, "after": ["evaluate"], **more}
    return ExtraStage.model_validate(fields)


def run(stage: ExtraStage, night: RunDirectory, *, force: bool = False) -> Manifest:
    return run_stage(
        Extra(stage),
        pipeline=pipeline_with(stage),
        run=night,
        environment=Environment.read(),
        reuse="none" if force else "all",
    )
