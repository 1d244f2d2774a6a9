"""The gate in a whole night under Airflow: what tasks hand on, a pod that a trigger waits for, an
extra stage, tasks that are cleared and run again."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import BundleDagBag

from tasks.contract import Manifest, RunDirectory, run_uri
from tests.dags.pods_here import PodsHere
from tests.tasks.sound import PIPELINE
from trusted_retraining import dag_builder
from trusted_retraining.local import home
from trusted_retraining.operators.local import LocalStageOperator
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.operators.stage import BEGUN
from trusted_retraining.settings import Settings

DEFERRED = "evaluate"
"""The stage that is a pod."""
COUNT = """
import json, os, pathlib, sys
films = float(pathlib.Path(sys.argv[1]).read_text())
outputs = pathlib.Path(os.environ["TRUSTED_RETRAINING_OUTPUTS"])
(outputs / "metrics.json").write_text(json.dumps({"films": films}))
"""
SERVING_PYTHON = home.ROOT / ".local/serving-venv/bin/python"


class Night:
    """A DAG run whose tasks are run in this process, as ``dag.test`` does it, and cleared."""

    def __init__(self, dag: Any, storage: Path) -> None:
        self.dag = dag
        self.run_id = str(dag.test().run_id)
        self.run = RunDirectory(run_uri(str(storage), dag.dag_id, self.run_id))

    def again(self, *tasks: str, downstream: bool = True) -> None:
        """Clear tasks, with those after them, and run the night to its end once more."""
        from airflow.models.dagrun import DagRun
        from airflow.sdk.definitions.dag import _run_task
        from airflow.serialization.serialized_objects import DagSerialization
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState, TaskInstanceState
        from sqlalchemy import select

        scheduled = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(self.dag))
        names = set(tasks)
        for name in tasks if downstream else ():
            names |= self.dag.get_task(name).get_flat_relative_ids(upstream=False)
        scheduled.clear(task_ids=names, run_id=self.run_id, dag_run_state=DagRunState.RUNNING)
        with create_session() as session:
            run = session.scalar(select(DagRun).where(DagRun.run_id == self.run_id))
            run.dag = scheduled
            while run.state == DagRunState.RUNNING:
                session.expire_all()
                ready, _ = run.update_state(session=session)
                for each in ready:
                    each.try_number += 1
                    each.state = TaskInstanceState.SCHEDULED
                session.commit()
                for each in ready:
                    _run_task(ti=each, task=self.dag.task_dict[each.task_id], run_triggerer=True)
                if not ready:
                    time.sleep(0.1)

    def tasks(self) -> dict[str, Any]:
        """Return Airflow's own record of each task."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            found = session.scalars(
                select(TaskInstance).where(TaskInstance.run_id == self.run_id)
            ).all()
            session.expunge_all()
        return {each.task_id: each for each in found}

    def states(self, *tasks: str) -> list[str]:
        found = self.tasks()
        return [str(found[name].state) for name in tasks]

    def handed_on(self, task: str) -> dict[str, Any]:
        """Return the XCom of a task, out of Airflow's database."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            (raw,) = session.scalars(
                XComModel.get_many(
                    run_id=self.run_id, key="return_value", task_ids=task, dag_ids=self.dag.dag_id
                )
            ).all()
            value = raw.value
        return dict(json.loads(value) if isinstance(value, str) else value)

    def begun(self) -> dict[str, Any]:
        """Return when Airflow forgets that an attempt has begun, by task."""
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            found = session.scalars(
                select(TaskStateStoreModel).where(
                    TaskStateStoreModel.run_id == self.run_id, TaskStateStoreModel.key == BEGUN
                )
            ).all()
            return {each.task_id: each.expires_at for each in found}

    def manifest(self, stage: str) -> Manifest:
        found = self.run.read_manifest(stage)
        assert found is not None
        return found


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[PodsHere]:
    found = PodsHere(
        tmp_path, {"TRUSTED_RETRAINING_SERVING_ROOT": str(tmp_path / "served"), "TZ": "UTC"}
    )
    yield found
    found.close()


@pytest.fixture
def begin(tmp_path: Path, pods: PodsHere, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Night]:
    """Return a function that runs the night of a pipeline whose extra stage reads a file."""
    home.prepare(Path(os.environ["TEST_AIRFLOW_STATE"]))
    (tmp_path / "films").write_text("1")
    (tmp_path / "count.py").write_text(COUNT)
    document = json.loads(PIPELINE.to_json())
    document["extra_stages"] = [
        {
            "name": "count",
            "command": ["python", str(tmp_path / "count.py"), str(tmp_path / "films")],
            "after": [DEFERRED],
        }
    ]
    document["blessing"]["rules"].append({"metric": "count.films", "min": 2})
    document |= {"retries": 0, "schedule": None}
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/films.yaml").write_text(yaml.safe_dump(document))
    for name, value in {
        "pipelines": tmp_path / "pipelines",
        "storage_root": tmp_path / "runs",
        "serving_root": tmp_path / "served",
        "serving_python": SERVING_PYTHON,
        "mlflow_uri": "none",
        "config_file": pods.kubeconfig(),
        "in_cluster": "False",
        "deferrable": "True",
        "poll_seconds": 1,
    }.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name.upper()}", str(value))
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", '{"conn_type": "kubernetes"}')

    resume = StagePodOperator.trigger_reentry

    def resumed(self: StagePodOperator, context: Any, event: dict[str, Any]) -> None:
        pods.events.append(event["status"])
        resume(self, context, event)

    monkeypatch.setattr(StagePodOperator, "trigger_reentry", resumed)

    def operator(**fields: Any) -> Any:
        kind = StagePodOperator if fields["stage"] == DEFERRED else LocalStageOperator
        return kind(**fields)

    monkeypatch.setattr(dag_builder, "_operator", lambda _: operator)

    def run() -> Night:
        folder = home.ROOT / "dags"
        bag = BundleDagBag(folder / "retraining.py", bundle_path=folder, bundle_name="dags-folder")
        assert bag.import_errors == {}
        return Night(bag.dags["films"], tmp_path / "runs")

    assert Settings.read().cluster.deferrable
    return run


@pytest.mark.timeout(600)
def test_only_what_the_tasks_handed_on_gets_through_the_gate(
    begin: Callable[[], Night], pods: PodsHere, tmp_path: Path
) -> None:
    pointer = tmp_path / "served/films/champion.json"
    night = begin()
    # a night as it is: the pod's result came by way of the trigger's event, and the rule on the
    # extra stage's figure refuses
    assert night.states(DEFERRED, "count", "bless", "reject", "deploy") == [
        *["success"] * 4,
        "skipped",
    ]
    assert len(pods.names) == 1 and pods.names[0].startswith(f"films-{DEFERRED}")
    assert pods.events == ["success"]
    begun = night.begun()
    for stage in (DEFERRED, "count", "bless"):
        assert stage in begun and begun[stage] is None
        assert night.handed_on(stage)["digest"] == night.manifest(stage).digest
    verdict = night.run.read_verdict()
    assert verdict is not None and verdict.reasons == ["count.films is 1, must be >= 2"]
    # somebody writes a better figure, and has the verdict given again: the gate asks the tasks
    honest = night.manifest("count")
    night.run.write_manifest(honest.model_copy(update={"metrics": {"count.films": 5.0}}).sealed())
    night.again("bless")
    verdict = night.run.read_verdict()
    assert verdict is not None and verdict.may_serve
    assert night.states("blessing_gate", "reject", "deploy") == ["success", "success", "skipped"]
    assert not pointer.exists()
    # the extra stage itself finds more films, and its model goes into service
    (tmp_path / "films").write_text("5")
    night.again("count")
    assert night.handed_on("count")["metrics"] == {"count.films": 5.0}
    assert night.states("blessing_gate", "reject", "deploy") == ["success", "skipped", "success"]
    served = pointer.read_bytes()
    # the pod's task, cleared: its second attempt finds what its first has committed
    before = night.manifest(DEFERRED)
    night.again(DEFERRED)
    assert night.tasks()[DEFERRED].try_number == 2 and len(pods.names) == 2
    assert night.manifest(DEFERRED).started_at == before.started_at
    assert night.handed_on(DEFERRED)["digest"] == night.manifest(DEFERRED).digest
    assert night.states("blessing_gate", "deploy", "outcome") == ["success"] * 3
    # what is put there after the gate is not put into service by a task that is cleared alone
    night.run.write_manifest(
        night.manifest("bless").model_copy(update={"warnings": ["another verdict"]}).sealed()
    )
    night.again("deploy", downstream=False)
    assert night.states("deploy") == ["failed"]
    failure = night.run.read_failure("deploy")
    assert failure is not None and "the result of bless is not what its task" in failure.reason
    assert pointer.read_bytes() == served
