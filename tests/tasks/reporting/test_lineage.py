"""Lineage tells which code a night ran, and keeps credentials to itself."""

import subprocess

from tasks.reporting.lineage import checkout_revision
from tasks.reporting.page import render_page


def test_credentials_in_an_address_stay_off_the_page(run):
    source = {"kind": "csv_images", "uri": "https://me:secret@host/data.zip?token=hidden"}
    run.write_json("pipeline.json", {"name": "demo", "source": source})
    html = render_page(run)
    assert "https://***@host/data.zip?***" in html
    assert "secret" not in html and "token=" not in html


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
