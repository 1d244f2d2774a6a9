"""The pod of an extra stage on a real cluster: three steps, and every way in which one ends.

Operator, pod and cluster are real; what runs in the containers are scripts of the test's.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from tasks.contract import Manifest, RunDirectory, run_uri
from tasks.spec import Pipeline
from tests.cluster.airflow_side import RUN_ID, run_pods_in, task_context
from tests.cluster.images import BASE
from tests.cluster.kubectl import kubectl, own_namespace
from trusted_retraining.operators import extra_pod as operators
from trusted_retraining.operators.extra_pod import ExtraPodOperator
from trusted_retraining.settings import Settings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("cluster"),
]

SMALL = {
    "gpu": 0,
    "cpu": "50m",
    "memory": "64Mi",
    "ephemeral_storage": "64Mi",
    "shared_memory": "8Mi",
}
FETCH = """
import pathlib
for name in ("inputs", "outputs"):
    (pathlib.Path("/exchange") / name).mkdir()
pathlib.Path("/exchange/outputs").chmod(0o777)
pathlib.Path("/exchange/inputs/given.txt").write_text("forty-two")
pathlib.Path("/exchange/record.json").write_text("ours")
print("inputs are ready", flush=True)
"""
WORK = """
import os, pathlib
inputs = pathlib.Path(os.environ["TRUSTED_RETRAINING_INPUTS"])
outputs = pathlib.Path(os.environ["TRUSTED_RETRAINING_OUTPUTS"])
(outputs / "told.txt").write_text((inputs / "given.txt").read_text() + " is the answer")
try:
    (inputs / "given.txt").write_text("altered")
except OSError:
    print("inputs cannot be altered", flush=True)
print("record is there:", pathlib.Path("/exchange").exists(), flush=True)
"""
COMMIT = 'print("committed:", open("/exchange/outputs/told.txt").read(), flush=True)'


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with own_namespace("extra") as name:
        yield name


Make = Callable[..., ExtraPodOperator]


@pytest.fixture
def make(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a maker of operators; no pod may be left after them."""
    run_pods_in(namespace, tmp_path, monkeypatch)
    built = operators.extra_pod

    def with_scripts(**arguments: Any) -> dict[str, Any]:
        pod = built(**arguments)
        ours = [pod["spec"]["initContainers"][0], pod["spec"]["containers"][0]]
        for container, script in zip(ours, (FETCH, COMMIT), strict=True):
            container["command"], container["args"] = ["python3", "-c", script], []
        return pod

    monkeypatch.setattr(operators, "extra_pod", with_scripts)

    def operator(script: str, **more: Any) -> ExtraPodOperator:
        extra = {
            "name": "judge",
            "image": BASE,
            "command": ["python3", "-c", script],
            "after": ["evaluate"],
            "resources": SMALL,
            **more,
        }
        pipeline = Pipeline.model_validate(
            {
                "name": "films",
                "source": {"kind": "synthetic"},
                "label": {"column": "finding"},
                "resources": {"data": SMALL},
                "extra_stages": [extra],
            }
        )
        settings = Settings.read()
        return ExtraPodOperator(
            task_id="judge", stage="judge", pipeline=pipeline, settings=settings
        )

    yield operator
    found = json.loads(kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
    # those that are being removed do not count
    assert not [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def run_of(tmp_path: Path) -> RunDirectory:
    return RunDirectory(run_uri(str(tmp_path / "runs"), "films", RUN_ID))


def test_three_steps_in_a_row_come_to_a_result(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path)
    run.write_manifest(
        Manifest(stage="judge", fingerprint="f", location=run.stage_uri("judge")).sealed()
    )
    night = task_context("films", "judge", attempt=2)
    make(WORK).execute(night)
    log = capsys.readouterr().out
    lines = [
        *("inputs are ready", "inputs cannot be altered", "record is there: False"),
        "committed: forty-two is the answer",
    ]
    places = [log.index(line) for line in lines]
    assert places == sorted(places)
    assert night["ti"].pushed["return_value"]["stage"] == "judge"


@pytest.mark.parametrize(
    ("script", "more", "kind", "words"),
    [
        ("import sys; print('no such view'); sys.exit(3)", {}, AirflowException, "no such view"),
        ("import sys; print('bad films'); sys.exit(65)", {}, AirflowFailException, "bad films"),
        ("x = bytearray(10**9)", {}, AirflowException, "out of memory: it took more than 64Mi"),
        ("", {"image": "localhost/no/such:1"}, AirflowException, "cannot be pulled"),
        ("import os; os.setuid(0)", {}, AirflowException, "Operation not permitted"),
    ],
)
def test_an_end_of_the_foreign_container_is_told_and_nothing_is_committed(
    script: str,
    more: dict[str, Any],
    kind: type[Exception],
    words: str,
    make: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(AirflowException, match=words) as caught:
        make(script, **more).execute(task_context("films", "judge"))
    assert isinstance(caught.value, AirflowFailException) is (kind is AirflowFailException)
    assert "committed: " not in capsys.readouterr().out
    failure = run_of(tmp_path).read_failure("judge")
    assert failure is not None and words in failure.reason
