"""What a champion was trained on never gets into the test set by itself."""

import hashlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.contract import Altered
from tasks.data.arrange import arrange
from tasks.data.ingest import ingest
from tasks.data.sources import open_source
from tasks.data.split import in_test
from tasks.data.trained_on import TRAINED_ON, TrainedOn
from tasks.spec import CsvImages, Label, Split

SPLIT = Split(group="patientid", test=0.4)
TESTS = [f"p{n}" for n in range(200) if in_test(f"p{n}", test=0.4)]
TRAINS = [f"p{n}" for n in range(200) if not in_test(f"p{n}", test=0.4)]

Row = tuple[str, str, int]
"""File name, patient, picture."""
Night = Callable[..., tuple[pd.DataFrame, list[str], TrainedOn]]


def film(picture: int, size: int = 96) -> bytes:
    blocks = np.random.default_rng(picture).integers(0, 256, (7, 7), np.uint8)
    buffer = BytesIO()
    image = Image.fromarray(blocks).resize((size, size), Image.Resampling.BICUBIC)
    image.save(buffer, "PNG")
    return buffer.getvalue()


# enough patients of their own for two classes on either side
OTHERS: list[Row] = [
    *((f"train{n}.png", TRAINS[20 + n], 1000 + n) for n in range(8)),
    *((f"test{n}.png", TESTS[20 + n], 2000 + n) for n in range(8)),
]


@pytest.fixture
def night(tmp_path: Path, make_source: Callable[..., Path]) -> Night:
    """``night(rows, split, *champions)`` takes rows in and arranges them."""
    nights = iter(range(99))

    def run(
        rows: Sequence[Row],
        split: Split = SPLIT,
        *champions: TrainedOn,
        sizes: dict[str, int] | None = None,
        others: Sequence[Row] = OTHERS,
    ) -> tuple[pd.DataFrame, list[str], TrainedOn]:
        number = next(nights)
        all_rows = [*rows, *others]
        cells = [
            {"filename": name, "patientid": patient, "finding": "ab"[n % 2]}
            for n, (name, patient, _) in enumerate(all_rows)
        ]
        files = {name: film(picture, (sizes or {}).get(name, 96)) for name, _, picture in all_rows}
        source = make_source(cells, files, name=f"source{number}")
        taken_in, out = tmp_path / f"ingest{number}", tmp_path / f"arrange{number}"
        taken_in.mkdir()
        out.mkdir()
        ingest(open_source(CsvImages(uri=str(source))), taken_in, scratch=tmp_path / "scratch")
        table, warnings = arrange(
            taken_in / "metadata.parquet",
            taken_in,
            out,
            label=Label(column="finding"),
            split=split,
            champions={f"champion {n}": record for n, record in enumerate(champions)},
        )
        return table.set_index("image_id"), warnings, TrainedOn.read(out / TRAINED_ON)

    return run


def test_a_join_that_ends_leaves_the_patient_in_training(night: Night) -> None:
    p, q = TESTS[0], TRAINS[0]
    first, _, champion = night([("a.png", p, 1), ("b.png", q, 1)])
    assert first.loc[["a.png", "b.png"], "split_side"].tolist() == ["train", "train"]
    # the row that joined them is gone
    alone, _, _ = night([("a.png", p, 1)])
    assert alone.loc["a.png", "split_side"] == "test"
    kept, warnings, _ = night([("a.png", p, 1)], SPLIT, champion)
    assert kept.loc["a.png", "split_side"] == "train"
    assert warnings == [
        f"1 images (1 groups, such as {p}) would be tested on, but champion 0 was trained on them "
        "or on others of their group; they stay in training"
    ]


def test_a_further_image_of_a_patient_who_was_trained_on_is_not_tested_on(night: Night) -> None:
    p, q = TESTS[0], TRAINS[0]
    _, _, champion = night([("a.png", p, 1), ("b.png", q, 1)])
    kept, _, _ = night([("new.png", p, 7)], SPLIT, champion)
    assert kept.loc["new.png", "split_side"] == "train"


