"""Near duplicates are counted by what they share and what they do not, and drawn."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.data.check import Check
from tasks.data.near_duplicates_checks import check_near_duplicates, pairs_to_show
from tasks.data.near_duplicates_figure import Shown, draw_pairs
from tasks.figures import save_figure


@pytest.fixture
def table() -> pd.DataFrame:
    """Four families among twelve images: two of one patient, one of two, one of two sides, ..."""
    return pd.DataFrame(
        {
            "image_id": [f"{n}.png" for n in range(12)],
            "near_duplicate_family": pd.array([0, 0, 1, 1, 2, 2, 2, 3, 3, *[None] * 3], "Int64"),
            "patientid": ["a", "a", "b", "c", "d", "d", "d", "e", "e", "f", "g", "h"],
            "split_side": ["train"] * 5 + ["train", "test"] + ["train"] * 5,
            "class_name": ["ill"] * 8 + ["well"] * 4,
        }
    )


def _checks(table: pd.DataFrame, found: dict[str, object], group: str | None) -> dict[str, Check]:
    return {check.name: check for check in check_near_duplicates(table, found, group)}


def test_families_are_counted_by_groups_sides_and_labels(table: pd.DataFrame) -> None:
    checks = _checks(table, {"looked_at": 12}, "patientid")
    whole = checks["near duplicates"]
    assert whole.severity == "warning"
    assert whole.counts == {"looked_at": 12, "images": 9, "families": 4, "several_groups": 1}
    assert "9 of 12 images (75.0%)" in whole.message
    sides = checks["nearly the same image on both sides of the split"]
    assert (sides.severity, sides.counts) == ("warning", {"families": 1, "rows": 3})
    assert "4.png (train) and 6.png (test)" in sides.message
    labels = checks["one label for nearly the same image"]
    assert (labels.severity, labels.counts) == ("warning", {"families": 1, "rows": 2})
    assert "7.png (ill) and 8.png (well)" in labels.message


def test_without_groups_only_their_number_is_told(table: pd.DataFrame) -> None:
    whole = _checks(table, {"looked_at": 12}, None)["near duplicates"]
    assert (whole.severity, whole.counts["several_groups"]) == ("ok", 0)


def test_none_found_and_not_looked_for_are_two_things(table: pd.DataFrame) -> None:
    table["near_duplicate_family"] = pd.array([None] * 12, "Int64")
    none = _checks(table, {"looked_at": 12}, "patientid")
    assert none["near duplicates"].message == "none among 12 images"
    assert {check.severity for check in none.values()} == {"ok"}
    never = _checks(table, {"looked_at": 0}, "patientid")
    assert list(never) == ["near duplicates"]
    assert "not looked for" in never["near duplicates"].message
    failed = _checks(table, {"looked_at": 0, "problem": "too much alike"}, "patientid")
    assert failed["near duplicates"].severity == "warning"


def test_pairs_of_two_sides_come_first_then_labels_then_groups(table: pd.DataFrame) -> None:
    assert pairs_to_show(table, "patientid") == [(4, 6), (7, 8), (2, 3), (0, 1)]
    assert pairs_to_show(table, None) == [(4, 6), (7, 8), (0, 1), (2, 3)]
    assert pairs_to_show(table.iloc[9:], "patientid") == []


@pytest.mark.parametrize("number", [1, 3, 12])
def test_pairs_are_drawn(tmp_path: Path, number: int) -> None:
    def shown(side: str, mode: str) -> Shown:
        pixels = np.random.default_rng(number).integers(0, 256, (80, 60), np.uint8)
        image = Image.fromarray(pixels).convert(mode)
        buffer = BytesIO()
        image.save(buffer, "PNG")
        return Shown(
            content=buffer.getvalue(), name="x" * 90, group="patient 7", side=side, label="$ill$"
        )

    pairs = [(shown("train", "L"), shown("test", "RGB"))] * number
    save_figure(draw_pairs(pairs, title="Near duplicates"), tmp_path / "pairs.png")
    with Image.open(tmp_path / "pairs.png") as image:
        assert image.width <= 2100 and image.height <= 1600
