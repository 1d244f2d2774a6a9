"""The stage ``reject``."""

import json
import logging
from typing import Any

from tasks import registry
from tasks.contract import Champion, Verdict, write_atomically
from tasks.environment import Environment
from tasks.gate import history
from tasks.registry_history import once_champion
from tasks.registry_trained_on import version_tags
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

log = logging.getLogger("tasks")


class Reject(Stage):
    """Tags the version that is not deployed, says why, and leaves the champion in service.

    A missing or unreadable verdict is a refusal too.
    """

    name = "reject"
    optional_reads = ("bless",)
    produces = {"rejection.json": "which version was refused, why, and who goes on serving"}
    reusable = False

    def config(self, pipeline: Pipeline) -> Any:
        return pipeline.model_name

    def run(self, context: StageContext) -> Outcome:
        environment, name = context.environment, context.pipeline.model_name
        verdict = context.run.read_verdict_in_force()
        reasons, version = _reasons(context), None
        if verdict is not None:
            version = verdict.model.version
        champion = registry.champion_identity(environment, name)
        if champion is None and verdict is not None and verdict.champion is not None:
            # without a registry the verdict has it from what serves
            champion = Champion(verdict.champion.version or "", verdict.champion.digest)
        # where the alias was lost, the version that had it last keeps what it earned it with
        kept = champion or once_champion(environment, name)
        is_champion = verdict is not None and _is(verdict, kept)
        word = verdict.word if verdict is not None and not verdict.may_serve else "rejected"
        if verdict is not None and not is_champion and _is_registered(environment, verdict):
            tags = {"verdict": word, "reasons": "\n".join(reasons)[:2000]}
            registry.tag(environment, name, str(version), tags)
        if verdict is not None and verdict.may_serve:
            # what bless has kept says that nothing stood against the model
            said = history.entry_of(verdict, context.run, reasons=[])
            verdict = verdict.model_copy(update={"earlier": [*verdict.earlier, said]})
            entry = history.entry_of(verdict, context.run, reasons=reasons)
            history.keep(environment, context.run, verdict=verdict, entry=entry)
        document = {
            "model": {"name": name, "version": version},
            "verdict": word,
            "reasons": reasons,
            "champion": champion._asdict() if champion else None,
        }
        write_atomically(context.out / "rejection.json", json.dumps(document, indent=1))
        log.info("%s version %s: %s:", name, version or "(not registered)", word)
        for reason in reasons:
            log.info("  %s", reason)
        log.info(
            "%s",
            f"champion stays version {champion.version}"
            if champion
            else "what served before goes on serving",
        )
        return Outcome(metrics={"reasons": float(len(reasons))})


def _is(verdict: Verdict, champion: Champion | None) -> bool:
    """Return whether a verdict is on the champion; of one without a digest the number decides."""
    if champion is None or not champion.digest:
        return champion is not None and champion.version == verdict.model.version
    return champion.digest == verdict.model.digest


def _is_registered(environment: Environment, verdict: Verdict) -> bool:
    """Return whether the registry has the version that was judged: one that was made anew gives
    its number to another model."""
    model = verdict.model
    if model.version is None or not environment.mlflow_uri:
        return False
    tags = version_tags(environment, model.name, model.version)
    return bool(model.digest) and tags.get("digest") == model.digest


def _reasons(context: StageContext) -> list[str]:
    verdict = context.run.read_verdict_in_force()
    if verdict is not None:
        return verdict.reasons or [verdict.refusal or "deployment was not approved"]
    failure = context.run.read_failure("bless")
    if failure is not None:
        return [f"bless failed: exit {failure.exit_code}: {failure.reason}"]
    return ["bless committed no readable verdict"]


STAGE = Reject()
