"""Runs one stage under the contract: reuse or compute, commit by manifest, record a failure."""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tasks import tracking
from tasks.contract import (
    Altered,
    Failure,
    Manifest,
    RunDirectory,
    StageError,
    begun,
    describe_outputs,
    fingerprint,
    now,
    sha256_text,
)
from tasks.environment import Environment
from tasks.native_log import import_tensorflow
from tasks.spec import Pipeline
from tasks.spec.masking import masked_deep, without_credentials
from tasks.spec.overrides import changes_from_all
from tasks.stages.base import Outcome, Stage, StageContext
from tasks.stages.extra import Extra
from tasks.storage import InputCache, Mirror, Workspace, store_outputs

log = logging.getLogger("tasks")

Reuse = Literal["all", "own", "none"]

REASON_LENGTH = 2000
"""Characters of a failure's reason that are kept; it travels into verdict, report and tags."""


def run_stage(
    stage: Stage,
    *,
    pipeline: Pipeline,
    run: RunDirectory,
    environment: Environment,
    reuse: Reuse = "all",
    file: Pipeline | None = None,
    requested_by: str = "",
    judged: str = "",
) -> Manifest:
    """Run a stage to its manifest, or take over an equal result of an earlier run.

    Parameters
    ----------
    stage : Stage
        The stage.
    pipeline : Pipeline
        The night's pipeline, overrides applied.
    run : RunDirectory
        Where inputs are read and outputs are written.
    environment : Environment
        Addresses and folders outside the run.
    reuse : {"all", "own", "none"}
        Which equal results are taken over: of any run, only what this very run has computed (a
        retry of a run that was told to compute everything), or none.
    file : Pipeline, optional
        The pipeline as in its file; left out: nothing of it was changed.
    requested_by : str
        Who triggered the run; empty when the schedule or new data did.
    judged : str
        Digest of what ``bless`` committed, where its task vouches for it.

    Returns
    -------
    Manifest
        As committed.

    Raises
    ------
    StageError
        The stage cannot go on; a failure record has been written.
    """
    started = time.perf_counter()
    with stage_context(
        stage,
        pipeline=pipeline,
        run=run,
        environment=environment,
        file=file,
        requested_by=requested_by,
    ) as context:
        context.judged = judged
        return _committed(stage, context, reuse=reuse, started=started)


def fetch_for(
    stage: Extra,
    *,
    pipeline: Pipeline,
    run: RunDirectory,
    environment: Environment,
    file: Pipeline | None = None,
    requested_by: str = "",
) -> None:
    """Make everything ready for the foreign container of an extra stage, in its pod.

    Parameters
    ----------
    stage : Extra
        With the pod's volume.
    pipeline, run, environment, file, requested_by : Pipeline, RunDirectory, Environment, ...
        As for :func:`run_stage`.

    Raises
    ------
    StageError
        An input is missing; a failure record has been written.
    """
    started = time.perf_counter()
    with stage_context(
        stage,
        pipeline=pipeline,
        run=run,
        environment=environment,
        file=file,
        requested_by=requested_by,
    ) as context:
        try:
            stage.fetch(context)
        except Exception as error:
            _record(stage.name, run, error, time.perf_counter() - started)
            raise


@contextmanager
def stage_context(
    stage: Stage,
    *,
    pipeline: Pipeline,
    run: RunDirectory,
    environment: Environment,
    file: Pipeline | None = None,
    requested_by: str = "",
) -> Iterator[StageContext]:
    """Yield what a stage is given; the run knows its pipeline from then on."""
    started_from = begun(run, file or pipeline, requested_by=requested_by)
    # what is refused today may stand in a pipeline that was made otherwise
    document = masked_deep(json.loads(pipeline.to_json()))
    if run.read_json("pipeline.json") != document:
        run.write_json("pipeline.json", document)
    with Workspace(environment.scratch) as workspace:
        here = Path(run.path) if run.is_local else workspace.folder / "outputs"
        yield StageContext(
            pipeline=pipeline,
            run=run,
            out=here / stage.name,
            environment=environment,
            # by an old file and by new words nobody gets round the file of today, or of the start
            changes=changes_from_all([started_from, file or pipeline], pipeline),
            requested_by=requested_by,
            cache=InputCache(workspace, run.storage_options),
        )


