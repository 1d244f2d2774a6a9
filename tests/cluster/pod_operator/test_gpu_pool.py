"""Which node a pod with a card is placed on. Changes the node: runs beside nothing that minds."""

from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException

from tests.cluster.kubectl import kubectl
from tests.cluster.pod_operator.attempts import ON_CLUSTER, Make, commit, context
from tests.cluster.pod_operator.nodes import GONE, PRESENT, tainted_card

pytestmark = ON_CLUSTER


def test_a_stage_is_on_the_gpu_pool_thanks_to_toleration_and_selector(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__TRUSTED_RETRAINING__NODE_SELECTOR")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__SCHEDULE_TIMEOUT_SECONDS", "4")
    names = kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
    # on that one, another test's, no pod of this is placed
    (node, *others) = [name for name in names if name != GONE]
    if others:
        pytest.skip("there are more nodes, one of which might take the pods")
    model = {"resources.stages": {"train": {"gpu": 1}}}
    # for seconds only: pods of others that do not tolerate it wait meanwhile
    with tainted_card(node):
        kubectl("label", "node", node, f"{PRESENT}-")
        with pytest.raises(AirflowException, match=r"unschedulable: .*node (selector|affinity)"):
            make("", model).execute(context())
        kubectl("label", "node", node, f"{PRESENT}=true")
        intolerant = model | {"resources.tolerations": []}
        with pytest.raises(AirflowException, match=r"unschedulable: .*taint"):
            make("", intolerant).execute(context())
        commit(tmp_path)
        night = context(attempt=2)
        make("print('on the card')", model).execute(night)
    assert night["ti"].pushed["return_value"]["stage"] == "train"
