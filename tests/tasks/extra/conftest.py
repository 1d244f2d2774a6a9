"""A night that extra stages may read, and programs for them."""

import json
import sys
import textwrap
from pathlib import Path

import pytest

from tasks.contract import RunDirectory
from tests.tasks.committed import commit
from tests.tasks.extra.programs import MATRIX, Script


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def night(tmp_path: Path) -> RunDirectory:
    """Return a run in which ``evaluate`` and ``train`` have committed something."""
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    commit(run, "evaluate", {"evaluation.json": json.dumps({"confusion_matrix": MATRIX})})
    commit(run, "train", {"model/saved_model.pb": "graph", "model/v/weights": "w"})
    return run


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(text: str) -> list[str]:
        path = tmp_path / "program.py"
        head = (
            "import json, os, pathlib, sys\n"
            "inputs = pathlib.Path(os.environ['TRUSTED_RETRAINING_INPUTS'])\n"
            "outputs = pathlib.Path(os.environ['TRUSTED_RETRAINING_OUTPUTS'])\n"
        )
        path.write_text(head + textwrap.dedent(text))
        return [sys.executable, str(path)]

    return write
