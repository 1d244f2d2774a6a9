"""What it costs to hash every input of a run where it is opened.

Ours: the stages of a run up to its verdict as they are. Plain: the same with no input hashed, which
is not a mode of the program: the functions that hash are replaced. Both in one process, in turn, so
that the start of Python and TensorFlow, which makes a run longer, does not hide the hashing.

    python benchmarks/hashing.py --out hashing.json
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.rows import arguments, compare, finish, row  # noqa: E402
from tasks.contract import RunDirectory  # noqa: E402
from tasks.environment import Environment  # noqa: E402
from tasks.gate.evidence import JUDGED  # noqa: E402
from tasks.native_log import import_tensorflow  # noqa: E402
from tasks.runner import run_stage  # noqa: E402
from tasks.spec import apply_overrides, load_pipeline  # noqa: E402
from tasks.stages import load_stage  # noqa: E402

PIPELINE = apply_overrides(
    load_pipeline(Path(__file__).resolve().parents[1] / "dags/pipelines/demo.yaml"),
    {
        "train.epochs": 4,
        "explain.images": 4,
        "explain.samples": 100,
        "robustness.images": 16,
        "evaluate.bootstrap": 200,
    },
)
MOST = 1.05
"""Of the CPU seconds of a run without hashing: wall seconds tell of other work on the machine."""


def _unhashed(path: Path, *_: Any, **__: Any) -> bytes:
    return path.read_bytes()


UNHASHED: dict[str, Callable[..., Any]] = {
    "tasks.storage.inputs._verify": lambda *_: None,
    "tasks.storage.inputs.read_verified": _unhashed,
    "tasks.data.arranged.read_verified": _unhashed,
    "tasks.data.arrange.read_verified": _unhashed,
    "tasks.contract.run_directory._stands": lambda fs, path, _: bool(fs.exists(path)),
}


def main() -> int:
    """Measure; exit code 1 when hashing costs more than it may."""
    parser = arguments(__doc__)
    parser.add_argument("--turns", type=int, default=4, help="runs of each kind (4)")
    options = parser.parse_args()
    logging.getLogger("tasks").setLevel(logging.ERROR)
    import_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = [
            measured("a run", lambda: perform(root, fresh=True), turns=options.turns, most=MOST),
            measured("a run without new data", lambda: perform(root, fresh=False), turns=4),
        ]
    return finish(rows, options.out)


def measured(name: str, run: Callable[[], Any], *, turns: int, most: float | None = None) -> Any:
    """Return the row of a run: its seconds, and those without the ones spent on hashing.

    Wall seconds of whole runs, in turn with and without hashing, are in the detail: on a machine
    that does other work they differ by more than hashing costs.
    """
    (ours, plain), detail = compare(run, lambda: replaced(run, UNHASHED), turns=turns)
    seconds, spent = spent_on_hashing(run)
    ratio = seconds / (seconds - spent)
    return row(
        f"hashing every input: {name}",
        seconds,
        seconds - spent,
        "s",
        target=most,
        passed=most is None or ratio <= most,
        detail=detail
        | {"hashing": round(spent, 3), "best": [round(ours, 3), round(plain, 3)]}
        | {"films": PIPELINE.source.rows},
    )


def spent_on_hashing(run: Callable[[], Any]) -> tuple[float, float]:
    """Return the CPU seconds of a run, and those of them in the functions that read and hash."""
    spent = [0.0]

    def clocked(function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*words: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*words, **named)
            finally:
                spent[0] += time.thread_time() - started

        return timed

    started = time.process_time()
    replaced(run, {name: clocked(resolve_name(name)) for name in UNHASHED})
    return time.process_time() - started, spent[0]


def perform(root: Path, *, fresh: bool) -> None:
    """Run the stages up to the verdict, in a store of their own or after another run."""
    place = tempfile.mkdtemp(dir=root) if fresh else root / "again"
    environment = Environment(
        mlflow_uri="",
        serving_root=root / "served",
        serving_python=root / "absent",
        server_url="",
        code_revision="",
        state_dir=root / "state",
    )
    name = "one" if fresh else Path(tempfile.mkdtemp(dir=root)).name
    run = RunDirectory(f"{place}/demo/runs/{name}")
    for stage in (*JUDGED, "bless"):
        run_stage(load_stage(stage), pipeline=PIPELINE, run=run, environment=environment)


def replaced(run: Callable[[], Any], functions: dict[str, Callable[..., Any]]) -> None:
    """Run with other functions in the place of those that hash what is read."""
    with ExitStack() as patched:
        for name, function in functions.items():
            patched.enter_context(patch(name, function))
        run()


if __name__ == "__main__":
    sys.exit(main())
