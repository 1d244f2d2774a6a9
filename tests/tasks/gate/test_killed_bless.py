"""``bless`` killed at any instant after the model was registered: asked again, it says the same."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.tracking import RUN_URI_TAG, mlflow_client
from tests.tasks.sound import Night, make_night, restored

KILLED = """
import importlib, os, signal, sys
from dataclasses import replace
from pathlib import Path
from tasks.contract import RunDirectory
from tests.tasks.sound import Night, environment_at

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

run, root, mlflow, place = sys.argv[1:]
owner, _, name = place.rpartition(".")
try:
    owner = importlib.import_module(owner)
except ModuleNotFoundError:
    module, _, kind = owner.rpartition(".")
    owner = getattr(importlib.import_module(module), kind)
setattr(owner, name, killed)
environment = replace(environment_at(Path(root)), mlflow_uri=mlflow)
Night(RunDirectory(run), environment).perform("bless")
"""

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def one_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return make_night(tmp_path_factory.mktemp("killed") / "store")


@pytest.fixture
def night(one_night: Night, tmp_path: Path) -> Iterator[Night]:
    with restored(one_night, tmp_path / "aside"):
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        yield Night(one_night.run, replace(one_night.environment, mlflow_uri=uri))


@pytest.mark.parametrize(
    "place",
    [
        "tasks.gate.history.keep",
        "tasks.registry.set_alias",
        "tasks.contract.run_directory.RunDirectory.write_manifest",
    ],
)
def test_bless_killed_between_registration_and_commit_registers_once_and_says_the_same(
    night: Night, place: str
) -> None:
    words = [night.run.uri, str(Path(night.run.path).parents[2]), night.environment.mlflow_uri]
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *words, place],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    assert night.run.read_manifest("bless") is None
    assert night.run.read_verdict() is None

    verdict = night.verdict()
    assert verdict.blessed and verdict.model.version == "1"
    again = night.verdict()
    assert again.model == verdict.model
    assert [rule.reason for rule in again.rules] == [rule.reason for rule in verdict.rules]
    with mlflow_client(night.environment) as client:
        (version,) = client.search_model_versions("name='films'")
        assert (str(version.version), version.tags["verdict"]) == ("1", "blessed")
        assert str(client.get_model_version_by_alias("films", "challenger").version) == "1"
        experiment = client.get_experiment_by_name("films")
        runs = client.search_runs([experiment.experiment_id])
        assert [each.data.tags[RUN_URI_TAG] for each in runs] == [night.run.uri]
