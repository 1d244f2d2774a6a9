"""One night from the command line: the pipeline's DAG, run to its end in this process.

Exit code: 0 when the night came to a verdict, blessed or refused; 1 when a stage failed; 64 to 78
when the pipeline or an argument is wrong; 130 when it was interrupted.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from tasks.contract import EX_CONFIG, EX_USAGE, RunDirectory, run_uri, stages_of
from tasks.spec import Pipeline, SpecError, changes, override, parse_overrides
from tasks.spec.addresses import is_below
from trusted_retraining.local import home, stack_file
from trusted_retraining.operators import reaper

STAGE_LOGGERS = "airflow.task.operators.trusted_retraining"
GATE_LOGGER = f"{STAGE_LOGGERS}.operators.gate"
"""What the gate does is the verdict again, which has been printed just before it."""
TAKE_BACK_SECONDS = 90.0
"""Time in which a deployment to a cluster is taken back."""
GRACE_SECONDS = 12.0
"""More than a stage has to end itself before its own reaper kills it."""
RETRY_DELAY = timedelta(seconds=2)


def main(arguments: list[str] | None = None) -> int:
    """Run a night as the command line says, and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words)
    if not options.inside:
        return _guard(options.pipeline, words)
    _hold_on_to_life()
    _quieten()
    home.prepare()
    # these import Airflow, which looks for its home at that moment
    from trusted_retraining.params import FORCE
    from trusted_retraining.settings import Settings
    from trusted_retraining.storage import storage_options, storage_variables

    try:
        overrides = _overrides(options)
        settings = Settings.read()
        if is_below(options.source, [options.source]):
            # whoever types SOURCE here owns this installation; the DAG reads the settings anew
            allowed = [*settings.allowed_addresses, options.source.replace(",", "%2C")]
            os.environ["AIRFLOW__TRUSTED_RETRAINING__ALLOWED_ADDRESSES"] = ",".join(allowed)
            settings = Settings.read()
        pipeline = _find(options.pipeline, settings.pipelines)
        tonight = override(pipeline, overrides, allowed=settings.addresses_of(pipeline))
    except (SpecError, ValueError) as error:
        home.say(str(error))
        return EX_CONFIG
    changed = [change for change in changes(pipeline, tonight) if change.is_rule]
    if changed and not settings.deploy_changed_rules:
        home.say(
            f"{options.pipeline}: {', '.join(change.field for change in changed)}: these rules are "
            "not those of the pipeline file, so the model is judged but not deployed; to deploy "
            "under them put them into the file"
        )
    home.give_up_unfinished()
    home.say(f"{options.pipeline}: starting a night; Airflow takes some seconds to load")
    with home.unfinished():
        run_id, state = run_night(options.pipeline, overrides | {FORCE: options.force})
    uri = run_uri(settings.storage_root, options.pipeline, run_id)
    summary = [settings.stage_python, "-m", "tasks", "summary", "--run-uri", uri]
    subprocess.run(  # noqa: S603
        summary,
        env=storage_variables(settings) | os.environ | settings.stage_environment(),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if state != "success":
        run = RunDirectory(uri, storage_options(settings))
        home.say(f"{options.pipeline}: the night failed: {_reasons(run)}")
    return 0 if state == "success" else 1


class _Interrupted(Exception):
    """Somebody wants the night to end."""


def _guard(pipeline: str, arguments: list[str]) -> int:
    """Run the night in a process of its own, and end it with everything it started when told to.

    Airflow takes an interrupt for a failed task, which it tries again. So the night is in a session
    that the terminal does not reach, and it kills itself; the reapers of its stages tidy up.
    """
    running = stack_file.occupy({"night": pipeline})
    if running is not None:
        home.say(stack_file.in_words(running, f"trigger {pipeline}"))
        return EX_USAGE
    reaper.adopt_orphans()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _raise_interrupted)
    command = [sys.executable, "-m", "trusted_retraining.local.night", "--inside", *arguments]
    try:
        # its standard input is our lifeline to it
        with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as night:  # noqa: S603
            try:
                return night.wait()
            except _Interrupted:
                _end(night)
                reaper.end_the_rest(GRACE_SECONDS)
    except _Interrupted:
        pass
    finally:
        stack_file.release()
    home.say(
        f"{pipeline}: interrupted; everything it had started has ended. The next night reuses the "
        "stages that were done"
    )
    return 128 + signal.SIGINT


def _end(night: "subprocess.Popen[bytes]") -> None:
    if night.stdin is not None:
        night.stdin.close()
    try:
        night.wait(TAKE_BACK_SECONDS)
    except subprocess.TimeoutExpired:
        night.kill()


def _raise_interrupted(*_: object) -> None:
    # once: an impatient second Ctrl-C must not leave half of it running
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    raise _Interrupted


def _hold_on_to_life() -> None:
    """End this process as soon as the one that guards it lets go of it, or has ended, kill -9
    included; a canary that nobody will prove any more is taken back first."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        try:
            _take_back()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _take_back() -> None:
    # only where a deployment can be under way it has been imported, with Airflow
    module = sys.modules.get("trusted_retraining.operators.deploy")
    for attempt in list(module.UNDER_WAY) if module is not None else []:
        home.say(f"deploy: {attempt.roll_back()}")


def _reasons(run: RunDirectory) -> str:
    failures = [(stage, run.read_failure(stage)) for stage in stages_of(run)]
    reasons = [f"{stage}: {failure.reason}" for stage, failure in failures if failure]
    return "; ".join(reasons) or "its stages' lines are above"


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
    from trusted_retraining.pipelines import read_pipelines

    pipelines, errors = read_pipelines(folder)
    for pipeline in pipelines.values():
        if pipeline.name == name:
            return pipeline
    known = ", ".join(pipeline.name for pipeline in pipelines.values())
    told = "\n".join(errors).splitlines()
    raise SpecError(*told, f"{name}: no such pipeline in {folder}; there is {known}")


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    try:
        words = shlex.split(options.settings)
    except ValueError as error:
        raise SpecError(f"SET={options.settings}: {error}; quote values as in a shell") from error
    overrides = parse_overrides([*words, *options.set])
    if options.source:
        path = Path(options.source).expanduser()
        if "://" not in options.source and not path.exists():
            raise SpecError(
                f"SOURCE={options.source}: no such file or folder (looked for {path.absolute()}); "
                "give the path of one, or an address such as https://... or s3://..."
            )
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
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": f"{STAGE_LOGGERS}=INFO {GATE_LOGGER}=WARNING",
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
    # the night itself, under the guard of the process that was typed
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help="compute what could be reused")
    return parser


if __name__ == "__main__":
    sys.exit(main())
