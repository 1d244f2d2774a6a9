"""Arranges the usable, labelled images."""

from typing import Any

from tasks.data.arrange import arrange
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext


class Arrange(Stage):
    """Arranges the images in folders a class, split by hash of the group key.

    A patient never sits on both sides and stays on its side as the data grow; groups that share the
    same image, or nearly the same, are kept together. On a local disk the folders hold hard links;
    with a remote run the images are packed into tar shards, whatever the layout asked for.
    """

    name = "arrange"
    reads = ("ingest", "filter")
    produces = {
        "images.parquet": "one row a usable, labelled image: side, class, place, metadata",
        "classes.json": "class names in the order of the model's outputs, and the positive one",
        "near_duplicates.json": "how many images show nearly the same picture as another",
        "folders/": "SIDE/CLASS/FILE (split.layout links)",
        "train_shards/": "the training images, packed (split.layout shards)",
        "test_shards/": "the test images, packed",
        "regions/": "masks of the relevant region, where there are any",
    }

    def config(self, pipeline: Pipeline) -> Any:
        return [pipeline.label.model_dump(mode="json"), pipeline.split.model_dump(mode="json")]

    def run(self, context: StageContext) -> Outcome:
        split = context.pipeline.split
        if not context.run.is_local:
            split = split.model_copy(update={"layout": "shards"})
        source = context.input("ingest")
        # arrange compares each image with its row's digest
        taken_in = source.unverified_path("images/").parent
        if source.has("regions/"):
            # outputs of a stage lie side by side, once they are fetched
            source.path("regions/")
        table, warnings = arrange(
            context.input("filter").path("metadata.parquet"),
            taken_in,
            context.out,
            label=context.pipeline.label,
            split=split,
        )
        sides = table["split_side"].value_counts()
        metrics: dict[str, float] = {
            "images": len(table),
            "train": int(sides.get("train", 0)),
            "test": int(sides.get("test", 0)),
            "groups": int(table["group_key"].nunique()),
            "classes": int(table["class_name"].nunique()),
            "near_duplicates": int(table["near_duplicate_family"].notna().sum()),
        }
        rows_in = context.input("filter").manifest.rows_out
        return Outcome(metrics=metrics, warnings=warnings, rows_in=rows_in, rows_out=len(table))


STAGE = Arrange()
