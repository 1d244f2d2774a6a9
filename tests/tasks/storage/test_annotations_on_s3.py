"""A bucket labelled with Cloud Annotations, on a real S3 API; a database with images in one."""

import csv
import io
import json
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.contract import NoInput, RunDirectory
from tasks.data.boxes import clipped
from tasks.data.ingest import ingest
from tasks.data.sources import open_source
from tasks.data.sources.coco_file import read_coco
from tasks.data.tables import read_table
from tasks.runner import run_stage
from tasks.spec import CloudAnnotations, Sql, apply_overrides, load_pipeline
from tasks.stages import load_stage
from tests.tasks.places import environment_at

PIPELINE = Path(__file__).parents[3] / "dags/pipelines/annotations.yaml"
STAGES = ("ingest", "transform", "filter", "arrange", "validate", "train", "evaluate", "explain")


def film(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def mugs(store):
    """A bucket of twenty small images; a run and a model lie beside them."""
    names = [f"{number:02}.png" for number in range(20)]
    box = {"x": 0.5, "y": 0, "x2": 1, "y2": 1}
    document = {
        "type": "localization",
        "labels": ["mug", "cup"],
        "annotations": {name: [{"label": "mug", **box}] for name in [*names, "gone.png"]},
    }
    for number, name in enumerate(names):
        store.fs.pipe_file(f"nights/mugs/{name}", film(number))
    store.fs.pipe_file("nights/mugs/_annotations.json", json.dumps(document).encode())
    for name in ("unlabelled.png", "runs/one/ingest/images.tar", "model.keras"):
        store.fs.pipe_file(f"nights/mugs/{name}", b"x")
    return store


def test_a_labelled_bucket_is_taken_in_and_nothing_else_of_it(mugs, tmp_path):
    reader = open_source(CloudAnnotations(uri="s3://nights/mugs"))
    del mugs.seen[:]
    (tmp_path / "out").mkdir()
    summary = ingest(reader, tmp_path / "out", scratch=tmp_path / "scratch")
    assert (summary.rows, summary.usable, summary.missing, summary.regions) == (21, 20, 1, 20)
    assert (tmp_path / "out/images/07.png").read_bytes() == film(7)
    fetched = [line for line in mugs.seen if line.startswith("GET") and "list-type" not in line]
    assert not [line for line in fetched if "unlabelled" in line or "/runs/" in line]
    # a listing of the folder, not a request an image
    assert mugs.count("list-type") < 8


def test_the_state_of_a_labelled_bucket_changes_with_what_is_labelled(mugs):
    reader = open_source(CloudAnnotations(uri="s3://nights/mugs"))
    first = reader.state()
    mugs.fs.pipe_file("nights/mugs/runs/two/ingest/images.tar", b"yy")
    mugs.fs.pipe_file("nights/mugs/unlabelled.png", b"yy")
    assert reader.state() == first
    mugs.fs.pipe_file("nights/mugs/03.png", film(99))
    assert reader.state() != first


def test_a_bucket_that_nobody_labelled_is_told(store):
    store.fs.pipe_file("nights/mugs/1.png", film(1))
    with pytest.raises(NoInput, match=r"there is nothing; looked for _annotations.json"):
        open_source(CloudAnnotations(uri="s3://nights/mugs")).state()


def test_rows_of_a_database_name_images_in_a_bucket(mugs, tmp_path):
    names = [
        *(f"s3://nights/mugs/{number:02}.png" for number in range(18)),
        *("18.png", "gone.png", "s3://nights/secret/1.png", "s3://nights/mugs/../secret/1.png"),
    ]
    mugs.fs.pipe_file("nights/secret/1.png", film(50))
    path = tmp_path / "films.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE films (image, finding)")
        connection.executemany("INSERT INTO films VALUES (?, 'mug')", [(name,) for name in names])
    connection.close()
    spec = Sql(
        address=f"sqlite:///{path}",
        query="SELECT image, finding FROM films ORDER BY rowid",
        images="s3://nights/mugs/",
        max_quarantined=1,
    )
    reader = open_source(spec)
    before = reader.state()
    del mugs.seen[:]
    (tmp_path / "out").mkdir()
    ingest(reader, tmp_path / "out", scratch=tmp_path / "scratch")
    statuses = read_table(tmp_path / "out/metadata.parquet")["image_status"].tolist()
    assert statuses == [*["ok"] * 19, "missing", "outside", "outside"]
    assert not mugs.count("secret")
    mugs.fs.pipe_file("nights/mugs/18.png", film(51))
    assert reader.state() != before


