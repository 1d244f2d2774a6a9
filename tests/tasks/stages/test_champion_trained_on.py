"""What the champion was trained on is found wherever a record of it is left."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks import registry, tracking
from tasks.contract import RunDirectory, sha256_file, tree_sha256
from tasks.data.trained_on import TRAINED_ON, TrainedOn
from tasks.environment import Environment
from tasks.registry_trained_on import keep_trained_on
from tasks.runner import run_stage, stage_context
from tasks.serving.files import Pointer, read_pointer, write_pointer
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tasks.stages.champion_trained_on import (
    KEPT_RECORDS,
    champions_trained_on,
    keep_beside_served,
    state_of,
)
from tests.tasks.committed import commit
from tests.tasks.places import environment_at

PIPELINE = Pipeline.model_validate(
    {
        "name": "films",
        "source": {"kind": "synthetic", "rows": 60, "size": 32},
        "label": {"column": "finding"},
        "split": {"group": "patientid", "test": 0.3},
    }
)


@pytest.fixture
def place(tmp_path: Path) -> Environment:
    return environment_at(
        tmp_path, mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db", state_dir=tmp_path
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "store/films/runs/one"))


def record_of(*patients: str) -> TrainedOn:
    """What a model of one image a patient was trained on."""
    table = pd.DataFrame(
        {
            "image_id": [f"{name}.png" for name in patients],
            "image_sha256": [f"{n:064x}" for n, _ in enumerate(patients)],
            "split_side": "train",
            "patientid": list(patients),
        }
    )
    return TrainedOn.of(table, PIPELINE.split)


def written(record: TrainedOn, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder / TRAINED_ON)
    return folder / TRAINED_ON


def pointer_to(digest: str, record: Path) -> Pointer:
    return Pointer(version="7", digest=digest, path="7", trained_on=sha256_file(record))


def model_of(folder: Path, weights: bytes = b"weights") -> Path:
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(weights)
    return model


def registered(place: Environment, run: RunDirectory, model: Path, **tags: str) -> str:
    version = registry.register(
        place,
        model_name="films",
        model_dir=model,
        digest=tree_sha256(model),
        run_id=tracking.find_or_create_run(pipeline=PIPELINE, run=run, environment=place),
        example=lambda: b"\x89PNG",
        tags={"run_uri": run.uri, **tags},
    )
    registry.set_alias(place, "films", registry.CHAMPION, version)
    return version


def asked(place: Environment, run: RunDirectory) -> Any:
    """What a stage of the run finds out, and the state that it has."""
    with stage_context(
        load_stage("arrange"), pipeline=PIPELINE, run=run, environment=place
    ) as context:
        return champions_trained_on(context), state_of(context)


def test_without_a_champion_nothing_was_trained_on(place: Environment, run: RunDirectory) -> None:
    assert asked(place, run) == ([], "")
    assert asked(replace(place, mlflow_uri=""), run) == ([], "")


def test_a_registered_version_keeps_its_record_beside_its_files(
    place: Environment, run: RunDirectory, tmp_path: Path
) -> None:
    model, record = model_of(tmp_path), record_of("p1", "p2")
    version = registered(place, run, model)
    path = written(record, tmp_path / "arrange")
    keep_trained_on(place, "films", version, record=path, digest=record.digest)
    # a retry, or another night with the same model
    keep_trained_on(place, "films", version, record=path, digest="another")
    champion = registry.champion(place, "films")
    assert champion is not None and tree_sha256(champion.model_dir) == champion.digest
    shutil.rmtree(tmp_path / "arrange")
    (found,), state = asked(place, run)
    assert found.record == record and state == record.digest
    assert found.name == "the champion (version 1 of films)"


def test_a_served_copy_has_its_record_without_any_registry(
    place: Environment, run: RunDirectory, tmp_path: Path
) -> None:
    record, folder = record_of("p1"), place.serving_root / "films"
    folder.mkdir(parents=True)
    pointer = pointer_to("d" * 64, written(record, tmp_path / "arrange"))
    write_pointer(folder, pointer)
    keep_beside_served(tmp_path / "arrange" / TRAINED_ON, folder, pointer)
    (found,), state = asked(replace(place, mlflow_uri=""), run)
    assert found.record == record and state == record.digest
    # another record of an equal model is not the one that the pointer names
    keep_beside_served(written(record_of("nobody"), tmp_path / "x"), folder, pointer)
    assert asked(replace(place, mlflow_uri=""), run)[0][0].record == record


@pytest.mark.parametrize("of_an_earlier_release", [False, True])
@pytest.mark.parametrize("with_run", [False, True])
def test_without_a_registry_an_altered_record_is_not_believed(
    place: Environment,
    run: RunDirectory,
    tmp_path: Path,
    of_an_earlier_release: bool,
    with_run: bool,
) -> None:
    place, folder = replace(place, mlflow_uri=""), place.serving_root / "films"
    folder.mkdir(parents=True)
    model = model_of(tmp_path)
    if with_run:
        old_night(run, model, {"p1": "train", "p2": "test"})
    pointer = pointer_to(tree_sha256(model), written(record_of("p1"), tmp_path / "arrange"))
    write_pointer(folder, pointer)
    keep_beside_served(tmp_path / "arrange" / TRAINED_ON, folder, pointer)
    (kept,) = folder.glob(f"*.{TRAINED_ON}")
    record_of("nobody").write(kept)
    if of_an_earlier_release:
        write_pointer(folder, replace(pointer, trained_on=""))
        assert json.loads((folder / "champion.json").read_text()).keys() == {
            *("version", "digest", "path")
        }
    (found,), state = asked(place, RunDirectory(str(tmp_path / "store/films/runs/two")))
    if with_run:
        assert found.record == record_of("p1") and state == found.record.digest
    else:
        assert found.record is None and state.startswith("not known")
        assert "is not the record that champion.json names" in found.problem


def test_the_pointer_keeps_the_digest_of_the_record(tmp_path: Path) -> None:
    pointer = pointer_to("d" * 64, written(record_of("p1"), tmp_path / "arrange"))
    write_pointer(tmp_path, pointer)
    found = read_pointer(tmp_path)
    assert found is not None
    assert found.trained_on == sha256_file(tmp_path / "arrange" / TRAINED_ON)


def test_records_beside_served_copies_do_not_pile_up(tmp_path: Path) -> None:
    path = written(record_of("p1"), tmp_path / "arrange")
    for number in range(2 * KEPT_RECORDS):
        keep_beside_served(path, tmp_path, pointer_to(f"{number:064d}"[::-1], path))
    assert len(list(tmp_path.glob(f"*.{TRAINED_ON}"))) == KEPT_RECORDS


def old_night(run: RunDirectory, model: Path, patients: dict[str, str]) -> None:
    """Commit what an earlier release did: no record, no perceptual hashes."""
    folder = Path(run.path, "arrange")
    folder.mkdir(parents=True)
    names = list(patients)
    pd.DataFrame(
        {
            "image_id": [f"{name}.png" for name in names],
            "image_sha256": [f"{n:064x}" for n, _ in enumerate(names)],
            "split_side": [patients[name] for name in names],
            "patientid": names,
            "group_key": names,
        }
    ).to_parquet(folder / "images.parquet")
    commit(run, "arrange", {"classes.json": json.dumps({"classes": ["a"], "positive": None})})
    commit(run, "train", {"model/saved_model.pb": (model / "saved_model.pb").read_text()})
    split = PIPELINE.split.model_dump(mode="json")
    split.pop("near_duplicates")
    run.write_json("pipeline.json", {"split": split})


@pytest.mark.parametrize("with_registry", [True, False])
def test_a_champion_of_an_earlier_release_is_traced_to_the_run_that_trained_it(
    place: Environment, run: RunDirectory, tmp_path: Path, with_registry: bool
) -> None:
    model = model_of(tmp_path)
    old_night(run, model, {"p1": "train", "p2": "test", "p3": "train"})
    if with_registry:
        registered(place, run, model)
    else:
        place = replace(place, mlflow_uri="")
        (place.serving_root / "films").mkdir(parents=True)
        pointer = Pointer(version="1", digest=tree_sha256(model), path="1")
        write_pointer(place.serving_root / "films", pointer)
    tonight = RunDirectory(str(tmp_path / "store/films/runs/two"))
    (found,), state = asked(place, tonight)
    assert found.record is not None and state == found.record.digest
    table = pd.DataFrame(
        {
            "image_id": ["new1", "new2", "new3"],
            "image_sha256": ["aa", "bb", "cc"],
            "patientid": ["p1", "p2", "p3"],
            "group_key": ["p1", "p2", "p3"],
        }
    )
    assert found.record.seen(table, PIPELINE.split).tolist() == [True, False, True]


def test_what_is_not_known_is_said_and_not_assumed(
    place: Environment, run: RunDirectory, tmp_path: Path
) -> None:
    model = model_of(tmp_path)
    registered(place, run, model)
    (found,), state = asked(place, run)
    assert found.record is None
    assert "neither a record nor the run that trained it is left" in found.problem
    assert state.startswith("not known")
    for stage in ("ingest", "transform", "filter"):
        run_stage(load_stage(stage), pipeline=PIPELINE, run=run, environment=place)
    manifest = run_stage(load_stage("arrange"), pipeline=PIPELINE, run=run, environment=place)
    assert any("was trained on is not known" in warning for warning in manifest.warnings)


def test_a_record_that_was_changed_does_not_count(
    place: Environment, run: RunDirectory, tmp_path: Path
) -> None:
    model, record = model_of(tmp_path), record_of("p1", "p2")
    version = registered(place, run, model)
    path = written(record, tmp_path / "arrange")
    keep_trained_on(place, "films", version, record=path, digest=record.digest)
    folder = place.serving_root / "films"
    folder.mkdir(parents=True)
    other = written(record_of("nobody"), tmp_path / "x")
    keep_beside_served(other, folder, pointer_to(tree_sha256(model), other))
    (found,), _ = asked(place, run)
    assert found.record == record
    for kept in tmp_path.rglob(TRAINED_ON):
        record_of("nobody").write(kept)
    (found,), _ = asked(place, run)
    assert found.record is None and "is not the record that was registered" in found.problem


def test_a_night_without_new_data_after_a_promotion_arranges_nothing_again(
    place: Environment, run: RunDirectory, tmp_path: Path
) -> None:
    stages = ("ingest", "transform", "filter", "arrange")
    for stage in stages:
        first = run_stage(load_stage(stage), pipeline=PIPELINE, run=run, environment=place)
    version = registered(place, run, model_of(tmp_path))
    record = TrainedOn.read(Path(run.path, "arrange", TRAINED_ON))
    keep_trained_on(
        place, "films", version, record=Path(run.path, "arrange", TRAINED_ON), digest=record.digest
    )
    tonight = RunDirectory(str(tmp_path / "store/films/runs/two"))
    for stage in stages:
        again = run_stage(load_stage(stage), pipeline=PIPELINE, run=tonight, environment=place)
    assert again.reused_from == run.uri and again.digest == first.digest


def test_a_champion_of_other_data_leaves_an_equal_result_with_an_equal_digest(
    place: Environment, run: RunDirectory, tmp_path: Path
) -> None:
    # so that the training is not repeated
    for stage in ("ingest", "transform", "filter", "arrange"):
        first = run_stage(load_stage(stage), pipeline=PIPELINE, run=run, environment=place)
    model, record = model_of(tmp_path), record_of("somebody else")
    version = registered(place, run, model)
    path = written(record, tmp_path / "other")
    keep_trained_on(place, "films", version, record=path, digest=record.digest)
    again = run_stage(load_stage("arrange"), pipeline=PIPELINE, run=run, environment=place)
    assert again.fingerprint != first.fingerprint
    assert again.outputs_digest == first.outputs_digest


def test_a_run_that_was_cleared_and_trained_another_model_does_not_speak_for_the_champion(
    place: Environment, run: RunDirectory, tmp_path: Path
) -> None:
    registered(place, run, model_of(tmp_path))
    old_night(run, model_of(tmp_path / "again", b"other weights"), {"p3": "train"})
    (found,), state = asked(place, RunDirectory(str(tmp_path / "store/films/runs/two")))
    assert found.record is None and state.startswith("not known")
