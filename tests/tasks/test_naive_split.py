"""A random split of images against one of groups, where a model can know people by their looks."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.contract import BadInput
from tasks.spec import Pipeline

PATIENTS, EACH, SIZE = 24, 6, 12


class Films:
    """Arranged images whose class says nothing but whose patients look alike on all of theirs."""

    classes = ["ill", "well"]
    positive_index = 0

    def __init__(self, *, each: int = EACH) -> None:
        generator = np.random.default_rng(0)
        rows, self._files = [], {}
        for patient in range(PATIENTS):
            looks = generator.integers(0, 200, (SIZE, SIZE))
            for number in range(each):
                name = f"{patient}-{number}.png"
                pixels = looks + generator.integers(0, 30, (SIZE, SIZE))
                stream = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
                self._files[name] = stream.getvalue()
                rows.append(
                    {
                        "image_id": name,
                        "class_index": patient % 2,
                        "group_key": f"p{patient}",
                        "split_side": "test" if patient < PATIENTS // 3 else "train",
                    }
                )
        self._table = pd.DataFrame(rows)

    def table(self) -> pd.DataFrame:
        return self._table.copy()

    def read_bytes(self, rows: pd.DataFrame) -> Iterator[bytes]:
        return (self._files[name] for name in rows["image_id"])


def pipeline() -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "films",
            "source": {"kind": "synthetic"},
            "label": {"column": "class"},
            "train": {
                "architecture": "dense",
                "image_size": [SIZE, SIZE],
                "channels": 1,
                "epochs": 15,
                "batch_size": 8,
                "validation_split": 0.1,
            },
            "evaluate": {"bootstrap": 100},
        }
    )


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    from tasks.naive_split import compare_splits

    return compare_splits(Films(), pipeline(), repeats=2)


def test_knowing_the_patients_looks_like_knowing_the_disease(compared: dict[str, Any]) -> None:
    by_image, by_group = compared["by_image"], compared["by_group"]
    assert all(arm["accuracy"] > 0.9 for arm in by_image)
    assert all(arm["accuracy"] < 0.8 for arm in by_group)
    difference = compared["overstated"]["accuracy"]
    claimed, honest = (np.mean([arm["accuracy"] for arm in arms]) for arms in (by_image, by_group))
    assert difference["mean"] == pytest.approx(claimed - honest)
    assert difference["low"] < difference["mean"] < difference["high"]


def test_patients_are_on_both_sides_of_the_random_split_alone(compared: dict[str, Any]) -> None:
    assert all(arm["shared"] > 0.9 for arm in compared["by_image"])
    assert all(arm["accuracy_shared"] > 0.9 for arm in compared["by_image"])
    assert all(arm["shared"] == 0 for arm in compared["by_group"])
    assert all(arm["accuracy_shared"] is None for arm in compared["by_group"])
    sizes = [arm["images_test"] for arm in compared["by_image"]]
    assert sizes == [PATIENTS * EACH // 3] * 2
    assert all(arm["images_training"] + arm["images_test"] == 144 for arm in compared["by_group"])


def test_the_random_split_is_surer_of_itself(compared: dict[str, Any]) -> None:
    def width(arm: dict[str, Any]) -> float:
        low, high = arm["intervals"]["accuracy"]
        return high - low

    assert max(map(width, compared["by_image"])) < min(map(width, compared["by_group"]))


def test_it_is_told_in_words_and_is_json(compared: dict[str, Any]) -> None:
    from tasks.naive_split import sentences

    lines = sentences(json.loads(json.dumps(compared)), ["ill", "well"])
    assert "144 images of 24 groups, 2 classes, 2 trainings of each kind" in lines[0]
    assert "overstated by" in lines[1]
    assert "% of the random split's test images are of a group" in lines[-1]


def test_without_groups_there_is_nothing_to_compare() -> None:
    from tasks.naive_split import compare_splits

    with pytest.raises(BadInput, match=r"name the patients' column in split\.group"):
        compare_splits(Films(each=1), pipeline(), repeats=1)


def test_a_run_without_arranged_images_is_refused(tmp_path: Path) -> None:
    from tasks.cli import main

    spec = tmp_path / "films.yaml"
    spec.write_text(pipeline().to_json())
    assert main(["naive-split", "--run-uri", str(tmp_path / "r"), "--spec", str(spec)]) == 66
