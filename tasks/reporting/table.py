"""The table that ends a run in the terminal: stages, verdict rule by rule, where to look next."""

import math
import textwrap
from collections.abc import Callable
from typing import Any

from tasks.contract import RunDirectory
from tasks.environment import Environment
from tasks.reporting import wording
from tasks.reporting.changes_section import summary as summary_of_changes
from tasks.reporting.facts import RunFacts, StageFacts
from tasks.spec.foreign_text import visible
from tasks.spec.masking import without_queries

WIDTH = 100
"""Columns of the terminal that the table may use."""

_CODES = {"good": "32", "bad": "31", "strong": "1", "faint": "2"}


def render_table(
    summary: dict[str, Any],
    *,
    run: RunDirectory,
    environment: Environment | None = None,
    colour: bool = False,
) -> str:
    """Return what a person wants to know about a finished run.

    Parameters
    ----------
    summary : dict
        As :func:`tasks.reporting.summary.read_summary` returns it.
    run : RunDirectory
        The run, for rows in and out and for reasons.
    environment : Environment or None
        Where MLflow is, for the pointers at the end.
    colour : bool
        Use terminal colours; signs and words tell the same without them.

    Returns
    -------
    str
        Lines of at most ``WIDTH`` columns.
    """
    facts = RunFacts(run)
    paint = _painter(colour)
    lines = [
        "",
        paint(f"{summary['pipeline']}  {summary['run_id']}", "strong"),
        "",
        *_stage_lines(summary, facts, paint),
        "",
        *_verdict_lines(summary, facts, paint),
        "",
        *_pointer_lines(summary, facts, environment, paint),
        "",
    ]
    return "\n".join(lines)


Painter = Callable[[str, str], str]


def _painter(colour: bool) -> Painter:
    def paint(text: str, style: str) -> str:
        text = visible(text)
        return f"\033[{_CODES[style]}m{text}\033[0m" if colour and text else text

    return paint


def _stage_lines(summary: dict[str, Any], facts: RunFacts, paint: Painter) -> list[str]:
    # extra stages may have longer names than ours
    width = max([12, *(len(name) + 1 for name in summary["stages"])])
    lines = [paint(f"  {'stage':<{width}}{'seconds':>9}  {'how':<10}key figures", "faint")]
    for name, stage in facts.stages.items():
        if name in facts.spared and stage.status == "not run":
            continue
        outcome = summary["stages"].get(name)
        spent = f"{outcome['seconds']:.1f}" if outcome and not outcome["reused"] else "-"
        lead = f"  {name:<{width}}{spent:>9}  {stage.status:<10}"
        style = "bad" if stage.status == "failed" else "faint"
        text = stage.failure.reason if stage.failure else key_figures(stage, facts)
        first, *rest = _wrapped(text, WIDTH - len(lead)) or [""]
        if stage.status != "computed":
            lead = lead.replace(stage.status, paint(stage.status, style), 1)
        lines.append(f"{lead}{first}".rstrip())
        lines += [" " * (width + 23) + line for line in rest[:2]]
    return lines


def key_figures(stage: StageFacts, facts: RunFacts) -> str:
    """Return the few numbers that tell most about a stage's result; empty when there are none."""
    if stage.manifest is None:
        return ""
    metrics, parts = stage.metrics, []
    if stage.manifest.rows_in is not None and stage.manifest.rows_out is not None:
        rows_in, rows_out = stage.manifest.rows_in, stage.manifest.rows_out
        kept = f"{rows_in:,} rows to {rows_out:,}" if rows_in != rows_out else f"{rows_in:,} rows"
        parts.append(kept)
    wanted = {
        "train": ("epochs", "accuracy_inference"),
        "evaluate": ("accuracy", "balanced_accuracy", "least_recall", "roc_auc"),
        "explain": ("mass_inside_region", "region_area"),
        "robustness": ("clean_accuracy",),
    }.get(stage.name, ())
    parts += [
        f"{name.replace('_', ' ')} {wording.number(metrics[name], name=name)}"
        for name in wanted
        if name in metrics
    ]
    if stage.name in facts.extras:
        parts += [
            f"{name.replace('_', ' ')} {wording.number(value, name=name)}"
            for name, value in list(metrics.items())[:4]
            if not name.endswith((".low", ".high"))
        ]
    if stage.name == "fairness":
        parts += _widest_gap(metrics)
    if stage.name == "robustness":
        parts += _weakest(metrics)
    if stage.name == "bless" and facts.verdict:
        passed = sum(rule.passed for rule in facts.verdict.rules)
        parts.append(f"{passed} of {wording.count_of(len(facts.verdict.rules), 'rule')} passed")
    if stage.name == "deploy":
        parts.append(f"{facts.subject} serves")
    if stage.manifest.warnings:
        parts.append(wording.count_of(len(stage.manifest.warnings), "warning"))
    return ", ".join(parts)


