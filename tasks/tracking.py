"""What every stage leaves in MLflow: one run per night, whoever asks for it and however often.

The run is found by its tag ``trusted_retraining.run_uri``. A stage is logged after its manifest
stands, so a stage that MLflow keeps from finishing is only logged by its retry, never recomputed.
"""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tasks import tracking_records as records
from tasks.contract import STAGES, Manifest, RunDirectory, StageError, stages_of
from tasks.environment import Environment
from tasks.spec import Pipeline
from tasks.spec.masking import masked_deep, without_credentials
from tasks.storage import InputCache

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger("tasks")

RUN_URI_TAG = "trusted_retraining.run_uri"
"""Tag that ties an MLflow run to a run directory."""

T = TypeVar("T")


def log_stage(
    manifest: Manifest,
    *,
    pipeline: Pipeline,
    run: RunDirectory,
    environment: Environment,
    cache: InputCache | None = None,
) -> None:
    """Log a committed stage into the night's MLflow run: metrics, figures, data set, tags.

    Reused results are logged too, so that tonight's run is whole by itself. Logging the same result
    again changes nothing. The stage ``report`` also closes the run: ``FINISHED``, or ``FAILED``
    when a stage failed or no verdict was given.

    Parameters
    ----------
    manifest : Manifest
        As committed.
    pipeline : Pipeline
        The night's pipeline, overrides applied.
    run : RunDirectory
        The night's run directory.
    environment : Environment
        Its ``mlflow_uri`` is where to log; empty means nowhere.
    cache : InputCache, optional
        Has the outputs of a remote run that this process knows already.

    Raises
    ------
    StageError
        MLflow cannot be reached or refuses; worth a retry.
    """
    if not environment.mlflow_uri:
        return
    with mlflow_client(environment) as client:
        run_id = _find_or_create(client, pipeline=pipeline, run=run, environment=environment)
        mlflow_run = patiently(lambda: client.get_run(run_id))
        mark = f"{manifest.fingerprint[:16]}.{manifest.digest[:16]}"
        if mlflow_run.data.tags.get(f"logged.{manifest.stage}") != mark:
            outputs = cache or InputCache(storage_options=run.storage_options)
            _log_contents(client, mlflow_run, manifest, pipeline, run, outputs)
            # last, so that a killed attempt is logged again as a whole
            patiently(lambda: client.set_tag(run_id, f"logged.{manifest.stage}", mark))
        # A run that has ended stays so: of a stage that is cleared and run once more nobody would
        # close it again, and one that is being ended may still come to this line.
        if manifest.stage == "report":
            _close(client, mlflow_run, run)


def close_run(run: RunDirectory, environment: Environment) -> None:
    """Close a night's MLflow run if it is open: its DAG run has ended.

    Parameters
    ----------
    run : RunDirectory
        The night's run directory; one that was never logged has nothing to close.
    environment : Environment
        Its ``mlflow_uri`` is where it was logged.

    Raises
    ------
    StageError
        MLflow cannot be reached or refuses.
    """
    note = run.read_json("mlflow.json")
    if not environment.mlflow_uri or not isinstance(note, dict):
        return
    with mlflow_client(environment) as client:
        mlflow_run = patiently(lambda: client.get_run(str(note.get("run_id"))))
        if mlflow_run.info.status == "RUNNING":
            _close(client, mlflow_run, run)


def find_or_create_run(*, pipeline: Pipeline, run: RunDirectory, environment: Environment) -> str:
    """Return the id of the night's MLflow run; there is never a second one.

    Raises
    ------
    StageError
        MLflow cannot be reached or refuses; worth a retry.
    """
    with mlflow_client(environment) as client:
        return _find_or_create(client, pipeline=pipeline, run=run, environment=environment)


def create_run_by_hand(environment: Environment, *, experiment: str, name: str) -> str:
    """Return the id of a new MLflow run for what a person does outside of the pipeline's runs.

    Raises
    ------
    StageError
        MLflow cannot be reached or refuses.
    """
    with mlflow_client(environment) as client:
        created = client.create_run(_experiment(client, experiment, environment), run_name=name)
        client.set_terminated(created.info.run_id)
        return str(created.info.run_id)


