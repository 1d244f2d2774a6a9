"""What goes into service is what the tasks of the run have handed on, to the very last step."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tasks.contract import Manifest, RunDirectory
from tasks.spec import load_pipeline
from tests.tasks.committed import commit
from trusted_retraining.operators.local import LocalStageOperator
from trusted_retraining.settings import Settings

RUN = "manual__1"


class Night:
    """A run that the gate has let through, and a task that puts its model into service."""

    def __init__(self, root: Path, pipelines: Path) -> None:
        self.root, self.pipelines = root, pipelines
        self.run, self.told = RunDirectory(f"{root}/demo/runs/{RUN}"), root / "arguments.json"
        train = self.commit("train", weights="1")
        arrange = self.commit("arrange", rows="1")
        evaluate = self.commit("evaluate", answers="1")
        judged = {each.stage: each.digest for each in (train, arrange, evaluate)}
        bless = self.commit("bless", inputs=judged, verdict="1")
        self.handed: dict[str, Any] = {
            each.stage: each.model_dump(mode="json") for each in (train, arrange, evaluate, bless)
        }
        self.states = dict.fromkeys(self.handed, "success")

    def commit(self, stage: str, *, inputs: dict[str, str] | None = None, **files: str) -> Manifest:
        return commit(self.run, stage, files, inputs=inputs or {})

    def perform(self, stage: str) -> Any:
        """Run the task, whose process commits something."""
        script = self.root / "stage.py"
        done = Manifest(stage=stage, fingerprint="f", location=self.run.stage_uri(stage)).sealed()
        path = Path(self.run.path) / stage / "manifest.json"
        script.write_text(
            f"import json, pathlib, sys; path = pathlib.Path({str(path)!r})\n"
            f"pathlib.Path({str(self.told)!r}).write_text(json.dumps(sys.argv))\n"
            "path.parent.mkdir(parents=True, exist_ok=True)\n"
            f"path.write_text({done.model_dump_json()!r})\n"
        )
        operator = LocalStageOperator(
            task_id=stage,
            stage=stage,
            pipeline=load_pipeline(self.pipelines / "demo.yaml"),
            settings=Settings.read(),
            command=[sys.executable, str(script)],
        )
        ti = SimpleNamespace(
            dag_id="demo",
            run_id=RUN,
            try_number=1,
            get_task_states=lambda **_: {RUN: self.states},
            xcom_pull=lambda task_ids: self.handed.get(task_ids),
        )
        return operator.execute({"run_id": RUN, "params": {}, "ti": ti})

    def argument(self, name: str) -> str:
        """Return an argument that the last process was given."""
        words = json.loads(self.told.read_text())
        return str(words[words.index(name) + 1])


@pytest.fixture
def night(tmp_path: Path, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_ROOT", str(tmp_path))
    return Night(tmp_path, pipelines_folder)


@pytest.mark.parametrize("stage", ["publish", "deploy"])
def test_what_the_gate_let_through_goes_into_service(night: Night, stage: str) -> None:
    assert night.perform(stage)["stage"] == stage
    assert night.argument("--judged") == night.handed["bless"]["digest"]
    # cleared later, after what it has committed itself
    assert night.perform(stage)["stage"] == stage


@pytest.mark.parametrize("stage", ["publish", "deploy"])
@pytest.mark.parametrize("replaced", ["bless", "train", "evaluate", "arrange"])
def test_what_was_replaced_after_the_gate_does_not(night: Night, stage: str, replaced: str) -> None:
    inputs = night.handed[replaced]["inputs"]
    night.commit(replaced, inputs=inputs, verdict="of another model")
    with pytest.raises(AirflowFailException, match=rf"result of {replaced} is not what its task"):
        night.perform(stage)
    failure = night.run.read_failure(stage)
    assert failure is not None and failure.exit_code == 65


def test_a_verdict_on_other_evidence_than_the_tasks_handed_on_does_not(night: Night) -> None:
    other = night.commit("train", weights="2")
    night.handed["bless"] = night.commit(
        "bless", inputs=night.handed["bless"]["inputs"] | {"train": other.digest}, verdict="1"
    ).model_dump(mode="json")
    with pytest.raises(AirflowFailException, match="result of train is not what its task"):
        night.perform("deploy")


@pytest.mark.parametrize("state", ["failed", "running", None])
def test_a_task_that_was_cleared_meanwhile_vouches_for_nothing(
    night: Night, state: str | None
) -> None:
    night.states["evaluate"] = str(state)
    with pytest.raises(AirflowFailException, match="result of evaluate is not what its task"):
        night.perform("deploy")


def test_a_publication_is_one_of_the_things_that_are_read(night: Night) -> None:
    handed = night.commit("publish", publication="1")
    night.handed["publish"] = handed.model_dump(mode="json")
    night.states["publish"] = "success"
    assert night.perform("deploy")["stage"] == "deploy"
    night.commit("publish", publication="2")
    with pytest.raises(AirflowFailException, match="result of publish is not what its task"):
        night.perform("deploy")
