"""Finds the files of the rows' images, confined to the images' folder.

A name that is a file's own comes before every guess, wherever in the table it stands. So the first
name that must be guessed waits until all rows have been read: those behind it are kept in a file,
and only their names in memory.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

from tasks.data.boxes import Box, PixelBox
from tasks.data.images import ImageFacts, Status
from tasks.data.names import confined, is_plain_path, leads_down
from tasks.data.sources import Contents, SourceRow
from tasks.data.spelled_names import Match, SpelledNames

Located = tuple[SourceRow, ImageFacts | None]


class _Place(NamedTuple):
    """Where a name leads: to a file, inside the folder, why not, and whether to guess."""

    is_file: bool = False
    plain: bool = False
    problem: str = ""
    open: bool = False


class ImageFinder:
    """Looks for the files that the rows of one source name.

    Parameters
    ----------
    contents : Contents
        The source.
    images : Path
        Its folder of images, all links resolved.
    scratch : Path
        Folder for rows that wait.
    """

    def __init__(self, contents: Contents, images: Path, *, scratch: Path) -> None:
        self._images = images
        self._root = contents.root
        self._scratch = scratch
        self._names = SpelledNames(images) if contents.complete else None
        self._matches: dict[str, Match] = {}
        # files that rows name exactly, and whether a row of theirs has passed
        self._passed: dict[str, bool] = {}
        self._folder: str | None = None

    def located(self, rows: Iterable[SourceRow]) -> Iterator[Located]:
        """Yield each row with its image under the file's own name, and why it is not even opened.

        Parameters
        ----------
        rows : iterable of SourceRow
            All rows of the source; they keep their order.
        """
        waiting = iter(rows)
        for row in waiting:
            place = self._place(row.image)
            if not place.open:
                yield self._locate(row, place)
                continue
            with tempfile.TemporaryFile("w+", encoding="ascii", dir=self._scratch) as spool:
                self._read_ahead(row, waiting, spool)
                spool.seek(0)
                for line in spool:
                    row = _restored(line)
                    yield self._locate(row, self._place(row.image))
            return

    def told(self) -> list[str]:
        """Return what is to be said about names that were found under another spelling."""
        return self._names.told() if self._names is not None else []

    def _read_ahead(self, first: SourceRow, rest: Iterator[SourceRow], spool: IO[str]) -> None:
        """Keep all rows for later, and settle what their names stand for."""
        guessed: dict[str, None] = {}
        for row in chain((first,), rest):
            spool.write(_kept(row))
            place = self._place(row.image)
            if place.open:
                guessed[row.image or ""] = None
            elif place.is_file:
                self._passed.setdefault(row.image or "", False)
        assert self._names is not None  # noqa: S101 - else nothing needs a guess
        self._matches = self._names.resolve(guessed, taken=self._passed.keys())

    def _place(self, name: str | None) -> _Place:
        """Look where the file of exactly this name is, or would be."""
        if name is None:
            return _Place()
        path, problem = self._confined(name)
        # os.path: a name that is too long for the file system is simply not there
        is_file = path is not None and os.path.isfile(path)
        # a plain path that must not be followed is a link: no spelling of it will do
        may_mean = not is_file and (path is not None or not is_plain_path(name))
        return _Place(is_file, path is not None, problem, may_mean and self._names is not None)

    def _locate(self, row: SourceRow, place: _Place) -> Located:
        if row.image is None:
            return row, ImageFacts("missing", "the row names no file")
        name: str | None = row.image
        if not place.is_file:
            name, refusal = self._spelled(row.image, place)
            if name is None:
                return row, refusal
            row = replace(row, image=name)
        assert name is not None  # noqa: S101 - it was found
        again, self._passed[name] = self._passed.get(name, False), True
        if again:
            return row, ImageFacts("repeated", "an earlier row names the same file")
        return row, None

    def _spelled(self, name: str, place: _Place) -> tuple[str | None, ImageFacts | None]:
        """Look for the file under another spelling of its name."""
        hint = ""
        if name in self._matches:
            match = self._matches[name]
            path, problem_there = confined(self._images, match.name) if match.name else (None, "")
            if match.name and path is not None and os.path.isfile(path):
                return match.name, None
            hint = match.hint or problem_there or self._elsewhere(name)
        inside = place.plain or (leads_down(name) and not is_plain_path(name))
        status: Status = "missing" if inside else "outside"
        reason = "no such file" if status == "missing" else place.problem
        return None, ImageFacts(status, f"{reason}; {hint}" if hint else reason)

    def _elsewhere(self, name: str) -> str:
        """Name the setting with which a file would be found that lies beside the images' folder."""
        root = self._root
        if root is None or not is_plain_path(name) or not os.path.isfile(root / name):
            return ""
        return "it lies in the source itself: set source.images to '.'"

    def _confined(self, name: str) -> tuple[Path | str | None, str]:
        """Check a name as :func:`confined` does, most of it once for the files of a folder."""
        folder = os.path.dirname(name)
        path = os.path.join(self._images, name)
        if folder == self._folder and is_plain_path(name) and not os.path.islink(path):
            return path, ""
        found, problem = confined(self._images, name)
        # itself, not by way of a link that leads somewhere inside
        plain = found is not None and os.path.realpath(found.parent) == str(found.parent)
        self._folder = folder if plain else None
        return found, problem


def _kept(row: SourceRow) -> str:
    boxes = [(isinstance(box, PixelBox), *box) for box in row.boxes]
    return json.dumps([row.values, row.image, row.region, boxes]) + "\n"


def _restored(line: str) -> SourceRow:
    values, image, region, boxes = json.loads(line)
    made = tuple((PixelBox if in_pixels else Box)(*corners) for in_pixels, *corners in boxes)
    return SourceRow(values=values, image=image, region=region, boxes=made)
