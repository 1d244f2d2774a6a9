"""Section of a source that is a database: a query gives the metadata and the images' addresses."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tasks.spec.base import Fraction, PositiveInt, Section, Uri
from tasks.spec.marks import Code


class Sql(Section):
    """Rows of a database, each with the address of an image. Nothing is ever written to it."""

    kind: Literal["sql"] = "sql"
    """How the source is laid out."""
    address: Uri | None = None
    """SQLAlchemy address without password, such as ``postgresql+psycopg2://films@db/films`` or
    ``sqlite:////data/films.db``; the driver's own ways to a password (``PGPASSWORD``,
    ``~/.pgpass``) are open."""
    # a name of their own, so that no other secret of a stage can be asked for by a field
    address_env: Annotated[str, Field(pattern=r"^SOURCE_[A-Z0-9_]+$"), Code()] | None = None
    """Environment variable ``SOURCE_...`` that holds the whole address with its credentials, as a
    secret sets it; takes the place of ``address``."""
    query: Annotated[str, Code()]
    """One SELECT. Its columns are the metadata; give it an ORDER BY, so that equal data come in
    equal order."""
    version_query: Annotated[str, Code()] | None = None
    """One SELECT with a small result that changes when the rows do, such as
    ``SELECT count(*), max(changed_at) FROM films``; without it the rows themselves are read to see
    whether there is anything new."""
    image_column: str = "image"
    """Column that names the image: a path below ``images``, or its whole address there."""
    images: Uri
    """Where the images are: a folder, an s3:// URI or an http(s) address. A row that names anything
    outside is refused."""
    chunk_rows: PositiveInt = 10_000
    """Rows fetched from the database at a time."""
    max_quarantined: Fraction = 0.1
    """Share of the images found that may fail verification before the night is stopped."""
    max_missing: Fraction = 0.1
    """Share of the rows whose image may be absent before the night is stopped."""

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        if address is not None and "://" not in address:
            raise ValueError("is no SQLAlchemy address, such as sqlite:////data/films.db")
        return address

    @field_validator("query", "version_query")
    @classmethod
    def _is_one_select(cls, query: str | None) -> str | None:
        if query is None:
            return None
        text = query.strip().rstrip(";").rstrip()
        if not re.match(r"(?i)(select|with)\b", text):
            raise ValueError("must be one SELECT (or WITH ... SELECT)")
        if ";" in text:
            raise ValueError("must be one statement, without a semicolon inside")
        return text

    @model_validator(mode="after")
    def _one_address(self) -> "Sql":
        if (self.address is None) == (self.address_env is None):
            raise ValueError("give address or address_env, one of them")
        return self
