"""The records of who serves side by side, and putting one right."""

import getpass
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks import registry
from tasks.champion_command import corrections
from tasks.cli import main
from tasks.contract import Champion, RunDirectory, tree_sha256
from tasks.environment import Environment
from tasks.registry_owner import foreign_model
from tasks.serving.champion_log import note_champion
from tasks.serving.deployment import alone, put_beside
from tasks.serving.files import PREVIOUS, Pointer, read_pointer, read_what_serves, write_pointer
from tasks.serving.switch import Switch
from tasks.spec import Pipeline
from tasks.stages.who_serves import records_here
from tests.tasks.stages.champions import (
    FILE,
    LOSSES,
    PIPELINE,
    Night,
    bless,
    client_of,
    serve,
    with_a_torn_pointer,
    with_an_empty_database,
    without_the_alias,
    without_the_digest,
    without_the_version,
)

pytestmark = pytest.mark.usefixtures("made_up_evidence")

Command = Callable[..., int]


@pytest.fixture
def command(place: Environment, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that calls the command for the model ``films`` of this test."""

    def call(*words: str) -> int:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", place.mlflow_uri)
        monkeypatch.setenv("TRUSTED_RETRAINING_SERVING_ROOT", str(place.serving_root))
        return main(["champion", "--model", "films", *words])

    return call


def put_right(command: Command, record: str, *words: str) -> int:
    return command("--set", record, "--user", "ada", "--reason", "checked by hand", *words)


def noted(place: Environment) -> list[dict[str, Any]]:
    text = (place.serving_root / "films/champions.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_records_that_agree_are_shown_side_by_side(
    command: Command, champion: Champion, place: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tasks")
    assert command() == 0
    shown = [record.getMessage() for record in caplog.records if record.name == "tasks"]
    assert shown[0].startswith(f"registry  {champion}  (alias champion, sqlite:///")
    assert shown[1] == f"served    {champion}  ({place.serving_root}/films/champion.json)"
    assert shown[2] == f"history   {champion}  (champion last)"
    assert shown[3] == f"films: {champion} is the champion"


def test_no_champion_yet_is_said_in_so_many_words(
    command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tasks")
    assert command() == 0
    assert caplog.records[-1].getMessage() == "films: no champion yet"


@pytest.mark.parametrize("lose", LOSSES)
def test_records_that_disagree_end_with_the_code_for_wrong_data(
    command: Command,
    champion: Champion,
    place: Environment,
    lose: Callable[[Environment], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lose(place)
    assert command() == 65
    assert "who serves is not certain" in caplog.records[-1].getMessage()


# each loss with the advice that its message gives
@pytest.mark.parametrize(
    "lose", [each for each in LOSSES if each.__name__ != "with_a_dangling_pointer"]
)
def test_what_is_put_right_lets_the_next_night_be_judged(
    command: Command,
    champion: Champion,
    place: Environment,
    night: Night,
    lose: Callable[[Environment], None],
) -> None:
    lose(place)
    record = "served" if lose is with_a_torn_pointer else "registry"
    assert put_right(command, record) == 0
    assert command() == 0
    records = records_here(place, "films")
    assert records.registry is not None and records.registry.digest == champion.digest
    assert records.served is not None and records.served.digest == champion.digest
    tags = client_of(place).get_model_version("films", records.registry.version).tags
    assert (tags["champion_set_by"], tags["champion_set_reason"]) == ("ada", "checked by hand")
    assert [line["put_right"] for line in noted(place)] == [record]
    verdict = bless(night("second", champion=champion), place)
    assert "0.5000 against 1.0000 of champion version" in verdict.reasons[-1]


def test_a_pointer_that_leads_nowhere_is_replaced(
    command: Command, champion: Champion, place: Environment
) -> None:
    (place.serving_root / "films/champion.json").unlink()
    (place.serving_root / "films/champion.json").symlink_to("gone.json")
    assert put_right(command, "served") == 0
    pointer = read_what_serves(place.serving_root / "films")
    assert pointer is not None and pointer.digest == champion.digest


def test_every_correction_is_kept(command: Command, champion: Champion, place: Environment) -> None:
    without_the_alias(place)
    assert command("--set", "registry", "--reason", "first") == 0
    without_the_alias(place)
    assert put_right(command, "registry") == 0
    assert [line["by"] for line in noted(place)] == [getpass.getuser(), "ada"]
    tags = client_of(place).get_registered_model("films").tags
    assert "checked by hand" in [
        json.loads(tags[key])["reason"] for key in tags if key.startswith("champion_put_right.")
    ]


def test_the_alias_moves_to_what_serves_and_what_serves_to_the_alias(
    command: Command, champion: Champion, place: Environment, night: Night
) -> None:
    run = night("second", champion=champion)
    bless(run, place)
    registry.set_alias(place, "films", registry.CHAMPION, "2")
    assert command() == 65
    assert put_right(command, "served") == 0
    pointer = read_what_serves(place.serving_root / "films")
    assert pointer is not None and pointer.version == "2"
    served = place.serving_root / "films" / pointer.path
    assert tree_sha256(served) == pointer.digest == tree_sha256(Path(run.path) / "train/model")
    registry.set_alias(place, "films", registry.CHAMPION, "1")
    assert put_right(command, "registry") == 0
    assert registry.champion_identity(place, "films") == Champion("2", pointer.digest)


def test_altered_files_become_no_champion(
    command: Command, champion: Champion, place: Environment
) -> None:
    registered = registry.champion(place, "films")
    assert registered is not None
    without_the_alias(place)
    kept = (registered.model_dir / "saved_model.pb").read_text()
    (registered.model_dir / "saved_model.pb").write_text("another graph")
    try:
        assert put_right(command, "registry") == 65
        assert registry.champion_identity(place, "films") is None
        without_the_digest(place)
        assert put_right(command, "registry", "--version", "1") == 65
        assert registry.champion_identity(place, "films") is None
    finally:
        (registered.model_dir / "saved_model.pb").write_text(kept)


def test_a_lost_version_is_registered_again_only_from_files_of_its_digest(
    command: Command, champion: Champion, place: Environment
) -> None:
    without_the_version(place)
    served = place.serving_root / "films/1/saved_model.pb"
    kept = served.read_text()
    served.write_text("another graph")
    assert put_right(command, "registry") != 0
    assert registry.champion_identity(place, "films") is None
    served.write_text(kept)
    assert put_right(command, "registry") == 0


def test_nobody_is_champion_any_more_once_nothing_serves(
    command: Command, champion: Champion, place: Environment, night: Night
) -> None:
    note_champion(place.serving_root / "films", champion, by="deploy", reason="")
    without_the_alias(place)
    assert put_right(command, "none") == 65
    write_pointer(place.serving_root / "films", None)
    assert command() == 65
    assert put_right(command, "none") == 0
    assert bless(night("second"), place).blessed


def test_after_a_registry_reset_what_served_last_can_serve_again_without_one(
    command: Command, champion: Champion, place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.serving_root / "films"
    note_champion(folder, champion, by="deploy", reason="")
    object.__setattr__(place, "mlflow_uri", "")
    write_pointer(folder, None)
    assert command() == 65
    assert put_right(command, "served") == 0
    pointer = read_what_serves(folder)
    assert pointer is not None and Champion(pointer.version, pointer.digest) == champion
    shutil.rmtree(folder / pointer.path)
    write_pointer(folder, None)
    assert put_right(command, "served") == 65


def test_on_a_cluster_the_registry_is_put_right_by_what_serves_there(
    command: Command, champion: Champion, place: Environment
) -> None:
    served = f"1:{champion.digest}"
    shutil.rmtree(place.serving_root)
    without_the_alias(place)
    assert command("--served", served) == 65
    assert put_right(command, "served", "--served", served) == 78
    assert put_right(command, "registry", "--served", served) == 0
    assert command("--served", served) == 0
    assert not place.serving_root.exists()
    with_an_empty_database(place)
    assert put_right(command, "registry", "--served", served) == 65


def test_a_place_that_cannot_be_seen_is_not_taken_for_empty(
    place: Environment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.mlflow_uri)
    monkeypatch.delenv("TRUSTED_RETRAINING_SERVING_ROOT", raising=False)
    monkeypatch.setenv("TRUSTED_RETRAINING_STATE", str(place.state_dir / "elsewhere"))
    assert main(["champion", "--model", "films"]) == 78
    assert "give --served" in caplog.records[-1].getMessage()
    assert main(["champion", "--model", "films", "--served", "none"]) == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--set", "registry"], 78),
        (["--set", "registry", "--reason", "  "], 78),
        (["--served", "seven"], 78),
        (["--pipeline", "films"], 78),
        (["--version", "1"], 78),
        (["--reason", "x"], 78),
        (["--set", "served", "--reason", "x", "--pipeline", "no such/name"], 78),
        (["--set", "none", "--reason", "x", "--pipeline", "films", "--served", "none"], 78),
        (["--set", "registry", "--reason", "x"], 65),
        (["--set", "served", "--reason", "x"], 65),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(
    command: Command, words: list[str], code: int
) -> None:
    assert command(*words) == code


@pytest.mark.parametrize("record", ["registry", "served", "none"])
def test_a_misspelt_model_leaves_no_folder_that_would_let_it_pass_for_one(
    command: Command,
    place: Environment,
    champion: Champion,
    caplog: pytest.LogCaptureFixture,
    record: str,
) -> None:
    words = ["--model", "filsm", "--set", record, "--reason", "x"]
    assert command(*words) == 65
    assert "check --model" in caplog.text
    assert sorted(each.name for each in place.serving_root.iterdir()) == ["films"]


def test_a_wrong_word_ends_with_the_usage_code(command: Command) -> None:
    with pytest.raises(SystemExit) as ended:
        command("--set", "everything")
    assert ended.value.code == 64


def test_the_model_of_a_pipeline_file_is_meant(
    place: Environment,
    command: Command,
    champion: Champion,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="tasks")
    command()
    (tmp_path / "night.yaml").write_text(
        "name: night\nsource: {kind: synthetic}\nlabel: {column: finding}\n"
        "deploy: {model_name: films}\n"
    )
    assert main(["champion", "--spec", str(tmp_path / "night.yaml")]) == 0
    assert caplog.records[-1].getMessage() == f"films: {champion} is the champion"


def test_the_served_copy_of_another_model_is_no_way_to_put_the_registry_right(
    command: Command, champion: Champion, place: Environment, night: Night
) -> None:
    run = night("second", champion=champion)
    bless(run, place)
    serve(run, place, "2")
    assert put_right(command, "registry", "--version", "1") == 65
    assert registry.champion_identity(place, "films") == champion


def test_at_the_shell_this_machines_own_registry_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TRUSTED_RETRAINING_STATE", str(tmp_path))
    assert Environment.read().with_own_registry().mlflow_uri == ""
    store = tmp_path / "mlflow/mlflow.db"
    store.parent.mkdir()
    store.touch()
    assert Environment.read().with_own_registry().mlflow_uri == f"sqlite:///{store}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert Environment.read().with_own_registry().mlflow_uri == "http://mlflow:5000"


def test_an_empty_registry_has_nothing_to_forget(
    command: Command, champion: Champion, place: Environment
) -> None:
    folder = place.serving_root / "films"
    note_champion(folder, champion, by="deploy", reason="")
    write_pointer(folder, None)
    with_an_empty_database(place)
    assert command() == 65
    assert put_right(command, "none") == 0
    assert command() == 0


def test_a_model_that_this_machine_serves_is_not_forgotten_by_an_argument(
    command: Command, champion: Champion, place: Environment
) -> None:
    assert put_right(command, "none", "--served", "none") == 78
    assert registry.champion_identity(place, "films") == champion


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\n", b"\0" * 300, b"<<<<<<< HEAD\n", None],
    ids=["no UTF-8", "zeros", "another text", "a folder"],
)
def test_an_unreadable_record_on_disk_is_a_disagreement(
    command: Command,
    champion: Champion,
    place: Environment,
    content: bytes | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = place.serving_root / "films/champions.jsonl"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert command() == 65
    assert put_right(command, "registry") == 65
    assert "champions.jsonl: cannot be read" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("version", ["99", "../../x"])
def test_a_version_that_is_not_there_is_said(
    command: Command,
    champion: Champion,
    place: Environment,
    version: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert put_right(command, "registry", "--version", version) == 65
    assert f"the registry holds no version '{version}'" in caplog.records[-1].getMessage()


def test_of_two_versions_that_the_records_name_one_is_to_be_named(
    command: Command, champion: Champion, place: Environment, night: Night
) -> None:
    bless(night("second", champion=champion), place)
    client_of(place).set_registered_model_alias("films", registry.CHAMPION, "2")
    write_pointer(place.serving_root / "films", None)
    assert put_right(command, "registry") == 65
    assert put_right(command, "registry", "--version", "1") == 0
    assert registry.champion_identity(place, "films") == champion


def test_without_mlflow_a_way_back_taken_by_hand_is_confirmed_by_its_version(
    command: Command, champion: Champion, place: Environment, night: Night
) -> None:
    folder = place.serving_root / "films"
    object.__setattr__(place, "mlflow_uri", "")
    before = read_what_serves(folder)
    second = serve(night("second"), place, "2")
    note_champion(folder, second, by="deploy", reason="")
    assert command() == 0
    write_pointer(folder, before)
    assert command() == 65
    assert put_right(command, "served", "--version", "1") == 0
    assert command() == 0
    pointer = read_what_serves(folder)
    assert pointer is not None and pointer.digest == champion.digest


OTHER = Pipeline.model_validate(FILE | {"name": "newcomer", "deploy": {"model_name": "films"}})


@pytest.mark.parametrize("lose", [with_an_empty_database, None], ids=["reset", "no MLflow"])
def test_the_model_stays_its_pipelines_without_its_registry(
    command: Command,
    champion: Champion,
    place: Environment,
    night: Night,
    lose: Callable[[Environment], None] | None,
) -> None:
    folder, run = place.serving_root / "films", night("second", champion=champion)
    # as an earlier release wrote it
    note_champion(folder, champion, by="deploy", reason="", run_uri=f"file://{run.path}")
    if lose is None:
        object.__setattr__(place, "mlflow_uri", "")
    else:
        lose(place)
        assert "belongs to pipeline 'films' (champions.jsonl" in foreign_model(place, OTHER)
        assert put_right(command, "registry") == 0
        assert client_of(place).get_model_version("films", "1").tags["pipeline"] == "films"
    assert "belongs to pipeline 'films'" in foreign_model(place, OTHER)
    assert foreign_model(place, PIPELINE) == ""
    assert "belongs to pipeline 'films'" in bless(run, place, OTHER).reasons[-1]
    assert put_right(command, "served", "--pipeline", "newcomer") == 0
    assert foreign_model(place, OTHER) == ""
    assert "belongs to pipeline 'newcomer'" in foreign_model(place, PIPELINE)


def killed_switch(place: Environment, run: RunDirectory) -> Champion:
    """Put version 2 into service, up to the alias."""
    folder, source = place.serving_root / "films", Path(run.path) / "train/model"
    digest, current = tree_sha256(source), read_pointer(folder)
    path = put_beside(folder, version="2", digest=digest, source=source, current=current)
    registered = {"champion": "1", "last_champion": f"1:{current.digest if current else ''}"}
    pointer = Pointer(version="2", digest=digest, path=path)
    Switch.prepare(folder, pointer, registry=registered).take()
    return Champion("2", digest)


def test_a_deployment_that_was_killed_does_not_undo_what_a_person_decided(
    command: Command, champion: Champion, place: Environment, night: Night
) -> None:
    run, folder = night("second", champion=champion), place.serving_root / "films"
    bless(run, place)
    second = killed_switch(place, run)
    assert put_right(command, "registry") == 0
    pointer = read_pointer(folder)
    assert pointer is not None
    assert Switch.prepare(folder, pointer, registry={"champion": "2"}).registry["champion"] == "2"
    assert not (folder / ".switch.json").exists()
    assert registry.champion_identity(place, "films") == second


def test_after_a_killed_deployment_the_way_back_is_what_it_was(
    command: Command, champion: Champion, place: Environment, night: Night
) -> None:
    run, folder = night("second", champion=champion), place.serving_root / "films"
    bless(run, place)
    before = Pointer(version="0", digest="0" * 64, path="0")
    write_pointer(folder, before, name=PREVIOUS)
    write_pointer(
        folder, Pointer(version="1", digest=champion.digest, path="1", trained_on="e" * 64)
    )
    killed_switch(place, run)
    assert put_right(command, "served") == 0
    pointer = read_pointer(folder)
    assert pointer is not None and (pointer.version, pointer.trained_on) == ("1", "e" * 64)
    assert read_pointer(folder, name=PREVIOUS) == before


def test_no_record_is_put_right_while_a_deployment_is_under_way(
    command: Command, champion: Champion, place: Environment
) -> None:
    without_the_alias(place)
    with alone(place.serving_root / "films"):
        assert put_right(command, "registry") == 1
    assert registry.champion_identity(place, "films") is None


def test_of_two_corrections_within_a_second_both_are_kept(
    command: Command, champion: Champion, place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrections, "now", lambda: "2026-01-01T00:00:00+00:00")
    for _ in range(2):
        assert put_right(command, "registry") == 0
    tags = client_of(place).get_registered_model("films").tags
    assert len([key for key in tags if key.startswith("champion_put_right.")]) == 2


@pytest.mark.parametrize("tag", ["7:abc", "nobody knows"])
def test_a_tag_that_cannot_be_read_is_a_disagreement_that_a_person_ends(
    command: Command, champion: Champion, place: Environment, tag: str
) -> None:
    client_of(place).set_registered_model_tag("films", "last_champion", tag)
    assert command() == 65
    assert put_right(command, "registry") == 0
    assert command() == 0
