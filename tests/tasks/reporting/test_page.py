"""The report page tells the verdict, whatever became of the stages, and trusts no text."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.contract import Failure, ModelIdentity, RunDirectory, Verdict
from tasks.reporting.glossary import find_term
from tasks.reporting.page import render_page

from .conftest import commit, images_table, picture, verdict

HOSTILE = "<script>alert('x')</script>"


class _Page(HTMLParser):
    """Collects tags, addresses and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        # a name that may break into two lines is still one name
        self.words.append("" if tag == "wbr" else " ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def test_a_blessed_night_names_the_verdict_the_rules_and_the_model_in_service(night):
    text = _Page(render_page(night())).text
    assert "Blessed" in text
    assert "2 of 2 rules passed. demo version 7 serves now." in text
    assert "evaluate.balanced_accuracy 0.874 0.812 to 0.926 >= 0.7" in text
    assert "Compared with champion demo version 6" in text


def test_a_refused_night_gives_the_reason_and_says_what_goes_on_serving(night):
    text = _Page(render_page(night(blessed=False))).text
    assert "1 of 2 rules passed. demo version 6 goes on serving." in text
    assert "women are found 0.32 less often than men" in text


@pytest.mark.parametrize(
    ("known", "said"),
    [(True, "There is no champion yet."), (False, "What served before goes on serving.")],
)
def test_a_champion_that_is_not_known_is_not_said_to_be_none(night, run: RunDirectory, known, said):
    night(blessed=False)
    told = verdict(blessed=False, champion=False)
    rule = told.rules[0].model_copy(
        update={"metric": "champion.accuracy_difference", "passed": known}
    )
    told = told.model_copy(update={"rules": [*told.rules, rule]})
    commit(run, "bless", {"verdict.json": told.model_dump_json()})
    commit(run, "reject", {"rejection.json": {"model": {"name": "demo", "version": "7"}}})
    assert said in _Page(render_page(run)).text


@pytest.mark.parametrize("stage", ["ingest", "arrange", "train", "fairness", "explain", "bless"])
def test_a_crashed_stage_is_reported_with_its_reason_and_the_rest_still_stands(night, stage):
    text = _Page(render_page(night(blessed=False, failed=(stage,)))).text
    assert "exit code 137: killed: out of memory" in text
    assert "Lineage" in text
    assert "statistical parity difference" in text.lower() or stage == "fairness"


def test_a_night_without_a_verdict_is_a_refusal(night):
    text = _Page(render_page(night(blessed=False, failed=("bless",)))).text
    assert "There is no verdict, which counts as a refusal. demo version 6 goes on serving." in text


def test_a_model_without_a_registry_has_no_version_to_name(night, run: RunDirectory):
    night()
    unregistered = verdict(blessed=True, champion=False).model_copy(
        update={"model": ModelIdentity(name="demo", digest="d" * 64)}
    )
    commit(run, "bless", {"verdict.json": unregistered.model_dump_json()})
    commit(run, "deploy", {"deployment.json": {"model": {"name": "demo", "version": None}}})
    text = _Page(render_page(run)).text
    assert "2 of 2 rules passed. demo serves now." in text
    assert "Version not registered" in text


def test_a_blessed_model_that_could_not_be_deployed_is_not_said_to_serve(night):
    text = _Page(render_page(night(failed=("deploy",)))).text
    assert "Blessed, not in service" in text
    assert "deploy: failed with exit code 137: killed: out of memory" in text
    assert "version 7 serves now" not in text


def test_an_empty_run_makes_a_page(run: RunDirectory):
    text = _Page(render_page(run)).text
    assert "There is no verdict" in text
    assert text.count("not run") > 5


def test_text_from_the_data_is_never_markup(night, run: RunDirectory):
    night(classes=(HOSTILE, "opacity"), blessed=False)
    decision = verdict(blessed=False, reason=f"class {HOSTILE} is never found")
    commit(run, "bless", {"verdict.json": decision.model_dump_json()})
    run.write_failure(Failure(stage="deploy", exit_code=1, reason=HOSTILE))
    commit(run, "fairness", {}, metrics={f"{HOSTILE}.accuracy_gap": 0.2}, warnings=[HOSTILE])
    page = _Page(render_page(run))
    assert "script" not in page.tags
    assert f"class {HOSTILE} is never found" in page.text
    assert f"By {HOSTILE}" in page.text


def test_the_page_needs_no_other_file_no_script_and_no_network(night):
    html = render_page(night())
    page = _Page(html)
    assert page.addresses
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags) - {"link"}
    assert not re.search(r"@import|url\(", html)


