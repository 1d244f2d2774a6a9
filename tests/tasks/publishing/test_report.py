"""The report page where the pipeline file says, at once or not at all, and its addresses."""

from pathlib import Path

import pytest
from s3fs import S3FileSystem

from tasks.contract import Manifest, RunDirectory
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tasks.tracking_records import stage_tags

from .conftest import DOCUMENT


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TRUSTED_RETRAINING_STATE", str(tmp_path / "state"))


def report(run: RunDirectory, **section: str) -> Manifest:
    publish = {"report": section} if section else {}
    return run_stage(
        load_stage("report"),
        pipeline=Pipeline.model_validate({**DOCUMENT, "publish": publish}),
        run=run,
        environment=Environment.read(),
    )


def test_the_page_is_where_the_file_says_and_its_address_is_told(
    arranged_run: RunDirectory, tmp_path: Path
) -> None:
    manifest = report(
        arranged_run, uri=str(tmp_path / "reports"), browse="https://reports.example/nights/"
    )
    page = tmp_path / "reports/films/one/report.html"
    assert page.read_bytes() == (Path(arranged_run.path) / "report/report.html").read_bytes()
    assert manifest.addresses == {
        "report": f"file://{page}",
        "report_page": "https://reports.example/nights/films/one/report.html",
    }
    tags = stage_tags(manifest, arranged_run)
    assert tags["address.report"] == manifest.addresses["report"]


def test_it_is_written_again_when_the_report_is(arranged_run: RunDirectory, tmp_path: Path) -> None:
    report(arranged_run, uri=str(tmp_path))
    page = tmp_path / "films/one/report.html"
    page.write_text("an old one")
    report(arranged_run, uri=str(tmp_path))
    assert page.read_text() != "an old one"
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_nothing_is_published_unless_asked_for(arranged_run: RunDirectory) -> None:
    assert report(arranged_run).addresses == {}


def test_it_is_published_in_a_bucket(arranged_run: RunDirectory, bucket: S3FileSystem) -> None:
    manifest = report(arranged_run, uri="s3://published/reports")
    assert manifest.addresses == {"report": "s3://published/reports/films/one/report.html"}
    assert b"<html" in bucket.cat_file("published/reports/films/one/report.html")
