"""A PostgreSQL is read in chunks, never written, and its credentials are told to nobody."""

import logging
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tasks.contract import BadConfig, RunDirectory, StageError
from tasks.data.database import select
from tasks.data.sources import open_source
from tasks.runner import run_stage
from tasks.spec import Pipeline, Sql
from tasks.stages import load_stage
from tests.tasks.data.sources.sql import SECRET, Encode, source, take_in
from tests.tasks.places import environment_at


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[tuple[str, sa.Engine]]:
    """Address of a role with a password, which may write; and an engine of the owner."""
    owner = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE films LOGIN SUPERUSER PASSWORD '{SECRET}'")
        table = sa.text(
            "CREATE TABLE films AS SELECT n AS id, 'n' || n || '.png' AS image, "
            "'finding' || n % 3 AS finding, n % 2 = 0 AS smoker, 0.5::numeric * n AS dose, "
            "timestamp '2020-03-01 12:00' + n * interval '1 day' AS taken "
            "FROM generate_series(1, 2500) n"
        )
        connection.execute(table)
    url = sa.make_url(postgres).set(username="films", password=SECRET)
    yield url.render_as_string(hide_password=False), owner
    with owner.connect() as connection:
        connection.exec_driver_sql("DROP TABLE films")
        connection.exec_driver_sql("DROP ROLE films")
    owner.dispose()


@pytest.fixture
def films(
    server: tuple[str, sa.Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Sql]:
    address, _ = server
    monkeypatch.setenv("SOURCE_FILMS", address)
    (tmp_path / "films").mkdir()

    def make(**fields: Any) -> Sql:
        query = "SELECT * FROM films WHERE image LIKE '%.png' ORDER BY id"
        defaults = {"address_env": "SOURCE_FILMS", "query": query, "chunk_rows": 1000}
        return source(tmp_path / "films", **{**defaults, **fields})

    return make


def test_a_postgresql_is_read_in_chunks(films: Callable[..., Sql]) -> None:
    spec = films()
    with select(spec, spec.query) as (columns, chunks):
        sizes = [len(chunk) for chunk in chunks]
    assert columns == ["id", "image", "finding", "smoker", "dose", "taken"]
    assert sizes == [1000, 1000, 500]


@pytest.mark.timeout(60)
def test_a_large_result_never_lies_in_memory_as_a_whole(films: Callable[..., Sql]) -> None:
    # a client-side cursor would fetch all of it before it gave the first row
    spec = films(
        query="WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 20000000) "
        "SELECT 'x' AS image, repeat('y', 1000) AS note FROM t"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with select(spec, spec.query) as (_, chunks):
        assert [len(next(chunks)) for _ in range(50)] == [1000] * 50
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 30 * 1024


def test_rows_of_a_postgresql_become_a_table(
    films: Callable[..., Sql], tmp_path: Path, image_bytes: Encode
) -> None:
    for number in (1, 2):
        (tmp_path / f"films/n{number}.png").write_bytes(image_bytes(number))
    summary, table = take_in(films(), tmp_path)
    assert (summary.rows, summary.usable) == (2500, 2)
    row = table.loc[1, ["id", "finding", "smoker", "dose", "taken"]].tolist()
    assert row == ["2", "finding2", "true", "1.0", "2020-03-03T12:00:00"]


@pytest.mark.parametrize(
    "query",
    [
        "WITH gone AS (DELETE FROM films RETURNING *) SELECT * FROM gone",
        "SELECT nextval('counter') AS image",
    ],
)
def test_a_postgresql_is_never_written_to(
    films: Callable[..., Sql], server: tuple[str, sa.Engine], query: str
) -> None:
    _, owner = server
    with owner.connect() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE IF NOT EXISTS counter")
    with pytest.raises(BadConfig, match=r"read-only transaction|must not contain data-modifying"):
        open_source(films(query=query)).state()
    with owner.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM films").scalar() == 2500


def test_what_a_read_only_transaction_lets_through_is_rolled_back(
    films: Callable[..., Sql], server: tuple[str, sa.Engine]
) -> None:
    _, owner = server
    open_source(films(query="SELECT lo_create(0)::text AS image")).state()
    with owner.connect() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM pg_largeobject_metadata").scalar()
        assert left == 0


def test_credentials_reach_no_error_manifest_or_log(
    films: Callable[..., Sql],
    server: tuple[str, sa.Engine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    image_bytes: Encode,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address, _ = server
    quoted = str(sa.make_url(address).render_as_string(hide_password=False)).split("films:")[1]
    forms = [SECRET, quoted.split("@")[0]]
    caplog.set_level(logging.DEBUG)
    (tmp_path / "films/n1.png").write_bytes(image_bytes(1))
    (tmp_path / "films/n2.png").write_bytes(image_bytes(2))
    pipeline = Pipeline.model_validate(
        {
            "name": "films",
            "source": films().model_dump(mode="json"),
            "label": {"column": "finding"},
        }
    )
    environment = environment_at(tmp_path, mlflow_uri=f"sqlite:///{tmp_path}/root/mlflow.db")
    run = RunDirectory(str(tmp_path / "root/films/runs/one"))
    stage = load_stage("ingest")
    run_stage(stage, pipeline=pipeline, run=run, environment=environment)
    wrong = address.replace("films:", "films:wrong")
    for value in (wrong, address.replace("127.0.0.1", "no-such-host.invalid"), f"{address}_none"):
        monkeypatch.setenv("SOURCE_FILMS", value)
        run = RunDirectory(str(tmp_path / "root/films/runs/two"))
        with pytest.raises(StageError, match=r"postgresql database 'postgres.* a retry may help"):
            run_stage(stage, pipeline=pipeline, run=run, environment=environment)
    kept = [path.read_bytes() for path in (tmp_path / "root").rglob("*") if path.is_file()]
    texts = [caplog.text, *(content.decode("latin-1") for content in kept)]
    assert b"SOURCE_FILMS" in (tmp_path / "root/mlflow.db").read_bytes()
    assert len(kept) > 5 and any("postgresql database" in text for text in texts)
    for form in forms:
        assert not [text for text in texts if form in text]
