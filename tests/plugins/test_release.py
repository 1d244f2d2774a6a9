"""A stage of another release than the plugin's is refused, whether it knows of releases or not."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tasks.contract import RELEASE_VARIABLE, Manifest, RunDirectory, release
from tasks.spec import load_pipeline
from trusted_retraining.operators.local import LocalStageOperator
from trusted_retraining.pods import stage_variables
from trusted_retraining.settings import Settings

Make = Callable[[str], LocalStageOperator]
CONTEXT: dict[str, Any] = {"run_id": "manual__1", "params": {}}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(f"{tmp_path}/runs/demo/runs/manual__1")


@pytest.fixture
def make(tmp_path: Path, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a maker of operators whose stage is a script in place of an image's."""
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", str(tmp_path / "runs"))

    def operator(script: str) -> LocalStageOperator:
        path = tmp_path / "image.py"
        path.write_text(script)
        return LocalStageOperator(
            task_id="train",
            stage="train",
            pipeline=load_pipeline(pipelines_folder / "demo.yaml"),
            settings=Settings.read(),
            command=[sys.executable, str(path)],
        )

    return operator


def commits(run: RunDirectory, **fields: Any) -> str:
    """Return the script of an image that writes a manifest with these fields."""
    sealed = Manifest(stage="train", fingerprint="f", location=run.stage_uri("train")).sealed()
    document = sealed.model_copy(update={"release": "", **fields}).model_dump_json()
    path = Path(run.path) / "train/manifest.json"
    return (
        f"import pathlib\npath = pathlib.Path({str(path)!r})\n"
        f"path.parent.mkdir(parents=True)\npath.write_text({document!r})\n"
    )


def test_stages_are_told_the_plugins_release(make: Make) -> None:
    operator = make("")
    assert operator.environment()[RELEASE_VARIABLE] == release()
    assert stage_variables(operator.settings)[RELEASE_VARIABLE] == release()


def test_an_image_that_knows_releases_refuses_and_names_both(
    make: Make, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = "0.9.0+fedcba98"
    monkeypatch.setattr("trusted_retraining.settings.release", lambda: newer)
    monkeypatch.setattr("trusted_retraining.operators.stage.release", lambda: newer)
    with pytest.raises(AirflowFailException, match="this stage is of release") as refused:
        make("import sys\nfrom tasks.cli import main\nsys.exit(main(['train']))\n").execute(CONTEXT)
    text = str(refused.value)
    assert newer in text and release() in text and "\n" not in text
    failure = run.read_failure("train")
    assert failure is not None and failure.exit_code == 78


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "an earlier release, which does not say its name"),
        ({"release": "0.0.9+01234567"}, "release 0.0.9+01234567"),
    ],
    ids=["before releases were told", "an earlier one"],
)
def test_a_result_of_another_release_is_not_taken(
    make: Make, run: RunDirectory, fields: dict[str, str], named: str
) -> None:
    with pytest.raises(AirflowFailException) as refused:
        make(commits(run, **fields)).execute(CONTEXT)
    text = str(refused.value)
    assert f"the stage is of {named}, but this plugin is of release {release()}: " in text
    assert "tasks_image" in text
    failure = run.read_failure("train")
    assert failure is not None and failure.exit_code == 78 and named in failure.reason


@pytest.mark.parametrize(
    ("said", "exit_code"),
    [
        ("demo.json: split.near_duplicates: no such field", 78),
        ("python -m tasks: unrecognized arguments: --requested-by", 64),
    ],
)
def test_an_old_image_that_cannot_read_its_arguments_ends_with_what_is_likely(
    make: Make, said: str, exit_code: int
) -> None:
    with pytest.raises(AirflowFailException) as refused:
        make(f"print({said!r})\nraise SystemExit({exit_code})").execute(CONTEXT)
    text = str(refused.value)
    assert said in text
    assert f"this plugin, of release {release()}, has read the same settings" in text


def test_other_ends_say_nothing_of_releases(make: Make) -> None:
    with pytest.raises(AirflowFailException) as refused:
        make("print('row 7: no image')\nraise SystemExit(65)").execute(CONTEXT)
    assert "release" not in str(refused.value)
