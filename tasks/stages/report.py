"""Writes the report page; once it is committed, the run summary too."""

import logging
from typing import Any
from urllib.parse import quote

from tasks.contract import STAGES, stage_names
from tasks.reporting.page import render_page
from tasks.reporting.summary import PAGE, SUMMARY, read_summary, write_last_run
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

    def also_reads(self, pipeline: Pipeline) -> tuple[str, ...]:
        """Return every stage before it, extra ones too."""
        return tuple(name for name in stage_names(pipeline.extra_stages) if name != self.name)

    def run(self, context: StageContext) -> Outcome:
        """Write the page."""
        page = render_page(context.run, code_revision=context.environment.code_revision)
        raw = page.encode("utf-8")
        (context.out / PAGE).write_bytes(raw)
        log.info("report: %s/%s (%.1f MB)", context.run.stage_uri("report"), PAGE, len(raw) / 1e6)
        return Outcome(metrics={"bytes": len(raw)}, addresses=self._publish(context))

    def _publish(self, context: StageContext) -> dict[str, str]:
        """Put the page where others find it, if the pipeline says so; return its addresses."""
        options = context.pipeline.publish.report
        if options is None:
            return {}
        from tasks.publishing import Destination

        place = f"{context.pipeline.name}/{context.run.run_id}"
        destination = Destination(f"{options.uri.rstrip('/')}/{place}")
        address = destination.replace(PAGE, context.out / PAGE)
        log.info("report: published as %s", address)
        browsed = f"{options.browse.rstrip('/')}/{quote(place)}/{PAGE}" if options.browse else ""
        return {"report": address} | ({"report_page": browsed} if browsed else {})

    def after_commit(self, context: StageContext) -> None:
        """Write the run summary, which tells of this stage too."""
        summary = read_summary(context.run)
        context.run.write_json(SUMMARY, summary)
        # the state of a pod goes with it
        if context.run.is_local:
            write_last_run(summary, context.environment)


STAGE = Report()
