"""A stage as a pod through the operator, against the same image run directly.

Directly, twice: the very same pod put to the cluster by hand and watched, and its container alone,
as the kubelet clocks it. The stage is a real one, ``ingest`` of a few rows, in the image ``tasks``,
with S3 and MLflow on this machine. Airflow's own time is measured by ``overhead``.

Needs a cluster in KUBECONFIG whose nodes have the image (TEST_TASKS_IMAGE) and reach this machine
(TEST_CLUSTER_HOST); without one it says so, and there are no rows.

    python benchmarks/pod_overhead.py --out pod_overhead.json
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.nights import REPOSITORY  # noqa: E402
from benchmarks.rows import Row, arguments, finish, row  # noqa: E402
from tests.cluster.airflow_side import task_context  # noqa: E402
from tests.cluster.images import TASKS  # noqa: E402
from tests.cluster.kubectl import own_namespace  # noqa: E402
from tests.cluster.readiness import problem  # noqa: E402
from tests.cluster.services import BUCKET, serve  # noqa: E402

ROUNDS = 4
CHANGES = {
    "source.rows": 120,
    "resources.data": {"gpu": 0, "cpu": "100m", "memory": "1Gi", "ephemeral_storage": "256Mi",
                       "shared_memory": "16Mi"},
}  # fmt: skip
MOST_SECONDS = 6.0
"""What operator and cluster may take together beyond the container's own time."""


def main() -> int:
    """Measure; exit code 1 when a target is missed."""
    options = arguments(__doc__).parse_args()
    missing = problem([TASKS])
    if missing:
        print(f"skipped: {missing}")
    rows = [] if missing else measure()
    return finish(rows, options.out)


def measure() -> list[Row]:
    """Return the rows."""
    with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as namespace:
        run_operator("warm-up")
        bare, alone, through = [], [], []
        for number in range(ROUNDS):
            pod_seconds, container_seconds = run_by_hand(namespace, f"bare-{number}")
            bare.append(pod_seconds)
            alone.append(container_seconds)
            through.append(run_operator(f"operator-{number}"))
    ours, pod, container = (statistics.mean(seconds) for seconds in (through, bare, alone))
    detail = {
        "rounds": ROUNDS,
        "operator": through,
        "pod_by_hand": bare,
        "container": alone,
        "overhead_seconds": ours - container,
        "of_which_cluster": pod - container,
        "of_which_operator": ours - pod,
    }
    within = ours - container <= MOST_SECONDS
    return [
        row(
            "stage as pod against its container alone",
            ours,
            container,
            "s",
            target=f"<= {MOST_SECONDS:g} s more",
            passed=within,
            detail=detail,
        ),
        row("stage as pod against the same pod by hand", ours, pod, "s"),
    ]


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """Serve S3 and MLflow to pods, point the settings to them, and yield a namespace of our own."""
    with own_namespace("bench") as namespace, serve(folder) as services:
        settings = {
            "RUNTIME": "kubernetes",
            "NAMESPACE": namespace,
            "STORAGE_ROOT": f"s3://{BUCKET}/runs",
            "STORAGE_SECRET": "storage",
            "MLFLOW_URI": services.mlflow,
            "TASKS_IMAGE": TASKS,
            "NODE_SELECTOR": "{}",
        }
        os.environ |= {f"AIRFLOW__TRUSTED_RETRAINING__{name}": v for name, v in settings.items()}
        os.environ |= services.connections() | {"TRUSTED_RETRAINING_STATE": str(folder)}
        from trusted_retraining.local import home

        home.enter(folder)
        services.make_secret(namespace, "storage")
        yield namespace


def run_operator(run_id: str) -> float:
    """Run the stage as Airflow's worker does; return the seconds."""
    operator, context = operator_of(run_id)
    started = time.perf_counter()
    operator.execute(context)
    return time.perf_counter() - started


def run_by_hand(namespace: str, run_id: str) -> tuple[float, float]:
    """Put the same pod to the cluster and watch it; return its seconds and its container's."""
    operator, context = operator_of(run_id)
    api = operator.client
    from kubernetes import watch

    pod = operator.build_pod_request_obj(context)
    started = time.perf_counter()
    name = api.create_namespaced_pod(namespace, pod).metadata.name
    found = None
    for event in watch.Watch().stream(
        api.list_namespaced_pod,
        namespace,
        field_selector=f"metadata.name={name}",
        timeout_seconds=120,
    ):
        found = event["object"]
        if found.status.phase in ("Succeeded", "Failed"):
            break
    seconds = time.perf_counter() - started
    if found is None or found.status.phase != "Succeeded":
        raise RuntimeError(f"pod {name}: {found and found.status}")
    ended = found.status.container_statuses[0].state.terminated
    api.delete_namespaced_pod(name, namespace)
    return seconds, (ended.finished_at - ended.started_at).total_seconds()


def operator_of(run_id: str) -> tuple[Any, dict[str, Any]]:
    """Return the operator of the stage and what Airflow would hand to it."""
    from tasks.spec import apply_overrides, load_pipeline
    from trusted_retraining.operators.pod import StagePodOperator
    from trusted_retraining.settings import Settings

    pipeline = load_pipeline(REPOSITORY / "dags/pipelines/demo.yaml")
    operator = StagePodOperator(
        task_id="ingest",
        stage="ingest",
        pipeline=apply_overrides(pipeline, CHANGES),
        settings=Settings.read(),
    )
    context = task_context("demo", "ingest", run_id=run_id)
    return operator, context | {"params": {"force": True}}


if __name__ == "__main__":
    sys.exit(main())
