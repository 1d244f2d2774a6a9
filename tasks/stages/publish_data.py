"""The stage ``publish_data``."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.contract import BadConfig, write_atomically
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext


class PublishData(Stage):
    """Publishes the cleaned, arranged data set: images, labels and metadata as Parquet or TFRecord,
    with a card and a fingerprint, in a folder or an object store.

    Data that are published already are left as they are. The manifest is written last, so that
    nobody reads half a data set. Only where ``publish.dataset`` is declared.
    """

    name = "publish_data"
    reads = ("arrange", "validate")
    produces = {"dataset.json": "where the data set is, its fingerprint, rows and bytes"}
    reusable = False

    def config(self, pipeline: Pipeline) -> Any:
        """Return the section."""
        return pipeline.publish.model_dump(mode="json")["dataset"]

    def run(self, context: StageContext) -> Outcome:
        """Publish, or find that it has been done."""
        from tasks.data import Arranged
        from tasks.publishing import publish_dataset

        options = context.pipeline.publish.dataset
        if options is None:
            raise BadConfig("publish.dataset is not declared, so there is nowhere to publish to")
        scratch = context.environment.scratch
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch, prefix="publish-") as folder:
            published = publish_dataset(
                Arranged(context.input("arrange")),
                options,
                pipeline=context.pipeline,
                scratch=Path(folder),
            )
        write_atomically(context.out / "dataset.json", json.dumps(asdict(published), indent=1))
        return Outcome(
            metrics={
                "rows": published.rows,
                "bytes": published.bytes,
                "already_published": float(published.already),
            },
            rows_in=published.rows,
            rows_out=published.rows,
            addresses={"dataset": published.uri},
        )


STAGE = PublishData()
