"""Takes the source in."""

from typing import Any

from tasks.data.ingest import ingest
from tasks.data.sources import open_source
from tasks.serving.limits import limits_of
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

_SCRATCH = ".fetched"


class Ingest(Stage):
    """Takes metadata and images in from a folder, an archive or an http(s) address.

    Every image is decoded fully; one that cannot be used is quarantined with its reason and
    counted, and thresholds decide whether the night goes on. A source that has not changed is not
    read again.
    """

    name = "ingest"
    produces = {
        "metadata.parquet": "every row of the source, and what was found out about its image",
        "images/": "the usable images",
        "regions/": "masks of the relevant region, where the source has them",
        "quarantine.csv": "rows whose image cannot be used, with the reason",
        "summary.json": "counts",
    }
    scratch = (_SCRATCH,)

    def config(self, pipeline: Pipeline) -> Any:
        deploy = pipeline.deploy
        return {
            "source": pipeline.source.model_dump(mode="json"),
            "deploy": {"max_pixels": deploy.max_pixels, "memory": deploy.memory},
        }

    def state(self, context: StageContext) -> str:
        return open_source(context.pipeline.source).state()

    def run(self, context: StageContext) -> Outcome:
        reader = open_source(context.pipeline.source)
        summary = ingest(
            reader,
            context.out,
            scratch=context.out / _SCRATCH,
            limits=limits_of(context.pipeline.deploy),
        )
        warnings = list(summary.warnings)
        for status, count in sorted(summary.by_status.items()):
            if status != "ok":
                example = summary.examples[status][0]
                warnings.append(f"{count} of {summary.rows} rows: {status}, such as {example}")
        return Outcome(
            metrics={
                "rows": summary.rows,
                "usable": summary.usable,
                "missing": summary.missing,
                "quarantined": summary.quarantined,
                "duplicates": summary.duplicates,
                "regions": summary.regions,
                "turned": summary.turned,
            },
            warnings=warnings,
            rows_in=summary.rows,
            rows_out=summary.rows,
        )


STAGE = Ingest()
