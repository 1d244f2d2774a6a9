"""Sections on the run itself: rules, stages, warnings, lineage."""

from typing import Any

from tasks.contract import RuleResult
from tasks.reporting import wording
from tasks.reporting.facts import RunFacts, StageFacts
from tasks.reporting.glossary import find_term
from tasks.reporting.view import Cell, Look, Remark, Section, Table, number_cell, verdict_cell

_LOOKS: dict[str, Look] = {
    "computed": "text",
    "reused": "quiet",
    "failed": "fail",
    "not run": "quiet",
}


def rules_section(run: RunFacts) -> Section:
    """Return the verdict rule by rule."""
    section = Section(
        key="rules",
        title="Rules",
        lead="Every rule must pass. A metric that is missing, or not a number, fails its rule.",
    )
    verdict = run.verdict
    if verdict is None:
        section.absence = run.stages["bless"].absence or "the verdict cannot be read"
        return section
    whys = _reasons_for_rules(run.pipeline)
    section.tables = [
        Table(
            headings=["Metric", "Value", "Bound", "Result", "Reason"],
            rows=[
                [
                    _metric(rule.metric),
                    number_cell(
                        _value(rule),
                        wording.interval(rule.low, rule.high),
                    ),
                    number_cell(rule.bound),
                    verdict_cell(rule.passed),
                    # the reason of a refusal says already what the rule is for
                    Cell(rule.reason, hint=whys.get(rule.metric, "") if rule.passed else ""),
                ]
                for rule in verdict.rules
            ],
        )
    ]
    if not verdict.rules:
        section.absence = "the verdict lists no rule"
    return section


def stages_section(run: RunFacts) -> Section:
    """Return what each stage did and how long it took."""
    rows = []
    for name, stage in run.stages.items():
        if name == "report" or (stage.status == "not run" and stage not in run.needed):
            continue
        rows.append(_stage_row(stage))
    return Section(
        key="stages",
        title="Stages",
        lead="A reused stage took over the result of an earlier run with the same data, settings"
        " and code; its seconds are those of that computation.",
        tables=[
            Table(
                headings=["Stage", "Seconds", "Result", "Rows in", "Rows out", "Remarks"],
                rows=rows,
            )
        ],
    )


def _stage_row(stage: StageFacts) -> list[Cell]:
    manifest, failure = stage.manifest, stage.failure
    remark = ""
    if manifest is not None and manifest.reused_from:
        remark = f"from run {manifest.reused_from.rsplit('/', 1)[-1]}"
    elif failure is not None:
        remark = f"exit code {failure.exit_code}: {failure.reason}"
    warnings = manifest.warnings if manifest else []
    spent = manifest.seconds if manifest else failure.seconds if failure else None
    return [
        Cell(stage.name),
        number_cell("" if spent is None else f"{spent:,.1f}"),
        Cell(stage.status, _LOOKS[stage.status]),
        number_cell(_rows(manifest.rows_in if manifest else None)),
        number_cell(_rows(manifest.rows_out if manifest else None)),
        Cell(remark, hint=wording.count_of(len(warnings), "warning") if warnings else ""),
    ]


def warnings_section(run: RunFacts) -> Section:
    """Return what the stages warned of."""
    rows = [[Cell(stage), Cell(text)] for stage, text in run.warnings]
    section = Section(key="warnings", title="Warnings")
    if rows:
        section.lead = "Warnings do not stop the night; a person should know of them."
        section.tables = [Table(headings=["Stage", "Warning"], rows=rows)]
    else:
        section.remarks = [Remark(text="No stage that ran gave a warning.")]
    return section


def _reasons_for_rules(pipeline: dict[str, Any]) -> dict[str, str]:
    """Return what each rule is for, as the pipeline file and the default rules say."""
    from tasks.spec import Blessing

    try:
        rules = Blessing.model_validate(pipeline.get("blessing", {})).all_rules()
    except ValueError:
        return {}
    return {rule.metric: rule.why for rule in rules}


def _metric(name: str) -> Cell:
    term = find_term(name.partition(".")[2])
    return Cell(term.title, hint=name) if term else Cell(name)


def _value(rule: RuleResult) -> str:
    if rule.value is None and rule.passed:
        # such as the comparison with a champion on the first night
        return "none"
    return wording.number(rule.value, name=rule.metric)


def _rows(count: int | None) -> str:
    return "" if count is None else f"{count:,}"
