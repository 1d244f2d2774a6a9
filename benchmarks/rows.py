"""What the benchmarks share: rows of ours beside plain, written and judged, and fair turns."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
Seconds = tuple[float, float]


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    return parser


def row(
    name: str,
    ours: float,
    plain: float,
    unit: str,
    *,
    target: float | str | None = None,
    passed: bool = True,
    detail: Any = None,
) -> Row:
    """Return one line of the results; `target` is the ratio wanted, or a text that says what is."""
    return {
        "name": name,
        "ours": ours,
        "plain": plain,
        "ratio": ours / plain,
        "unit": unit,
        "target": target,
        "passed": bool(passed),
        "detail": detail or {},
    }


def finish(rows: Sequence[Row], out: Path | None) -> int:
    """Print the rows and write them; return the exit code, 1 when a target is missed."""
    text = json.dumps(rows, indent=1)
    print(text)
    if out:
        out.write_text(text, encoding="utf-8")
    return 0 if all(each["passed"] for each in rows) else 1


def clocked(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call took, and its result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def wall_and_cpu(function: Callable[[], Any]) -> Seconds:
    """Return the wall and the CPU seconds that a call took."""
    started, worked = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - started, time.process_time() - worked


def compare(
    ours: Callable[[], Any],
    plain: Callable[[], Any],
    *,
    turns: int,
    before: Callable[[], Any] = lambda: None,
) -> tuple[Seconds, dict[str, Any]]:
    """Time both in turn, after one of each to warm up.

    Neither always follows the other, and the best turn of each counts: a busy machine then slows
    both alike.

    Parameters
    ----------
    ours, plain : callable
        What is timed.
    turns : int
        How often.
    before : callable, optional
        Called before each turn of ours, and not timed: clears away what the last one has left.

    Returns
    -------
    tuple of float
        The best wall seconds: of ours, of plain.
    dict
        All turns, and how far a busy machine can be trusted: the ratios of the medians, wall and
        CPU, agree with that of the best on a quiet one.
    """
    before(), ours(), plain()
    pairs = []
    for turn in range(turns):
        before()
        if turn % 2:
            theirs = wall_and_cpu(plain)
            pairs.append((wall_and_cpu(ours), theirs))
        else:
            pairs.append((wall_and_cpu(ours), wall_and_cpu(plain)))
    wall = np.array([[mine[0], theirs[0]] for mine, theirs in pairs])
    cpu = np.array([[mine[1], theirs[1]] for mine, theirs in pairs])
    mine, theirs = (float(seconds) for seconds in wall.min(axis=0))
    detail = {
        "turns": turns,
        "seconds": wall.round(3).tolist(),
        "median_ratio": round(float(np.median(wall[:, 1] / wall[:, 0])), 3),
        "cpu_ratio": round(float(np.median(cpu[:, 1]) / np.median(cpu[:, 0])), 3),
    }
    return (mine, theirs), detail
