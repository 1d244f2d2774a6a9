"""The table at the end of a run fits the terminal and says the verdict rule by rule."""

import re

import pytest

from tasks.cli import main
from tasks.contract import Failure, RunDirectory
from tasks.reporting.summary import read_summary
from tasks.reporting.table import WIDTH, render_table

from .conftest import commit, verdict


def _table(run: RunDirectory, **options) -> str:
    return render_table(read_summary(run), run=run, **options)


def test_stages_with_seconds_or_reused_and_key_figures(night):
    lines = _table(night()).splitlines()
    assert "  ingest              -  reused    30 rows to 28" in lines
    assert any(re.match(r"  evaluate +1\.5  computed  accuracy 0\.900, balanced", x) for x in lines)
    assert any("PGD at 0.02 0.100" in line for line in lines)
    assert not any(line.startswith("  reject") for line in lines)


def test_the_verdict_rule_by_rule_with_reasons_of_what_failed(night):
    text = _table(night(blessed=False))
    assert "REJECTED  demo version 7" in text
    assert "✓ evaluate.balanced_accuracy" in text
    assert "✗ fairness.sex.equal_opportunity_difference" in text
    assert text.count("women are found 0.32 less often") == 1
    assert "demo version 6, as before" in text


def test_a_night_without_a_verdict_says_so(night):
    text = _table(night(blessed=False, failed=("bless",)))
    assert "without a verdict" in text and "killed: out of memory" in text


def test_it_ends_with_where_to_look_next(night):
    run = night()
    text = _table(run)
    assert f"{run.path}/report/report.html" in text
    assert "run 0123456789abcdef" in text
    assert "make up" in text
    assert "demo version 7, new tonight" in text


def test_no_line_but_a_path_is_wider_than_the_terminal(night, run: RunDirectory):
    night(blessed=False)
    long = "the group " + "of very many words " * 20 + "is served worse"
    commit(run, "bless", {"verdict.json": verdict(blessed=False, reason=long).model_dump_json()})
    run.retract("fairness")
    run.write_failure(Failure(stage="fairness", exit_code=65, reason=long))
    wide = [line for line in _table(run).splitlines() if len(line) > WIDTH]
    assert all(run.path in line for line in wide)


def test_colour_only_where_it_is_asked_for(night):
    run = night()
    assert "\033[" not in _table(run)
    assert "\033[32m" in _table(run, colour=True)


def test_text_from_the_data_cannot_steer_the_terminal(night, run: RunDirectory):
    night(blessed=False)
    reason = "class \033[2Jopacity\r is never found"
    commit(run, "bless", {"verdict.json": verdict(blessed=False, reason=reason).model_dump_json()})
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", _table(run))


@pytest.mark.parametrize("blessed", [True, False])
def test_the_command_prints_the_table_and_renews_the_summary(
    night, blessed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TRUSTED_RETRAINING_STATE", str(tmp_path / "state"))
    run = night(blessed=blessed)
    assert main(["summary", "--run-uri", run.uri]) == 0
    assert run.read_json("summary.json")["blessed"] is blessed
    assert (tmp_path / "state/last-run.json").is_file()
