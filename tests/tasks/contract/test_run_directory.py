"""The run directory: commit points, cache and verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import Failure, Manifest, RunDirectory, describe_outputs, run_uri
from tests.tasks.committed import commit


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(run_uri(str(tmp_path), "films", "manual__2026-01-31T02:00:00+00:00"))


def test_a_run_id_of_airflow_becomes_a_safe_folder_name(run: RunDirectory) -> None:
    assert run.run_id == "manual__2026-01-31T02_00_00_00_00"
    assert run.uri.startswith("file://")


@pytest.mark.parametrize("run_id", [".", "..", "...", "../../etc", "a" * 300])
def test_no_run_id_leads_out_of_the_folder_of_runs(tmp_path: Path, run_id: str) -> None:
    path = Path(RunDirectory(run_uri(str(tmp_path), "films", run_id)).path)
    assert path.parent == tmp_path / "films" / "runs"
    path.mkdir(parents=True)


def test_two_run_ids_never_share_a_folder() -> None:
    ids = [
        *("manual__2026-01-31T02:00:00+00:00", "manual__2026-01-31T02_00_00_00_00"),
        *("manual__2026-01-31T02:00:00.5+00:00_x1", "a+b", "a:b", "a_b", "a b", "ä_b", "b_b"),
    ]
    assert len({run_uri("/runs", "films", run_id) for run_id in ids}) == len(ids)
    assert run_uri("/runs", "films", "a_b") == "/runs/films/runs/a_b"


def test_a_stage_without_a_manifest_never_happened(run: RunDirectory) -> None:
    (Path(run.path) / "ingest").mkdir(parents=True)
    (Path(run.path) / "ingest/metadata.parquet").write_text("half")
    assert run.read_manifest("ingest") is None


def test_a_committed_stage_is_read_back(run: RunDirectory) -> None:
    manifest = commit(run, "filter", {"metadata.parquet": "rows", "images/a.png": "a"})
    assert run.read_manifest("filter") == manifest
    assert manifest.output("images/").files == 1
    with pytest.raises(KeyError, match=r"filter committed no steps\.json"):
        manifest.output("steps.json")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"stage": "filter"}'])
def test_a_damaged_manifest_counts_as_none(run: RunDirectory, damage: str) -> None:
    commit(run, "filter", {"a": "1"})
    (Path(run.path) / "filter/manifest.json").write_text(damage)
    assert run.read_manifest("filter") is None


def test_a_commit_clears_the_record_of_the_failed_attempt_before(run: RunDirectory) -> None:
    run.write_failure(Failure(stage="filter", exit_code=1, reason="killed"))
    assert run.read_failure("filter") is not None
    commit(run, "filter", {"a": "1"})
    assert run.read_failure("filter") is None


def test_an_earlier_result_is_found_by_its_fingerprint(run: RunDirectory) -> None:
    manifest = commit(run, "filter", {"a": "1"})
    run.remember("f" * 64, manifest)
    later = RunDirectory(f"{run.pipeline_path}/runs/later")
    assert later.cached("f" * 64) == manifest
    assert later.cached("0" * 64) is None


def test_an_earlier_result_whose_files_are_gone_is_not_reused(run: RunDirectory) -> None:
    run.remember("f" * 64, commit(run, "filter", {"a": "1"}))
    (Path(run.path) / "filter/a").unlink()
    assert run.cached("f" * 64) is None


def test_an_earlier_result_that_was_computed_anew_since_is_not_reused(run: RunDirectory) -> None:
    run.remember("f" * 64, commit(run, "filter", {"a": "1"}))
    commit(run, "filter", {"a": "2"})
    assert run.cached("f" * 64) is None


def test_the_digest_depends_on_names_and_content_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "folder").mkdir(parents=True)
        (tmp_path / name / "folder/b").write_text("b")
        (tmp_path / name / "a").write_text("a")

    def digest(name: str) -> str:
        outputs = describe_outputs(tmp_path / name)
        manifest = Manifest(
            stage="filter", fingerprint=name, location=name, outputs=outputs
        ).sealed()
        assert manifest.sealed().outputs_digest == manifest.outputs_digest
        return manifest.sealed().digest

    assert digest("one") == digest("two")
    (tmp_path / "two/folder/b").rename(tmp_path / "two/folder/c")
    assert digest("one") != digest("two")


def test_equal_results_have_equal_digests_whenever_and_wherever_they_were_computed(
    run: RunDirectory,
) -> None:
    manifest = commit(run, "filter", {"a": "1"}, metrics={"filter.rows": 3})
    again = manifest.model_copy(
        update={"seconds": 9.0, "started_at": "2999", "reused_from": "s3://x", "location": "s3://y"}
    )
    assert again.sealed().digest == manifest.digest


EDITS: dict[str, dict[str, Any]] = {
    "a metric": {"metrics": {"evaluate.accuracy": 0.999}},
    "a metric more": {"metrics": {"evaluate.accuracy": 0.6, "evaluate.recall": 1.0}},
    "a note": {"notes": {"evaluate.accuracy": "of class 'b'"}},
    "no warning": {"warnings": []},
    "an input": {"inputs": {"train": "e" * 64}},
    "the settings": {"settings": {"bootstrap": 0}},
    "the rows": {"rows_out": 5000},
    "an output": {"outputs": []},
    "an address": {"addresses": {"report": "https://elsewhere"}},
    "another stage": {"stage": "train"},
    "the older format": {"metrics": {"evaluate.accuracy": 0.999}, "format": 1},
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest_is_not_read(
    run: RunDirectory, edit: str, caplog: pytest.LogCaptureFixture
) -> None:
    commit(
        run,
        "evaluate",
        {"a": "1"},
        metrics={"evaluate.accuracy": 0.6},
        notes={"evaluate.accuracy": "of class 'a'"},
        warnings=["few rows"],
        inputs={"train": "d" * 64},
        settings={"bootstrap": 100},
        rows_out=50,
    )
    assert run.read_manifest("evaluate") is not None
    path = Path(run.path) / "evaluate/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | EDITS[edit]))
    assert run.read_manifest("evaluate") is None
    assert "evaluate/manifest.json: is not as it was committed" in caplog.text
    assert run.examine_manifest("evaluate")[1] in caplog.text


def test_a_manifest_of_the_older_format_is_read_and_is_no_evidence_nor_taken_over(
    run: RunDirectory,
) -> None:
    manifest = commit(run, "filter", {"a": "1"}, metrics={"filter.rows": 3})
    old = manifest.model_copy(update={"format": 1, "digest": manifest.outputs_digest})
    document = old.model_dump(mode="json", exclude={"format", "settings", "state"})
    run.write_json("filter/manifest.json", document)
    assert run.read_manifest("filter") == old
    assert not old.is_evidence
    run.remember("f" * 64, old)
    assert run.cached("f" * 64) is None


VERDICT = {"blessed": True, "model": {"name": "films", "version": "1", "digest": "d"}}


def test_a_committed_verdict_is_read(run: RunDirectory) -> None:
    commit(run, "bless", {"verdict.json": json.dumps(VERDICT)})
    verdict = run.read_verdict()
    assert verdict is not None
    assert verdict.blessed


@pytest.mark.parametrize("text", ["", "{}", json.dumps(VERDICT | {"blessed": "perhaps"})])
def test_a_verdict_that_says_nothing_clear_is_none(run: RunDirectory, text: str) -> None:
    commit(run, "bless", {"verdict.json": text})
    assert run.read_verdict() is None


@pytest.mark.parametrize("value", ["0.99", True, None, [0.99]])
def test_a_metric_that_is_no_number_makes_the_manifest_unreadable(
    run: RunDirectory, value: object
) -> None:
    manifest = commit(run, "evaluate", {}, metrics={"evaluate.accuracy": 1})
    assert run.read_manifest("evaluate") == manifest
    document = manifest.model_dump() | {"metrics": {"evaluate.accuracy": value}}
    run.write_json("evaluate/manifest.json", document)
    assert run.read_manifest("evaluate") is None


@pytest.mark.parametrize(
    "odd",
    [
        {"blessed": "true"},
        {"blessed": 1},
        {"deployable": "yes"},
        {"rules": [{"metric": "a", "bound": ">= 0", "passed": 1, "reason": ""}]},
        {"rules": [{"metric": "a", "bound": "", "passed": True, "reason": "", "value": "1"}]},
    ],
    ids=json.dumps,
)
def test_a_verdict_with_words_for_numbers_is_none(run: RunDirectory, odd: dict) -> None:
    commit(run, "bless", {"verdict.json": json.dumps(VERDICT | odd)})
    assert run.read_verdict() is None


def test_a_verdict_of_an_earlier_release_may_serve_as_it_said(run: RunDirectory) -> None:
    rules = [{"metric": "a", "bound": ">= 0", "passed": True, "reason": "", "value": 1}]
    commit(run, "bless", {"verdict.json": json.dumps(VERDICT | {"rules": rules})})
    found = run.read_verdict()
    assert found is not None
    assert found.may_serve
    assert found.word == "blessed"


def test_a_verdict_under_changed_rules_may_not_serve(run: RunDirectory) -> None:
    rules = [{"metric": "a", "bound": ">= 0", "passed": True, "reason": "", "value": 1}]
    changes = [{"field": "blessing.rules", "file": [1], "run": []}]
    document = VERDICT | {"rules": rules, "changes": changes, "deployable": False}
    commit(run, "bless", {"verdict.json": json.dumps(document)})
    found = run.read_verdict()
    assert found is not None
    assert (found.passed, found.may_serve) == (True, False)
    assert found.word == "passed, not deployed"
    assert "passed its rules, but under changed rules: not deployed (blessing.rules)" in (
        found.refusal
    )


def test_a_verdict_changed_after_its_commit_is_none(run: RunDirectory) -> None:
    refused = json.dumps(VERDICT | {"blessed": False})
    commit(run, "bless", {"verdict.json": refused})
    (Path(run.path) / "bless/verdict.json").write_text(json.dumps(VERDICT))
    assert run.read_verdict() is None


def test_a_verdict_without_a_manifest_is_none(run: RunDirectory) -> None:
    (Path(run.path) / "bless").mkdir(parents=True)
    (Path(run.path) / "bless/verdict.json").write_text(json.dumps(VERDICT))
    assert run.read_verdict() is None