def test_every_link_of_the_page_leads_to_a_section(night):
    html = render_page(night())
    for address in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{address}"' in html


def test_every_picture_of_the_stages_is_on_the_page(night):
    html = render_page(night())
    assert html.count('<img src="data:image/') == 7


def test_large_pictures_are_made_small_enough_to_be_sent_by_mail(night, run: RunDirectory):
    night()
    noise = {f"explanations_{i}.png": picture(900, 700, noise=True) for i in range(2)}
    commit(run, "explain", noise, metrics={"images": 4})
    assert sum(map(len, noise.values())) > 2_000_000
    html = render_page(run, budget=500_000)
    assert len(html) < 800_000
    assert html.count("Explanations 0") == 2  # heading and alternative text


def test_a_picture_that_is_not_one_is_said_to_be_missing(night, run: RunDirectory):
    night()
    commit(run, "explain", {"explanations.png": b"not a picture"})
    assert "The picture explain/explanations.png cannot be shown." in _Page(render_page(run)).text


def test_a_file_changed_after_its_commit_is_not_believed(night, run: RunDirectory):
    night()
    quarantine = Path(run.path) / "ingest/quarantine.csv"
    quarantine.write_text("row,filename,reason\n1,a.png,forged\n")
    assert "forged" not in render_page(run)


def test_a_forged_verdict_is_a_refusal(night, run: RunDirectory):
    night(blessed=False)
    path = Path(run.path) / "bless/verdict.json"
    document = Verdict.model_validate_json(path.read_text()).model_copy(update={"blessed": True})
    path.write_text(document.model_dump_json())
    assert "There is no verdict" in _Page(render_page(run)).text


@pytest.mark.parametrize("damage", ["[1, 2", "[]", "null", '{"checks": 3}', '{"checks": ["x"]}'])
def test_an_odd_document_leaves_out_its_table_only(night, run: RunDirectory, damage):
    night()
    commit(run, "validate", {"validation.json": damage})
    commit(run, "filter", {"steps.json": damage})
    commit(run, "fairness", {"fairness.json": damage}, metrics={"sex.accuracy_gap": 0.1})
    text = _Page(render_page(run)).text
    assert "By sex" in text and "Blessed" in text


def test_a_section_that_odd_results_break_leaves_the_verdict_standing(night, run: RunDirectory):
    night()
    odd = {"classes.json": {"classes": ["clear"]}, "images.parquet": images_table([{"a": "b"}])}
    commit(run, "arrange", odd)
    text = _Page(render_page(run)).text
    assert "it cannot be shown: TypeError" in text
    assert "demo version 7 serves now." in text


def test_images_are_counted_by_class_and_side(night):
    text = _Page(render_page(night())).text
    assert "clear 8 2 10 50.0%" in text


def test_filter_steps_and_quarantine_reasons_are_counted(night):
    text = _Page(render_page(night())).text
    assert "metadata.finding != 'todo' 28 20 8" in text
    assert "truncated 1 clear.png" in text


def test_what_a_broken_file_holds_is_no_reason_of_its_own(night, run: RunDirectory):
    night()
    rows = [f"{n},{n}.png,no known image format; it begins with b'{n}'" for n in range(3)]
    commit(run, "ingest", {"quarantine.csv": "\n".join(["row,filename,reason", *rows])})
    assert "no known image format 3 0.png, 1.png, 2.png" in _Page(render_page(run)).text


