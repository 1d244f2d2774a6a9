"""Where a pod runs, what its container is given, and what nobody is told of that."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.eks import EksHook
from airflow.sdk.exceptions import AirflowFailException

from tests.cluster.kubectl import kubectl
from tests.cluster.pod_operator.attempts import ON_CLUSTER, Make, commit, context, failure
from tests.cluster.pod_operator.triggerer import defer
from trusted_retraining.operators.pod import StageEksPodOperator

pytestmark = ON_CLUSTER


def test_the_container_has_what_a_stage_needs_and_nothing_to_write_elsewhere(
    make: Make, tmp_path: Path
) -> None:
    commit(tmp_path)
    make(
        """
import os, pathlib
assert os.getuid() == 65532 and os.getgid() == 65532
for name in ("HOME", "TMPDIR", "TRUSTED_RETRAINING_SCRATCH"):
    pathlib.Path(os.environ[name], "x").write_text("x")
for name in ("MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
    os.makedirs(os.environ[name])
pathlib.Path("/dev/shm/x").write_text("x")
try:
    pathlib.Path("/x").write_text("x")
except OSError as error:
    assert "Read-only" in str(error) or "denied" in str(error), error
else:
    raise SystemExit("the root file system can be written to")
assert not pathlib.Path("/var/run/secrets/kubernetes.io").exists()
"""
    ).execute(context(attempt=2))


def test_a_field_gets_no_variable_from_a_secret(
    make: Make, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl("-n", namespace, "create", "secret", "generic", "keys", "--from-literal=KEY=k7k7")
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__STORAGE_SECRET", "keys")
    commit(tmp_path)
    make(
        """
import json, os, sys
assert os.environ["KEY"] == "k7k7"
assert "k7k7" not in str(sys.argv), sys.argv
assert json.loads(sys.argv[5])["description"] == "@(KEY) @@(KEY) 5@".replace("@", chr(36))
""",
        {"description": "$(KEY) $$(KEY) 5$"},
    ).execute(context(attempt=2))


def test_credentials_that_a_stage_prints_are_masked(
    make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "print('AWS_SECRET_ACCESS_KEY=abcdefgh key AKIAIOSFODNN7EXAMPLE', flush=True)"
    with pytest.raises(AirflowFailException) as caught:
        make(script + "; raise SystemExit(65)").execute(context())
    told = "".join(capfd.readouterr()) + str(caught.value) + failure(tmp_path).reason
    assert "AWS_SECRET_ACCESS_KEY=***" in told
    printed = re.sub(r"(?s)the pod was:.*?^\s*status:", "", told)
    assert "AKIAIOSFODNN7EXAMPLE" not in printed and "abcdefgh" not in printed


@pytest.fixture
def eks(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS as far as the operator asks it: the address of the cluster, which is the one here."""
    account = {"conn_type": "aws", "login": "key", "password": "secret",
               "extra": {"region_name": "us-east-1"}}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(account))
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__EKS_CLUSTER_NAME", "hospital")

    @contextmanager
    def cluster_of(_: EksHook, eks_cluster_name: str, **__: Any) -> Iterator[str]:
        assert eks_cluster_name == "hospital"
        yield os.environ["KUBECONFIG"]

    monkeypatch.setattr(EksHook, "generate_config_file", cluster_of)


@pytest.mark.usefixtures("eks")
def test_on_eks_the_pod_and_its_ends_are_the_same(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AirflowFailException, match=r"row 7 \(exit code 65\)"):
        make("print('row 7'); raise SystemExit(65)", kind=StageEksPodOperator).execute(context())
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__DEFERRABLE", "True")
    commit(tmp_path)
    night = context(attempt=2)
    event = defer(make("print('done')", kind=StageEksPodOperator), night)
    make("", kind=StageEksPodOperator).trigger_reentry(night, event)
    assert night["ti"].pushed["return_value"]["stage"] == "train"
