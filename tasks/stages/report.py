"""Writes the report page; once it is committed, the run summary too."""

import logging
from typing import Any

from tasks.contract import STAGES
from tasks.reporting.page import render_page
from tasks.reporting.summary import PAGE, read_summary, write_summary
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext

log = logging.getLogger("tasks")


class Report(Stage):
    """Put everything known about the run on one page, whatever of it went wrong.

    The page needs no other file, no script and no network. What a stage did not deliver is said to
    be missing, with the reason. After the page is committed, the run summary is written into the
    run (summary.json) and, for a run on this machine, beside its state (last-run.json).
    """

    name = "report"
    optional_reads = tuple(stage for stage in STAGES if stage != "report")
    produces = {"report.html": "verdict, data, metrics, fairness, heat maps, robustness, lineage"}
    reusable = False

    def config(self, pipeline: Pipeline) -> Any:
        """Return nothing: the page is written afresh for every run."""
        return {}

    def run(self, context: StageContext) -> Outcome:
        """Write the page."""
        page = render_page(context.run, code_revision=context.environment.code_revision)
        raw = page.encode("utf-8")
        (context.out / PAGE).write_bytes(raw)
        log.info("report: %s/%s (%.1f MB)", context.run.stage_uri("report"), PAGE, len(raw) / 1e6)
        return Outcome(metrics={"bytes": len(raw)})

    def after_commit(self, context: StageContext) -> None:
        """Write the run summary, which tells of this stage too."""
        write_summary(read_summary(context.run), run=context.run, environment=context.environment)


STAGE = Report()
