"""Parse time of the DAG file at 1, 10 and 100 pipelines, beyond importing Airflow and the provider.

Plain: the same number of DAGs with the same tasks, written by hand with BashOperator, without a
form, without reading or checking a pipeline file. Each parse is a process of its own; the best of
three counts.

    python benchmarks/parse.py --out parse.json
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.nights import REPOSITORY  # noqa: E402
from benchmarks.rows import Row, arguments, finish, row  # noqa: E402

LIMIT_SECONDS = 0.3
TURNS = 3

MEASURE = """
import runpy, sys, time
import airflow.sdk, airflow.configuration
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.bash import BashOperator
started = time.perf_counter()
names = runpy.run_path(sys.argv[1])
seconds = time.perf_counter() - started
dags = [value for value in names.values() if isinstance(value, airflow.sdk.DAG)]
print(len({dag.dag_id for dag in dags}), seconds)
"""

BY_HAND = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator
for number in range({count}):
    with DAG(f"p{{number}}", schedule="0 2 * * *", catchup=False) as dag:
        row = [BashOperator(task_id=f"stage_{{n}}", bash_command="true") for n in range(16)]
        for earlier, later in zip(row, row[1:]):
            earlier >> later
    globals()[f"p{{number}}"] = dag
"""


def main() -> int:
    """Measure; exit code 1 when the target is missed."""
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(Path(folder), count) for count in (1, 10, 100)]
    return finish(rows, options.out)


def measure(folder: Path, count: int) -> Row:
    """Return the row of a number of pipelines."""
    pipelines = folder / f"pipelines-{count}"
    pipelines.mkdir()
    text = (REPOSITORY / "dags/pipelines/covid_xray.yaml").read_text()
    for number in range(count):
        named = text.replace("name: covid_xray", f"name: p{number}")
        (pipelines / f"p{number}.yaml").write_text(named)
    by_hand = folder / f"by_hand_{count}.py"
    by_hand.write_text(BY_HAND.format(count=count))
    turns = [
        (parse(REPOSITORY / "dags/retraining.py", pipelines, count), parse(by_hand, folder, count))
        for _ in range(TURNS)
    ]
    ours, plain = min(ours for ours, _ in turns), min(plain for _, plain in turns)
    target = LIMIT_SECONDS if count == 10 else None
    return row(
        f"DAG parse, {count} pipeline{'s' if count > 1 else ''}",
        ours,
        plain,
        "s",
        target=f"<= {LIMIT_SECONDS} s" if target else None,
        passed=target is None or ours <= target,
        detail={"turns": turns, "milliseconds_per_pipeline": 1000 * ours / count},
    )


def parse(file: Path, pipelines: Path, count: int) -> float:
    """Return the seconds that a fresh interpreter takes for a DAG file."""
    variables = {
        "AIRFLOW_HOME": str(pipelines.parent / "home"),
        "AIRFLOW__TRUSTED_RETRAINING__PIPELINES": str(pipelines),
    }
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, str(file)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[-1]
    found, seconds = answer.split()
    if int(found) != count:
        raise RuntimeError(f"{file}: {found} DAGs instead of {count}")
    return float(seconds)


if __name__ == "__main__":
    sys.exit(main())
