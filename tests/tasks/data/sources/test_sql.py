"""Databases as a source, shown on SQLite: rows, images, their state, and what is refused."""

import json
import sqlite3
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.contract import BadConfig, BadInput, NoInput
from tasks.data.sources import open_source
from tests.tasks.data.sources.sql import QUERY, SECRET, Encode, source, take_in

ROWS = [
    (1, "a.png", "COVID-19", "F", 51.5, "2020-03-01"),
    (2, "sub/b.png", "100% normal", None, None, None),
    (3, "gone.png", " ", "M", 30.0, "2020-03-02"),
    (4, None, "COVID-19", "M", 31.0, None),
]


@pytest.fixture
def images(tmp_path: Path, image_bytes: Encode) -> Path:
    root = tmp_path / "films"
    (root / "sub").mkdir(parents=True)
    (root / "a.png").write_bytes(image_bytes(1))
    (root / "sub/b.png").write_bytes(image_bytes(2))
    return root


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "films.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE films (id, image, finding, sex, age, taken)")
        connection.executemany("INSERT INTO films VALUES (?, ?, ?, ?, ?, ?)", ROWS)
    connection.close()
    return path


@pytest.mark.parametrize("chunk_rows", [1, 3, 10_000])
def test_a_query_gives_metadata_and_images(
    database: Path, images: Path, tmp_path: Path, chunk_rows: int
) -> None:
    spec = source(images, address=f"sqlite:///{database}", chunk_rows=chunk_rows)
    summary, table = take_in(spec, tmp_path)
    assert list(table.columns[:5]) == ["image", "finding", "sex", "age", "id"]
    assert table["finding"].fillna("").tolist() == ["COVID-19", "100% normal", "", "COVID-19"]
    assert table["age"].fillna("").tolist() == ["51.5", "", "30.0", "31.0"]
    assert table["id"].tolist() == ["1", "2", "3", "4"]
    assert table["image_status"].tolist() == ["ok", "ok", "missing", "missing"]
    assert (tmp_path / "out/images/sub/b.png").samefile(images / "sub/b.png")
    assert summary.usable == 2


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("{root}/a.png", "ok"),
        ("file://{root}/a.png", "ok"),
        ("file://{root}/%61.png", "ok"),
        ("a.png", "ok"),
        ("{root}/../secret.png", "outside"),
        ("../secret.png", "outside"),
        ("/etc/passwd", "outside"),
        ("file:///etc/passwd", "outside"),
        ("{root}-other/a.png", "outside"),
        ("http://169.254.169.254/latest/meta-data", "outside"),
        ("s3://other/a.png", "outside"),
        ("file:a.png", "missing"),
        ("a.png\0", "outside"),
    ],
)
def test_an_image_is_found_by_path_or_address_and_only_below_the_folder(
    images: Path, image_bytes: Encode, tmp_path: Path, name: str, status: str
) -> None:
    (tmp_path / "secret.png").write_bytes(image_bytes(9))
    (tmp_path / "films-other").mkdir()
    (tmp_path / "films-other/a.png").write_bytes(image_bytes(9))
    path = tmp_path / "names.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE films (image)")
        values = [("sub/b.png",), (name.replace("{root}", str(images)),)]
        connection.executemany("INSERT INTO films VALUES (?)", values)
    connection.close()
    spec = source(images, address=f"sqlite:///{path}", query="SELECT image FROM films")
    open_source(spec).state()
    _, table = take_in(spec, tmp_path)
    assert table.loc[1, "image_status"] == status
    assert (tmp_path / "out/images/a.png").exists() == (status == "ok")


