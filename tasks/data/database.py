"""Asks a database, reading only, and tells nobody its credentials."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote

from tasks.contract import BadConfig, BadInput, NoInput, StageError
from tasks.spec.database import Sql

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

Chunks = Iterator[Sequence[Sequence[Any]]]


@contextmanager
def select(spec: Sql, query: str) -> Iterator[tuple[list[str], Chunks]]:
    """Run a query; rows come in chunks, as the server has them ready.

    Parameters
    ----------
    spec : Sql
        Says which database.
    query : str
        One SELECT.

    Yields
    ------
    columns : list of str
    chunks : iterator of list of rows

    Raises
    ------
    BadConfig
        The address or the query is wrong.
    NoInput
        The SQLite file does not exist.
    StageError
        The database cannot be reached or failed; worth a retry.
    """
    import sqlalchemy as sa

    url = _url(spec)
    engine = _engine(url)
    try:
        with engine.connect() as connection, _read_only(connection) as reading:
            result = reading.execution_options(
                # no_parameters: a % in the query is a %, not a placeholder of the driver
                stream_results=True,
                yield_per=spec.chunk_rows,
                no_parameters=True,
            ).exec_driver_sql(query)
            if not result.returns_rows:
                raise BadConfig("source.query: returns no rows; it must be a SELECT")
            yield list(result.keys()), result.partitions(spec.chunk_rows)
    except sa.exc.DBAPIError as error:
        # from None: the chain would show the statement, and drivers show what they connected with
        raise _told(error, url) from None
    finally:
        engine.dispose()


def as_text(value: Any, column: str) -> str | None:
    """Return a cell as text, NULL and blank texts as None.

    Raises
    ------
    BadInput
        It is nothing that a table of metadata can hold.
    """
    if value is None or isinstance(value, str):
        return value if value and value.strip() else None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        raise BadInput(
            f"source.query: column {column!r} holds bytes; cast it to text or leave it out (images "
            "are named by their address)"
        )
    return str(value)


def _url(spec: Sql) -> "URL":
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    address = spec.address
    field = "source.address"
    if spec.address_env is not None:
        field = f"source.address_env: variable {spec.address_env}"
        address = os.environ.get(spec.address_env, "").strip()
        if not address:
            raise BadConfig(
                f"{field} is not set; put the database's address there, on a cluster as a key of "
                "the stages' secret"
            )
    try:
        return make_url(address or "")
    except (ArgumentError, ValueError):
        # what is wrong with it may be its password
        raise BadConfig(
            f"{field}: is no SQLAlchemy address, such as postgresql+psycopg2://user:password@"
            "host/database with special characters percent-encoded"
        ) from None


def _engine(url: "URL") -> "Engine":
    import sqlalchemy as sa

    if url.get_backend_name() == "sqlite":
        url = _sqlite(url)
    try:
        return sa.create_engine(url, poolclass=sa.pool.NullPool, hide_parameters=True)
    except (ImportError, sa.exc.ArgumentError, sa.exc.NoSuchModuleError):
        raise BadConfig(
            f"source.address: the driver of {url.drivername[:60]!r} is not installed where the "
            "stages run; for PostgreSQL say postgresql+psycopg2"
        ) from None


def _sqlite(url: "URL") -> "URL":
    """Open the file for reading only; left to itself SQLite would make one that is not there."""
    path = url.database or ""
    if path.startswith("file:"):
        path = unquote(path.removeprefix("file:").partition("?")[0])
    if not Path(path).is_file():
        raise NoInput(f"source.address: SQLite file {path!r} does not exist")
    return url.set(
        database=f"file:{quote(str(Path(path).absolute()))}", query={"mode": "ro", "uri": "true"}
    )


@contextmanager
def _read_only(connection: "Connection") -> "Iterator[Connection]":
    """Have the database itself refuse to write, where it can, and keep nothing in any case."""
    if connection.dialect.name == "postgresql":
        connection = connection.execution_options(postgresql_readonly=True)
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
    try:
        yield connection
    finally:
        connection.rollback()


def _told(error: Any, url: "URL") -> StageError:
    import sqlalchemy as sa

    reason = " ".join(str(error.orig).split()) or type(error.orig).__name__
    secrets = [url.password, *(v for v in url.query.values() if isinstance(v, str))]
    for secret in filter(None, map(str, secrets)):
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            reason = reason.replace(form, "***")
    reason = reason[:300]
    place = f"{url.get_backend_name()} database {url.database or ''!r} on {url.host or 'this host'}"
    unreachable = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    locked = "locked" in reason or url.get_backend_name() != "sqlite"
    if unreachable and locked:
        return StageError(f"{place}: {reason}; a retry may help")
    return BadConfig(f"source.query: {place} refuses: {reason}")