def test_no_credential_of_the_data_is_on_the_page(night, run: RunDirectory):
    """Also of a run of an earlier release, whose files hold them."""
    night(classes=("http://u:p@hunter2@h/x", "opacity"))
    rows = ['1,https://b/x.png?X-Amz-Signature=hunter2,"read https://h/?sig=hunter2"']
    commit(run, "ingest", {"quarantine.csv": "\n".join(["row,filename,reason", *rows])})
    html = render_page(run)
    assert "hunter2" not in html
    assert "https://b/x.png?X-Amz-Signature=***" in _Page(html).text


def test_intervals_say_their_confidence_and_what_was_resampled(night, run: RunDirectory):
    night()
    commit(run, "fairness", {"fairness.json": {"confidence": 0.9, "attributes": []}})
    text = _Page(render_page(run)).text
    assert "Intervals are 90 % confidence intervals: those of differences and gaps from" in text
    commit(run, "evaluate", {"evaluation.json": {"confidence": 0.95}})
    assert (
        "Intervals are 95 % confidence intervals, from a bootstrap" in _Page(render_page(run)).text
    )


def test_rows_have_headings_and_sentences_are_stacked_on_a_phone(night):
    html = render_page(night())
    assert '<th scope="row" data-heading="Stage">train' in html
    first = {
        name: html.partition(f'<section id="{name}">')[2].partition("<thead>")[0]
        for name in ("stages", "fairness")
    }
    assert first["fairness"].rstrip().endswith('<table class="stacked">')
    assert first["stages"].rstrip().endswith("<table>")


def test_wide_tables_can_be_scrolled_by_keyboard(night):
    html = render_page(night())
    assert html.count('<div class="scroll" tabindex="0" role="region"') == html.count("<table")
    assert 'aria-label="Filter steps"' in html


def test_metrics_come_with_their_fair_value_and_the_note_of_the_stage(night):
    text = _Page(render_page(night())).text
    assert "Equal opportunity difference" in text
    assert "0, in -1 to 1; within ±0.1 is usually called fair" in text
    assert "F 0.86, M 0.88" in text


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("recall.a.b", "Recall"),
        ("sex.disparate_impact", "Disparate impact"),
        ("focus_for.Pneumonia", "Focus"),
        ("pgd.accuracy_at_0.01", "Accuracy under attack"),
        ("fgsm.success_rate_at_1e-05", "Success rate of the attack"),
    ],
)
def test_a_metric_of_a_class_group_or_attack_has_its_term(name, title):
    term = find_term(name)
    assert term is not None and term.title == title


def test_a_metric_that_nobody_described_is_shown_under_its_name(night, run: RunDirectory):
    night()
    assert find_term("calibration_error") is None
    commit(run, "evaluate", {}, metrics={"calibration_error": 0.25})
    assert "evaluate.calibration_error 0.250" in _Page(render_page(run)).text


def test_a_reused_stage_names_the_run_that_computed_it(night):
    text = _Page(render_page(night())).text
    assert "from run scheduled__2026-01-30" in text
    assert "Taken over from earlier runs 1 of 13 stages" in text


def test_lineage_lists_settings_seeds_packages_and_the_code_revision(night):
    text = _Page(render_page(night(), code_revision="4ef432e")).text
    assert "4ef432e" in text
    assert "train.seed = 0" in text
    assert "tensorflow" in text
    assert "train.batch_size" in text


def test_what_an_earlier_version_stored_is_masked_and_nothing_is_obeyed(night):
    run = night()
    document = run.read_json("pipeline.json")
    document["source"] = {"kind": "csv_images", "uri": "https://h/z.zip?token=hunter2"}
    document["description"] = "by \x1b[2J and \u202ename"
    run.write_json("pipeline.json", document)
    page = render_page(run)
    assert "hunter2" not in page
    assert "\x1b" not in page and "\u202e" not in page
    assert r"\x1b[2J" in page