def _committed(stage: Stage, context: StageContext, *, reuse: Reuse, started: float) -> Manifest:
    """Run a stage to its manifest; whatever keeps it from that is recorded."""
    pipeline, run, environment = context.pipeline, context.run, context.environment
    committed, before = False, None
    try:
        before = run.read_manifest(stage.name)
        manifest = _reuse_or_compute(stage, context, before, reuse)
        committed = True
        stage.after_commit(context)
        tracking.log_stage(
            manifest, pipeline=pipeline, run=run, environment=environment, cache=context.cache
        )
    except Exception as error:
        overtaken = not committed and not _withdraw(stage.name, run, before)
        if isinstance(error, Altered) and error.stage:
            _drop(error.stage, run, error)
        if not overtaken:
            _record(stage.name, run, error, time.perf_counter() - started)
        raise
    return manifest


def _withdraw(stage: str, run: RunDirectory, before: Manifest | None) -> bool:
    """Undo the commit that stood when this attempt began: it must not be used in place of a result
    that could not be had again. What was committed since is not ours to undo, nor to speak ill of:
    a pod that was given up for lost may end after the one that took its place. No clock is asked,
    which may be wrong. Returns whether the result is still this attempt's business."""
    try:
        found = run.read_manifest(stage)
        if found is None or found == before:
            # None: this very attempt has withdrawn it, to compute it again
            run.retract(stage)
            return True
    except StageError as error:
        log.warning("%s: what an earlier attempt committed could not be undone: %s", stage, error)
        return True
    log.warning("%s: another attempt has committed its result meanwhile, which stands", stage)
    return False


def _drop(stage: str, run: RunDirectory, error: Altered) -> None:
    """Withdraw a result that was found altered, from the run and from the cache: the next attempt
    at that stage, in this run or another, computes it again."""
    try:
        manifest = run.read_manifest(stage)
        if manifest is not None:
            for fingerprinted in {manifest.fingerprint, *manifest.made_for}:
                run.forget(fingerprinted)
        run.retract(stage)
        log.warning("%s: its result is withdrawn; its next attempt computes it again", stage)
    except StageError as undone:
        log.warning("%s: its altered result could not be withdrawn: %s", stage, undone)
    _record(stage, run, error, 0.0)


def _record(stage: str, run: RunDirectory, error: Exception, seconds: float) -> None:
    """Record why a stage failed; a store that cannot take it must not hide the reason itself."""
    exit_code = error.exit_code if isinstance(error, StageError) else 1
    reason = str(error) if isinstance(error, StageError) else f"{type(error).__name__}: {error}"
    reason = " ".join(without_credentials(reason).split())[:REASON_LENGTH]
    failure = Failure(
        stage=stage, exit_code=exit_code, reason=reason, seconds=round(seconds, 3), at=now()
    )
    try:
        run.write_failure(failure)
    except StageError as unwritten:
        log.warning("%s: the failure could not be recorded: %s", stage, unwritten)


