"""The report opens with what a run changed of its pipeline file, by whom, and what was said of the
very same model before."""

import json

import pytest

from tasks.contract import EarlierVerdict, Request, RunDirectory, Verdict
from tasks.reporting.page import render_page
from tasks.reporting.summary import read_summary
from tasks.reporting.table import render_table
from tasks.spec import Blessing, Pipeline, Rule, changes, override
from tests.tasks.reporting.conftest import commit, verdict

RULES = Blessing(
    rules=[
        Rule(metric="evaluate.balanced_accuracy", min=0.8),
        Rule(metric="fairness.sex.true_positive_rate_gap", max=0.2, on="interval"),
    ]
)
LAX = {"blessing.rules": [{"metric": "evaluate.accuracy", "min": 0.1}]}


@pytest.fixture
def file(pipeline: Pipeline) -> Pipeline:
    """The pipeline with two rules of its own."""
    return pipeline.model_copy(update={"blessing": RULES})


@pytest.fixture
def changed(night, run: RunDirectory, file: Pipeline):
    """Write a night with changed rules, of which the model passed those that were left."""

    def write(*, blessed: bool = True, **fields) -> Verdict:
        night(blessed=blessed)
        asked = {**LAX, "train.epochs": 3}
        given = verdict(blessed=blessed).model_copy(
            update={
                "changes": changes(file, override(file, asked)),
                "requested_by": "admin",
                "deployable": False,
                **fields,
            }
        )
        commit(run, "bless", {"verdict.json": json.loads(given.model_dump_json())})
        return given

    return write


def test_a_model_that_passed_changed_rules_is_neither_blessed_nor_rejected(changed, run):
    changed()
    run.fs.rm(f"{run.path}/deploy", recursive=True)
    commit(run, "reject", {"rejection.json": {}})
    html = render_page(run)
    assert "Passed, not deployed" in html and "<title>Passed, not deployed: demo</title>" in html
    assert "(2 removed, 1 added, by admin)" in html
    assert "put them into the pipeline file and run it again: blessing.rules" in html
    assert "Blessed" not in html and "Rejected" not in html
    summary = read_summary(run)
    assert (summary["blessed"], summary["verdict"]) == (False, "passed, not deployed")
    assert summary["state"] == "success"
    assert summary["requested_by"] == "admin"
    assert [each["field"] for each in summary["changes"]] == ["blessing.rules", "train.epochs"]
    table = render_table(summary, run=run)
    assert "PASSED, NOT DEPLOYED" in table
    assert "under changed rules: 2 removed, 1 added, by admin" in table


def test_a_model_that_may_be_deployed_under_changed_rules_says_so_in_the_headline(changed, run):
    changed(deployable=True)
    html = render_page(run)
    assert "Blessed under changed rules (2 removed, 1 added, by admin)" in html


def test_the_page_lists_each_change_with_both_values_rules_first(changed, run):
    changed()
    html = render_page(run)
    opening = html[: html.index("<nav")]
    assert "Changed for this run, by admin" in opening
    assert "fairness.<wbr>sex.<wbr>true_<wbr>positive_<wbr>rate_<wbr>gap: max 0.2 (interval)" in (
        opening
    )
    assert opening.index("blessing.rules") < opening.index("train.<wbr>epochs")
    assert ">10<" in opening and ">3<" in opening


def test_a_change_that_is_no_rule_leaves_the_headline_alone(night, run, file):
    night(blessed=True)
    given = verdict(blessed=True).model_copy(
        update={"changes": changes(file, override(file, {"train.epochs": 3}))}
    )
    commit(run, "bless", {"verdict.json": json.loads(given.model_dump_json())})
    html = render_page(run)
    assert "<title>Blessed: demo</title>" in html and "Changed for this run" in html


def test_a_run_as_its_file_says_opens_without_a_list_of_changes(night, run):
    night(blessed=True)
    assert "Changed for this run" not in render_page(run)


def test_without_a_verdict_the_changes_are_those_that_the_run_was_begun_with(night, run, file):
    night(blessed=False, failed=("bless",))
    run.write_json(
        "run.json", Request(file=json.loads(file.to_json()), requested_by="ann").model_dump()
    )
    run.write_json("pipeline.json", json.loads(override(file, LAX).to_json()))
    html = render_page(run)
    assert "Changed for this run, by ann" in html and "blessing.rules" in html


def test_an_earlier_refusal_of_the_same_model_is_listed_with_its_reasons(changed, run):
    earlier = EarlierVerdict(
        at="2026-01-30T02:00:00+00:00",
        verdict="rejected",
        requested_by="bob",
        reasons=["women are found less often"],
    )
    changed(deployable=True, earlier=[earlier])
    html = render_page(run)
    assert "Earlier verdicts on this very model" in html
    assert "2026-01-30 02:00:00 UTC" in html and "women are found less often" in html
    table = render_table(read_summary(run), run=run)
    assert "rejected before (1), on 2026-01-30" in table
