"""The catalogue of components tells what the stages and their models say."""

from pathlib import Path

from tasks.catalogue import catalogue, settings_of
from tasks.contract import STAGES
from tasks.stages import load_stage

PAGE = Path(__file__).parents[2] / "docs/components.md"


def test_the_page_in_docs_is_current() -> None:
    text = "run python -m tasks components > docs/components.md"
    assert PAGE.read_text(encoding="utf-8") == catalogue().rstrip("\n") + "\n", text


def test_every_stage_is_there_with_what_it_reads_and_writes() -> None:
    page = catalogue()
    for name in STAGES:
        stage = load_stage(name)
        part = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert all(f"[{read}](#{read})" in part for read in stage.reads), name
        assert all(f"| `{output}` |" in part for output in stage.produces), name
        assert "**Settings**" in part


def test_the_settings_are_those_that_a_stage_asks_for() -> None:
    assert settings_of(load_stage("arrange")) == ["label", "split"]
    assert settings_of(load_stage("reject")) == ["deploy.model_name"]
    checked = settings_of(load_stage("validate"))
    fairness = {"fairness.protected", "fairness.min_group", "fairness.favourable"}
    assert {"validate", "label.max_conflicting", "split.group", *fairness} == set(checked)
    assert settings_of(load_stage("report")) == []


def test_defaults_and_sections_within_sections_are_told() -> None:
    train = catalogue().split("\n## train\n")[1].split("\n## ")[0]
    assert "`train.head`" in train and "| `epochs` |" in train
    assert "## Your own" in catalogue() and "| `after` |" in catalogue()
