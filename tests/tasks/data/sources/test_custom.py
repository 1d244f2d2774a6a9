"""A class of the user's own is a source; the example in the docs is one."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from tasks.contract import BadConfig, BadInput, RunDirectory
from tasks.data.sources import open_source
from tasks.runner import run_stage
from tasks.spec import Custom, Pipeline
from tasks.stages import load_stage
from tests.tasks.places import environment_at

Encode = Callable[..., bytes]

DOCS = Path(__file__).parents[4] / "docs"


@pytest.fixture(autouse=True)
def on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (DOCS / "examples", tmp_path / "code"):
        monkeypatch.syspath_prepend(str(folder))
    for name in ("sidecar_images", "mine"):
        sys.modules.pop(name, None)


def written(tmp_path: Path, body: str) -> Custom:
    """A reader whose ``open`` has the body given."""
    folder = tmp_path / "code"
    folder.mkdir(exist_ok=True)
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    (folder / "mine.py").write_text(
        "from pathlib import Path\n"
        "from tasks.data.sources import Contents, SourceReader, SourceRow\n"
        "class Mine(SourceReader):\n"
        "    def __init__(self, spec): self.spec = spec\n"
        "    def state(self): return 'always the same'\n"
        f"    def open(self, scratch):\n{lines}\n"
        "class Half(SourceReader):\n"
        "    def state(self): return ''\n"
    )
    sys.modules.pop("mine", None)
    return Custom(reader="mine:Mine")


def contents(rows: str) -> str:
    return f"return Contents(columns=['a', 'b'], rows=iter([{rows}]), images=scratch)"


def example() -> dict[str, Any]:
    """The pipeline file's section as the docs give it."""
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "sources.md").read_text(), re.S)
    found = [yaml.safe_load(block) for block in blocks if "kind: custom" in block]
    assert len(found) == 1
    return found[0]["source"]


def test_the_example_in_the_docs_works(tmp_path: Path, image_bytes: Encode) -> None:
    root = tmp_path / "root/films"
    root.mkdir(parents=True)
    for number in range(4):
        (root / f"{number}.png").write_bytes(image_bytes(number))
        note: dict[str, Any] = {"patient": f"p{number // 2}", "finding": "ab"[number % 2]}
        if number:
            note["lungs"] = [0.25, 0, 0.75, 1]
        (root / f"{number}.json").write_text(json.dumps(note))
    pipeline = Pipeline.model_validate(
        {
            "name": "films",
            "source": {**example(), "uri": str(tmp_path / "root")},
            "label": {"column": "finding"},
            "split": {"group": "patient"},
        }
    )
    environment = environment_at(tmp_path)
    run = RunDirectory(str(tmp_path / "runs/films/runs/one"))
    for name in ("ingest", "transform", "filter", "arrange"):
        manifest = run_stage(load_stage(name), pipeline=pipeline, run=run, environment=environment)
    assert manifest.metrics["arrange.images"] == 4
    table = pd.read_parquet(Path(run.path, "arrange/images.parquet"))
    assert sorted(table["finding"]) == ["a", "a", "b", "b"]
    assert table["region_path"].notna().sum() == 3
    assert len(list(Path(run.path, "arrange/regions/boxes").iterdir())) == 3


def test_what_the_example_cannot_read_it_names(tmp_path: Path) -> None:
    spec = {**example(), "uri": str(tmp_path)}
    with pytest.raises(BadInput, match=r"holds no folder 'films' \(source.options.folder\)"):
        open_source(Custom.model_validate(spec)).open(tmp_path / "scratch")
    (tmp_path / "films").mkdir()
    (tmp_path / "films/1.json").write_text("{}")
    with pytest.raises(BadInput, match=r"1.json: is no note of the scanner: 'patient'"):
        list(open_source(Custom.model_validate(spec)).open(tmp_path / "scratch").rows)


def test_a_changed_line_of_the_class_makes_the_result_stale(tmp_path: Path) -> None:
    first = open_source(written(tmp_path, contents(""))).state()
    assert open_source(written(tmp_path, contents(""))).state() == first
    assert open_source(written(tmp_path, contents("1"))).state() != first


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return []", "open returned a list, not tasks.data.sources.Contents"),
        (contents("['x', 'y']"), "row 1: is a list, not tasks.data.sources.SourceRow"),
        (contents("SourceRow(['x'], None)"), "row 1: has 1 values for 2 columns"),
        (
            contents("SourceRow(['x', 'y'], None), SourceRow(['x', 3], None)"),
            "row 2: column 'b' is a int, not text or None",
        ),
    ],
)
def test_what_a_class_gives_is_checked(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"source.reader: mine:Mine.*{message}"):
        list(open_source(written(tmp_path, body)).open(tmp_path).rows)


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ("nowhere.films:Reader", r"cannot be imported \(No module named 'nowhere'\); is it on"),
        ("json:Reader", r"cannot be imported \(module 'json' has no attribute 'Reader'\)"),
        ("json:loads", "is no subclass of tasks.data.sources.SourceReader"),
        ("mine:Half", r"lacks state\(\) or open\(\)"),
    ],
)
def test_a_class_that_is_none_is_refused(tmp_path: Path, reader: str, message: str) -> None:
    written(tmp_path, "return None")
    with pytest.raises(BadConfig, match=message):
        open_source(Custom(reader=reader))


@pytest.mark.parametrize(
    "reader", ["films", "films.Reader", "a-b:C", "a:b:c", "a:", ":C", "os;x:C"]
)
def test_a_name_that_is_none_is_refused(reader: str) -> None:
    with pytest.raises(ValidationError, match=r"is not package\.module:Class"):
        Custom(reader=reader)