def test_an_id_that_is_filled_in_later_takes_no_image_out_of_training(night: Night) -> None:
    name = next(f"{n}.png" for n in range(99) if not in_test(f"image {n}.png", test=0.4))
    first, _, champion = night([(name, "", 1)])
    assert first.loc[name, "split_side"] == "train"
    p = TESTS[0]
    kept, _, _ = night([(name, p, 1), ("other.png", p, 2)], SPLIT, champion)
    # and with it goes the rest of the patient
    assert kept.loc[[name, "other.png"], "split_side"].tolist() == ["train", "train"]


def test_other_names_for_all_patients_move_nobody_into_the_test_set(night: Night) -> None:
    first, _, champion = night([])
    renamed = [(name, f"anonymous {n}", picture) for n, (name, _, picture) in enumerate(OTHERS)]
    second, warnings, _ = night([], SPLIT, champion, others=renamed)
    trained = first.index[first["split_side"] == "train"]
    assert (second.loc[trained, "split_side"] == "train").all()
    assert any(in_test(f"anonymous {n}", test=0.4) for n in range(8))
    assert "they stay in training" in warnings[0]


def test_an_image_compressed_anew_under_another_patient_is_recognised(night: Night) -> None:
    _, _, champion = night([("a.png", TRAINS[0], 1)])
    kept, _, _ = night([("z.png", TESTS[0], 1)], SPLIT, champion, sizes={"z.png": 90})
    assert kept.loc["z.png", "split_side"] == "train"
    off = SPLIT.model_copy(update={"near_duplicates": "off"})
    not_looked_for, _, _ = night([("z.png", TESTS[0], 1)], off, champion, sizes={"z.png": 90})
    assert not_looked_for.loc["z.png", "split_side"] == "test"


@pytest.mark.parametrize(
    "change", [{"salt": "anew"}, {"test": 0.7}, {"group": None}], ids=["salt", "share", "group"]
)
def test_a_split_made_anew_is_obeyed_and_told(night: Night, change: dict[str, object]) -> None:
    _, _, champion = night([])
    anew = SPLIT.model_copy(update=change)
    free, _, _ = night([], anew)
    told, warnings, _ = night([], anew, champion)
    assert told["split_side"].tolist() == free["split_side"].tolist()
    assert "the split was made anew" in warnings[0]
    assert "left out of the comparison" in warnings[0]


def test_what_the_result_itself_trains_on_changes_nothing(night: Night) -> None:
    # so that a night without new data, after a promotion, may take over the arrangement
    rows = [("a.png", TESTS[0], 1), ("b.png", TRAINS[0], 1), ("c.png", "", 3)]
    first, warnings, own = night(rows, sizes={"b.png": 80})
    again, repeated, record = night(rows, SPLIT, own, sizes={"b.png": 80})
    pd.testing.assert_frame_equal(first, again)
    assert warnings == repeated
    assert record == own


def test_two_champions_are_both_heeded(night: Night) -> None:
    _, _, one = night([("a.png", TESTS[0], 1), ("b.png", TRAINS[0], 1)])
    _, _, other = night([("c.png", TESTS[1], 2), ("d.png", TRAINS[1], 2)])
    kept, warnings, _ = night([("a.png", TESTS[0], 1), ("c.png", TESTS[1], 2)], SPLIT, one, other)
    assert kept.loc[["a.png", "c.png"], "split_side"].tolist() == ["train", "train"]
    assert ["champion 0" in warnings[0], "champion 1" in warnings[1]] == [True, True]


def test_a_record_names_no_patient_and_is_the_same_bytes_for_the_same_rows(
    night: Night, tmp_path: Path
) -> None:
    table, _, record = night([])
    for name in ("one", "two"):
        record.write(tmp_path / name)
    written = (tmp_path / "one").read_bytes()
    assert written == (tmp_path / "two").read_bytes()
    assert not any(patient.encode() in written for patient in TRAINS[20:28])
    assert len(record.rows) == (table["split_side"] == "train").sum()
    assert TrainedOn.read(tmp_path / "one") == record


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"])
def test_a_record_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.parquet"
    path.write_bytes(content)
    with pytest.raises(Altered, match=r"record\.parquet: no record of what a model was trained on"):
        TrainedOn.read(path)


