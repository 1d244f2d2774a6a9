"""Two whole runs of one pipeline at the same time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.contract import RunDirectory, tree_sha256
from tasks.gate.evidence import JUDGED
from tasks.registry import champion_identity
from tasks.serving.files import read_pointer
from tests.tasks.sound import Night, environment_at

REPOSITORY = Path(__file__).parents[3]
WHOLE = """
import json, sys
from pathlib import Path
from tasks.contract import RunDirectory, StageError
from tasks.gate.evidence import JUDGED
from tests.tasks.sound import Night, environment_at

root, name, serving_python = sys.argv[1:]
environment = environment_at(Path(root), mlflow=True, serving_python=Path(serving_python))
night = Night(RunDirectory(f"{root}/films/runs/{name}"), environment)
try:
    for stage in (*JUDGED, "bless", "deploy"):
        night.perform(stage, {"train.seed": int(name)})
    print(json.dumps(["deployed", ""]))
except StageError as error:
    print(json.dumps(["refused", str(error)]))
"""


@pytest.mark.e2e
def test_two_runs_at_once_end_well_and_one_of_their_models_serves(
    tmp_path: Path, serving_python: Path
) -> None:
    environment = environment_at(tmp_path, mlflow=True, serving_python=serving_python)
    words = [sys.executable, "-c", WHOLE, str(tmp_path)]
    both = [
        subprocess.Popen(
            [*words, name, str(serving_python)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("1", "2")
    ]
    ends = {}
    for name, process in zip(("1", "2"), both, strict=True):
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err[-3000:]
        ends[name] = json.loads(out.splitlines()[-1])
    assert "deployed" in [kind for kind, _ in ends.values()]
    for kind, reason in ends.values():
        # the slower one was judged against nobody, or found the other deployment under way
        told = ("champion", "refuses this model", "another deployment of this model is under way")
        assert kind == "deployed" or any(words in reason for words in told)
    verdicts = {}
    for name in ends:
        run = RunDirectory(f"{tmp_path}/films/runs/{name}")
        manifests = {stage: Night(run, environment).manifest(stage) for stage in JUDGED}
        assert all(run.stands(manifest) for manifest in manifests.values())
        verdicts[name] = run.read_verdict()
    versions = [verdict.model.version for verdict in verdicts.values() if verdict]
    assert sorted(versions) == ["1", "2"]
    champion = champion_identity(environment, "films")
    pointer = read_pointer(environment.serving_root / "films")
    assert champion is not None and pointer is not None
    assert tuple(champion)[:2] == (pointer.version, pointer.digest)
    assert tree_sha256(environment.serving_root / "films" / pointer.path) == pointer.digest