def lung_boxes(folder):
    """Yield name, finding and boxes of the public films whose lungs are boxed or masked."""
    boxed = read_coco(folder / "annotations/imageannotation_ai_lung_bounding_boxes.json")[0]
    boxes = {image.name: [box for _, box in image.boxes] for image in boxed}
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        name = row["filename"]
        mask = folder / f"annotations/lungVAE-masks/{Path(name).stem}_mask.png"
        if row["modality"] != "X-ray" or not (folder / "images" / name).exists():
            continue
        if name not in boxes and mask.exists():
            with Image.open(mask) as opened:
                left, top, right, bottom = opened.convert("L").getbbox()
                width, height = opened.size
            boxes[name] = [clipped(left / width, top / height, right / width, bottom / height)]
        if name in boxes:
            yield name, row["finding"], boxes[name]


@pytest.fixture
def films(store, shared_data):
    """Some public chest films as somebody would have labelled them; returns the annotations."""
    folder = shared_data / "covid-chestxray"
    annotations, counts = {}, Counter()
    for name, finding, boxes in lung_boxes(folder):
        label = "COVID-19" if "COVID-19" in finding else "other"
        if counts[label] == 35:
            continue
        counts[label] += 1
        annotations[name] = [
            {"label": label, "x": box.left, "y": box.top, "x2": box.right, "y2": box.bottom}
            for box in boxes
        ]
        store.fs.put_file(str(folder / "images" / name), f"nights/films/{name}")
    document = {"version": "1.0", "type": "localization", "labels": ["COVID-19", "other"]}
    document["annotations"] = annotations
    store.fs.pipe_file("nights/films/_annotations.json", json.dumps(document).encode())
    return annotations


@pytest.mark.data
def test_a_labelled_bucket_of_real_films_goes_through_the_stages(
    store, films, shared_data, tmp_path
):
    weights = shared_data / "weights/mobilenet_v2_0.35_224_no_top_imagenet.h5"
    pipeline = apply_overrides(
        load_pipeline(PIPELINE),
        {
            "source.uri": "s3://nights/films",
            "train.weights": str(weights),
            "train.image_size": [64, 64],
            "train.epochs": 2,
            "evaluate.bootstrap": 50,
            "explain.images": 4,
            "explain.samples": 60,
        },
    )
    environment = environment_at(tmp_path, scratch=tmp_path / "scratch")
    run = RunDirectory("s3://nights/runs/annotations/runs/one")
    metrics = {}
    for name in STAGES:
        manifest = run_stage(load_stage(name), pipeline=pipeline, run=run, environment=environment)
        metrics |= manifest.metrics
    assert len(films) > 60
    assert metrics["ingest.usable"] == metrics["ingest.regions"] == len(films)
    assert metrics["arrange.classes"] == 2 and metrics["arrange.test"] > 10
    assert metrics["explain.images_with_region"] == 4
    explained = json.loads(
        store.fs.cat_file("nights/runs/annotations/runs/one/explain/explanations.json")
    )
    # the region of each is what was drawn on it, on the pixels that the model sees
    for item in explained["images"]:
        drawn = np.zeros((960, 960), bool)
        for box in films[item["image_id"]]:
            rows = slice(round(box["y"] * 960), round(box["y2"] * 960))
            drawn[rows, round(box["x"] * 960) : round(box["x2"] * 960)] = True
        assert item["region_area"] == pytest.approx(drawn.mean(), abs=0.04)
    shares = [item["mass_inside_region"] for item in explained["images"]]
    assert all(share is None or 0 <= share <= 1 for share in shares)
    assert metrics["explain.focus"] > 0
    second = RunDirectory("s3://nights/runs/annotations/runs/two")
    again = run_stage(load_stage("ingest"), pipeline=pipeline, run=second, environment=environment)
    assert again.reused_from == run.uri
