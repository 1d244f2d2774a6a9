"""A small night through Airflow, against the same stages called one after the other.

Plain, twice: as functions of one process that imports every library once, which is the least that
the work can take; and as processes without Airflow, which tells what Airflow itself costs. All are
forced to compute everything, log to MLflow and end with the same verdict.

    python benchmarks/overhead.py --out overhead.json
"""

import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.nights import (  # noqa: E402
    REPOSITORY,
    SMALL,
    environment,
    prepare,
    run_night,
    timed,
)
from benchmarks.rows import arguments, finish, row  # noqa: E402

ONE_PROCESS = """
import sys
from tasks.contract import RunDirectory, STAGES
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.spec import apply_overrides, load_pipeline, parse_overrides
from tasks.stages import load_stage
pipeline = apply_overrides(load_pipeline(sys.argv[1]), parse_overrides(sys.argv[3:]))
run = RunDirectory(sys.argv[2])
for name in STAGES:
    if name == "publish":  # to a cluster, which is not measured here
        continue
    verdict = run.read_verdict() if name in ("deploy", "reject") else None
    if verdict is None or verdict.may_serve == (name == "deploy"):
        run_stage(load_stage(name), pipeline=pipeline, run=run, environment=Environment.read(),
                  reuse="none")
"""

PROCESSES = """
import subprocess, sys
from tasks.contract import RunDirectory, STAGES
run = RunDirectory(sys.argv[2])
for name in STAGES:
    if name == "publish":  # to a cluster, which is not measured here
        continue
    verdict = run.read_verdict() if name in ("deploy", "reject") else None
    if verdict is None or verdict.may_serve == (name == "deploy"):
        words = [sys.executable, "-m", "tasks", name, "--run-uri", run.uri, "--spec", sys.argv[1]]
        for assignment in sys.argv[3:]:
            words += ["--set", assignment]
        subprocess.run([*words, "--force"], check=True)
"""


def main() -> int:
    """Measure; there is no target, the numbers are for reading."""
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        states = {name: Path(folder) / name for name in ("airflow", "processes", "one")}
        prepare(states["airflow"])
        through_airflow, last = run_night(states["airflow"], "--force")
        processes = without_airflow(PROCESSES, states["processes"])
        one_process = without_airflow(ONE_PROCESS, states["one"])
    stages = sum(stage["exit_code"] == 0 for stage in last["stages"].values())
    rows = []
    for name, plain in (("one process", one_process), ("bare processes", processes)):
        detail = {
            "stages": stages,
            "overhead_seconds_per_stage": (through_airflow - plain) / stages,
        }
        name = f"night through Airflow against {name}"
        rows.append(row(name, through_airflow, plain, "s", detail=detail))
    return finish(rows, options.out)


def without_airflow(script: str, state: Path) -> float:
    """Return the seconds of the same night without Airflow."""
    state.mkdir()
    spec, run = f"{REPOSITORY}/dags/pipelines/demo.yaml", f"{state}/runs/demo/runs/bench"
    return timed([sys.executable, "-c", script, spec, run, *SMALL], environment(state))


if __name__ == "__main__":
    sys.exit(main())
