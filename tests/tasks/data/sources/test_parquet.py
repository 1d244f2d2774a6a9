"""Parquet tables with images inside, or beside, become rows."""

import datetime
import tarfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.contract import BadInput, NoInput
from tasks.data.sources import embedded, open_source
from tasks.spec.sources import Parquet

TakeIn = Callable[..., Any]
Encode = Callable[..., bytes]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes columns as a table of the source."""

    def write(columns: Any, name: str = "metadata.parquet", **options: Any) -> Path:
        root = tmp_path / "source"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, root / name, **options)
        return root

    return write


def test_images_in_a_column_become_files(
    tmp_path: Path, take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    images = [image_bytes(1), image_bytes(2, kind="JPEG"), None, image_bytes(1), b"no image"]
    source = write({"image": images, "label": ["a", "b", "a", "b", "b"]})
    summary, table = take_in("parquet", source, max_missing=0.5, max_quarantined=0.5)
    assert table["image_status"].tolist() == ["ok", "ok", "missing", "ok", "not_an_image"]
    assert list(table.columns[:2]) == ["label", "table_file"]
    for row, content in ((0, images[0]), (1, images[1]), (3, images[0])):
        assert (tmp_path / "out/images" / table.loc[row, "image_id"]).read_bytes() == content
    assert table.loc[3, "duplicate_of"] == table.loc[0, "image_id"]
    assert table.loc[1, "image_id"].endswith(".jpg")
    assert summary.usable == 3


def test_an_image_keeps_its_name_when_the_table_is_cut_and_sorted_anew(
    take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    images = [image_bytes(number) for number in range(4)]
    _, table = take_in("parquet", write({"image": images}))
    before = table["image_id"].tolist()
    write({"image": images[3:1:-1]}, "parts/a.parquet")
    source = write({"image": images[:2]}, "parts/b.parquet")
    _, table = take_in("parquet", source, table="parts")
    assert table["image_id"].tolist() == [before[3], before[2], before[0], before[1]]
    assert table["table_file"].tolist() == ["a.parquet"] * 2 + ["b.parquet"] * 2


def test_structs_of_bytes_and_path_are_read(
    take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    images = [{"bytes": image_bytes(1), "path": "../../a.png"}, {"bytes": None, "path": "b.png"}]
    source = write({"image": images, "label": [0, 1]}, "data/train-00000-of-00001.parquet")
    _, table = take_in("parquet", source, table="data", max_missing=0.5)
    assert table["image_status"].tolist() == ["ok", "missing"]
    assert table["label"].tolist() == ["0", "1"]


def test_paths_lead_to_images_beside_and_never_outside(
    tmp_path: Path, take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    names = ["sub/a.png", "../secret.png", str(tmp_path / "secret.png"), "s3://b/k.png", None]
    source = write({"file": names, "label": list("abcde")}, "t.parquet")
    (source / "films/sub").mkdir(parents=True)
    (source / "films/sub/a.png").write_bytes(image_bytes())
    for folder in (tmp_path, source):
        (folder / "secret.png").write_bytes(image_bytes(9))
    fields = {"table": "t.parquet", "image_column": "file", "images": "films"}
    _, table = take_in("parquet", source, **fields, max_missing=1, max_quarantined=1)
    assert table["image_status"].tolist() == ["ok", "outside", "outside", "outside", "missing"]
    assert table["file"].tolist()[:2] == names[:2]
    with pytest.raises(BadInput, match=r"holds paths, but there is no folder 'images'"):
        take_in("parquet", source, **fields | {"images": "images"})


def test_every_type_of_column_comes_out_as_text(
    take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    image = image_bytes()
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
    columns = {
        "image": pa.array([image, image]),
        "whole": pa.array([7, None]),
        "double": pa.array([7.0, float("nan")]),
        "single": pa.array([0.1, 1e20], pa.float32()),
        "truth": pa.array([True, None]),
        "text": pa.array(["", "Zoë"]),
        "kind": pa.array(["x", "x"]).dictionary_encode(),
        "day": pa.array([datetime.date(2024, 5, 6), None]),
        "moment": pa.array([moment, None]),
        "price": pa.array([Decimal("1.50"), None]),
        "tags": pa.array([["a", "ü"], []]),
        "box": pa.array([{"x": 1, "y": 0.5}, None]),
        "thumbnail": pa.array([b"\xff", None]),
        "crops": pa.array([[b"\xff"], None]),
        "empty": pa.nulls(2),
    }
    summary, table = take_in("parquet", write(columns), max_quarantined=1)
    assert table.loc[0, "whole":"empty"].fillna("").to_dict() == {
        "whole": "7",
        "double": "7",
        "single": "0.1",
        "truth": "True",
        "text": "",
        "kind": "x",
        "day": "2024-05-06",
        "moment": "2024-05-06T07:08:09+00:00",
        "price": "1.50",
        "tags": '["a", "ü"]',
        "box": '{"x": 1, "y": 0.5}',
        "empty": "",
    }
    assert table.loc[1, "double":"text"].fillna("").tolist() == [
        *("", "100000000000000000000", "", "Zoë")
    ]
    assert summary.warnings == [
        "column 'thumbnail' holds bytes and is left out",
        "column 'crops' holds bytes and is left out",
    ]


def test_a_single_file_and_an_archive_are_read_from_http(
    tmp_path: Path, take_in: TakeIn, write: Any, image_bytes: Encode, address: str
) -> None:
    source = write({"image": [image_bytes(1), image_bytes(2)]})
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(source, arcname="wrapped")
    for uri in (
        source / "metadata.parquet",
        f"{address}/source/metadata.parquet",
        f"{address}/a.tar.gz",
    ):
        assert take_in("parquet", uri)[0].usable == 2


def test_the_state_changes_with_the_table(write: Any, image_bytes: Encode) -> None:
    source = write({"image": [image_bytes(1)]})
    for uri in (source, source / "metadata.parquet"):
        reader = open_source(Parquet(uri=str(uri)))
        before = reader.state()
        (source / "notes.txt").write_text("of no interest")
        assert reader.state() == before
        write({"image": [image_bytes(1), image_bytes(2)]})
        assert reader.state() != before
        write({"image": [image_bytes(1)]})


@pytest.mark.parametrize(
    ("columns", "fields", "message"),
    [
        ({"picture": [b"x"]}, {}, r"has no column 'image' \(source.image_column\); .*picture"),
        ({"image": [7]}, {}, "column 'image' .* is of type int64; it must hold the bytes"),
        ({"image": [[b"x"]]}, {}, "is of type list"),
        ({"image": [{"path": "x"}]}, {}, "is of type struct"),
        ({"image": [b"x"], "table_file": ["x"]}, {}, "rename column 'table_file'"),
        ({"image": [b"x"]}, {"table": "t.parquet"}, r"holds no table 't.parquet'.*metadata"),
        ({"image": pa.array([], pa.binary())}, {}, "has no rows"),
    ],
)
def test_a_table_that_is_wrong_is_named(
    take_in: TakeIn, write: Any, columns: Any, fields: dict[str, str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        take_in("parquet", write(columns), **fields)


def test_parts_that_do_not_fit_are_named(take_in: TakeIn, write: Any) -> None:
    write({"image": [b"x"], "age": [7]}, "t/a.parquet")
    source = write({"image": [b"x"], "age": ["seven"]}, "t/b.parquet")
    with pytest.raises(BadInput, match=r"^b.parquet: .*lacks age: int64; has age: string"):
        take_in("parquet", source, table="t")
    write({"image": [b"x"], "age": [7]}, "t/sex=F/c.parquet")
    with pytest.raises(BadInput, match=r"^sex=F/c.parquet: its folders name other columns"):
        take_in("parquet", source, table="t")
    (source / "u").mkdir()
    with pytest.raises(BadInput, match=r"folder 'u' .*holds no .parquet file; it holds nothing"):
        take_in("parquet", source, table="u")


def test_a_column_that_is_there_twice_is_named(take_in: TakeIn, write: Any) -> None:
    table = pa.Table.from_arrays([pa.array([b"x"])] * 3, names=["image", "a", "a"])
    with pytest.raises(BadInput, match="column 'a' appears more than once"):
        take_in("parquet", write(table))


def test_a_damaged_file_is_one_line(take_in: TakeIn, write: Any, image_bytes: Encode) -> None:
    source = write({"image": [image_bytes(n, size=64) for n in range(20)]}, compression="none")
    path = source / "metadata.parquet"
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-50], whole[:500] + whole[900:]):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"^metadata.parquet: cannot be read .*: [^\n]+$"):
            take_in("parquet", source)
    path.unlink()
    with pytest.raises(NoInput):
        take_in("parquet", path)


def test_a_flipped_bit_is_found_by_the_checksum_of_its_page(
    take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    images = [image_bytes(number, kind="BMP") for number in range(20)]
    source = write({"image": images}, compression="none", write_page_checksum=True)
    path = source / "metadata.parquet"
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"^metadata.parquet: cannot be read .*CRC checksum"):
        take_in("parquet", source)


def test_a_text_that_is_not_utf8_is_named(take_in: TakeIn, write: Any) -> None:
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    source = write(pa.table({"image": pa.array([b"x"]), "note": text}))
    with pytest.raises(BadInput, match=r"metadata.parquet: column 'note' is no text: .*decode"):
        take_in("parquet", source)


def test_a_table_that_unpacks_to_far_more_than_its_size_is_stopped(
    take_in: TakeIn, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "FREE_BYTES", 1_000_000)
    source = write({"image": [bytes(200_000)] * 50}, compression="zstd")
    assert (source / "metadata.parquet").stat().st_size < 10_000
    with pytest.raises(BadInput, match=r"unpack to more than \d+ bytes, 100 times the size"):
        take_in("parquet", source, max_quarantined=1)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("table", ["", ".", "metadata.parquet"])
def test_a_folder_called_like_a_file_is_a_folder(
    take_in: TakeIn, write: Any, image_bytes: Encode, slash: str, table: str
) -> None:
    write({"image": [image_bytes(1)]}, "films.parquet/part-0.snappy.parquet")
    source = write({"image": [image_bytes(2)]}, "films.parquet/part-1.snappy.parquet")
    (source / "films.parquet/_SUCCESS").write_bytes(b"")
    (source / "films.parquet/.part-0.snappy.parquet.crc").write_bytes(b"crc")
    summary, _ = take_in("parquet", f"{source}/films.parquet{slash}", table=table)
    assert summary.usable == 2
    spec = Parquet(uri=f"{source}/films.parquet{slash}", table=table)
    before = open_source(spec).state()
    write({"image": [image_bytes(3)]}, "films.parquet/part-2.snappy.parquet")
    assert open_source(spec).state() != before


def test_a_single_file_is_told_by_its_content(
    take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    source = write({"image": [image_bytes(1)]}, "films.pq")
    summary, table = take_in("parquet", source / "films.pq")
    assert (summary.usable, table.loc[0, "table_file"]) == (1, "films.pq")
    with pytest.raises(BadInput, match="is neither a Parquet file, nor a folder, nor an archive"):
        (source / "notes.txt").write_text("no table")
        take_in("parquet", source / "notes.txt")


def test_folders_that_name_a_value_are_a_column(
    take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    for number, folder in enumerate(
        (
            "finding=COVID/year=2020",
            "finding=no%20finding/year=2021",
            "finding=__HIVE_DEFAULT_PARTITION__/year=2021",
        )
    ):
        source = write(
            {"image": [image_bytes(number)], "age": [number]}, f"t/{folder}/part-0.parquet"
        )
    _, table = take_in("parquet", source, table="t")
    assert list(table.columns[:4]) == ["age", "finding", "year", "table_file"]
    table = table.sort_values("age")
    assert table["finding"].fillna("").tolist() == ["COVID", "no finding", ""]
    assert table["year"].tolist() == ["2020", "2021", "2021"]
    assert table["table_file"].iloc[0] == "finding=COVID/year=2020/part-0.parquet"


def test_folders_without_a_value_are_told_by_the_name_of_the_file(
    take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    write({"image": [image_bytes(1)]}, "data/train/0000.parquet")
    source = write({"image": [image_bytes(2)]}, "data/test/0000.parquet")
    _, table = take_in("parquet", source, table="data")
    assert table["table_file"].tolist() == ["test/0000.parquet", "train/0000.parquet"]


@pytest.mark.parametrize(
    ("log", "form"),
    [
        ("_delta_log/0.json", "a Delta table"),
        (".hoodie/hoodie.properties", "a Hudi table"),
        ("metadata/v2.metadata.json", "an Iceberg table"),
    ],
)
@pytest.mark.parametrize(
    ("below", "table"),
    [("", "t"), ("t", ""), ("t", "data"), ("t/data/x=1", ""), ("t/data/x=1/part-0.parquet", "")],
)
def test_a_table_of_which_rows_were_deleted_is_refused(
    take_in: TakeIn, write: Any, image_bytes: Encode, log: str, form: str, below: str, table: str
) -> None:
    """Whether the table, a partition or a single file of it is the source."""
    source = write({"image": [image_bytes(1)]}, "t/data/x=1/part-0.parquet")
    (source / "t" / log).parent.mkdir()
    (source / "t" / log).write_text("{}")
    with pytest.raises(BadInput, match=f"belongs to {form} .t.; .* write it as plain Parquet"):
        take_in("parquet", source / below, table=table)


def test_a_folder_of_other_metadata_is_no_log(
    take_in: TakeIn, write: Any, image_bytes: Encode
) -> None:
    source = write({"image": [image_bytes(1)]}, "t/data/part-0.parquet")
    (source / "t/metadata").mkdir()
    (source / "t/metadata/films.json").write_text("{}")
    assert take_in("parquet", source, table="t")[0].usable == 1


def test_a_web_page_in_the_place_of_a_table_is_named(tmp_path: Path, take_in: TakeIn) -> None:
    for name in ("films.parquet", "films"):
        (tmp_path / name).write_bytes(b"<!DOCTYPE html><title>Sign in</title>")
        with pytest.raises(BadInput, match="but a web page, perhaps of a failed download"):
            take_in("parquet", tmp_path / name)
