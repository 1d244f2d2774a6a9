"""Registered models on a real SQLite store."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import registry, tracking
from tasks.contract import Altered, RunDirectory, StageError, is_bad_input, tree_sha256
from tasks.environment import Environment
from tasks.spec import Pipeline
from tests.tasks.places import environment_at

PIPELINE = Pipeline.model_validate(
    {"name": "night", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
)
MADE: list[bytes] = []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("mlflow")
    return environment_at(folder, mlflow_uri=f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(scope="module")
def run_id(store: Environment, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = RunDirectory(str(tmp_path_factory.mktemp("runs") / "night" / "runs" / "one"))
    return tracking.find_or_create_run(pipeline=PIPELINE, run=run, environment=store)


def saved_model(folder: Path, weights: bytes) -> Path:
    """Lay out files as a SavedModel has them; the registry does not look inside."""
    model = folder / "model"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"graph")
    (model / "variables" / "variables.data-00000-of-00001").write_bytes(weights)
    (model / "model.json").write_text(json.dumps({"classes": ["a", "b"]}))
    return model


def register(store: Environment, run_id: str, name: str, model: Path) -> str:
    def example() -> bytes:
        MADE.append(b"")
        return b"\x89PNG"

    return registry.register(
        store,
        model_name=name,
        model_dir=model,
        digest=tree_sha256(model),
        run_id=run_id,
        example=example,
        tags={"verdict": "blessed", "run_uri": "file:///one"},
    )


def test_the_registered_files_are_those_that_were_evaluated(
    store: Environment, run_id: str, tmp_path: Path
) -> None:
    model = saved_model(tmp_path, b"one")
    version = register(store, run_id, "kept", model)
    registry.set_alias(store, "kept", registry.CHAMPION, version)
    champion = registry.champion(store, "kept")
    assert champion is not None
    assert (champion.version, champion.run_id) == (version, run_id)
    assert tree_sha256(champion.model_dir) == champion.digest == tree_sha256(model)
    assert champion.tags["verdict"] == "blessed"


def test_the_same_digest_is_registered_once(
    store: Environment, run_id: str, tmp_path: Path
) -> None:
    model = saved_model(tmp_path, b"one")
    first = register(store, run_id, "once", model)
    made = len(MADE)
    assert register(store, run_id, "once", model) == first
    assert len(MADE) == made
    assert registry.find_by_digest(store, "once", tree_sha256(model)) == first
    assert registry.find_by_digest(store, "once", "other") is None


def test_another_digest_is_another_version_and_aliases_move_alone(
    store: Environment, run_id: str, tmp_path: Path
) -> None:
    first = register(store, run_id, "two", saved_model(tmp_path / "a", b"one"))
    second = register(store, run_id, "two", saved_model(tmp_path / "b", b"two"))
    assert [first, second] == ["1", "2"]
    registry.set_alias(store, "two", registry.CHAMPION, first)
    registry.set_alias(store, "two", registry.CHALLENGER, second)
    identity = registry.champion_identity(store, "two")
    assert identity == (first, tree_sha256(tmp_path / "a" / "model"))
    registry.tag(store, "two", second, {"verdict": "rejected", "reasons": "worse for F"})
    with tracking.mlflow_client(store) as client:
        tagged = client.get_model_version_by_alias("two", "challenger")
    assert tagged.tags["reasons"] == "worse for F"


def test_the_version_has_signature_example_requirements_and_its_run(
    store: Environment, run_id: str, tmp_path: Path
) -> None:
    version = register(store, run_id, "described", saved_model(tmp_path, b"x"))
    registry.set_alias(store, "described", registry.CHAMPION, version)
    champion = registry.champion(store, "described")
    assert champion is not None
    folder = champion.model_dir.parents[1]
    described = (folder / "MLmodel").read_text()
    assert "binary" in described
    assert "input_example.json" in described
    assert "tensorflow==" in (folder / "requirements.txt").read_text()
    with tracking.mlflow_client(store) as client:
        outputs = client.get_run(run_id).outputs
    assert len(outputs.model_outputs) >= 1


def test_nobody_is_champion_of_a_model_without_the_alias(
    store: Environment, run_id: str, tmp_path: Path
) -> None:
    assert registry.champion(store, "unheard_of") is None
    register(store, run_id, "uncrowned", saved_model(tmp_path, b"x"))
    assert registry.champion(store, "uncrowned") is None
    assert registry.champion_identity(store, "uncrowned") is None


def test_files_changed_since_training_are_not_registered(
    store: Environment, run_id: str, tmp_path: Path
) -> None:
    model = saved_model(tmp_path, b"x")
    with pytest.raises(Altered, match="has changed since it was trained"):
        registry.register(
            store,
            model_name="changed",
            model_dir=model,
            digest="0" * 64,
            run_id=run_id,
            example=lambda: b"",
            tags={},
        )
    assert registry.find_by_digest(store, "changed", "0" * 64) is None


def test_registered_files_that_somebody_changed_are_noticed(
    store: Environment, run_id: str, tmp_path: Path
) -> None:
    model = saved_model(tmp_path, b"x")
    version = register(store, run_id, "touched", model)
    registry.set_alias(store, "touched", registry.CHAMPION, version)
    champion = registry.champion(store, "touched")
    assert champion is not None
    (champion.model_dir / "saved_model.pb").write_bytes(b"other graph")
    with pytest.raises(Altered, match="not those that were evaluated") as refused:
        register(store, run_id, "touched", model)
    # no retry would find anything else
    assert is_bad_input(refused.value.exit_code)


def test_without_a_registry_there_is_no_champion(tmp_path: Path) -> None:
    nowhere = environment_at(tmp_path)
    assert registry.champion(nowhere, "night") is None


def test_two_runs_that_register_one_digest_at_once_get_one_version(
    store: Environment, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, first = saved_model(tmp_path, b"twice"), []
    log_model = registry._log_model

    def slowly(*arguments: Any, **more: Any) -> tuple[str, str]:
        monkeypatch.setattr(registry, "_log_model", log_model)
        first.append(register(store, run_id, "at_once", model))
        return log_model(*arguments, **more)

    monkeypatch.setattr(registry, "_log_model", slowly)
    assert [register(store, run_id, "at_once", model)] == first == ["1"]
    registry.tag(store, "at_once", "2", {"verdict.x": "kept by an earlier release"})
    found = registry.tags_by_digest(store, "at_once", tree_sha256(model))
    assert [tags.get("verdict.x") for tags in found] == [None, "kept by an earlier release"]


def test_what_another_run_is_logging_is_left_alone(
    store: Environment, run_id: str, tmp_path: Path
) -> None:
    model, folder = saved_model(tmp_path, b"parallel"), tmp_path / "runs/night/runs"
    other = tracking.find_or_create_run(
        pipeline=PIPELINE, run=RunDirectory(str(folder / "two")), environment=store
    )
    with tracking.mlflow_client(store) as client:
        experiment = client.get_run(run_id).info.experiment_id
        left, live = (
            client.create_logged_model(
                experiment, "parallel", source_run_id=run, tags={"digest": tree_sha256(model)}
            ).model_id
            for run in (run_id, other)
        )
        register(store, run_id, "parallel", model)
        known = {each.model_id for each in client.search_logged_models([experiment])}
    assert live in known and left not in known


def test_a_refusal_is_not_taken_for_an_alias_that_is_not_there(
    store: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
    from mlflow.tracking import MlflowClient

    def refuse(*_: Any) -> None:
        raise MlflowException("Invalid value for parameter 'name'", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", refuse)
    with pytest.raises(StageError, match="Invalid value"):
        registry.champion_identity(store, "night")
