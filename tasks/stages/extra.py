"""A stage that somebody else wrote: any command here, any container in a pod."""

import hashlib
import logging
import shutil
import time
from pathlib import Path
from typing import Any

from tasks.contract import EXTRA_PROTOCOL, Manifest, StageError, extra_fingerprint, sha256_file
from tasks.extra import Exchange, give_inputs, read_metrics, run_command, take_outputs
from tasks.spec import ExtraStage, Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

log = logging.getLogger("tasks")

_EXCHANGE = ".exchange"


class Extra(Stage):
    """Run a program that is not ours under the contract of our own stages.

    It is given the outputs of the stages that it comes after in one folder, and leaves its own in
    another, with its metrics in ``metrics.json``. In a pod the program is a container of its own:
    ``fetch`` runs before it and ``commit`` after it, the latter only if it ended with exit code 0.

    Parameters
    ----------
    extra : ExtraStage
        As in the pipeline file.
    exchange : Path, optional
        Volume of the pod that holds the two folders; on one machine there is none.
    """

    produces = {"metrics.json": "its metrics, one object of names and numbers", "...": "its own"}

    def __init__(self, extra: ExtraStage, *, exchange: Path | None = None) -> None:
        self.extra = extra
        self.name = extra.name
        self.reads = tuple(extra.after)
        self.reusable = extra.reuse
        self.exchange = Exchange(exchange) if exchange is not None else None

    def config(self, pipeline: Pipeline) -> Any:
        """Return the fields that determine the result."""
        return self.extra.determinants()

    def code_version(self) -> str:
        """Return the version of the protocol: the code is the image's own."""
        return EXTRA_PROTOCOL

    def state(self, context: StageContext) -> str:
        """Return the digest of the files that the command names; a pod's are in its image."""
        if self.exchange is not None:
            return ""
        digest = hashlib.sha256()
        for word in self.extra.command:
            path = Path(word)
            if path.is_file():
                digest.update(f"{word} {sha256_file(path)}\n".encode())
        return digest.hexdigest()

    def run(self, context: StageContext) -> Outcome:
        """Run the program and take what it left; in a pod, only the latter."""
        if self.exchange is not None:
            return self._commit(context, self.exchange)
        exchange = Exchange(context.out / _EXCHANGE)
        try:
            exchange.clear()
            self._give(context, exchange)
            run_command(self.extra, exchange, pipeline=context.pipeline, run_id=context.run.run_id)
            return self._take(context, exchange, move=True)
        finally:
            shutil.rmtree(exchange.folder, ignore_errors=True)

    def fetch(self, context: StageContext) -> None:
        """Make the volume ready for the program.

        Raises
        ------
        StageError
            An input is missing, or there is no volume.
        """
        exchange = self._volume()
        started = time.time()
        # whatever an earlier attempt committed must not stand for a program that fails now
        context.run.retract(self.name)
        exchange.clear(shared=True)
        given = self._give(context, exchange)
        exchange.write_record({"fingerprint": self._fingerprint(context), "started": started})
        log.info("%s: %d outputs of %s are ready", self.name, given, ", ".join(self.reads))

    def _commit(self, context: StageContext, exchange: Exchange) -> Outcome:
        record = exchange.read_record()
        if record.get("fingerprint") != self._fingerprint(context):
            raise StageError(f"{self.name}: its inputs have changed while it ran; run it again")
        outcome = self._take(context, exchange, move=False)
        started = record.get("started")
        if isinstance(started, int | float):
            outcome.seconds = max(0.0, time.time() - started)
        return outcome

    def _give(self, context: StageContext, exchange: Exchange) -> int:
        return give_inputs(
            self.extra,
            pipeline=context.pipeline,
            manifests=self._manifests(context),
            locate=lambda stage, name: context.input(stage).path(name),
            target=exchange.inputs,
            # what was fetched from a store is this process's own
            copy=context.run.is_local,
        )

    def _take(self, context: StageContext, exchange: Exchange, *, move: bool) -> Outcome:
        warnings = take_outputs(exchange.outputs, context.out, stage=self.name, move=move)
        metrics, more = read_metrics(context.out, stage=self.name)
        log.info("%s: left %d metrics", self.name, len(metrics))
        return Outcome(metrics=metrics, warnings=[*warnings, *more])

    def _manifests(self, context: StageContext) -> dict[str, Manifest]:
        return {name: context.input(name).manifest for name in self.reads}

    def _fingerprint(self, context: StageContext) -> str:
        inputs = {
            name: manifest.outputs_digest for name, manifest in self._manifests(context).items()
        }
        return extra_fingerprint(self.extra, inputs)

    def _volume(self) -> Exchange:
        if self.exchange is None:
            raise StageError(f"{self.name}: there is no volume to fetch into")
        return self.exchange


class Reused(Extra):
    """An extra stage whose result is known to be there already: no container of it is started."""

    def run(self, context: StageContext) -> Outcome:
        """Refuse: there is nothing to compute it with."""
        raise StageError(
            f"{self.name}: the earlier result that was to be taken over is gone; a retry "
            "computes it"
        )

    def state(self, context: StageContext) -> str:
        """Return nothing: it was computed in a pod."""
        return ""