def _reuse_or_compute(
    stage: Stage, context: StageContext, committed: Manifest | None, reuse: Reuse
) -> Manifest:
    pipeline, run = context.pipeline, context.run
    read = {name: context.input(name).manifest for name in stage.reads}
    for name in stage.also_reads(pipeline):
        manifest = run.read_manifest(name)
        if manifest is not None:
            read[name] = context.read[name] = manifest
    settings, code = stage.config(pipeline), stage.code_version()
    files = {name: manifest.outputs_digest for name, manifest in read.items()}

    def key(state: str) -> str:
        return fingerprint(
            stage=stage.name, config=settings, inputs=files, code=code, state=_mark(state)
        )

    state = stage.state(context)
    wanted = key(state)
    tonight: dict[str, Any] = {
        "fingerprint": wanted,
        "state": _mark(state),
        "inputs": {name: manifest.digest for name, manifest in read.items()},
    }
    if committed is not None and _may_keep(stage, committed, wanted, reuse):
        if run.stands(committed):
            log.info("%s: committed in this run already", stage.name)
            renewed = committed.model_copy(update=tonight).sealed()
            if renewed != committed:
                # an input says something else of the same files
                run.write_manifest(renewed)
            run.forgive(stage.name)
            return renewed
        log.warning("%s: what this run committed is gone or altered, so it is computed", stage.name)
    if stage.reusable and reuse == "all":
        reused = run.cached(wanted)
        if reused is not None:
            log.info("%s: reused from %s", stage.name, reused.location)
            origin = {"reused_from": reused.reused_from or _run_of(reused)}
            reused = reused.model_copy(update=tonight | origin).sealed()
            run.write_manifest(reused)
            return reused
    # the manifest is stored and travels as XCom; the fingerprint is of the settings as they are
    shown = masked_deep(json.loads(json.dumps(settings, default=str)))
    made_of = tonight | {"code_version": code, "settings": shown}
    manifest = _compute(stage, context, made_of, key)
    if stage.reusable:
        try:
            for fingerprinted in manifest.made_for:
                run.remember(fingerprinted, manifest)
        except StageError as error:
            # the result is committed; another night will have to compute it again
            log.warning("%s: other nights will not find the result: %s", stage.name, error)
    return manifest


def _mark(state: str) -> str:
    """Return what is kept of a state, which may be long or say more than a manifest should."""
    return sha256_text(state) if state else ""


def _may_keep(stage: Stage, committed: Manifest, wanted: str, reuse: Reuse) -> bool:
    """Return whether a retry after the commit has nothing left to do."""
    own = committed.reused_from is None
    allowed = reuse == "all" or (reuse == "own" and own)
    allowed = allowed and committed.is_evidence
    # its own fingerprint is not covered by its digest
    return allowed and stage.reusable and wanted in committed.made_for


def _compute(
    stage: Stage, context: StageContext, made_of: dict[str, Any], key: Callable[[str], str]
) -> Manifest:
    started_at, started = now(), time.perf_counter()
    context.run.retract(stage.name)
    _clear(context.out, keep=stage.scratch)
    if stage.uses_tensorflow:
        import_tensorflow()
    run, mirrored = context.run, () if context.run.is_local else stage.mirrored
    with Mirror(run, stage.name, context.out, mirrored) as mirror:
        outcome = stage.run(context)
    equivalent = stage.equivalent_states(context) if stage.reusable else []
    for name in stage.scratch:
        shutil.rmtree(context.out / name, ignore_errors=True)
    outputs = describe_outputs(context.out)
    if not run.is_local:
        store_outputs(run, stage.name, context.out, outputs)
    manifest = Manifest(
        stage=stage.name,
        location=run.stage_uri(stage.name),
        outputs=outputs,
        metrics=_prefixed(stage.name, outcome),
        notes={f"{stage.name}.{name}": note for name, note in outcome.notes.items()},
        warnings=outcome.warnings,
        rows_in=outcome.rows_in,
        rows_out=outcome.rows_out,
        seconds=round(outcome.seconds or time.perf_counter() - started, 3),
        started_at=started_at,
        addresses=outcome.addresses,
        made_for=list(dict.fromkeys([made_of["fingerprint"], *map(key, equivalent)])),
        **made_of,
    ).sealed()
    run.write_manifest(manifest)
    context.cache.keep(manifest, context.out)
    mirror.forget()
    return manifest


def _clear(folder: Path, *, keep: tuple[str, ...]) -> None:
    """Remove what a killed attempt left, so that no half-written file is taken for an output."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.name in keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _prefixed(stage: str, outcome: Outcome) -> dict[str, float]:
    return {
        f"{stage}.{name}": float(value)
        for name, value in outcome.metrics.items()
        if math.isfinite(value)
    }


def _run_of(manifest: Manifest) -> str:
    return manifest.location.rsplit("/", 1)[0]
