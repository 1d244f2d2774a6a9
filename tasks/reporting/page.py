"""The report page: one HTML file that needs nothing else, for an auditor to read and keep."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract import STAGES, RunDirectory, now
from tasks.reporting import wording
from tasks.reporting.changes_section import changes_table, earlier_table, summary
from tasks.reporting.data_sections import data_section
from tasks.reporting.extra_sections import extra_section
from tasks.reporting.facts import RunFacts
from tasks.reporting.fairness_section import fairness_section
from tasks.reporting.lineage import lineage_section
from tasks.reporting.model_sections import evaluation_section, training_section
from tasks.reporting.pictures import PAGE_BUDGET, Picture, embed
from tasks.reporting.run_sections import rules_section, stages_section, warnings_section
from tasks.reporting.trust_sections import (
    explanations_section,
    robustness_section,
)
from tasks.reporting.view import Section
from tasks.spec.foreign_text import visible
from tasks.spec.masking import masked

if TYPE_CHECKING:
    from markupsafe import Markup

log = logging.getLogger("tasks")

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The verdict in plain words, for the top of the page.

    Attributes
    ----------
    word : str
        ``Blessed``, ``Passed, not deployed`` or ``Rejected``.
    blessed : bool
    sentence : str
        What follows from it for the model in service.
    reasons : list of str
        Why it was refused, or why a blessed model does not serve.
    sign : str
        Before the word; left out: a tick or a cross.
    """

    word: str
    blessed: bool
    sentence: str
    reasons: list[str]
    sign: str = ""


