"""The stage ``publish``."""

import base64
import logging
from pathlib import Path
from typing import Any

from tasks.contract import (
    BadInput,
    ModelIdentity,
    Publication,
    PublishedAnswer,
    StageError,
    stored_tree_sha256,
    tree_sha256,
    write_atomically,
)
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext
from tasks.stages.blessed import blessed_verdict, known_answers, version_of

log = logging.getLogger("tasks")


class Publish(Stage):
    """Puts the blessed model where model servers fetch it, ``<root>/models/<model>/<version>/``.

    The files are copied one by one as they are, and read back: their digest must be the one that
    was judged. Known answers go with them, so that whoever deploys needs neither the test set nor
    TensorFlow.
    """

    name = "publish"
    reads = ("bless", "train", "evaluate", "arrange")
    produces = {"publication.json": "where the model is, and test images with offline predictions"}
    reusable = False

    def config(self, pipeline: Pipeline) -> Any:
        deploy = pipeline.deploy
        return [pipeline.model_name, deploy.known_answers, deploy.tolerance]

    def run(self, context: StageContext) -> Outcome:
        verdict = blessed_verdict(context)
        model, version = verdict.model, version_of(verdict)
        answers = known_answers(context)
        if not answers:
            raise BadInput(
                f"{model.name}: no test image has a prediction, so nothing could be asked: run "
                "stage 'evaluate' again"
            )
        root = context.run.pipeline_path.rsplit("/", 1)[0]
        folder = f"{root}/models/{model.name}/{version}"
        copied = _copy(context.input("train").path("model/"), context.run.fs, folder, model)
        publication = Publication(
            model=model.model_copy(update={"version": version}),
            model_uri=context.run.fs.unstrip_protocol(folder),
            known_answers=[
                PublishedAnswer(
                    image_id=answer.image_id,
                    image_b64=base64.b64encode(answer.image).decode(),
                    probabilities=list(answer.probabilities),
                )
                for answer in answers
            ],
            tolerance=context.pipeline.deploy.tolerance,
        )
        write_atomically(context.out / "publication.json", publication.model_dump_json(indent=1))
        log.info("%s version %s is at %s", model.name, version, publication.model_uri)
        return Outcome(metrics={"files_copied": copied, "known_answers": len(answers)})


def _copy(source: Path, fs: Any, folder: str, model: ModelIdentity) -> int:
    """Make the folder equal to the judged model; return how many files had to be copied."""
    if tree_sha256(source) != model.digest:
        raise StageError(
            f"{source}: the files are not those that were judged (digest {model.digest[:12]}): "
            "train again"
        )
    if _stored_digest(fs, folder) == model.digest:
        return 0
    wanted = {p.relative_to(source).as_posix(): p for p in source.rglob("*") if p.is_file()}
    for path in fs.find(folder):
        if path.removeprefix(f"{folder}/") not in wanted:
            log.warning("removing %s, which is no part of the model", path)
            fs.rm_file(path)
    for name, file in sorted(wanted.items()):
        fs.makedirs(f"{folder}/{name}".rsplit("/", 1)[0], exist_ok=True)
        fs.put_file(str(file), f"{folder}/{name}")
    found = _stored_digest(fs, folder)
    if found != model.digest:
        raise StageError(
            f"{folder}: reads back with digest {found[:12] or 'none'}, not {model.digest[:12]}"
        )
    return len(wanted)


def _stored_digest(fs: Any, folder: str) -> str:
    try:
        return stored_tree_sha256(fs, folder)
    except FileNotFoundError:
        return ""


STAGE = Publish()
