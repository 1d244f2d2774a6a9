"""Takes what a foreign program left, and believes nothing of it before it has been looked at."""

import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.contract import BadInput

METRICS = "metrics.json"
"""File with the program's metrics: one object of names and numbers."""

MOST_METRICS, METRICS_BYTES = 1000, 1_000_000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\- :/]{0,199}")
_RESERVED = ("manifest.json", "failure.json")
_DEEPEST = 50


def take_outputs(source: Path, target: Path, *, stage: str, move: bool) -> list[str]:
    """Put the files and folders that a program left where a stage's outputs belong.

    Links, devices and pipes are refused: whoever follows a link of somebody else's gives away what
    it leads to.

    Parameters
    ----------
    source : Path
        The program's folder of outputs.
    target : Path
        The stage's folder.
    stage : str
        For messages.
    move : bool
        Move rather than copy; for files that are this user's own.

    Returns
    -------
    list of str
        Warnings.

    Raises
    ------
    BadInput
        Something there cannot be an output.
    """
    try:
        return _take(source, target, stage=stage, move=move)
    except PermissionError as error:
        raise BadInput(
            f"{stage}: output {error.filename} cannot be read: {error.strerror}; make what the "
            "program leaves readable for everyone"
        ) from error


def _take(source: Path, target: Path, *, stage: str, move: bool) -> list[str]:
    warnings = []
    entries = sorted(source.iterdir())
    names = {entry.name for entry in entries}
    for entry in entries:
        _check_name(entry.name, stage)
        if entry.name in _RESERVED or f"{entry.name}.tar" in names:
            clash = entry.name if entry.name in _RESERVED else f"{entry.name}.tar"
            raise BadInput(f"{stage}: output {clash} has a name of ours; choose another")
        for path, mode in _walk(entry):
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "no plain file"
                raise BadInput(
                    f"{stage}: output {path.relative_to(source)} is {kind}; write plain files and "
                    "folders"
                )
        if entry.name.startswith("."):
            warnings.append(f"output {entry.name} is hidden and was left out")
        elif entry.is_dir() and not any(path.is_file() for path in entry.rglob("*")):
            warnings.append(f"output {entry.name}/ is empty and was left out")
        elif move:
            entry.rename(target / entry.name)
        elif entry.is_dir():
            shutil.copytree(entry, target / entry.name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(entry, target / entry.name)
    return warnings


def read_metrics(folder: Path, *, stage: str) -> tuple[dict[str, float], list[str]]:
    """Return the metrics that a program left, and warnings.

    Parameters
    ----------
    folder : Path
        Holds ``metrics.json``, or does not: a program need not measure anything.
    stage : str
        For messages.

    Raises
    ------
    BadInput
        It is no object of names and numbers.
    """
    path = folder / METRICS
    if not path.is_file():
        return {}, []
    if path.stat().st_size > METRICS_BYTES:
        raise BadInput(f"{stage}: {METRICS} has {path.stat().st_size:,} bytes; at most 1,000,000")
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{stage}: {METRICS} is not valid JSON: {reason}") from error
    if not isinstance(document, dict) or len(document) > MOST_METRICS:
        raise BadInput(
            f"{stage}: {METRICS} must be one object of at most {MOST_METRICS} names and numbers"
        )
    metrics, warnings = {}, []
    for name, value in document.items():
        metrics[name] = _number(name, value, stage)
        if not math.isfinite(metrics[name]):
            warnings.append(f"metric {name} is not a finite number, so a rule on it fails")
    return metrics, warnings


def _number(name: str, value: Any, stage: str) -> float:
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{stage}: {METRICS}: {name[:60]!r} is not the name of a metric: letters, digits and "
            f"_.-:/, at most 200"
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"{stage}: {METRICS}: {name}: {str(value)[:60]!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return dict(pairs)


def _check_name(name: str, stage: str) -> None:
    try:
        name.encode("utf-8")
        readable = name.isprintable()
    except UnicodeEncodeError:
        readable = False
    if not readable:
        raise BadInput(f"{stage}: output {name!r} has a name that cannot be printed; rename it")


def _walk(path: Path, depth: int = 0) -> Iterator[tuple[Path, int]]:
    mode = path.lstat().st_mode
    yield path, mode
    if stat.S_ISDIR(mode):
        if depth > _DEEPEST:
            raise BadInput(f"{path}: folders are nested deeper than {_DEEPEST}")
        with os.scandir(path) as entries:
            for entry in entries:
                yield from _walk(Path(entry.path), depth + 1)
