"""Usable, labelled images end up in folders or shards, read back through ``Arranged``."""

import json
import tarfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.contract import Altered, BadConfig, BadInput
from tasks.data import Arranged
from tasks.data.arrange import arrange, class_folders, flat_name
from tasks.data.ingest import ingest
from tasks.data.sources import open_source
from tasks.data.split import in_test
from tasks.spec import CsvImages, Label, Split

Make = Callable[..., Path]
Encode = Callable[..., bytes]

LABEL = Label(column="finding")


@pytest.fixture
def taken_in(tmp_path: Path, make_source: Make, image_bytes: Encode) -> Path:
    """30 images of 10 patients in two folders, one of them missing, one without label."""
    rows, files = [], {}
    for number in range(30):
        name = f"{'ab'[number % 2]}/{number // 2}.png"
        finding = "" if number == 7 else ("No Finding", "Pneumonia/Viral")[number % 3 > 0]
        rows.append(
            {"filename": name, "patientid": str(number % 10), "sex": "M", "finding": finding}
        )
        if number != 4:
            files[name] = image_bytes(number)
    source = make_source(rows, files)
    (source / "masks/a").mkdir(parents=True)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(source / "masks/a/0.png")
    out = tmp_path / "ingest"
    out.mkdir()
    spec = CsvImages(uri=str(source), regions="masks/{stem}.png")
    ingest(open_source(spec), out, scratch=tmp_path / "scratch")
    return out


def _arrange(
    taken_in: Path, out: Path, label: Label = LABEL, split: Split | None = None
) -> tuple[Arranged, list[str]]:
    out.mkdir()
    split = split or Split(group="patientid", test=0.4)
    _, warnings = arrange(taken_in / "metadata.parquet", taken_in, out, label=label, split=split)
    committed = SimpleNamespace(
        path=lambda name: out / name,
        unverified_path=lambda name: out / name,
        read=lambda name: (out / name).read_bytes(),
        has=lambda name: (out / name).exists(),
    )
    return Arranged(committed), warnings


def test_images_are_linked_into_a_folder_a_class(taken_in: Path, tmp_path: Path) -> None:
    arranged, warnings = _arrange(taken_in, tmp_path / "out")
    table = arranged.table()
    assert len(table) == 28
    assert arranged.classes == ["No Finding", "Pneumonia/Viral"]
    assert (arranged.positive, arranged.positive_index) == ("Pneumonia/Viral", 1)
    for row in table.itertuples():
        path = tmp_path / "out/folders" / row.image_path
        assert path.samefile(taken_in / "images" / row.image_id)
        assert row.image_path.split("/")[0] == row.split_side
        assert row.image_path.split("/")[1] == ["No Finding", "Pneumonia_Viral"][row.class_index]
    assert table["image_path"].is_unique
    assert warnings == ["1 images have a blank 'finding' and are left out"]


def test_a_patient_is_on_one_side_and_both_sides_are_there(taken_in: Path, tmp_path: Path) -> None:
    arranged, _ = _arrange(taken_in, tmp_path / "out")
    train, test = arranged.table("train"), arranged.table("test")
    assert set(train["patientid"]).isdisjoint(test["patientid"])
    assert len(train) + len(test) == 28
    assert len(train) and len(test)
    assert list(test.index) == list(range(len(test)))