def render_page(run: RunDirectory, *, code_revision: str = "", budget: int = PAGE_BUDGET) -> str:
    """Return the report of a run as HTML.

    Parameters
    ----------
    run : RunDirectory
        The run; whatever of it is missing is said to be missing.
    code_revision : str
        Source revision for the lineage; empty when unknown.
    budget : int
        Bytes that the pictures may take together.

    Returns
    -------
    str
        A page without scripts that loads nothing; every text from data is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    facts = RunFacts(run)
    lineage = partial(lineage_section, code_revision=code_revision)
    sections = [
        _built("rules", "Rules", rules_section, facts),
        _built("stages", "Stages", stages_section, facts),
        _built("data", "Data", data_section, facts),
        _built("training", "Training", training_section, facts),
        _built("evaluation", "Evaluation", evaluation_section, facts),
        _built("fairness", "Fairness", fairness_section, facts),
        _built("explanations", "Explanations", explanations_section, facts),
        _built("robustness", "Adversarial robustness", robustness_section, facts),
        *([_built("extra", "Extra stages", extra_section, facts)] if facts.extras else []),
        _built("warnings", "Warnings", warnings_section, facts),
        _built("lineage", "Lineage", lineage, facts),
    ]
    _embed_figures(facts, sections, budget)
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_masked,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["breakable"] = _breakable
    page = templates.get_template("report.html").render(
        headline=headline(facts),
        pipeline=facts.pipeline_name,
        description=str(facts.pipeline.get("description", "")),
        facts=_run_facts(facts),
        opening=[
            table
            for table in (
                changes_table(facts.changes, facts.requested_by),
                earlier_table(facts.verdict.earlier if facts.verdict else []),
            )
            if table
        ],
        sections=sections,
        written=wording.moment(now()),
    )
    # names of files, columns, groups and classes: shown, never obeyed
    return visible(page, keep="\n\t")


def headline(facts: RunFacts) -> Headline:
    """Put the verdict into words."""
    verdict = facts.verdict
    stays = _standing(facts)
    if verdict is None:
        why = facts.stages["bless"].absence or "its verdict cannot be read"
        return Headline(
            word="Rejected",
            blessed=False,
            sentence=f"There is no verdict, which counts as a refusal. {stays}",
            reasons=[f"bless: {why}", *_crashes(facts)],
        )
    passed = sum(rule.passed for rule in verdict.rules)
    score = f"{passed} of {wording.count_of(len(verdict.rules), 'rule')} passed."
    changed = summary(verdict.changes, facts.requested_by) if verdict.changed_rules else ""
    if not verdict.passed:
        return Headline(
            word="Rejected",
            blessed=False,
            sentence=f"{score} {stays}",
            reasons=list(verdict.reasons) or [r.reason for r in verdict.rules if not r.passed],
        )
    if not verdict.deployable:
        return Headline(
            word="Passed, not deployed",
            blessed=False,
            sign="!",
            sentence=f"{score} The rules are not those of the pipeline file ({changed}). {stays}",
            reasons=[
                "To deploy under them, put them into the pipeline file and run it again: "
                + ", ".join(change.field for change in verdict.changed_rules)
            ],
        )
    word = f"Blessed under changed rules ({changed})" if changed else "Blessed"
    deploy = facts.stages["deploy"]
    if deploy.manifest is not None:
        return Headline(
            word=word,
            blessed=True,
            sentence=f"{score} {facts.subject} serves now.",
            reasons=[],
        )
    return Headline(
        word=f"{word}, not in service",
        blessed=True,
        sentence=f"{score} {stays}",
        reasons=[f"deploy: {deploy.absence}"],
    )


def _standing(facts: RunFacts) -> str:
    """Tell what serves after a night whose model does not."""
    if facts.champion:
        return f"{facts.champion} goes on serving."
    rules = facts.verdict.rules if facts.verdict is not None else []
    compared = [rule for rule in rules if rule.metric.split(".")[0] == "champion"]
    if compared and all(rule.passed for rule in compared):
        return "There is no champion yet."
    return "What served before goes on serving."


def _built(key: str, title: str, build: Callable[[RunFacts], Section], facts: RunFacts) -> Section:
    """Return a section; one that odd results break must not take the verdict with it."""
    try:
        return build(facts)
    except Exception as error:
        log.warning("report: section %s cannot be shown: %r", key, error)
        return Section(key=key, title=title, absence=f"it cannot be shown: {error!r}")


def _crashes(facts: RunFacts) -> list[str]:
    return [
        f"{stage.name}: {stage.absence}"
        for stage in facts.needed
        if stage.failure is not None and stage.name != "bless"
    ]


def _run_facts(facts: RunFacts) -> list[tuple[str, str]]:
    model, verdict = facts.model, facts.verdict
    manifests = [stage.manifest for stage in facts.stages.values() if stage.manifest]
    fresh = [manifest for manifest in manifests if not manifest.reused_from]
    started = min((manifest.started_at for manifest in fresh if manifest.started_at), default="")
    failures = [stage.failure for stage in facts.stages.values() if stage.failure]
    spent = sum(m.seconds for m in fresh) + sum(failure.seconds for failure in failures)
    champion = verdict.champion if verdict else None
    reused = len(manifests) - len(fresh)
    found = [
        ("Model", str(model["name"])),
        ("Version", model["version"] or "not registered"),
        ("Compared with champion", facts.champion or "none"),
        ("Run", facts.run.run_id),
        ("Triggered by", facts.requested_by or "the schedule, or new data"),
        ("Started", wording.moment(started)),
        ("Judged", wording.moment(verdict.at if verdict else "")),
        ("Time in stages", wording.seconds(spent)),
        (
            "Taken over from earlier runs",
            f"{reused} of {wording.count_of(len(manifests), 'stage')}",
        ),
        ("Model digest", verdict.model.digest if verdict and verdict.model.digest else "unknown"),
    ]
    if champion and champion.digest:
        found.append(("Champion's digest", champion.digest))
    return found


_DOTTED = re.compile(rf"\b(?:{'|'.join(STAGES)}|champion)\.[\w.]+")


def _breakable(text: str) -> "Markup":
    """Escape a text and let a line end within the dotted names of metrics."""
    from markupsafe import Markup, escape

    def breaks(match: re.Match[str]) -> str:
        return re.sub(r"[._](?=\w)", r"\g<0><wbr>", match[0])

    return Markup(_DOTTED.sub(breaks, str(escape(masked(text)))))  # noqa: S704


def _masked(value: object) -> object:
    """Mask what the page shows; pictures and what a filter has made ready stay as they are."""
    return masked(value) if type(value) is str and not value.startswith("data:") else value


def _embed_figures(facts: RunFacts, sections: list[Section], budget: int) -> None:
    """Give every figure its picture; one that cannot be shown keeps an empty address."""
    figures = [figure for section in sections for figure in section.figures]
    pictures = []
    for figure in figures:
        raw = facts.stages[figure.stage].read_bytes(figure.name)
        if raw is not None:
            pictures.append(Picture(figure.key, raw))
    embedded = embed(pictures, budget=budget)
    for figure in figures:
        if figure.key in embedded:
            figure.uri = embedded[figure.key].uri
            figure.wide = embedded[figure.key].wide
