"""Lineage tells which fields a night changed and which code it ran."""

import json
import subprocess

import yaml

from tasks.reporting.lineage import checkout_revision, overrides
from tasks.reporting.page import render_page
from tasks.spec import apply_overrides


def test_the_fields_that_a_night_changed_are_told_apart_from_the_file(pipeline, tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(json.loads(pipeline.to_json())))
    changed = apply_overrides(pipeline, {"train.epochs": 2, "source.seed": 11})
    assert overrides(json.loads(changed.to_json()), path) == [
        ("source.seed", 7, 11),
        ("train.epochs", 10, 2),
    ]
    assert overrides(json.loads(pipeline.to_json()), path) == []


def test_credentials_in_an_address_stay_off_the_page(run):
    source = {"kind": "csv_images", "uri": "https://me:secret@host/data.zip?token=hidden"}
    run.write_json("pipeline.json", {"name": "demo", "source": source})
    html = render_page(run)
    assert "https://***@host/data.zip?***" in html
    assert "secret" not in html and "token=" not in html


def test_without_a_readable_pipeline_file_nothing_is_said_of_overrides(pipeline, tmp_path):
    assert overrides(json.loads(pipeline.to_json()), tmp_path / "absent.yaml") is None


def test_the_code_revision_is_that_of_the_checkout_and_tells_local_changes(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert checkout_revision(tmp_path) == ""
    (tmp_path / "code.py").write_text("1\n")
    git("init", "--quiet")
    git("add", "code.py")
    git("commit", "--quiet", "-m", "first")
    assert checkout_revision(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "code.py").write_text("2\n")
    assert checkout_revision(tmp_path) == git("rev-parse", "HEAD") + ", with local changes"
