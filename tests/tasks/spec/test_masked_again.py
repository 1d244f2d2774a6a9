"""What was masked stays as it is: digests are made of masked texts."""

from pathlib import Path

import pytest

from tasks.contract import Manifest, RunDirectory
from tasks.spec.masking import masked

UNSETTLED = "&pwd%3d,#,#}#)#)#"
"""Made so that each mask makes room for another one."""


@pytest.mark.parametrize(
    "text",
    [
        "film;token={api}#1.png",
        'https://cookie":api_key//#Bearer abcdefgh1@"@',
        "#httpAuthorization=)#%token..:",
        "@api_key=#}[#//?",
        r";token=\n})http#;//films",
        UNSETTLED,
    ],
)
def test_what_was_masked_stays_as_it_is(text: str) -> None:
    once = masked(text)
    assert "***" in once
    assert masked(once) == once


@pytest.mark.parametrize("name", ["film;token={api}#1.png", UNSETTLED])
def test_a_manifest_that_quotes_such_a_text_can_be_read_again(tmp_path: Path, name: str) -> None:
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    manifest = Manifest(
        stage="ingest",
        fingerprint="f",
        location=run.stage_uri("ingest"),
        warnings=[f"row 1 {name}: no such file"],
    ).sealed()
    run.write_manifest(manifest)
    assert run.examine_manifest("ingest") == (manifest, "")
