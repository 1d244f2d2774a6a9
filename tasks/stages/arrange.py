"""Arranges the usable, labelled images."""

from typing import Any

from tasks.data.arrange import arrange
from tasks.data.trained_on import TRAINED_ON, TrainedOn
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext
from tasks.stages.champion_trained_on import champions_trained_on, state_of


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
        "trained_on.parquet": "digests of what trains, to be kept with the model",
        "folders/": "SIDE/CLASS/FILE (split.layout links)",
        "train_shards/": "the training images, packed (split.layout shards)",
        "test_shards/": "the test images, packed",
        "regions/": "masks of the relevant region, where there are any",
    }

    def config(self, pipeline: Pipeline) -> Any:
        return {
            "label": pipeline.label.model_dump(mode="json"),
            "split": pipeline.split.model_dump(mode="json"),
        }

    def state(self, context: StageContext) -> str:
        """Return what the champion was trained on: that is not tested on."""
        return state_of(context)

    def equivalent_states(self, context: StageContext) -> list[str]:
        """Let a night without new data, after a promotion, take over this result: what it trains on
        itself changes nothing in it."""
        return [TrainedOn.read(context.out / TRAINED_ON).digest]

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
        champions = champions_trained_on(context)
        table, warnings = arrange(
            context.input("filter").path("metadata.parquet"),
            taken_in,
            context.out,
            label=context.pipeline.label,
            split=split,
            champions={each.name: each.record for each in champions if each.record is not None},
        )
        warnings += [
            f"what {each.name} was trained on is not known ({each.problem}), so test images may be "
            "among it"
            for each in champions
            if each.record is None
        ]
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
