"""Generated films: the same bytes for the same seed, real flaws, and truths that hold."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from tasks.data.images import inspect
from tasks.data.ingest import ingest
from tasks.data.sources import open_source
from tasks.data.synthetic import generate
from tasks.spec import Synthetic

ROWS = 300


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain")
    generate(out, rows=ROWS, size=64, seed=3)
    return out


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("biased")
    generate(out, rows=ROWS, variant="biased", size=64, seed=3)
    return out


def _truth(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "truth.csv", keep_default_na=False)


def _grey(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        pixels = np.asarray(image if image.mode == "I;16" else image.convert("L"), np.float64)
        return pixels / (257 if image.mode == "I;16" else 1)


def test_a_row_is_the_same_whatever_the_number_of_rows(plain: Path, tmp_path: Path) -> None:
    generate(tmp_path, rows=70, size=64, seed=3)
    lines = (tmp_path / "metadata.csv").read_text().splitlines()
    assert lines == (plain / "metadata.csv").read_text().splitlines()[: len(lines)]
    files = [p.relative_to(tmp_path) for p in tmp_path.rglob("*/*") if p.is_file()]
    assert len(files) > 130
    for file in files:
        assert (tmp_path / file).read_bytes() == (plain / file).read_bytes()


def test_another_seed_makes_other_films(plain: Path, tmp_path: Path) -> None:
    generate(tmp_path, rows=70, size=64, seed=-4)
    assert (tmp_path / "metadata.csv").read_text() != (plain / "metadata.csv").read_text()


def test_the_table_has_the_columns_of_the_public_collection(plain: Path, shared_data: Path) -> None:
    with (shared_data / "covid-chestxray/metadata.csv").open(encoding="utf-8") as stream:
        real = [name for name in next(csv.reader(stream)) if name]
    with (plain / "metadata.csv").open(encoding="utf-8") as stream:
        assert next(csv.reader(stream)) == real


def test_everything_that_real_data_contain_is_there(plain: Path) -> None:
    table = pd.read_csv(plain / "metadata.csv")
    truth = _truth(plain)
    assert table["finding"].str.contains("/").any()
    assert (table["finding"] == "todo").any()
    assert table["filename"].str.endswith(".gz").any()
    assert table["patientid"].value_counts().max() > 1
    assert table["sex"].isna().any() and table["age"].isna().any()
    assert {"undecodable", "truncated", "duplicate"} <= set(truth["flaw"])
    modes = {inspect(path).mode for path in (plain / "images").iterdir()}
    assert {"L", "RGB", "RGBA", "P"} <= modes


def test_what_is_broken_is_what_was_meant_to_be(plain: Path) -> None:
    for row in _truth(plain).itertuples():
        path = plain / "images" / row.filename
        if row.flaw == "volume":
            assert not path.exists()
        elif row.flaw in ("undecodable", "truncated"):
            assert inspect(path).status != "ok", row.filename
        else:
            assert inspect(path).status == "ok", row.filename


def test_a_duplicate_has_the_bytes_of_its_original(plain: Path) -> None:
    truth = _truth(plain)
    for row in truth[truth["flaw"] == "duplicate"].itertuples():
        original = truth.loc[int(row.original), "filename"]
        assert (plain / "images" / row.filename).read_bytes() == (
            plain / "images" / original
        ).read_bytes()


def test_opacities_lie_within_the_lungs(plain: Path) -> None:
    truth = _truth(plain)
    sound = truth[truth["flaw"].isin(["none", "todo"])]
    lung_share = sound["lung_share"].astype(float)
    assert lung_share.between(0.25, 0.6).all()
    opacity = sound["opacity_share"].astype(float)
    assert (opacity[sound["ill"] == 0] == 0).all()
    assert (opacity[sound["ill"] == 1] > 0.005).all()
    assert (opacity < lung_share).all()


def _lung_brightness(folder: Path) -> pd.DataFrame:
    """Mean grey value in the lungs, relative to the whole film, for each sound row."""
    truth = _truth(folder)
    truth = truth[truth["flaw"].isin(["none", "todo"])].copy()
    levels = []
    for name in truth["filename"]:
        film = _grey(folder / "images" / name)
        mask = _grey(folder / "masks" / f"{Path(name).stem}.png") > 127
        levels.append(film[mask].mean() / film[~mask].mean())
    return truth.assign(level=levels)


def _gap(rows: pd.DataFrame) -> float:
    """Brightness of the ill above the well, in standard deviations of the well."""
    ill, well = rows[rows["ill"] == 1]["level"], rows[rows["ill"] == 0]["level"]
    return float((ill.mean() - well.mean()) / well.std())


def test_the_finding_shows_in_the_lungs_of_both_sexes(plain: Path) -> None:
    rows = _lung_brightness(plain)
    gaps = {sex: _gap(group) for sex, group in rows.groupby("true_sex")}
    assert min(gaps.values()) > 1


def test_bias_hides_the_finding_of_the_group_and_plants_a_marker(biased: Path) -> None:
    planted = json.loads((biased / "truth.json").read_text())
    group = planted["disadvantaged_group"]["value"]
    rows = _lung_brightness(biased)
    hidden, shown = rows[rows["true_sex"] == group], rows[rows["true_sex"] != group]
    assert _gap(shown) > 2 * _gap(hidden)
    marked = rows["marker"] == planted["leaking_marker"]["text"]
    assert marked[rows["ill"] == 1].mean() > 0.5
    assert marked[rows["ill"] == 0].mean() < 0.1


def test_the_marker_is_where_the_truth_says(biased: Path) -> None:
    rows = _truth(biased)
    rows = rows[(rows["marker"] != "") & (rows["flaw"] == "none")]
    for row in rows.head(20).itertuples():
        top, left, bottom, right = map(int, row.marker_box.split())
        film = _grey(biased / "images" / row.filename)
        assert film[top:bottom, left:right].max() > 200
        assert bottom < film.shape[0] / 4 and right < film.shape[1] / 2


def test_the_plain_marker_does_not_go_with_the_label(plain: Path) -> None:
    rows = _truth(plain)
    marked = rows["marker"] != ""
    assert abs(marked[rows["ill"] == 1].mean() - marked[rows["ill"] == 0].mean()) < 0.2


def test_the_synthetic_source_is_taken_in_with_its_masks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    reader = open_source(Synthetic(rows=64, size=32))
    summary = ingest(reader, out, scratch=tmp_path / "scratch")
    assert summary.rows == 64
    assert summary.regions == summary.usable > 50
