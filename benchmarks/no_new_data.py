"""A night without new data: what of the model's work is done again.

Plain: the night before, which computed everything. Ours: the next night on the same data with the
same code, where every such stage must be taken over and not a second of model work be done.

    python benchmarks/no_new_data.py --out no_new_data.json
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.nights import prepare, run_night  # noqa: E402
from benchmarks.rows import arguments, finish, row  # noqa: E402

MODEL_WORK = ("train", "evaluate", "fairness", "explain", "robustness")


def main() -> int:
    """Measure; exit code 1 when any model work was done again."""
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        first_seconds, first = run_night(Path(folder))
        second_seconds, second = run_night(Path(folder))
    reused = sorted(name for name, stage in second["stages"].items() if stage["reused"])
    rows = [
        row(
            "night without new data: seconds of model work",
            model_seconds(second),
            model_seconds(first),
            "s",
            target="none",
            passed=set(MODEL_WORK) <= set(reused) and model_seconds(second) == 0,
            detail={"reused": reused},
        ),
        row(
            "night without new data: whole night",
            second_seconds,
            first_seconds,
            "s",
            detail={"blessed": [first["blessed"], second["blessed"]]},
        ),
    ]
    return finish(rows, options.out)


def model_seconds(run: dict[str, Any]) -> float:
    """Return the seconds in which the model was worked on that night."""
    stages = [run["stages"][name] for name in MODEL_WORK]
    return float(sum(0.0 if stage["reused"] else stage["seconds"] for stage in stages))


if __name__ == "__main__":
    sys.exit(main())
