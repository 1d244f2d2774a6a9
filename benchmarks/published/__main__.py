"""Runs the experiments that are named, or all, and writes docs/results.md.

python -m benchmarks.published [NAME ...] [--data FOLDER] [--page]
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.nights import REPOSITORY
from benchmarks.published import experiments, page, runs

PAGE = REPOSITORY / "docs/results.md"


def main() -> int:
    """Run and write; 64 when a name is unknown, 66 when the data are not there."""
    known = experiments.load()
    names = [experiment.name for experiment in known]
    parser = argparse.ArgumentParser(prog="make results", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data")
    parser.add_argument("--state", type=Path, default=REPOSITORY / ".local/results")
    parser.add_argument("--seeds", type=int, help="fewer runs of each than experiments.yaml says")
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        print(f"results: no experiment {', '.join(unknown)}; there are {', '.join(names)}")
        return 64
    if not options.page:
        if not options.data.is_dir():
            print(f"results: no folder {options.data}; DATA=FOLDER names that of the data sets")
            return 66
        for experiment in known:
            if experiment.name in (options.names or names):
                for seed in range(min(experiment.seeds, options.seeds or experiment.seeds)):
                    _run(experiment, seed, options)
    PAGE.write_text(page.render(known, runs.read()))
    print(f"results: {PAGE}")
    return 0


def _run(experiment: experiments.Experiment, seed: int, options: argparse.Namespace) -> None:
    print(f"{experiment.name}, seed {seed}: running", flush=True)
    started = time.perf_counter()
    state = options.state.resolve()
    done = runs.run(experiment, seed, data=options.data.resolve(), state=state)
    runs.keep(done)
    verdict = "blessed" if done["blessed"] else f"refused by {', '.join(done['refused_by'])}"
    value = done["metrics"].get(experiment.key)
    print(
        f"{experiment.name}, seed {seed}: {experiment.key} {value}, {verdict}, "
        f"{time.perf_counter() - started:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
