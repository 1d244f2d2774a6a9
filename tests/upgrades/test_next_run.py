"""The next run over an earlier state: compared with its champion, registered, put into service."""

import dataclasses
from pathlib import Path

from tasks import registry, tracking
from tasks.contract import RunDirectory, Verdict
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.serving.files import PREVIOUS, Pointer, read_pointer
from tasks.spec import Pipeline, apply_overrides
from tasks.stages import load_stage
from tasks.stages.extra import Extra
from tests.upgrades.old_state import MODEL, OldState

STAGES = (
    *("ingest", "transform", "filter", "arrange", "validate", "train", "evaluate"),
    *("fairness", "explain", "robustness", "rows", "bless", "deploy", "report"),
)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def perform(run: RunDirectory, pipeline: Pipeline, environment: Environment) -> Verdict:
    for name in STAGES:
        extra = pipeline.extra_stage(name)
        run_stage(
            load_stage(name) if extra is None else Extra(extra),
            pipeline=pipeline,
            run=run,
            environment=environment,
        )
    verdict = run.read_verdict()
    assert verdict is not None and verdict.may_serve
    return verdict


def test_the_next_run_takes_the_champions_place_and_an_equal_model_is_the_champion_already(
    old_state: OldState, serving_python: Path
) -> None:
    served = old_state.root / "served" / MODEL
    before, kept = read_pointer(served), files(served / "2")
    environment = dataclasses.replace(old_state.environment, serving_python=serving_python)
    pipeline = apply_overrides(old_state.pipeline, {"train.seed": 3})

    verdict = perform(old_state.run("fourth"), pipeline, environment)
    assert verdict.champion is not None and verdict.champion.version == "2"
    compared = next(rule for rule in verdict.rules if rule.metric.startswith("champion."))
    assert compared.value is not None and "of champion version 2" in compared.reason
    assert verdict.model.version == "3"
    digest = verdict.model.digest
    assert registry.champion_identity(environment, MODEL) == ("3", digest)
    with tracking.mlflow_client(environment) as client:
        versions = client.search_model_versions(f"name = '{MODEL}'")
    assert sorted(str(version.version) for version in versions) == ["1", "2", "3"]
    assert read_pointer(served) == Pointer(version="3", digest=digest, path=f"3-{digest[:12]}")
    assert read_pointer(served, name=PREVIOUS) == before
    assert files(served / "2") == kept

    # the same training again gives the very same files
    pointer, kept = read_pointer(served), files(served / f"3-{digest[:12]}")
    run = old_state.run("fifth")
    verdict = perform(run, pipeline, dataclasses.replace(environment, serving_python=Path("none")))
    assert (verdict.model.version, verdict.model.digest) == ("3", digest)
    assert "is the champion already (version 3)" in [rule.reason for rule in verdict.rules]
    deployed = run.read_manifest("deploy")
    assert deployed is not None and deployed.metrics["deploy.already_serving"] == 1
    assert read_pointer(served) == pointer
    assert files(served / f"3-{digest[:12]}") == kept