def test_shards_hold_the_same_bytes_as_folders_in_any_order(
    taken_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, _ = _arrange(taken_in, tmp_path / "folders")
    split = Split(group="patientid", test=0.4, layout="shards")
    # smaller than a spec can ask for, so that a few images make several shards
    monkeypatch.setattr("tasks.data.arrange.SHARD_UNIT", 3_000)
    shards, _ = _arrange(
        taken_in, tmp_path / "shards", split=split.model_copy(update={"shard_megabytes": 1})
    )
    table = shards.table()
    pd.testing.assert_series_equal(table["image_path"], folders.table()["image_path"])
    shuffled = table.sample(frac=1, random_state=0)
    expected = [(taken_in / "images" / name).read_bytes() for name in shuffled["image_id"]]
    assert list(shards.read_bytes(shuffled)) == expected
    assert list(folders.read_bytes(shuffled)) == expected
    paths = sorted((tmp_path / "shards").glob("*_shards/*"))
    names = {path.relative_to(tmp_path / "shards").as_posix() for path in paths}
    assert len(names) > 4
    assert {"train_shards/train-00000.tar", "test_shards/test-00000.tar"} <= names
    members: list[str] = []
    for path in paths:
        with tarfile.open(path) as shard:
            members += shard.getnames()
    assert sorted(members) == sorted(table["image_path"])


def test_the_same_data_make_the_same_bytes(taken_in: Path, tmp_path: Path) -> None:
    split = Split(group="patientid", test=0.4, layout="shards")
    _arrange(taken_in, tmp_path / "one", split=split)
    _arrange(taken_in, tmp_path / "two", split=split)
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()]
    assert len(files) >= 4
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_region_is_read_as_a_mask_up_to_255(taken_in: Path, tmp_path: Path) -> None:
    arranged, _ = _arrange(taken_in, tmp_path / "out")
    table = arranged.table().set_index("image_id", drop=False)
    mask = arranged.region(table.loc["a/0.png"])
    assert mask is not None
    assert np.array_equal(mask, np.eye(8, dtype=np.uint8) * 255)
    assert arranged.region(table.loc["b/0.png"]) is None
    by_tuple = next(row for row in table.itertuples() if row.image_id == "a/0.png")
    assert arranged.region(by_tuple) is not None


def test_a_class_that_is_not_declared_is_named_with_its_rows(
    taken_in: Path, tmp_path: Path
) -> None:
    label = Label(column="finding", classes=["No Finding", "Pneumonia"])
    with pytest.raises(BadInput, match=r"not in label.classes: 'Pneumonia/Viral' \(\d+ rows\)"):
        _arrange(taken_in, tmp_path / "out", label)


def test_declared_classes_keep_their_order(taken_in: Path, tmp_path: Path) -> None:
    label = Label(column="finding", classes=["Pneumonia/Viral", "No Finding", "Never"])
    arranged, _ = _arrange(taken_in, tmp_path / "out", label)
    assert arranged.classes == ["Pneumonia/Viral", "No Finding", "Never"]
    assert arranged.positive is None
    table = arranged.table()
    assert (table["class_index"] == table["class_name"].map(arranged.classes.index)).all()


def test_a_positive_class_that_is_none_and_a_single_class_are_refused(
    taken_in: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match=r"label.positive 'Tumour' is not one of No Finding"):
        _arrange(taken_in, tmp_path / "a", Label(column="finding", positive="Tumour"))
    with pytest.raises(BadInput, match=r"holds a single class, 'M'"):
        _arrange(taken_in, tmp_path / "b", Label(column="sex"))
    with pytest.raises(BadInput, match=r"label.column: there is no column 'label'"):
        _arrange(taken_in, tmp_path / "c", Label(column="label"))


def test_a_class_of_the_data_cannot_pose_as_an_interval(taken_in: Path, tmp_path: Path) -> None:
    path = taken_in / "metadata.parquet"
    table = pd.read_parquet(path)
    table["risk"] = ["risk", "risk.low", "risk.high"] * 10
    table.to_parquet(path)
    with pytest.raises(BadInput, match=r"label.column 'risk': the class 'risk.high' ends as the"):
        _arrange(taken_in, tmp_path / "a", Label(column="risk"))


def test_a_split_column_is_obeyed_and_checked(taken_in: Path, tmp_path: Path) -> None:
    path = taken_in / "metadata.parquet"
    table = pd.read_parquet(path)
    table["fold"] = [" Train", "TEST"] * 15
    table.to_parquet(path)
    arranged, _ = _arrange(taken_in, tmp_path / "a", split=Split(column="fold"))
    assert Counter(arranged.table()["split_side"]) == {"train": 14, "test": 14}
    table["fold"] = ["train", "val", None] * 10
    table.to_parquet(path)
    with pytest.raises(BadInput, match=r"values other than train and test: .*'val' \(\d+ rows\)"):
        _arrange(taken_in, tmp_path / "b", split=Split(column="fold"))


