"""Plugin and stage say which release they are of, and a stage works for its own only."""

import re
from importlib import metadata
from pathlib import Path

import pytest

import tasks
from tasks.cli import main
from tasks.contract import RELEASE_VARIABLE, Manifest, RunDirectory, release


def test_the_release_is_the_version_of_the_package_and_a_digest_of_what_both_sides_have() -> None:
    assert tasks.__version__ == metadata.version("trusted-retraining")
    assert re.fullmatch(re.escape(tasks.__version__) + r"\+[0-9a-f]{8}", release())


def test_a_stage_refuses_an_airflow_side_of_another_release_in_one_line_that_names_both(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(RELEASE_VARIABLE, "0.0.9+01234567")
    # an argument, even a stage, that this release does not know
    assert main(["embroider", "--run-uri", "nowhere", "--colour", "blue"]) == 78
    assert [record.getMessage() for record in caplog.records] == [
        f"this stage is of release {release()}, but Airflow's plugin is of 0.0.9+01234567: install "
        "both from one release ([trusted_retraining] tasks_image or stage_python names the stage's)"
    ]


@pytest.mark.parametrize("told", ["", None, "this one"])
def test_a_stage_run_by_hand_or_by_its_own_release_works(
    monkeypatch: pytest.MonkeyPatch, told: str | None
) -> None:
    if told is None:
        monkeypatch.delenv(RELEASE_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(RELEASE_VARIABLE, release() if told else "")
    assert main(["reference"]) == 0


def test_a_manifest_says_by_which_release_it_was_written(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "demo/runs/one"))
    run.write_manifest(Manifest(stage="train", fingerprint="f", location="l").sealed())
    manifest = run.read_manifest("train")
    assert manifest is not None and manifest.release == release()


def test_a_field_of_a_later_release_leaves_the_digests_of_earlier_manifests_as_they_are() -> None:
    class Later(Manifest):
        approved_by: str = ""

    sealed = Manifest(
        stage="train", fingerprint="f", location="l", metrics={"train.epochs": 3.0}
    ).sealed()
    document = sealed.model_dump(mode="json")
    assert Later.model_validate(document).is_intact
    assert not Later.model_validate(document | {"approved_by": "somebody"}).is_intact