def test_a_table_of_an_earlier_release_makes_a_record_without_perceptual_hashes() -> None:
    table = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "image_sha256": ["aa" * 32, "bb" * 32, "cc" * 32],
            "split_side": ["train", "train", "test"],
            "patientid": ["1", None, "2"],
            "group_key": ["1", "image b", "2"],
        }
    )
    record = TrainedOn.of(table, SPLIT)
    assert {row[0].hex()[:2] for row in record.rows} == {"aa", "bb"}
    assert {row[1] for row in record.rows} == {b""}
    assert record.seen(table, SPLIT).tolist() == [True, True, False]


def _patients(
    names: list[str | None], *, column: str = "patientid", first: int = 0
) -> pd.DataFrame:
    """One image a patient; those of another ``first`` are other images."""
    return pd.DataFrame(
        {
            "image_id": [f"{first + n}.png" for n in range(len(names))],
            "image_sha256": [f"{first + n:064x}" for n in range(1, 1 + len(names))],
            "split_side": "train",
            column: names,
            "group_key": [name or f"image {first + n}.png" for n, name in enumerate(names)],
        }
    )


@pytest.mark.parametrize(
    ("then", "now"),
    [("P1", "p1"), ("P1", " P1 "), ("7", "007"), ("7", "7.0"), ("\u00e9", "e\u0301")],
)
@pytest.mark.parametrize("column", ["patientid", "patient"])
def test_a_patient_whose_id_is_written_otherwise_is_recognised(
    then: str, now: str, column: str
) -> None:
    record = TrainedOn.of(_patients([then, "other"]), SPLIT)
    tonight = _patients([now, "new", None], column=column, first=9)
    split = SPLIT.model_copy(update={"group": column})
    assert record.seen(tonight, split).tolist() == [True, False, False]


def test_spellings_that_are_side_by_side_are_two_patients() -> None:
    record = TrainedOn.of(_patients(["p1"]), SPLIT)
    assert record.seen(_patients(["p1", "P1"], first=9), SPLIT).tolist() == [True, False]
    assert record.seen(_patients(["P1", "P1 "], first=9), SPLIT).tolist() == [True, True]


@pytest.mark.parametrize(
    ("group", "reason"),
    [("patientid", "there is no column 'patientid' now"), (None, "it had no split.group")],
)
def test_that_groups_of_then_cannot_be_known_is_said(group: str | None, reason: str) -> None:
    then = _patients(["1", "2"])
    record = TrainedOn.of(then, SPLIT.model_copy(update={"group": group}))
    renamed = SPLIT.model_copy(update={"group": "patient"})
    gone = _patients(["a", "b"], column="patient", first=1)
    assert record.seen(gone, renamed).tolist() == [True, False]
    assert reason in record.doubt(gone, renamed)
    # images that are still there say what their groups are called now
    assert record.doubt(_patients(["a", "b"], column="patient"), renamed) == ""
    assert record.doubt(then, SPLIT) == ""


def test_arrange_says_so_too(night: Night) -> None:
    then = _patients(["1", "2"], column="patient")
    champion = TrainedOn.of(then, SPLIT.model_copy(update={"group": "patient"}))
    _, warnings, _ = night([], SPLIT, champion)
    assert "champion 0: which groups 2 images of its training belong to is not" in warnings[-1]


def test_a_record_of_an_earlier_release_is_read_as_it_was(tmp_path: Path) -> None:
    rows = frozenset({(b"a" * 32, b"", b"g" * 32, b""), (b"b" * 32, b"", b"h" * 32, b"")})
    record = TrainedOn(settings={"group": "x"}, rows=rows)
    # by the rule of then
    expected = hashlib.sha256(b'{"group": "x"}')
    for row in sorted(rows):
        expected.update(b"\0".join(row[:3]))
    assert record.digest == expected.hexdigest()
    record.write(tmp_path / TRAINED_ON)
    assert pq.read_schema(tmp_path / TRAINED_ON).names == ["image_sha256", "image_phash", "group"]
    assert TrainedOn.read(tmp_path / TRAINED_ON) == record