def test_one_image_of_two_patients_keeps_them_on_one_side(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    rows, files = [], {}
    for number in range(40):
        rows.append(
            {"filename": f"{number}.png", "patientid": f"p{number}", "finding": "ab"[number % 2]}
        )
        files[f"{number}.png"] = image_bytes(number // 2)
    out = tmp_path / "ingest"
    out.mkdir()
    ingest(open_source(CsvImages(uri=str(make_source(rows, files)))), out, scratch=tmp_path / "s")
    arranged, warnings = _arrange(out, tmp_path / "out")
    table = arranged.table()
    assert table.groupby("image_sha256")["split_side"].nunique().max() == 1
    assert "20 times the same image is filed under several values of 'patientid'" in warnings[0]


def test_a_file_in_rows_of_two_patients_keeps_them_on_one_side(
    tmp_path: Path, make_source: Make, image_bytes: Encode
) -> None:
    """The second row is set aside, but what it says of the patient may be as true as the first."""
    rows = [
        {"filename": f"{n}.png", "patientid": f"p{n}", "finding": "ab"[n % 2]} for n in range(40)
    ]
    files = {row["filename"]: image_bytes(n) for n, row in enumerate(rows)}
    rows += [{**rows[n], "patientid": f"p{n + 1}"} for n in range(0, 40, 2)]
    rows += [{**rows[0], "patientid": ""}]
    out = tmp_path / "ingest"
    out.mkdir()
    ingest(open_source(CsvImages(uri=str(make_source(rows, files)))), out, scratch=tmp_path / "s")
    arranged, warnings = _arrange(out, tmp_path / "out")
    table = arranged.table().set_index("patientid")
    assert len(table) == 40
    for n in range(0, 40, 2):
        assert table.loc[f"p{n}", "split_side"] == table.loc[f"p{n + 1}", "split_side"]
    assert "20 times the same image is filed under several values of 'patientid'" in " ".join(
        warnings
    )


@pytest.fixture
def near_copies(tmp_path: Path, make_source: Make) -> Callable[..., Path]:
    """``near_copies(size, copies)``: a picture each of 40 patients; the last ones show the first's
    patient's, a little smaller."""

    def make(size: int, copies: int = 1) -> Path:
        rows, files = [], {}
        for number in range(40):
            seed = 0 if number >= 40 - copies else number
            blocks = np.random.default_rng(seed).integers(0, 256, (7, 7), np.uint8)
            side = size - (40 - number) if number >= 40 - copies else size
            buffer = BytesIO()
            Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC).save(
                buffer, "PNG"
            )
            name = f"{number}.png"
            files[name] = buffer.getvalue()
            rows.append({"filename": name, "patientid": f"p{number}", "finding": "ab"[number % 2]})
        source = make_source(rows, files, name=f"films {size} {copies}")
        out = tmp_path / f"ingest {size} {copies}"
        out.mkdir()
        ingest(open_source(CsvImages(uri=str(source))), out, scratch=tmp_path / "s")
        return out

    return make


def test_nearly_the_same_image_of_two_patients_keeps_them_on_one_side(
    near_copies: Callable[..., Path], tmp_path: Path
) -> None:
    arranged, warnings = _arrange(near_copies(100), tmp_path / "out")
    table = arranged.table().set_index("image_id")
    assert table["image_sha256"].is_unique
    pair = table.loc[["0.png", "39.png"]]
    assert pair["near_duplicate_family"].tolist() == [0, 0]
    assert table["near_duplicate_family"].count() == 2
    assert pair["group_key"].tolist() == ["p0", "p0"]
    assert pair["split_side"].nunique() == 1
    assert "such as p0, p39; they are kept on one side" in warnings[0]
    document = json.loads((tmp_path / "out/near_duplicates.json").read_text())
    assert (document["images"], document["families"], document["looked_at"]) == (2, 1, 40)
    for patient, side in zip(table["patientid"], table["split_side"], strict=True):
        if patient not in ("p0", "p39"):
            assert side == ("test" if in_test(patient, test=0.4) else "train")


@pytest.mark.parametrize(
    ("size", "setting", "joined"),
    [
        (100, "auto", True),
        (100, "off", False),
        (100, False, False),
        (40, "auto", False),
        (40, "on", True),
        (40, True, True),
    ],
)
def test_small_images_are_compared_only_when_that_is_asked_for(
    near_copies: Callable[..., Path], tmp_path: Path, size: int, setting: object, joined: bool
) -> None:
    split = Split.model_validate({"group": "patientid", "near_duplicates": setting})
    arranged, warnings = _arrange(near_copies(size), tmp_path / "out", split=split)
    keys = arranged.table().set_index("image_id")["group_key"]
    assert (keys["0.png"] == keys["39.png"]) == joined
    assert bool(warnings) == joined


def test_a_kind_of_picture_that_many_patients_have_joins_nobody(
    near_copies: Callable[..., Path], tmp_path: Path
) -> None:
    arranged, warnings = _arrange(near_copies(100, copies=12), tmp_path / "out")
    table = arranged.table()
    assert table["near_duplicate_family"].count() == 13
    assert table["group_key"].tolist() == table["patientid"].tolist()
    assert "13 images" in warnings[0] and "not joined" in warnings[0]


def test_a_split_that_the_data_give_is_not_changed_by_near_duplicates(
    near_copies: Callable[..., Path], tmp_path: Path
) -> None:
    taken_in = near_copies(100)
    table = pd.read_parquet(taken_in / "metadata.parquet")
    table["fold"] = ["train"] * 20 + ["test"] * 20
    table.to_parquet(taken_in / "metadata.parquet")
    arranged, _ = _arrange(taken_in, tmp_path / "out", split=Split(column="fold"))
    table = arranged.table().set_index("image_id")
    assert table.loc[["0.png", "39.png"], "split_side"].tolist() == ["train", "test"]
    assert table.loc[["0.png", "39.png"], "near_duplicate_family"].tolist() == [0, 0]


def test_class_folders_are_safe_and_different() -> None:
    names = ["../../etc", "a/b", "a_b", "A/B", "", "..", "T-shirt/top", "über", "x" * 300, "c:\\d"]
    folders = class_folders(names)
    assert len({folder.lower() for folder in folders.values()}) == len(names)
    for folder in folders.values():
        assert folder and "/" not in folder and "\\" not in folder
        assert not folder.startswith(".") and len(folder) <= 90
    assert folders["T-shirt/top"] == "T-shirt_top"


def test_a_class_named_like_a_numbered_folder_keeps_its_own() -> None:
    names = ["a-2", "A", "a", "a-3"]
    assert len({folder.lower() for folder in class_folders(names).values()}) == len(names)


def test_flat_names_never_collide_across_folders() -> None:
    names = [
        "x.png",
        "a/x.png",
        "b/x.png",
        "a/b/x.png",
        "n" * 240 + ".png",
        "d/" + "n" * 240 + ".png",
    ]
    flat = [flat_name(name) for name in names]
    assert len(set(flat)) == len(names)
    assert flat[0] == "x.png"
    assert all("/" not in name and len(name.encode()) <= 255 for name in flat)
    assert all(name.endswith(".png") for name in flat)


@pytest.mark.parametrize("layout", ["links", "shards"])
def test_an_image_that_was_altered_after_ingest_is_not_arranged(
    taken_in: Path, tmp_path: Path, layout: str
) -> None:
    image = taken_in / "images/b/2.png"
    image.unlink()
    image.write_bytes((taken_in / "images/a/3.png").read_bytes())
    split = Split(group="patientid", test=0.4, layout=layout)
    with pytest.raises(Altered, match=r"images/b/2\.png: is not what ingest committed: .*--force"):
        _arrange(taken_in, tmp_path / "out", split=split)


@pytest.mark.parametrize("layout", ["links", "shards"])
def test_an_image_that_was_altered_after_arrange_is_not_read(
    taken_in: Path, tmp_path: Path, layout: str
) -> None:
    split = Split(group="patientid", test=0.4, layout=layout)
    arranged, _ = _arrange(taken_in, tmp_path / "out", split=split)
    table = arranged.table("test")
    victim, other = table.iloc[0], arranged.table("train").iloc[0]
    if layout == "links":
        path = tmp_path / "out/folders" / victim["image_path"]
        path.unlink()
        path.write_bytes((tmp_path / "out/folders" / other["image_path"]).read_bytes())
        named = victim["image_path"]
    else:
        path = tmp_path / "out/test_shards" / victim["shard"]
        content = bytearray(path.read_bytes())
        content[victim["shard_offset"] + 20] ^= 1
        path.write_bytes(content)
        named = f"{victim['shard']}: {victim['image_id']}"
    with pytest.raises(Altered) as caught:
        list(arranged.read_bytes(table))
    assert f"{named}: is not what arrange committed: sha256 is " in str(caught.value)
    # what was not altered can still be read
    assert len(list(arranged.read_bytes(arranged.table("train")))) > 0
    path.unlink()
    with pytest.raises(Altered, match="it cannot be read"):
        list(arranged.read_bytes(table))
