"""The run summary: one small document for machines, in the run and as ``last-run.json``."""

import json
from pathlib import Path
from typing import Any

from tasks.contract import RunDirectory, write_atomically
from tasks.environment import Environment
from tasks.reporting.facts import RunFacts, StageFacts

PAGE = "report.html"
SUMMARY = "summary.json"
"""Name of the document in the run."""


def read_summary(run: RunDirectory) -> dict[str, Any]:
    """Tell what became of a run.

    Parameters
    ----------
    run : RunDirectory
        The run, finished or not.

    Returns
    -------
    dict
        ``pipeline``, ``run_id``, ``state`` (``success``, or ``failed`` when a stage that the night
        needed has no result), ``blessed`` (it may serve), ``verdict`` (``blessed``, ``passed, not
        deployed`` or ``rejected``), ``requested_by``, ``changes`` (``field``, ``file``, ``run``),
        ``stages`` (of those that ran: ``seconds``, ``reused``,
        ``exit_code``; the seconds of a reused result are those of its computation), ``metrics``,
        ``rules``, ``model`` (``name``, ``version``, ``alias``), ``report`` and ``mlflow_run_id``.
    """
    facts = RunFacts(run)
    return {
        "pipeline": facts.pipeline_name,
        "run_id": run.run_id,
        "state": facts.state,
        "blessed": facts.blessed,
        "verdict": facts.verdict.word if facts.verdict else "rejected",
        "requested_by": facts.requested_by,
        "changes": [change.model_dump() for change in facts.changes],
        "stages": {
            name: _outcome(stage)
            for name, stage in facts.stages.items()
            if stage.status != "not run"
        },
        "metrics": facts.metrics,
        "rules": [rule.model_dump() for rule in facts.verdict.rules] if facts.verdict else [],
        "model": facts.model,
        "report": _page_address(facts),
        "mlflow_run_id": facts.mlflow_run_id,
    }


def write_last_run(summary: dict[str, Any], environment: Environment) -> Path:
    """Put the summary where the next command on this machine finds it, wherever the run is.

    Parameters
    ----------
    summary : dict
        As :func:`read_summary` returns it.
    environment : Environment
        Its ``state_dir`` gets ``last-run.json``, at once or not at all.

    Returns
    -------
    Path
        Path of ``last-run.json``.
    """
    path = environment.state_dir / "last-run.json"
    write_atomically(path, json.dumps(summary, indent=1) + "\n")
    return path


def _outcome(stage: StageFacts) -> dict[str, Any]:
    if stage.manifest is not None:
        reused = stage.manifest.reused_from is not None
        return {"seconds": stage.manifest.seconds, "reused": reused, "exit_code": 0}
    if stage.failure is None:
        raise ValueError(f"{stage.name} did not run")
    return {
        "seconds": stage.failure.seconds,
        "reused": False,
        "exit_code": stage.failure.exit_code,
    }


def _page_address(facts: RunFacts) -> str | None:
    manifest = facts.stages["report"].manifest
    if manifest is None:
        return None
    if facts.run.is_local:
        return f"{facts.run.path}/report/{PAGE}"
    return f"{manifest.location}/{PAGE}"
