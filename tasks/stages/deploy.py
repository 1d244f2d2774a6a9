"""The stage ``deploy``."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tasks import registry
from tasks.contract import BadInput, NoInput, Verdict, write_atomically
from tasks.serving.deployment import Deployment, deploy
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

if TYPE_CHECKING:
    from tasks.serving.client import KnownAnswer

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
        verdict = _blessed_verdict(context)
        pipeline, environment = context.pipeline, context.environment
        model = verdict.model
        if environment.mlflow_uri and not model.version:
            raise BadInput(
                f"{model.name}: the verdict names no registered version, so none could become the "
                "champion: run stage 'bless' again"
            )
        version = model.version or f"digest-{model.digest[:12]}"

        def champion_digest() -> str:
            current = registry.champion_identity(environment, model.name)
            _check_champion(verdict, current)
            if not environment.mlflow_uri:
                # without a registry the pointer alone says who serves
                return model.digest
            return current[1] if current else ""

        def set_champion() -> None:
            if environment.mlflow_uri and model.version:
                registry.set_alias(environment, model.name, registry.CHAMPION, model.version)

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
                known_answers=lambda: _known_answers(context),
                champion_digest=champion_digest,
                set_champion=set_champion,
            )
        )
        document = {
            "model": model.model_dump(),
            "alias": registry.CHAMPION,
            "folder": str(environment.serving_root / model.name / version),
            "server_url": environment.server_url,
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


def _blessed_verdict(context: StageContext) -> Verdict:
    verdict = context.run.read_verdict()
    if verdict is None:
        raise NoInput(
            f"{context.run.stage_uri('bless')} holds no readable verdict: run 'bless' first"
        )
    if not verdict.blessed or not all(rule.passed for rule in verdict.rules):
        raise BadInput(
            f"{verdict.model.name}: the verdict refuses this model: "
            f"{'; '.join(verdict.reasons[:5]) or 'a rule did not pass'}"
        )
    if verdict.model.name != context.pipeline.model_name:
        raise BadInput(
            f"the verdict is on model {verdict.model.name!r}, but deploy.model_name is "
            f"{context.pipeline.model_name!r}: run stage 'bless' again"
        )
    trained = context.input("train").manifest.output("model/").sha256
    if verdict.model.digest != trained:
        raise BadInput(
            f"the verdict is on model {verdict.model.digest[:12]}, but train committed "
            f"{trained[:12]}: run stage 'bless' again"
        )
    return verdict


def _check_champion(verdict: Verdict, current: tuple[str, str] | None) -> None:
    """Refuse a verdict that compared with an earlier champion: an approval may take its time."""
    judged = verdict.champion.digest if verdict.champion else ""
    if current is not None and current[1] not in (judged, verdict.model.digest):
        raise BadInput(
            f"{verdict.model.name}: version {current[0]} became champion after the verdict was "
            "given: run evaluate and bless again"
        )


def _known_answers(context: StageContext) -> "Sequence[KnownAnswer]":
    """Return test images in turn from every class, with their offline predictions."""
    import pandas as pd

    from tasks.data import Arranged
    from tasks.serving.client import KnownAnswer

    predictions = pd.read_parquet(
        context.input("evaluate").path("predictions.parquet"),
        columns=["image_id", "class_index", "probabilities"],
    )
    arranged = Arranged(context.input("arrange"))
    rows = arranged.table("test")
    chosen = predictions[predictions["image_id"].isin(rows["image_id"])].sort_values("image_id")
    turn = chosen.groupby("class_index").cumcount()
    chosen = chosen.assign(turn=turn).sort_values(["turn", "class_index"])
    chosen = chosen.head(context.pipeline.deploy.known_answers)
    expected = dict(zip(chosen["image_id"], chosen["probabilities"], strict=True))
    rows = rows[rows["image_id"].isin(expected)]
    return [
        KnownAnswer(
            image_id=str(image_id),
            image=image,
            probabilities=tuple(float(each) for each in expected[image_id]),
        )
        for image_id, image in zip(rows["image_id"], arranged.read_bytes(rows), strict=True)
    ]


STAGE = Deploy()