def test_images_are_fetched_from_a_web_server_and_from_no_other(
    database: Path, images: Path, tmp_path: Path
) -> None:
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            asked.append(str(arguments[1]))

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(images.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        with sqlite3.connect(database) as connection:
            connection.execute(
                "UPDATE films SET image = ? WHERE id = 1", [f"{address}/films/a.png"]
            )
            connection.execute("UPDATE films SET image = ? WHERE id = 3", [f"{address}/secret.png"])
            for name in ("%2e%2e/secret.png", "a.png?to=secret", "..%5csecret.png"):
                connection.execute("INSERT INTO films VALUES (5, ?, 'x', 'F', 1, NULL)", [name])
        connection.close()
        spec = source(f"{address}/films", address=f"sqlite:///{database}")
        _, table = take_in(spec, tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert table["image_status"].tolist() == ["ok", "ok", "outside", "missing", *["outside"] * 3]
    assert table["image_id"].tolist()[:2] == ["a.png", "sub/b.png"]
    assert not [line for line in asked if "secret" in line]


def test_the_state_changes_with_rows_and_images_and_not_with_their_order(
    database: Path, images: Path, image_bytes: Encode
) -> None:
    def state(query: str = QUERY) -> str:
        return open_source(source(images, address=f"sqlite:///{database}", query=query)).state()

    first = state()
    assert state(QUERY.replace("ORDER BY id", "ORDER BY id DESC")) == first
    (images / "unnamed.png").write_bytes(image_bytes(5))
    assert state() == first
    (images / "a.png").write_bytes(image_bytes(6, size=30))
    second = state()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE films SET sex = 'M' WHERE id = 2")
    connection.close()
    assert len({first, second, state()}) == 3


def test_a_version_query_takes_the_place_of_reading_the_rows(database: Path, images: Path) -> None:
    spec = source(
        images,
        address=f"sqlite:///{database}",
        query="SELECT image FROM no_such_table",
        version_query="SELECT count(*), max(id) FROM films",
    )
    assert json.loads(open_source(spec).state()) == [["4", "4"]]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM film", "no such table: film"),
        ("SELECT finding FROM films", r"gives no column 'image' \(source.image_column\); its colu"),
        ("SELECT image, sex, sex FROM films", "gives column 'sex' more than once; use AS"),
        ("SELECT image, x'00ff' AS pixels FROM films", "column 'pixels' holds bytes"),
        ("WITH x AS (SELECT 1) INSERT INTO films(id) SELECT 9", "readonly database"),
    ],
)
def test_a_query_that_is_wrong_is_named(
    database: Path, images: Path, tmp_path: Path, query: str, message: str
) -> None:
    spec = source(images, address=f"sqlite:///{database}", query=query)
    with pytest.raises((BadConfig, BadInput), match=message) as error:
        take_in(spec, tmp_path)
    assert "\n" not in str(error.value)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM films").fetchone() == (4,)
    connection.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query": "DELETE FROM films"}, "must be one SELECT"),
        ({"query": "SELECT 1; DROP TABLE films"}, "must be one statement"),
        ({"version_query": "VACUUM"}, "must be one SELECT"),
        ({}, "give address or address_env, one of them"),
        ({"address": "sqlite:///x", "address_env": "SOURCE_FILMS"}, "one of them"),
        ({"address": "films.db"}, "is no SQLAlchemy address"),
        ({"address_env": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"}, "should match pattern"),
        ({"address_env": "AWS_SECRET_ACCESS_KEY"}, "should match pattern"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_the_pipeline_file(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        source("films", **fields)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://films:secret@db/films",
        "postgresql://films:se/cr@et@db/films",
        "postgresql://:secret@db/films",
        "postgresql://db/films?user=films&password=secret",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dsecret",
    ],
)
def test_a_password_in_the_pipeline_file_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="holds a password; put the whole address into"):
        source("films", address=address)


def test_a_trailing_semicolon_is_nobodys_fault() -> None:
    spec = source("films", address="sqlite:///x", query=" select image from films ;\n")
    assert spec.query == "select image from films"


def test_images_that_are_no_folder_are_told(database: Path, images: Path) -> None:
    for folder in (images / "a.png", images / "absent"):
        with pytest.raises((BadInput, NoInput), match=r"source\.images .* (no folder|not exist)"):
            open_source(source(folder, address=f"sqlite:///{database}")).state()


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "absent.db"
    for address in (f"sqlite:///{path}", f"sqlite:///file:{path}?uri=true", "sqlite://"):
        with pytest.raises(NoInput, match=r"SQLite file .* does not exist"):
            open_source(source(images, address=address)).state()
    assert not path.exists()


def test_addresses_that_cannot_be_used_are_told_without_their_text(
    monkeypatch: pytest.MonkeyPatch, images: Path
) -> None:
    def told(value: str | None) -> str:
        monkeypatch.setenv("SOURCE_FILMS", value or "")
        with pytest.raises(BadConfig) as error:
            open_source(source(images, address_env="SOURCE_FILMS")).state()
        # what a driver said would be shown above it otherwise
        assert error.value.__context__ is None or error.value.__suppress_context__
        return str(error.value)

    assert "variable SOURCE_FILMS is not set" in told(None)
    assert "is no SQLAlchemy address" in (message := told(f"films:{SECRET}@db"))
    assert SECRET not in message
    assert "driver of 'postgres+none' is not installed" in told("postgres+none://films:x@db/films")
    assert "postgresql+psycopg2" in told("oracle+oracledb://films:x@db/films")


def test_images_are_found_and_watched_under_another_spelling(
    images: Path, tmp_path: Path, image_bytes: Encode
) -> None:
    path = tmp_path / "spelled.db"
    names = ["A.PNG", "sub\\b", "../a.png", "/etc/passwd", None]
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE films (id, image, finding, sex, age, taken)")
        rows = [(n, name, "x", "F", 1, None) for n, name in enumerate(names)]
        connection.executemany("INSERT INTO films VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    spec = source(images, address=f"sqlite:///{path}", max_missing=1, max_quarantined=1)
    before = open_source(spec).state()
    summary, table = take_in(spec, tmp_path)
    assert table["image_id"].tolist()[:2] == ["a.png", "sub/b.png"]
    assert table["image_status"].tolist()[3] == "outside"
    assert "2 of 5 rows" not in " ".join(summary.warnings)
    (images / "sub/b.png").write_bytes(image_bytes(3, size=40))
    assert open_source(spec).state() != before