@contextmanager
def mlflow_client(environment: Environment) -> Iterator["MlflowClient"]:
    """Yield a client of tracking and registry; what goes wrong with MLflow becomes a StageError."""
    # a night must learn within seconds that MLflow is away, as the stage is retried anyway
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    # closed networks: no usage statistics, no progress bars in a log of lines
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uri = environment.mlflow_uri
    try:
        with _tables_made_once(uri):
            client = patiently(lambda: MlflowClient(tracking_uri=uri, registry_uri=uri))
        yield client
    except _mlflow_errors() as error:
        # MLflow's own variable holds the address, so its password is among what is looked for
        text = without_credentials(str(error)).strip() or type(error).__name__
        first = text.splitlines()[0][:300]
        raise StageError(
            f"MLflow at {without_credentials(uri)} failed: {first}; committed results stand, "
            "a retry only logs them"
        ) from error


@contextmanager
def _tables_made_once(uri: str) -> Iterator[None]:
    """Keep a second process out while a client makes the tables of a new SQLite store: its
    migrations do not expect anybody beside them."""
    path = uri.removeprefix("sqlite:///")
    if path == uri or not Path(path).parent.is_dir():
        yield
        return
    with Path(f"{path}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _find_or_create(
    client: "MlflowClient", *, pipeline: Pipeline, run: RunDirectory, environment: Environment
) -> str:
    experiment_id = _experiment(client, pipeline.name, environment)
    run_id = _oldest(client, experiment_id, run.uri)
    if run_id is None:
        with _only_one(run):
            run_id = _oldest(client, experiment_id, run.uri)
            if run_id is None:
                run_id = _create(client, experiment_id, pipeline, run, environment)
    known = run.read_json("mlflow.json")
    document = {
        "tracking_uri": without_credentials(environment.mlflow_uri),
        "experiment_id": experiment_id,
        "run_id": run_id,
    }
    if known != document:
        run.write_json("mlflow.json", document)
    return run_id


def _create(
    client: "MlflowClient",
    experiment_id: str,
    pipeline: Pipeline,
    run: RunDirectory,
    environment: Environment,
) -> str:
    tags = {
        # in the creating call itself: a run without this tag could never be found again
        RUN_URI_TAG: run.uri,
        "trusted_retraining.pipeline": pipeline.name,
        "trusted_retraining.run_id": run.run_id,
        "mlflow.source.name": "trusted-retraining",
        "mlflow.note.content": pipeline.description,
    }
    if environment.code_revision:
        tags["mlflow.source.git.commit"] = environment.code_revision
    created = client.create_run(experiment_id, tags=tags, run_name=run.run_id)
    run_id: str = created.info.run_id
    # pods on other machines do not share our lock: whoever is not the oldest withdraws
    oldest = _oldest(client, experiment_id, run.uri) or run_id
    if oldest != run_id:
        client.delete_run(run_id)
    return oldest


def _oldest(client: "MlflowClient", experiment_id: str, uri: str) -> str | None:
    # MLflow's filters know both quotes but no way to escape one
    quote = '"' if "'" in uri else "'"
    found = patiently(
        lambda: client.search_runs(
            [experiment_id], f"tags.`{RUN_URI_TAG}` = {quote}{uri}{quote}", max_results=100
        )
    )
    runs = sorted(found, key=lambda each: (each.info.start_time, each.info.run_id))
    return str(runs[0].info.run_id) if runs else None


@contextmanager
def _only_one(run: RunDirectory) -> Iterator[None]:
    """Let one process of this machine at a time create the run; a kill frees the lock."""
    if not run.is_local:
        yield
        return
    path = Path(run.path) / ".mlflow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _experiment(client: "MlflowClient", name: str, environment: Environment) -> str:
    from mlflow.exceptions import MlflowException

    experiment = patiently(lambda: client.get_experiment_by_name(name))
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifacts(environment)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            # another stage was quicker
            experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _artifacts(environment: Environment) -> str | None:
    """Return where a new experiment keeps its files; None leaves it to the tracking server."""
    if environment.mlflow_artifacts:
        return environment.mlflow_artifacts
    if environment.mlflow_uri.startswith("sqlite:///"):
        # MLflow's own default is ./mlruns of whichever process comes first
        database = Path(environment.mlflow_uri.removeprefix("sqlite:///"))
        return str(database.absolute().parent / "mlflow-artifacts")
    return None


