"""The stage ``deploy``."""

import json
import logging
from dataclasses import asdict
from typing import Any

from tasks import registry
from tasks.contract import (
    CHAMPION,
    LAST_CHAMPION,
    Champion,
    RegistryEntry,
    check_champion,
    return_champion,
    write_atomically,
)
from tasks.data.trained_on import TRAINED_ON
from tasks.registry_history import OwnRegistry
from tasks.serving.champion_log import note_champion, noted_champion
from tasks.serving.deployment import Deployment, deploy
from tasks.serving.limits import limits_of
from tasks.spec import Pipeline
from tasks.spec.masking import masked
from tasks.stages.base import Outcome, Stage, StageContext
from tasks.stages.blessed import blessed_verdict, known_answers, version_of
from tasks.stages.champion_trained_on import keep_beside_served
from tasks.stages.who_serves import records_here

log = logging.getLogger("tasks")


class Deploy(Stage):
    """Puts the blessed model into service on this machine, and moves the alias ``champion`` last.

    The version is copied beside the old one, a model server is started on it and asked for known
    answers that must equal the offline predictions; only then it takes over. On any failure the old
    version goes on serving. A model that serves already costs nothing.
    """

    name = "deploy"
    reads = ("bless", "train", "evaluate", "arrange")
    produces = {"deployment.json": "what serves now, what served before, how it was checked"}
    reusable = False

    def config(self, pipeline: Pipeline) -> Any:
        return [pipeline.deploy.model_dump(mode="json"), pipeline.model_name]

    def run(self, context: StageContext) -> Outcome:
        verdict = blessed_verdict(context)
        pipeline, environment = context.pipeline, context.environment
        model, version = verdict.model, version_of(verdict)
        champion, folder = Champion(version, model.digest), environment.serving_root / model.name
        arranged = context.input("arrange")
        has_record = arranged.has(TRAINED_ON)

        def champion_digest() -> str:
            records = records_here(environment, model.name)
            check_champion(verdict, records)
            if not records.has_registry:
                # without a registry the pointer alone says who serves
                return model.digest
            return records.registry.digest if records.registry else ""

        def note() -> None:
            reason = "blessed and deployed"
            whose = {"run_uri": context.run.uri, "pipeline": pipeline.name}
            note_champion(folder, champion, by="deploy", reason=reason, **whose)

        def set_champion() -> None:
            if model.version:
                registry.set_alias(environment, model.name, CHAMPION, model.version)
            # last: a line that is written stays
            note()

        def registry_before() -> dict[str, Any]:
            if not model.version:
                return {}
            entry = OwnRegistry(environment).entry(model.name)
            return {CHAMPION: entry.alias, LAST_CHAMPION: entry.last}

        def champion_back(before: dict[str, Any]) -> None:
            if before:
                entry = RegistryEntry(before.get(CHAMPION), before.get(LAST_CHAMPION))
                return_champion(OwnRegistry(environment), model.name, champion, entry)

        deployed = deploy(
            Deployment(
                model=model.name,
                version=version,
                digest=model.digest,
                source=context.input("train").path("model/"),
                root=environment.serving_root,
                python=environment.serving_python,
                server_url=environment.server_url,
                tolerance=pipeline.deploy.tolerance,
                startup_seconds=pipeline.deploy.startup_seconds,
                limits=limits_of(pipeline.deploy),
                known_answers=lambda: known_answers(context),
                champion_digest=champion_digest,
                set_champion=set_champion,
                registry_before=registry_before,
                return_champion=champion_back,
                trained_on=arranged.manifest.output(TRAINED_ON).sha256 if has_record else "",
            )
        )
        noted = noted_champion(folder)
        if noted is None or noted.digest not in (model.digest, deployed.pointer.digest):
            # an earlier attempt was killed before it could
            note()
        if has_record:
            keep_beside_served(arranged.path(TRAINED_ON), folder, deployed.pointer)
        document = {
            "model": model.model_dump(),
            "alias": CHAMPION,
            "folder": str(folder / deployed.pointer.path),
            "server_url": masked(environment.server_url),
            "already_serving": deployed.already,
            "previous": asdict(deployed.previous) if deployed.previous else None,
            "known_answers": deployed.answers,
            "largest_difference": deployed.difference,
        }
        write_atomically(context.out / "deployment.json", json.dumps(document, indent=1))
        log.info("%s version %s is the champion", model.name, version)
        return Outcome(
            metrics={
                "known_answers": deployed.answers,
                "largest_difference": deployed.difference,
                "already_serving": float(deployed.already),
            }
        )


STAGE = Deploy()