def _widest_gap(metrics: dict[str, float]) -> list[str]:
    gaps = {
        name: value
        for name, value in metrics.items()
        if name.endswith(("_difference", "_gap")) and math.isfinite(value)
    }
    if not gaps:
        return []
    name = max(gaps, key=lambda key: abs(gaps[key]))
    attribute, _, measure = name.rpartition(".")
    return [f"widest: {measure.replace('_', ' ')} {wording.number(gaps[name])} by {attribute}"]


def _weakest(metrics: dict[str, float]) -> list[str]:
    attacked = {
        name: value
        for name, value in metrics.items()
        if ".accuracy_at_" in name and not name.endswith((".low", ".high"))
    }
    if not attacked:
        return []
    name = min(attacked, key=lambda key: attacked[key])
    attack, _, strength = name.partition(".accuracy_at_")
    return [f"{attack.upper()} at {strength} {wording.number(attacked[name])}"]


def _verdict_lines(summary: dict[str, Any], facts: RunFacts, paint: Painter) -> list[str]:
    verdict = facts.verdict
    if verdict is None:
        why = facts.stages["bless"].absence or "its verdict cannot be read"
        return [
            f"  {paint('REJECTED', 'bad')}  without a verdict, which counts as a refusal",
            *_indented(f"bless: {why}", 12),
        ]
    word = paint(verdict.word.upper(), "good" if verdict.may_serve else "bad")
    lines = [f"  {word}  {visible(facts.subject)}"]
    if verdict.changed_rules:
        by_whom = summary_of_changes(verdict.changes, facts.requested_by)
        lines += _indented(f"under changed rules: {by_whom}", 4)
    if verdict.passed and not verdict.deployable:
        lines += _indented(verdict.refusal, 4)
    refusals = [each for each in verdict.earlier if each.verdict == "rejected"]
    if refusals:
        last = f"{wording.moment(refusals[-1].at)}: {'; '.join(refusals[-1].reasons)}"
        lines += _indented(f"this very model was rejected before ({len(refusals)}), on {last}", 4)
    width = min(46, max((len(rule["metric"]) for rule in summary["rules"]), default=0))
    for rule in summary["rules"]:
        sign = paint("✓", "good") if rule["passed"] else paint("✗", "bad")
        value = wording.number(rule["value"], name=rule["metric"])
        around = wording.interval(rule["low"], rule["high"])
        if rule["value"] is None and rule["passed"]:
            value = rule["reason"]
        figure = f"{value} ({around})" if around else value
        metric = f"{visible(rule['metric'])[:46]:<{width}}"
        lines.append(f"  {sign} {metric}  {figure}, bound {rule['bound']}")
        if not rule["passed"]:
            lines += _indented(rule["reason"], 6)
    told = {rule["reason"] for rule in summary["rules"]}
    for reason in verdict.reasons:
        if reason not in told:
            first, *rest = _indented(reason, 4) or ["    "]
            lines += [f"  {paint('✗', 'bad')} {first.lstrip()}", *rest]
    return lines


def _pointer_lines(
    summary: dict[str, Any], facts: RunFacts, environment: Environment | None, paint: Painter
) -> list[str]:
    deployment = facts.stages["deploy"]
    if deployment.manifest is not None:
        since = "as before" if deployment.metrics.get("already_serving") else "new tonight"
        serving = f"{facts.subject}, {since}"
    elif facts.champion:
        serving = f"{facts.champion}, as before"
    else:
        serving = "no model yet"
    mlflow = f"run {summary['mlflow_run_id']}" if summary["mlflow_run_id"] else "not tracked"
    if environment is not None and environment.mlflow_uri and summary["mlflow_run_id"]:
        mlflow += f" at {without_queries(environment.mlflow_uri)}"
    pointers = {
        "report": summary["report"] or "none was written",
        "MLflow": mlflow,
        "served": serving,
        "browse": "`make up` starts Airflow, MLflow and the model server, and prints addresses",
    }
    return [
        f"  {paint('where to look next', 'strong')}",
        # a path is for copying: it is never broken, however long
        *(f"  {name:<8}{visible(text)}" for name, text in pointers.items()),
    ]


def _indented(text: str, by: int) -> list[str]:
    return [" " * by + line for line in _wrapped(text, WIDTH - by)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(visible(text), width, break_on_hyphens=False)
