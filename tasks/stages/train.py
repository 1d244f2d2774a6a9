"""The stage that fits and exports the model."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import sha256_text
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

if TYPE_CHECKING:
    from tasks.training.checkpoints import Progress

_HISTORY = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


class TrainStage(Stage):
    """Fits the model on the training images and exports it.

    The training rows are split once more, by hash of their group, into those learned from and
    those watched. Images are decoded and resized by the very graph that is exported, and a killed
    training goes on after its last finished epoch. Beside the accuracy that is logged while the
    weights change, the accuracy in inference mode on the same images is reported. With
    ``train.privacy`` the training is differentially private, and what that guarantees is reported.
    """

    name = "train"
    uses_tensorflow = True
    reads = ("arrange",)
    produces = {
        "model/": "SavedModel: image files or pixels in, probabilities out; model.json",
        "model.keras": "the same model for gradients: pixels 0..255 in",
        "history.csv": "figures and seconds of each epoch",
        "training.json": "rows, classes, epochs, speed",
    }
    scratch = ("checkpoints",)
    mirrored = ("checkpoints/epoch.npz",)

    def config(self, pipeline: Pipeline) -> Any:
        """Return the section and the model's name."""
        section = pipeline.train.model_dump(mode="json")
        return {"train": section, "deploy": {"model_name": pipeline.model_name}}

    def state(self, context: StageContext) -> str:
        """Return the digest of the weights file and of the user's module."""
        from tasks.training.weights import external_state

        return external_state(context.pipeline.train)

    def run(self, context: StageContext) -> Outcome:
        """Fit, measure in inference mode, export."""
        from tasks.data import Arranged
        from tasks.training.export import export_model
        from tasks.training.learning import learn

        arranged = Arranged(context.input("arrange"))
        table = arranged.table("train")
        learned = learn(
            context.pipeline.train,
            table,
            lambda: arranged.read_bytes(table),
            classes=arranged.classes,
            scratch=context.out / "checkpoints",
            key=self._checkpoint_key(context),
        )
        learned.model.save(context.out / "model.keras")
        export_model(
            learned.model,
            context.out / "model",
            name=context.pipeline.model_name,
            classes=arranged.classes,
            positive=arranged.positive,
            exif_orientation=context.pipeline.train.exif_orientation,
        )
        _write_history(learned.progress, context.out / "history.csv")
        metrics = {
            "accuracy_logged": learned.kept.accuracy,
            "accuracy_inference": learned.accuracy_inference,
            "loss": learned.kept.loss,
            "val_accuracy": learned.kept.val_accuracy,
            "val_loss": learned.kept.val_loss,
            "epochs": float(len(learned.progress.history)),
            "images_per_second": learned.images_per_second,
            "parameters": float(learned.model.count_params()),
        }
        notes = {}
        if learned.budget is not None:
            metrics |= learned.budget.metrics()
            notes["dp.epsilon"] = learned.budget.sentence()
        summary = {
            **metrics,
            "kept_epoch": learned.kept.epoch,
            "stopped_early": learned.progress.stopped,
            "arithmetic": learned.arithmetic,
            "rows_training": learned.rows_training,
            "rows_validation": learned.rows_validation,
            "classes": arranged.classes,
            "seed": context.pipeline.train.seed,
        }
        (context.out / "training.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        return Outcome(
            metrics=metrics,
            notes=notes,
            warnings=learned.warnings,
            rows_in=len(table),
            rows_out=learned.rows_training,
        )

    def _checkpoint_key(self, context: StageContext) -> str:
        """Identify what a checkpoint belongs to: all that the stage's fingerprint is made of."""
        from tasks.code_version import code_version

        return sha256_text(
            json.dumps(
                [
                    self.config(context.pipeline),
                    context.input("arrange").manifest.outputs_digest,
                    self.state(context),
                    code_version(type(self).__module__),
                ]
            )
        )


def _write_history(progress: "Progress", path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _HISTORY, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(record) for record in progress.history)


STAGE = TrainStage()
