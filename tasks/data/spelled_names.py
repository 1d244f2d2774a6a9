"""Finds the files that a table names in another spelling: it was written on another machine."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from tasks.data.file_index import FileIndex, IndexedFile, Parts, spelling
from tasks.data.names import is_plain_path, leads_down

_EXAMPLES = 3
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


class _Guess(NamedTuple):
    match: Match
    how: str = ""
    open: bool = False
    """Whether no file fits, so that a rule about the whole table may find one."""


class SpelledNames:
    """Looks up the names of a table in a folder that lacks files of exactly those names.

    A name may lack its ending or its folders, repeat the folder it lies in, or differ by case,
    separators, leading ``./``, blanks, percent-encoding or Unicode's composed forms. It counts as
    found only when a single file fits, which nobody else names. The folder is listed once, when the
    first names are asked for.

    Parameters
    ----------
    folder : Path
        Folder of the files. Links to folders in it are not followed.
    """

    def __init__(self, folder: Path) -> None:
        self._index = FileIndex(folder)
        self._own = spelling(str(folder))[-_OWN_DEPTH:]
        self._found: Counter[str] = Counter()
        self._examples: list[str] = []

    def resolve(self, names: Iterable[str], *, taken: Collection[str] = ()) -> dict[str, Match]:
        """Return what the names of a whole table stand for.

        A file that a row names exactly is never guessed for another row: that row's own file is
        lost. Neither is one that two different names may mean. Only another writing of the very
        same path (``./a.png``, ``sub\\a.png``) is the same file.

        Parameters
        ----------
        names : iterable of str
            All names of the table that no file has.
        taken : collection of str
            All names of the table that are a file's own.
        """
        guesses = {name: self._guess(name) for name in names}
        if not taken:
            # rows that are found here say that the table was written for this folder
            guesses |= self._below_another_place(guesses)
        claims = _claims(guesses)
        return {name: self._settled(name, guess, taken, claims) for name, guess in guesses.items()}

    def files(self, names: Iterable[str]) -> dict[str, str]:
        """Return the files that the names of a whole table stand for, without those of no file."""
        exact: dict[str, str] = {}
        others: list[str] = []
        for name in names:
            if is_plain_path(name) and os.path.exists(self._index.folder / name):
                exact[name] = name
            else:
                others.append(name)
        found = self.resolve(others, taken=exact)
        return exact | {name: match.name for name, match in found.items() if match.name is not None}

    def told(self) -> list[str]:
        """Return what is to be said about the names that were found so."""
        if not self._found:
            return []
        how = ", ".join(f"{count} {what}" for what, count in self._found.most_common())
        total = self._found.total()
        return [
            f"{total} names were found under another spelling ({how}): {', '.join(self._examples)}"
        ]

    def _settled(
        self, name: str, guess: _Guess, taken: Collection[str], claims: Mapping[str, set[str]]
    ) -> Match:
        """Return a match, unless its file is another's."""
        file = guess.match.name
        if file is None:
            return guess.match
        if _same_path(name) != file and (file in taken or len(claims[file]) > 1):
            return Match(None, f"{file[:120]!r} is meant by another row, too")
        self._note(name, file, guess.how)
        return guess.match

    def _guess(self, name: str) -> _Guess:
        """Return the one file that fits by the first rule that any file fits by."""
        for parts in _readings(name):
            for without_ending in (False, True):
                candidates = self._index.candidates(parts, without_ending=without_ending)
                for how, fitting in self._fitting(candidates, parts, without_ending):
                    if len(fitting) > 1:
                        return _Guess(Match(None, f"it may be {_listed(fitting)}"))
                    if fitting:
                        how = "without their ending" if without_ending else how
                        return _Guess(Match(fitting[0]), how)
        files = self._index.close_to(spelling(name))
        what = "there is" if len(files) == 1 else "there are"
        return _Guess(Match(None, f"{what} {_listed(files)}" if files else ""), open=True)

    def _fitting(
        self, candidates: list[IndexedFile], parts: Parts, without_ending: bool
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield the files that fit, by the first rule to the last."""

        def repeated(length: int) -> bool:
            return any(self._own[n : n + length] == parts[:length] for n in range(len(self._own)))

        yield (
            "by case, separators, blanks or encoding",
            [file.name for file in candidates if file.wanted(without_ending) == parts],
        )
        for length in range(1, len(parts)):
            if repeated(length):
                yield (
                    "with the folder's own name before them",
                    _at(candidates, parts[length:], without_ending),
                )
        # where a folder's names recur in another (masks beside images), it may hold another thing
        yield (
            "without their folders",
            [
                file.name
                for file in candidates
                if file.wanted(without_ending)[-len(parts) :] == parts
                and (len(parts) > 1 or not self._index.is_like_another(file.name))
            ],
        )

    def _below_another_place(self, guesses: Mapping[str, _Guess]) -> dict[str, _Guess]:
        """Return the names that are found when the same folders are taken off their beginnings.

        That is believed of the table as a whole: more than half of its names must be found so, and
        none of the files may be another name's. A few rows of a place whose files were not
        delivered are not led to the files of other rows.
        """
        below: dict[Parts, dict[str, _Guess]] = {}
        for name, guess in guesses.items():
            for prefix, file in self._below(name) if guess.open else ():
                found = _Guess(Match(file), "with the folders of another place before them")
                below.setdefault(prefix, {}).setdefault(name, found)
        if not below:
            return {}
        found_so = max(below.values(), key=len)
        claims = _claims({**guesses, **found_so})
        shared = any(len(claims[guess.match.name or ""]) > 1 for guess in found_so.values())
        return {} if shared or 2 * len(found_so) <= len(guesses) else found_so

    def _below(self, name: str) -> Iterator[tuple[Parts, str]]:
        """Yield the folders that may be taken off a name, and the only file that is left then."""
        for parts in _readings(name):
            for without_ending in (False, True):
                candidates = self._index.candidates(parts, without_ending=without_ending)
                for length in range(1, len(parts)):
                    here = _at(candidates, parts[length:], without_ending)
                    if len(here) == 1:
                        yield parts[:length], here[0]

    def _note(self, name: str, found: str, what: str) -> None:
        self._found[what] += 1
        if len(self._examples) < _EXAMPLES:
            self._examples.append(f"{name[:120]!r} is {found[:120]!r}")


def _readings(name: str) -> Iterator[Parts]:
    """Yield the paths that a name may be, in the one spelling in which paths are compared."""
    if "\0" in name:
        return
    address, _, query = name.partition("?")
    # Label Studio serves local files as /data/local-files/?d=PATH
    inner = query.removeprefix("d=") if query.startswith("d=") else ""
    for spelled in dict.fromkeys((name, unquote(name), unquote(inner), unquote(address))):
        parts = spelling(spelled)
        if parts and parts[-1] != "..":
            yield parts


def _at(candidates: list[IndexedFile], parts: Parts, without_ending: bool) -> list[str]:
    return [file.name for file in candidates if file.wanted(without_ending) == parts]


def _same_path(name: str) -> str:
    """Return a path without what says nothing; it is still the same path, not a guess."""
    if not leads_down(name):
        return name
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _claims(guesses: Mapping[str, _Guess]) -> dict[str, set[str]]:
    """Return the different paths that each file is guessed for."""
    claims: dict[str, set[str]] = {}
    for name, guess in guesses.items():
        if guess.match.name is not None:
            claims.setdefault(guess.match.name, set()).add(_same_path(name))
    return claims


def _listed(names: list[str]) -> str:
    shown = " or ".join(repr(name[:120]) for name in names[:_EXAMPLES])
    return shown + (f" or {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else "")
