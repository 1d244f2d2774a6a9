"""The stage ``publish``."""

import base64
import logging
from pathlib import Path
from typing import Any

from tasks.contract import (
    Altered,
    BadInput,
    ModelIdentity,
    Publication,
    PublishedAnswer,
    StageError,
    is_taken,
    stored_tree_files,
    stored_tree_sha256,
    tree_files,
    tree_sha256,
    write_atomically,
)
from tasks.serving.files import folder_names
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext
from tasks.stages.blessed import blessed_verdict, known_answers, version_of

log = logging.getLogger("tasks")


class Publish(Stage):
    """Puts the blessed model where model servers fetch it,
    ``<root>/models/<model>/<version>-<digest>/``.

    The files are copied one by one as they are, and read back: their digest must be the one that
    was judged. A file that is there is never replaced, because servers may be reading it. Known
    answers go with them, so that whoever deploys needs neither the test set nor TensorFlow.
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
        place = f"{root}/models/{model.name}"
        folder, copied = _put(
            context.input("train").path("model/"), context.run.fs, place, version, model
        )
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


def _put(source: Path, fs: Any, place: str, version: str, model: ModelIdentity) -> tuple[str, int]:
    """Return a folder that holds the judged model, and how many files had to be copied there."""
    if tree_sha256(source) != model.digest:
        raise Altered(
            f"{source}: the files are not those that were judged (digest {model.digest[:12]}): "
            "run stage 'train' again with --force, and the stages after it"
        )
    # an earlier release named folders by their version alone
    if _stored_digest(fs, f"{place}/{version}") == model.digest:
        return f"{place}/{version}", 0
    wanted = tree_files(source)
    for name in folder_names(version, model.digest):
        folder = f"{place}/{name}"
        stored = _stored_files(fs, folder)
        if not stored.items() <= wanted.items():
            log.warning("%s: was altered, and is left alone", fs.unstrip_protocol(folder))
            continue
        # what is there already is what a killed attempt has copied, or all of it
        missing = sorted(wanted.keys() - stored.keys())
        if not missing:
            return folder, 0
        for path in missing:
            fs.makedirs(f"{folder}/{path}".rsplit("/", 1)[0], exist_ok=True)
            # another attempt may have put it there since; what is there decides, below
            try:
                fs.put_file(str(source / path), f"{folder}/{path}", mode="create")
            except OSError as error:
                if not is_taken(error):
                    raise
        found = _stored_digest(fs, folder)
        if found != model.digest:
            raise StageError(
                f"{folder}: reads back with digest {found[:12] or 'none'}, not {model.digest[:12]}"
            )
        return folder, len(missing)
    raise AssertionError("unreachable")


def _stored_files(fs: Any, folder: str) -> dict[str, str]:
    try:
        return stored_tree_files(fs, folder)
    except FileNotFoundError:
        return {}


def _stored_digest(fs: Any, folder: str) -> str:
    try:
        return stored_tree_sha256(fs, folder)
    except FileNotFoundError:
        return ""


STAGE = Publish()
