"""Two pods that both pass for one task are told by name, and no attempt is wasted on them."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from kubernetes.client import V1Container, V1ObjectMeta, V1Pod, V1PodSpec, V1PodStatus

from tasks.contract import EX_CONFIG, RunDirectory
from tasks.spec import load_pipeline
from trusted_retraining.operators.pod import StagePodOperator
from trusted_retraining.settings import Settings

RUN = "manual__2026-07-04T02:00:00+00:00"


def pod(name: str, *, ending: bool = False) -> V1Pod:
    at = datetime(2026, 7, 4, 2, tzinfo=UTC)
    metadata = V1ObjectMeta(
        name=name,
        namespace="trusted-retraining",
        labels={"try_number": "1"},
        creation_timestamp=at,
        deletion_timestamp=at if ending else None,
    )
    spec = V1PodSpec(containers=[V1Container(name="stage")])
    return V1Pod(metadata=metadata, spec=spec, status=V1PodStatus(phase="Running"))


class Api:
    """The cluster's API at its edge: what it lists, and what it was asked to do."""

    def __init__(self, pods: list[V1Pod]) -> None:
        self.pods = pods
        self.created: list[Any] = []

    def list_namespaced_pod(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(
            items=[p for p in self.pods if p.metadata.deletion_timestamp is None]
        )

    def create_namespaced_pod(self, body: Any, **_: Any) -> Any:
        self.created.append(body)
        return body


@pytest.fixture
def attempt(tmp_path: Path, pipelines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    values = {
        "RUNTIME": "kubernetes",
        "STORAGE_ROOT": str(tmp_path),
        "MLFLOW_URI": "http://mlflow:5000",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)

    def run(pods: list[V1Pod]) -> Api:
        api = Api(pods)
        monkeypatch.setattr(StagePodOperator, "client", property(lambda _: api))
        operator = StagePodOperator(
            task_id="train",
            stage="train",
            pipeline=load_pipeline(pipelines_folder / "demo.yaml"),
            settings=Settings.read(),
        )
        ti = SimpleNamespace(dag_id="demo", task_id="train", run_id=RUN, map_index=-1, try_number=2)
        context = {"ti": ti, "run_id": RUN, "params": {}, "dag": SimpleNamespace(dag_id="demo")}
        request = operator.build_pod_request_obj(context, dry_run=True)
        operator._attempt(context, lambda: operator.get_or_create_pod(request, context))
        return api

    return run


def test_both_are_named_with_the_way_out_and_there_is_no_retry(
    attempt: Any, tmp_path: Path
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        attempt([pod("demo-train-b"), pod("demo-train-a")])
    message = str(caught.value)
    assert "2 pods stand for this very task, demo-train-a, demo-train-b" in message
    assert "kubectl delete pod --namespace trusted-retraining" in message
    [record] = tmp_path.glob("demo/runs/*/train/failure.json")
    failure = RunDirectory(str(record.parents[1])).read_failure("train")
    assert failure is not None and failure.exit_code == EX_CONFIG
