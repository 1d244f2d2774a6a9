"""The verdict when the records of who serves are lost, hand-made or contradict each other."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import registry, tracking
from tasks.contract import (
    LAST_CHAMPION,
    BadConfig,
    BadInput,
    Champion,
    RunDirectory,
    tree_sha256,
)
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.serving.champion_log import note_champion
from tasks.serving.files import read_pointer, write_pointer
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tests.tasks.stages.champions import (
    FILE,
    LOSSES,
    NO_COMPARISON,
    PIPELINE,
    Night,
    bless,
    client_of,
    serve,
    with_an_empty_database,
    with_another_name,
    without_the_alias,
    without_the_version,
)

pytestmark = pytest.mark.usefixtures("made_up_evidence")


@pytest.mark.parametrize("lose", LOSSES)
def test_a_lost_record_is_a_refusal_and_not_a_first_night(
    lose: Callable[[Environment], None], night: Night, place: Environment, champion: Champion
) -> None:
    lose(place)
    run = night("second", champion=champion)
    for pipeline in (PIPELINE, NO_COMPARISON):
        verdict = bless(run, place, pipeline)
        assert not verdict.blessed and not verdict.may_serve
        assert verdict.reasons[-1].startswith("films: who serves is not certain: ")
        assert "python -m tasks champion --model films" in verdict.reasons[-1]


@pytest.mark.parametrize("lose", [without_the_alias, without_the_version, with_another_name])
def test_the_very_champion_trained_again_is_no_way_round(
    lose: Callable[[Environment], None], night: Night, place: Environment, champion: Champion
) -> None:
    lose(place)
    again = RunDirectory(night("again").path)
    (Path(again.path) / "train").rename(Path(again.path) / "other")
    shutil.copytree(Path(again.path).parent / "first/train", Path(again.path) / "train")
    verdict = bless(again, place)
    assert verdict.model.digest == champion.digest and not verdict.blessed


def test_alias_and_pointer_lost_leave_the_history(
    night: Night, place: Environment, champion: Champion
) -> None:
    without_the_alias(place)
    write_pointer(place.serving_root / "films", None)
    verdict = bless(night("second"), place)
    assert not verdict.blessed
    assert f"{champion} was champion once" in verdict.reasons[-1]


def test_a_registry_reset_and_a_pointer_removed_leave_the_record_on_disk(
    night: Night, place: Environment, champion: Champion
) -> None:
    note_champion(place.serving_root / "films", champion, by="deploy", reason="")
    with_an_empty_database(place)
    write_pointer(place.serving_root / "films", None)
    verdict = bless(night("second"), place)
    assert f"{champion} was champion once" in verdict.reasons[-1]


def test_in_an_older_registry_a_blessed_version_counts_and_keeps_its_verdict(
    night: Night, place: Environment, champion: Champion
) -> None:
    without_the_alias(place)
    client_of(place).delete_registered_model_tag("films", LAST_CHAMPION)
    write_pointer(place.serving_root / "films", None)
    for attempt in ("second", "third"):
        again = night(attempt)
        shutil.rmtree(Path(again.path) / "train")
        shutil.copytree(Path(again.path).parent / "first/train", Path(again.path) / "train")
        verdict = bless(again, place)
        assert "was champion once" in verdict.reasons[-1]
        run_stage(load_stage("reject"), pipeline=PIPELINE, run=again, environment=place)
    tags = client_of(place).get_model_version("films", "1").tags
    assert (tags["verdict"], tags["last_verdict"]) == ("blessed", "rejected")


def test_a_worse_challenger_is_refused_by_comparison_where_nothing_is_lost(
    night: Night, place: Environment, champion: Champion
) -> None:
    verdict = bless(night("second", champion=champion), place)
    assert verdict.champion is not None and verdict.champion.digest == champion.digest
    assert "0.5000 against 1.0000 of champion version 1" in verdict.reasons[-1]


def test_without_mlflow_the_served_copy_is_the_champion(
    night: Night, place: Environment, champion: Champion
) -> None:
    alone = dataclasses.replace(place, mlflow_uri="")
    verdict = bless(night("second", champion=champion), alone)
    assert "0.5000 against 1.0000 of champion version 1" in verdict.reasons[-1]
    not_evaluated = bless(night("third"), alone)
    assert "run evaluate again" in not_evaluated.reasons[-1]


def deploy(run: RunDirectory, place: Environment, pipeline: Pipeline = PIPELINE) -> None:
    run_stage(load_stage("deploy"), pipeline=pipeline, run=run, environment=place)


def made_by_hand(place: Environment) -> None:
    version = client_of(place).create_model_version("films", "file:///nowhere").version
    client_of(place).set_registered_model_alias("films", registry.CHAMPION, version)


def test_a_champion_made_by_hand_after_the_verdict_stays(night: Night, place: Environment) -> None:
    run = night("first")
    assert bless(run, place).blessed
    made_by_hand(place)
    with pytest.raises(BadInput, match="version 2, which has no tag 'digest'"):
        deploy(run, place)
    assert read_pointer(place.serving_root / "films") is None


@pytest.mark.parametrize("lose", [*LOSSES, made_by_hand])
def test_a_record_lost_after_the_verdict_stops_the_deployment(
    lose: Callable[[Environment], None], night: Night, place: Environment, champion: Champion
) -> None:
    run = night("second", champion=champion)
    assert bless(run, place, NO_COMPARISON).blessed
    lose(place)
    pointer = place.serving_root / "films/champion.json"
    before = pointer.read_bytes() if pointer.exists() else b""
    with pytest.raises(BadInput, match="who serves is not certain"):
        deploy(run, place, NO_COMPARISON)
    assert (pointer.read_bytes() if pointer.exists() else b"") == before


def test_without_mlflow_a_champion_that_came_after_the_verdict_stays(
    night: Night, place: Environment
) -> None:
    alone = dataclasses.replace(place, mlflow_uri="")
    one, two = night("one"), night("two")
    assert bless(one, alone).blessed and bless(two, alone).blessed
    serve(one, alone, "digest-1")
    with pytest.raises(BadInput, match="version digest-1 became champion after the verdict"):
        deploy(two, alone)


@pytest.mark.parametrize("stage", ["deploy", "publish"])
def test_a_registered_version_is_not_deployed_past_its_registry(
    night: Night, place: Environment, champion: Champion, stage: str
) -> None:
    run = night("second", champion=champion)
    assert bless(run, place, NO_COMPARISON).model.version == "2"
    alone = dataclasses.replace(place, mlflow_uri="")
    pointer = place.serving_root / "films/champion.json"
    before = pointer.read_bytes()
    with pytest.raises(BadConfig, match="version 2 of a registry, but MLFLOW_TRACKING_URI") as told:
        run_stage(load_stage(stage), pipeline=NO_COMPARISON, run=run, environment=alone)
    assert told.value.exit_code == 78 and "run stage 'bless' again" in str(told.value)
    assert pointer.read_bytes() == before


def on_a_cluster(place: Environment, served: str) -> Environment:
    """A pod's: no folder of served models."""
    folder = place.serving_root / "none"
    return dataclasses.replace(place, served=served, serving_root=folder, serves_here=False)


