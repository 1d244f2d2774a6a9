"""Lists the files of a folder, and gives those that a path of another spelling may mean."""

import os
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from tasks.data.names import is_text
from tasks.data.spellings import seen

Parts = tuple[str, ...]

_PICTURES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".dib", ".webp", ".avif")
) | frozenset((".tif", ".tiff", ".jp2", ".heic", ".dcm", ".pgm", ".ppm"))
"""Endings of which a name without one may mean."""

_CROWD = 50
"""Files of one name, in different folders, above which they are looked up by their folders."""


class IndexedFile(NamedTuple):
    """A file, and the parts of its path in the one spelling in which paths are compared."""

    name: str
    parts: Parts

    def wanted(self, without_ending: bool) -> Parts:
        """Return the parts that a path must have to mean this file."""
        return (*self.parts[:-1], stem(self.parts[-1])) if without_ending else self.parts


class FileIndex:
    """The files of a folder by their names, listed once, when they are first asked for.

    Parameters
    ----------
    folder : Path
        Folder of the files. Links to folders in it are not followed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # hashes, and a list only where there are several: folders of millions are listed
        self._files: dict[int, str | list[str]] | None = None
        self._crowds: dict[str, dict[int, list[str]]] = {}
        self._like_others: set[str] = set()

    def candidates(self, parts: Parts, *, without_ending: bool) -> list[IndexedFile]:
        """Return the files of a path's last name, which may lack its ending."""
        last = parts[-1]
        found = self._held(stem(last), parts)
        if not without_ending:
            return [file for file in found if file.parts[-1] == last]
        found += self._held(last, parts)
        found = [file for file in dict.fromkeys(found) if stem(file.parts[-1]) == last]
        pictures = [file for file in found if _ending(file.parts[-1]) in _PICTURES]
        return pictures or found

    def close_to(self, parts: Parts) -> list[str]:
        """Return the files that are called like a path's last name, whatever their ending."""
        return [file.name for file in self._held(stem(parts[-1]), parts[-1:])] if parts else []

    def is_like_another(self, name: str) -> bool:
        """Return whether names of images in a file's folder recur in another folder."""
        return os.path.dirname(name) in self._like_others

    def _held(self, key: str, parts: Parts) -> list[IndexedFile]:
        """Return the files of a name without folder and ending; of many, those that may fit."""
        held = self._index().get(hash(key), [])
        names = [held] if isinstance(held, str) else held
        if len(names) > _CROWD:
            names = self._of_crowd(key, names, (*parts[:-1], key))
        files = [IndexedFile(name, spelling(name)) for name in dict.fromkeys(names)]
        return [file for file in files if stem(file.parts[-1]) == key]

    def _of_crowd(self, key: str, names: list[str], wanted: Parts) -> list[str]:
        """Return those of many files of one name (one a patient) whose path may be the wanted."""
        if len(wanted) == 1:
            return names[:_CROWD]
        if key not in self._crowds:
            paths = self._crowds[key] = {}
            for name in names:
                parts = spelling(name)
                path = (*parts[:-1], stem(parts[-1]))
                paths.setdefault(hash((True, path)), []).append(name)
                for start in range(1, len(path) - 1):
                    paths.setdefault(hash((False, path[start:])), []).append(name)
        paths = self._crowds[key]
        whole = (paths.get(hash((True, wanted[n:])), []) for n in range(len(wanted)))
        ends = paths.get(hash((False, wanted)), [])[:_CROWD]
        return [*(name for found in whole for name in found), *ends]

    def _index(self) -> dict[int, str | list[str]]:
        """Return the files by their names without folder and ending."""
        if self._files is not None:
            return self._files
        self._files = {}
        pending = [""]
        while pending:
            inner = pending.pop()
            with os.scandir(self.folder / inner) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{inner}{entry.name}/")
                    elif entry.is_file() and is_text(entry.name):
                        self._add(f"{inner}{entry.name}")
        for names in self._files.values():
            if isinstance(names, list):
                names.sort()
        return self._files

    def _add(self, name: str) -> None:
        assert self._files is not None  # noqa: S101 - called while it is made
        last = spelling(name)[-1:]
        if not last:
            return
        key = hash(stem(last[0]))
        held = self._files.setdefault(key, name)
        if held is name:
            return
        first = held if isinstance(held, str) else held[0]
        if _ending(last[0]) in _PICTURES and os.path.dirname(name) != os.path.dirname(first):
            self._like_others |= {os.path.dirname(name), os.path.dirname(first)}
        if isinstance(held, str):
            self._files[key] = [held, name]
        else:
            held.append(name)


def spelling(name: str) -> Parts:
    """Return the parts of a path in the one spelling in which paths are compared."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", seen(name)).casefold())
    # a blank of any kind is a blank: macOS writes a narrow one before the PM of a screenshot
    text = re.sub(r"\s", " ", text)
    parts = [part.strip() for part in text.replace("\\", "/").split("/")]
    root = ("/",) if len(parts) > 1 and not parts[0] else ()
    return (*root, *(part for part in parts if part not in ("", ".")))


def stem(last: str) -> str:
    """Return the last part of a path without its ending."""
    start, dot, ending = last.rpartition(".")
    return start if dot and start and " " not in ending else last


def _ending(last: str) -> str:
    return last[len(stem(last)) :]
