"""A source that a class of the user's own reads."""

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tasks.contract import BadConfig, BadInput, sha256_text
from tasks.data.sources.base import Contents, SourceReader, SourceRow
from tasks.spec.custom import Custom


class CustomReader(SourceReader):
    """Makes the class that ``source.reader`` names, and checks what it gives."""

    kind = "custom"

    def __init__(self, spec: Custom) -> None:
        self.spec = spec
        self.max_quarantined = spec.max_quarantined
        self.max_missing = spec.max_missing
        self._class = _load(spec.reader)
        self._reader = self._class(spec)  # type: ignore[call-arg]

    def state(self) -> str:
        # the class is no part of this package: a changed line of it must make the result stale
        module = inspect.getmodule(self._class)
        try:
            code = sha256_text(inspect.getsource(module)) if module else ""
        except OSError:
            code = "no source"
        return f"{code} {self._reader.state()}"

    def open(self, scratch: Path) -> Contents:
        contents = self._reader.open(scratch)
        if not isinstance(contents, Contents):
            raise BadInput(
                f"source.reader: {self.spec.reader}.open returned a {type(contents).__name__}, not "
                "tasks.data.sources.Contents"
            )
        return replace(contents, rows=self._checked(contents))

    def _checked(self, contents: Contents) -> Iterator[SourceRow]:
        for number, row in enumerate(contents.rows, 1):
            if not isinstance(row, SourceRow):
                self._refuse(number, f"is a {type(row).__name__}, not tasks.data.sources.SourceRow")
            if len(row.values) != len(contents.columns):
                self._refuse(
                    number,
                    f"has {len(row.values)} values for {len(contents.columns)} columns",
                )
            for name, value in zip(contents.columns, row.values, strict=True):
                if value is not None and not isinstance(value, str):
                    self._refuse(
                        number, f"column {name!r} is a {type(value).__name__}, not text or None"
                    )
            yield row

    def _refuse(self, number: int, problem: str) -> None:
        raise BadInput(f"source.reader: {self.spec.reader}: row {number}: {problem}")


def _load(reader: str) -> type[SourceReader]:
    """Return the class.

    Raises
    ------
    BadConfig
        It cannot be imported, or is no reader.
    """
    module, _, name = reader.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadConfig(
            f"source.reader: {reader!r} cannot be imported ({reason}); is it on PYTHONPATH?"
        ) from error
    if not (isinstance(found, type) and issubclass(found, SourceReader)):
        raise BadConfig(
            f"source.reader: {reader!r} is no subclass of tasks.data.sources.SourceReader"
        )
    if inspect.isabstract(found):
        raise BadConfig(f"source.reader: {reader!r} lacks state() or open()")
    return found