def test_a_pod_is_told_what_serves(night: Night, place: Environment, champion: Champion) -> None:
    told = on_a_cluster(place, f"1:{champion.digest}")
    assert "0.5000 against 1.0000" in bless(night("a", champion=champion), told).reasons[-1]
    other = on_a_cluster(place, f"7:{'e' * 64}")
    disagree = bless(night("b", champion=champion), other).reasons[-1]
    assert f"registry's champion is {champion}, but version 7 (eeeeeeeeeeee) serves" in disagree
    without_the_alias(place)
    assert "version 1" in bless(night("c", champion=champion), told).reasons[-1]
    # nothing serves, and the alias is gone: the history knows better
    assert "was champion once" in bless(night("d"), on_a_cluster(place, "none")).reasons[-1]


def test_a_first_night_on_a_cluster_is_told_that_nothing_serves(
    night: Night, place: Environment
) -> None:
    verdict = bless(night("first"), on_a_cluster(place, "none"))
    assert verdict.blessed and verdict.rules[-1].reason == "no champion yet"


@pytest.mark.parametrize(
    "fields",
    [{"runtime": "kubernetes"}, {"runtime": "eks"}, {"deploy": {"target": "kserve"}}],
)
def test_by_hand_a_cluster_run_is_not_judged_without_what_serves(
    fields: dict[str, Any], night: Night, place: Environment
) -> None:
    run, pipeline = night("first"), Pipeline.model_validate(FILE | fields)
    with pytest.raises(BadConfig, match="give --served VERSION:DIGEST, or --served none"):
        bless(run, place, pipeline)
    assert run.read_verdict() is None
    assert bless(run, dataclasses.replace(place, served="none"), pipeline).blessed


