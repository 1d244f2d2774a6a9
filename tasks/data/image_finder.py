"""Finds the file of a row's image, confined to the images' folder."""

import os
from dataclasses import replace
from pathlib import Path

from tasks.data.images import ImageFacts, Status
from tasks.data.names import confined, is_plain_path, leads_down
from tasks.data.sources import Contents, SourceRow
from tasks.data.spelled_names import SpelledNames


class ImageFinder:
    """Looks for the files that the rows of one source name, in the order of the rows.

    Parameters
    ----------
    contents : Contents
        The source.
    images : Path
        Its folder of images, all links resolved.
    """

    def __init__(self, contents: Contents, images: Path) -> None:
        self._images = images
        self._root = contents.root
        self._names = SpelledNames(images) if contents.complete else None
        self._seen: set[str] = set()
        self._folder: str | None = None

    def locate(self, row: SourceRow) -> tuple[SourceRow, ImageFacts | None]:
        """Return a row with its image under the file's own name, and why it is not even opened."""
        if row.image is None:
            return row, ImageFacts("missing", "the row names no file")
        path, problem = self._confined(row.image)
        # os.path: a name that is too long for the file system is simply not there
        if path is not None and os.path.isfile(path):
            if self._names is not None:
                self._names.exact += 1
        else:
            found, refusal = self._spelled(row.image, path is not None, problem)
            if found is None:
                return row, refusal
            row = replace(row, image=found)
        assert row.image is not None  # noqa: S101 - it was found
        if row.image in self._seen:
            return row, ImageFacts("repeated", "an earlier row names the same file")
        self._seen.add(row.image)
        return row, None

    def _spelled(
        self, name: str, plain: bool, problem: str
    ) -> tuple[str | None, ImageFacts | None]:
        """Look for the file under another spelling of its name."""
        hint = ""
        # a plain path that must not be followed is a link: no spelling of it will do
        if self._names is not None and (plain or not is_plain_path(name)):
            match = self._names.find(name)
            path, problem_there = confined(self._images, match.name) if match.name else (None, "")
            if match.name and path is not None and os.path.isfile(path):
                return match.name, None
            hint = match.hint or problem_there or self._elsewhere(name)
        inside = plain or (leads_down(name) and not is_plain_path(name))
        status: Status = "missing" if inside else "outside"
        reason = "no such file" if status == "missing" else problem
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

    def told(self) -> list[str]:
        """Return what is to be said about names that were found under another spelling."""
        return self._names.told() if self._names is not None else []