def _log_contents(
    client: "MlflowClient",
    mlflow_run: "Run",
    manifest: Manifest,
    pipeline: Pipeline,
    run: RunDirectory,
    cache: InputCache,
) -> None:
    run_id, logged = mlflow_run.info.run_id, mlflow_run.data.params
    params = records.parameters(pipeline)
    changed = sorted(name for name in params if name in logged and logged[name] != params[name])
    new = {name: value for name, value in params.items() if name not in logged}
    tags = records.stage_tags(manifest, run)
    if changed:
        # a parameter cannot be overwritten; pipeline.json beside it tells the present value
        tags["trusted_retraining.changed_params"] = ", ".join(changed)
    for batch in records.batches(
        params=new, metrics=records.stage_metrics(manifest, cache), tags=tags
    ):
        patiently(lambda batch=batch: client.log_batch(run_id, **batch))  # type: ignore[misc]
    if manifest.stage == "arrange":
        dataset = records.dataset_input(manifest, pipeline)
        patiently(lambda: client.log_inputs(run_id, datasets=[dataset]))
    if f"failed.{manifest.stage}" in mlflow_run.data.tags:
        client.delete_tag(run_id, f"failed.{manifest.stage}")
    for file in records.artifact_files(manifest, cache):
        patiently(
            lambda file=file: client.log_artifact(run_id, str(file), manifest.stage)  # type: ignore[misc]
        )
    client.log_text(run_id, manifest.model_dump_json(indent=1), f"{manifest.stage}/manifest.json")
    if manifest.stage == STAGES[0] or changed:
        stored = masked_deep(run.read_json("pipeline.json") or {})
        client.log_dict(run_id, stored, "pipeline.json")


def _close(client: "MlflowClient", mlflow_run: "Run", run: RunDirectory) -> None:
    run_id = mlflow_run.info.run_id
    failures = {
        stage: failure
        for stage in stages_of(run)
        if run.read_manifest(stage) is None and (failure := run.read_failure(stage)) is not None
    }
    for stage, failure in failures.items():
        reason = f"exit {failure.exit_code}: {failure.reason}"
        patiently(
            lambda stage=stage, reason=reason: client.set_tag(  # type: ignore[misc]
                run_id, f"failed.{stage}", reason[: records.TAG_LENGTH]
            )
        )
    verdict = run.read_verdict()
    ended = any(run.read_manifest(stage) for stage in ("deploy", "reject"))
    status = "FAILED" if failures or verdict is None or not ended else "FINISHED"
    blessed = verdict is not None and verdict.may_serve
    patiently(lambda: client.set_tag(run_id, "blessed", str(blessed).lower()))
    if mlflow_run.info.status != status:
        patiently(lambda: client.set_terminated(run_id, status))


def patiently(call: Callable[[], T], *, attempts: int = 4) -> T:
    """Call MLflow again after a short wait: SQLite is busy at times, a server restarts.

    Only for calls that may be repeated without harm.
    """
    errors = _mlflow_errors()
    for attempt in range(attempts):
        try:
            return call()
        except errors as error:
            refused = getattr(error, "error_code", "") in (
                "INVALID_PARAMETER_VALUE",
                "RESOURCE_DOES_NOT_EXIST",
                "PERMISSION_DENIED",
                "UNAUTHENTICATED",
            )
            if refused or attempt == attempts - 1:
                raise
            time.sleep(0.25 * 3**attempt)
    raise AssertionError("unreachable")


def _mlflow_errors() -> tuple[type[Exception], ...]:
    """Return what MLflow's calls raise; a damaged SQLite file shows as SQLAlchemy's own error."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, OSError, SQLAlchemyError
