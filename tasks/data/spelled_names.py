"""Finds the files that a table names in another spelling: it was written on another machine."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from tasks.data.names import is_text

Parts = tuple[str, ...]

_PICTURES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".dib", ".webp", ".avif")
) | frozenset((".tif", ".tiff", ".jp2", ".heic", ".dcm", ".pgm", ".ppm"))
"""Endings of which a name without one may mean."""

_EXAMPLES = 3
_CROWD = 50
"""Files of one name, in different folders, above which they are looked up by their folders."""
_OWN_DEPTH = 4
"""Folders above the images whose names a table may repeat."""


@dataclass(frozen=True)
class Match:
    """What a name stands for.

    Attributes
    ----------
    name : str or None
        Path of the one file that fits; None where there is none, or more than one.
    hint : str
        What a person should know where there is no match: files that come close.
    """

    name: str | None
    hint: str = ""


class _File(NamedTuple):
    name: str
    parts: Parts


class SpelledNames:
    """Looks names up in a folder that lacks a file of exactly that name.

    A name may lack its ending or its folders, repeat the folder it lies in, or differ by case,
    separators, leading ``./``, blanks, percent-encoding or Unicode's composed forms. It counts as
    found only when a single file fits. The folder is listed once, when the first name is asked for.

    Parameters
    ----------
    folder : Path
        Folder of the files. Links to folders in it are not followed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.exact = 0
        """Names that needed no search so far; the caller counts them."""
        self._own = spelling(str(folder))[-_OWN_DEPTH:]
        # hashes, and a list only where there are several: folders of millions are listed
        self._files: dict[int, str | list[str]] | None = None
        self._crowds: dict[str, dict[int, list[str]]] = {}
        self._like_others: set[str] = set()
        self._prefix: Parts | None = None
        self._found: Counter[str] = Counter()
        self._examples: list[str] = []

    def find(self, name: str) -> Match:
        """Return the file that a name stands for."""
        if "\0" in name:
            return Match(None)
        address, _, query = name.partition("?")
        # Label Studio serves local files as /data/local-files/?d=PATH
        inner = query.removeprefix("d=") if query.startswith("d=") else ""
        for spelled in dict.fromkeys((name, unquote(name), unquote(inner), unquote(address))):
            match = self._search(name, spelling(spelled))
            if match is not None:
                return match
        return Match(None, self._close_to(spelling(name)))

    def told(self) -> list[str]:
        """Return what is to be said about the names that were found so."""
        if not self._found:
            return []
        how = ", ".join(f"{count} {what}" for what, count in self._found.most_common())
        total = self._found.total()
        return [
            f"{total} names were found under another spelling ({how}): {', '.join(self._examples)}"
        ]

    def _search(self, name: str, parts: Parts) -> Match | None:
        if not parts or parts[-1] == "..":
            return None
        for without_ending in (False, True):
            candidates = self._candidates(parts, without_ending=without_ending)
            for what, fitting in self._fitting(candidates, parts, without_ending=without_ending):
                if len(fitting) > 1:
                    return Match(None, f"it may be {_listed(fitting)}")
                if fitting:
                    self._note(name, fitting[0], "without their ending" if without_ending else what)
                    return Match(fitting[0])
        return None

    def _fitting(
        self, candidates: list[_File], parts: Parts, *, without_ending: bool
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield the files that fit, by the first rule to the last."""

        def wanted(file: _File) -> Parts:
            return (*file.parts[:-1], stem(file.parts[-1])) if without_ending else file.parts

        def repeated(length: int) -> bool:
            return any(self._own[n : n + length] == parts[:length] for n in range(len(self._own)))

        yield (
            "by case, separators, blanks or encoding",
            [file.name for file in candidates if wanted(file) == parts],
        )
        for length in range(1, len(parts)):
            if repeated(length):
                here = [file.name for file in candidates if wanted(file) == parts[length:]]
                yield "with the folder's own name before them", here
        # where a folder's names recur in another (masks beside images), it may hold another thing
        yield (
            "without their folders",
            [
                file.name
                for file in candidates
                if wanted(file)[-len(parts) :] == parts
                and (len(parts) > 1 or os.path.dirname(file.name) not in self._like_others)
            ],
        )
        # of a whole table written elsewhere, but never of a stray row
        for length in range(1, len(parts)):
            prefix = parts[:length]
            if self._prefix == prefix or (self._prefix is None and not self.exact):
                here = [file.name for file in candidates if wanted(file) == parts[length:]]
                if len(here) == 1:
                    self._prefix = prefix
                yield "with the folders of another place before them", here

    def _candidates(self, parts: Parts, *, without_ending: bool) -> list[_File]:
        last = parts[-1]
        found = self._held(stem(last), parts)
        if not without_ending:
            return [file for file in found if file.parts[-1] == last]
        found += self._held(last, parts)
        found = [file for file in dict.fromkeys(found) if stem(file.parts[-1]) == last]
        pictures = [file for file in found if _ending(file.parts[-1]) in _PICTURES]
        return pictures or found

    def _close_to(self, parts: Parts) -> str:
        if not parts:
            return ""
        files = [file.name for file in self._held(stem(parts[-1]), parts[-1:])]
        if not files:
            return ""
        what = "there is" if len(files) == 1 else "there are"
        return f"{what} {_listed(files)}"

    def _held(self, key: str, parts: Parts) -> list[_File]:
        """Return the files of a name without folder and ending; of many, those that may fit."""
        held = self._index().get(hash(key), [])
        names = [held] if isinstance(held, str) else held
        if len(names) > _CROWD:
            names = self._of_crowd(key, names, (*parts[:-1], key))
        files = [_File(name, spelling(name)) for name in dict.fromkeys(names)]
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

    def _note(self, name: str, found: str, what: str) -> None:
        self._found[what] += 1
        if len(self._examples) < _EXAMPLES:
            self._examples.append(f"{name[:120]!r} is {found[:120]!r}")

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
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    parts = [part.strip() for part in text.replace("\\", "/").split("/")]
    root = ("/",) if len(parts) > 1 and not parts[0] else ()
    return (*root, *(part for part in parts if part not in ("", ".")))


def stem(last: str) -> str:
    """Return the last part of a path without its ending."""
    start, dot, ending = last.rpartition(".")
    return start if dot and start and " " not in ending else last


def _ending(last: str) -> str:
    return last[len(stem(last)) :]


def _listed(names: list[str]) -> str:
    shown = " or ".join(repr(name[:120]) for name in names[:_EXAMPLES])
    return shown + (f" or {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else "")
