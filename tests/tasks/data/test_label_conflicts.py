"""One image with two labels is told, and too many of them stop the night."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tasks.contract import BadInput
from tasks.data.arrange import arrange
from tasks.data.ingest import ingest
from tasks.data.sources import open_source
from tasks.spec import CsvImages
from tasks.spec.data import Label, Split

Make = Callable[..., Path]
Encode = Callable[..., bytes]
Arrange = Callable[..., tuple[pd.DataFrame, list[str]]]


@pytest.fixture
def arranged(tmp_path: Path, make_source: Make, image_bytes: Encode) -> Arrange:
    """Return a function that takes rows of file, label and content in, and arranges them."""

    def run(
        rows: list[tuple[str, str, int]], split: Split | None = None, **label: object
    ) -> tuple[pd.DataFrame, list[str]]:
        source = make_source(
            [{"filename": name, "finding": finding} for name, finding, _ in rows],
            {name: image_bytes(content) for name, _, content in rows},
        )
        taken_in, out = tmp_path / "ingest", tmp_path / "arrange"
        taken_in.mkdir()
        out.mkdir()
        ingest(open_source(CsvImages(uri=str(source))), taken_in, scratch=tmp_path / "scratch")
        return arrange(
            taken_in / "metadata.parquet",
            taken_in,
            out,
            label=Label.model_validate({"column": "finding", **label}),
            split=split or Split(),
        )

    return run


ROWS = [(f"{n}.png", "cat" if n % 2 else "dog", n) for n in range(20)]


def test_a_file_with_two_labels_is_held_against_a_limit(arranged: Arrange) -> None:
    with pytest.raises(
        BadInput,
        match=r"1 of 20 images .* \(5.0%; label.max_conflicting is 1.0%\): 'cat' \(3.png\) and "
        r"'dog' \(row 21: 3.png\); correct",
    ):
        arranged([*ROWS, ("3.png", "dog", 3)])


def test_below_the_limit_it_is_told(arranged: Arrange) -> None:
    table, warnings = arranged([*ROWS, ("3.png", "dog", 3)], max_conflicting=0.05)
    assert "'cat' (3.png) and 'dog' (row 21: 3.png)" in warnings[-1]
    assert table.set_index("image_id").loc["3.png", "class_name"] == "cat"


def test_a_file_with_the_same_label_twice_is_told_and_no_conflict(arranged: Arrange) -> None:
    table, warnings = arranged([*ROWS, ("3.png", "cat", 3), ("3.png", "cat", 3)])
    assert warnings == ["2 rows name the file of an earlier row, whose label counts"]
    assert len(table) == 20


def test_a_label_that_only_a_later_row_of_a_file_has_is_told(arranged: Arrange) -> None:
    rows = [("x.png", "", 70), ("x.png", "cat", 70), *ROWS]
    table, warnings = arranged(rows)
    assert "x.png" not in set(table["image_id"])
    assert any(
        "1 rows name the file of an earlier row that was filtered out" in w for w in warnings
    )


def test_spellings_of_one_label_are_told(arranged: Arrange) -> None:
    _, warnings = arranged([*ROWS, ("a.png", "Cat", 50), ("b.png", " cat", 51)])
    assert "' cat' (1 rows) and 'Cat' (1 rows) and 'cat' (10 rows)" in warnings[0]


def test_a_label_that_is_declared_in_another_spelling_is_named(arranged: Arrange) -> None:
    with pytest.raises(BadInput, match=r"'CAT' is 'cat' but for case, .* normalise\(\) makes"):
        arranged([*ROWS, ("a.png", "CAT", 50)], classes=["cat", "dog"])


def test_images_without_a_label_may_be_the_second_class(arranged: Arrange) -> None:
    rows = [(name, finding if finding == "cat" else "", n) for name, finding, n in ROWS]
    with pytest.raises(BadInput, match=r"10 images have none: .* \"fill\('background'\)\""):
        arranged(rows)


def test_nobody_is_no_patient(arranged: Arrange) -> None:
    rows = [(name, label, n) for name, label, n in ROWS] + [("x.png", "bird", 99)]
    split = Split(group="finding", blank_groups=["CAT"])
    table, warnings = arranged(rows, split)
    keys = table.set_index("image_id")["group_key"]
    assert keys["1.png"] == "image 1.png" and keys["0.png"] == "dog"
    assert "10 images have a blank 'finding'; each is a group of its own" in warnings
    assert any("'dog' in 10 of 21 rows" in warning for warning in warnings)


def test_spellings_of_one_group_are_told(arranged: Arrange) -> None:
    rows = [*ROWS, ("a.png", "Cat", 50)]
    _, warnings = arranged(rows, Split(group="finding"))
    assert any(
        w.startswith("split.group: 'finding' holds values that differ only") for w in warnings
    )


def test_a_table_that_names_few_files_again_and_again_is_told_loudly(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    source = make_source(
        [{"filename": f"{n % 4}.png"} for n in range(1000)],
        {f"{n}.png": image_bytes(n) for n in range(4)},
    )
    (tmp_path / "out").mkdir()
    summary = ingest(
        open_source(CsvImages(uri=str(source))), tmp_path / "out", scratch=tmp_path / "scratch"
    )
    assert summary.warnings == [
        "996 of 1000 rows name a file that an earlier row names, and only 4 rows are left; is this "
        "the column of the images' files?"
    ]
