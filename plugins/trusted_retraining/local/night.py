"""One night from the command line: the pipeline's DAG, run to its end in this process.

Exit code: 0 when the night came to a verdict, blessed or refused; 1 when a stage failed; 64 to 78
when the pipeline or an argument is wrong.
"""

import argparse
import os
import shlex
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tasks.contract import EX_CONFIG, EX_USAGE, run_uri
from tasks.spec import Pipeline, SpecError, apply_overrides, parse_overrides
from trusted_retraining.local import home, stack_file
from trusted_retraining.pipelines import read_pipelines

STAGE_LOGGERS = "airflow.task.operators.trusted_retraining"
RETRY_DELAY = timedelta(seconds=2)


def main(arguments: list[str] | None = None) -> int:
    """Run a night as the command line says, and return the exit code."""
    options = _parser().parse_args(arguments)
    _quieten()
    home.prepare()
    # these import Airflow, which looks for its home at that moment
    from trusted_retraining.params import FORCE
    from trusted_retraining.settings import Settings

    running = stack_file.read()
    if running:
        home.say(
            f"Airflow is running (make up, process {running['pid']}): trigger {options.pipeline} "
            f"there, {running['airflow']}, or end it first"
        )
        return EX_USAGE
    try:
        overrides = _overrides(options)
        settings = Settings.read()
        apply_overrides(_find(options.pipeline, settings.pipelines), overrides)
    except (SpecError, ValueError) as error:
        home.say(str(error))
        return EX_CONFIG
    home.say(f"{options.pipeline}: starting a night; Airflow takes some seconds to load")
    run_id, state = run_night(options.pipeline, overrides | {FORCE: options.force})
    uri = run_uri(settings.storage_root, options.pipeline, run_id)
    summary = [settings.stage_python, "-m", "tasks", "summary", "--run-uri", uri]
    subprocess.run(  # noqa: S603
        summary, env=os.environ | settings.stage_environment(), check=False
    )
    if state != "success":
        home.say(f"{options.pipeline}: the night failed ({state}); its stages' lines are above")
    return 0 if state == "success" else 1


def run_night(name: str, conf: dict[str, Any]) -> tuple[str, str]:
    """Run the DAG in this process, serially, and return its run id and state.

    Parameters
    ----------
    name : str
        Pipeline name.
    conf : dict
        The run's configuration: dotted fields, and ``force``.
    """
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.settings import DAGS_FOLDER

    folder = Path(DAGS_FOLDER)
    bag = BundleDagBag(folder / "retraining.py", bundle_path=folder, bundle_name="dags-folder")
    dag = bag.dags[name]
    for task in dag.tasks:
        # someone is looking on: no hour's wait for a retry
        task.retry_delay = task.max_retry_delay = RETRY_DELAY
    run = dag.test(run_conf=conf)
    return str(run.run_id), str(run.state)


def _find(name: str, folder: Path) -> Pipeline:
    pipelines, errors = read_pipelines(folder)
    for pipeline in pipelines:
        if pipeline.name == name:
            return pipeline
    known = ", ".join(pipeline.name for pipeline in pipelines)
    raise SpecError("\n".join([*errors, f"{name}: no such pipeline in {folder}; there is {known}"]))


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    overrides = parse_overrides([*shlex.split(options.settings), *options.set])
    if options.source:
        path = Path(options.source)
        # stages may run in another folder than the one in which this was typed
        overrides["source.uri"] = str(path.resolve()) if path.exists() else options.source
    return overrides


def _quieten() -> None:
    """Have Airflow print what the stages say, and nothing else; read when Airflow is imported.

    Its own account of a failed task is a traceback through itself; the stage has said what is wrong
    by then, and the summary says it again.
    """
    os.environ |= {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": f"{STAGE_LOGGERS}=INFO",
        "AIRFLOW__LOGGING__LOG_FORMAT": "%(message)s",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make retrain", description="Run one night.")
    parser.add_argument("pipeline", help="name of a pipeline file")
    parser.add_argument("--source", default="", help="where the images are: path or address")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field"
    )
    parser.add_argument(
        "--settings", default="", metavar="WORDS", help="overrides in one string, as in a shell"
    )
    parser.add_argument("--force", action="store_true", help="compute what could be reused")
    return parser


if __name__ == "__main__":
    sys.exit(main())
