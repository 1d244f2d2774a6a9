"""A champion of an earlier state serves, and gives way to a version of today."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.contract import tree_sha256
from tasks.serving.files import PREVIOUS, read_pointer
from tests.upgrades.old_state import MODEL, OldState

REPOSITORY = Path(__file__).parents[2]

LOAD = """
import json, sys
from pathlib import Path
from tasks.serving.files import pointed_models, read_pointer
from tasks.serving.served_model import LoadedModel
root, name, *images = sys.argv[1:]
pointer = read_pointer(Path(root), name=name)
model = LoadedModel(Path(root) / pointer.path, pointer)
found = model.classify_bytes([Path(image).read_bytes() for image in images])
print("ANSWERS", json.dumps(found.tolist()))
"""


@pytest.fixture
def answers(old_state: OldState, serving_python: Path) -> Callable[[str], list[list[float]]]:
    """Return what the server of today makes of two test images with the model of a pointer."""
    import pandas as pd

    arranged = Path(old_state.run("first").path) / "arrange"
    table = pd.read_parquet(arranged / "images.parquet")
    rows = table[table["split_side"] == "test"].sort_values("image_id").head(2)
    images = [str(arranged / "folders" / path) for path in rows["image_path"]]

    def answered(name: str) -> list[list[float]]:
        done = subprocess.run(
            [serving_python, "-c", LOAD, old_state.root / "served" / MODEL, name, *images],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            check=True,
            capture_output=True,
            text=True,
        )
        line = next(each for each in done.stdout.splitlines() if each.startswith("ANSWERS "))
        return [list(row) for row in json.loads(line.removeprefix("ANSWERS "))]

    return answered


@pytest.mark.parametrize(("name", "night"), [("champion.json", "second"), (PREVIOUS, "first")])
def test_the_models_in_folders_by_version_alone_answer_as_they_did(
    old_state: OldState, answers: Callable[[str], list[list[float]]], name: str, night: str
) -> None:
    import pandas as pd

    folder = old_state.root / "served" / MODEL
    pointer = read_pointer(folder, name=name)
    assert pointer is not None
    assert tree_sha256(folder / pointer.path) == pointer.digest
    predictions = pd.read_parquet(
        Path(old_state.run(night).path) / "evaluate/predictions.parquet"
    ).sort_values("image_id")
    expected = [list(row) for row in predictions["probabilities"].head(2)]
    for got, wanted in zip(answers(name), expected, strict=True):
        assert got == pytest.approx(wanted, abs=1e-4)
