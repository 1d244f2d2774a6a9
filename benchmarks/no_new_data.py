"""A night without new data: what of the model's work is done again.

Plain: the night before, which computed everything. Ours: the next night on the same data with the
same code, where every such stage must be taken over and not a second of model work be done.

    python benchmarks/no_new_data.py --out no_new_data.json
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.nights import prepare, run_night  # noqa: E402

MODEL_WORK = ("train", "evaluate", "fairness", "explain", "robustness")


def main() -> int:
    """Measure; exit code 1 when any model work was done again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        first_seconds, first = run_night(Path(folder))
        second_seconds, second = run_night(Path(folder))
    reused = sorted(name for name, stage in second["stages"].items() if stage["reused"])
    rows = [
        {
            "name": "night without new data: seconds of model work",
            "ours": model_seconds(second),
            "plain": model_seconds(first),
            "ratio": model_seconds(second) / model_seconds(first),
            "unit": "s",
            "target": "none",
            "passed": set(MODEL_WORK) <= set(reused) and model_seconds(second) == 0,
            "detail": {"reused": reused},
        },
        {
            "name": "night without new data: whole night",
            "ours": second_seconds,
            "plain": first_seconds,
            "ratio": second_seconds / first_seconds,
            "unit": "s",
            "target": None,
            "passed": True,
            "detail": {"blessed": [first["blessed"], second["blessed"]]},
        },
    ]
    text = json.dumps(rows, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0 if all(row["passed"] for row in rows) else 1


def model_seconds(run: dict[str, Any]) -> float:
    """Return the seconds in which the model was worked on that night."""
    stages = [run["stages"][name] for name in MODEL_WORK]
    return float(sum(0.0 if stage["reused"] else stage["seconds"] for stage in stages))


if __name__ == "__main__":
    sys.exit(main())
