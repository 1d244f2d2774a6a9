"""Nights of the experiments, and the file that keeps what became of them."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.nights import REPOSITORY, environment
from benchmarks.published.experiments import Experiment
from benchmarks.published.labelled import label_films

FILE = Path(__file__).with_name("runs.json")
LABELLED = "labelled"
Run = dict[str, Any]


def read() -> list[Run]:
    """Return the runs that are kept."""
    return list(json.loads(FILE.read_text())) if FILE.exists() else []


def keep(run: Run) -> None:
    """Keep a run in place of an earlier one of the same experiment and seed."""
    identity = (run["experiment"], run["seed"])
    others = [one for one in read() if (one["experiment"], one["seed"]) != identity]
    runs = sorted([*others, run], key=lambda one: (one["experiment"], one["seed"]))
    FILE.write_text(json.dumps(runs, indent=1) + "\n")


def run(experiment: Experiment, seed: int, *, data: Path, state: Path) -> Run:
    """Run one night and return what became of it.

    Raises
    ------
    RuntimeError
        The night came to no verdict; its last lines are told.
    """
    settings = experiment.filled(data) | {"train.seed": seed}
    if experiment.source == LABELLED:
        source = label_films(data / "covid-chestxray", state / "labelled")
    else:
        source = data / experiment.source
    assignments = [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
    started = time.perf_counter()
    process = subprocess.run(
        [
            *(sys.executable, "-m", "trusted_retraining.local.night", experiment.pipeline),
            *("--source", str(source), *assignments),
        ],
        cwd=REPOSITORY,
        env=environment(state),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{experiment.name}, seed {seed}: {process.stdout[-2000:]}")
    last = json.loads((state / "last-run.json").read_text())
    return {
        "experiment": experiment.name,
        "seed": seed,
        "revision": _revision(),
        "seconds": round(seconds, 1),
        "stages": {
            name: stage["seconds"]
            for name, stage in last["stages"].items()
            if not stage["reused"] and stage["seconds"] is not None
        },
        # some of the published settings are rules, which is why nothing is deployed
        "blessed": last["verdict"] != "rejected",
        "refused_by": [rule["metric"] for rule in last["rules"] if not rule["passed"]],
        "metrics": last["metrics"],
    }


def _revision() -> str:
    """Return the commit; marked when anything but what the runs themselves write was changed."""

    def git(*words: str) -> str:
        command = ["git", *words]
        answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        return answer.stdout.strip()

    own = [f":!{name}" for name in ("benchmarks/published/runs.json", "docs/results.md")]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *own)
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")