def test_an_argument_that_names_no_version_stops_the_stage(
    night: Night, place: Environment
) -> None:
    with pytest.raises(BadConfig, match="--served 'nobody': must be VERSION:DIGEST"):
        bless(night("first"), dataclasses.replace(place, served="nobody"))


def test_the_files_of_the_first_model_are_registered_as_they_are(
    night: Night, place: Environment, champion: Champion
) -> None:
    """What the tests here rest on."""
    registered = registry.champion(place, "films")
    assert registered is not None and tree_sha256(registered.model_dir) == champion.digest
    with tracking.mlflow_client(place) as client:
        assert client.get_registered_model("films").tags[LAST_CHAMPION] == f"1:{champion.digest}"


def with_the_alias_moved_and_the_pointer_gone(place: Environment, other: Champion) -> None:
    client_of(place).set_registered_model_alias("films", registry.CHAMPION, other.version)
    write_pointer(place.serving_root / "films", None)


def with_alias_and_pointer_moved(place: Environment, other: Champion) -> None:
    client_of(place).set_registered_model_alias("films", registry.CHAMPION, other.version)
    with_another_digest_in_the_pointer(place, other)


def with_another_digest_in_the_pointer(place: Environment, other: Champion) -> None:
    pointer = read_pointer(place.serving_root / "films")
    assert pointer is not None
    changed = dataclasses.replace(pointer, digest=other.digest)
    write_pointer(place.serving_root / "films", changed)


@pytest.mark.parametrize(
    ("move", "registered", "said"),
    [
        (with_the_alias_moved_and_the_pointer_gone, True, "'last_champion' says that version 1"),
        (with_alias_and_pointer_moved, True, "'last_champion' says that version 1"),
        (with_another_digest_in_the_pointer, False, "champions.jsonl beside what serves says"),
    ],
)
def test_a_refused_model_is_no_champion_because_alias_or_pointer_name_it(
    move: Callable[[Environment, Champion], None],
    registered: bool,
    said: str,
    night: Night,
    place: Environment,
    champion: Champion,
) -> None:
    note_champion(place.serving_root / "films", champion, by="deploy", reason="")
    run = night("weak", champion=champion)
    model = bless(run, place).model
    move(place, Champion(model.version or "", model.digest))
    alone = place if registered else dataclasses.replace(place, mlflow_uri="")
    verdict = bless(run, alone)
    assert not verdict.blessed
    assert said in verdict.reasons[-1]


def test_without_a_copy_of_its_files_no_model_is_the_champion_already(
    night: Night, place: Environment, champion: Champion
) -> None:
    alone = dataclasses.replace(place, mlflow_uri="")
    run = night("weak", champion=champion)
    other = Champion("1", bless(run, alone).model.digest)
    with_another_digest_in_the_pointer(place, other)
    verdict = bless(run, alone)
    assert not verdict.blessed
    assert "the files at" in verdict.reasons[-1]
    assert "are not those of the champion" in verdict.reasons[-1]


@pytest.mark.parametrize("case", ["the champion has another number", "another model has its"])
def test_reject_marks_neither_the_champion_nor_another_model(
    night: Night, place: Environment, champion: Champion, case: str
) -> None:
    run, client = night("second", champion=champion), client_of(place)
    digest = bless(run, place, NO_COMPARISON).model.digest
    if case == "another model has its":
        client.set_model_version_tag("films", "2", "digest", "e" * 64)
    else:
        client.create_model_version("films", "file:///none", tags={"digest": digest})
        registry.set_alias(place, "films", "champion", "3")
    run_stage(load_stage("reject"), pipeline=NO_COMPARISON, run=run, environment=place)
    assert client.get_model_version("films", "2").tags["verdict"] == "blessed"
