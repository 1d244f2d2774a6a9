"""The public chest films and Fashion-MNIST, through every data stage."""

import json
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from tasks.contract import RunDirectory
from tasks.data import Arranged
from tasks.data.split import in_test
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tasks.stages.base import StageInput
from tests.tasks.places import environment_at

pytestmark = pytest.mark.data

STAGES = ("ingest", "transform", "filter", "arrange", "validate")


def _night(pipeline: Pipeline, tmp_path: Path, run_id: str = "one") -> RunDirectory:
    run = RunDirectory(str(tmp_path / "root" / pipeline.name / "runs" / run_id))
    environment = environment_at(tmp_path)
    for stage in STAGES:
        run_stage(load_stage(stage), pipeline=pipeline, run=run, environment=environment)
    return run


def _arranged(run: RunDirectory) -> Arranged:
    manifest = run.read_manifest("arrange")
    assert manifest is not None
    return Arranged(StageInput(manifest))


@pytest.fixture
def covid(shared_data: Path) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "covid_xray",
            "source": {
                "kind": "csv_images",
                "uri": str(shared_data / "covid-chestxray"),
                "regions": "annotations/lungVAE-masks/{stem}_mask.png",
                "max_missing": 0.6,
            },
            "transform": [
                {"column": "finding", "function": "replace('/','_')"},
                {
                    "column": "finding",
                    "function": "map({'Pneumonia_Viral_COVID-19': 'COVID-19'}, default='other')",
                    "into": "label",
                },
            ],
            "filter": [
                "~metadata.filename.str.contains('.gz')",
                "metadata.finding != 'todo'",
            ],
            "label": {"column": "label", "classes": ["other", "COVID-19"]},
            "split": {"group": "patientid"},
            "fairness": {"protected": [{"attribute": "sex"}]},
        }
    )


def test_the_public_chest_films_are_arranged_by_patient(covid: Pipeline, tmp_path: Path) -> None:
    run = _night(covid, tmp_path)
    summary = json.loads(Path(run.path, "ingest/summary.json").read_text())
    assert (summary["rows"], summary["usable"], summary["missing"]) == (950, 495, 455)
    assert set(summary["modes"]) == {"L", "RGB", "RGBA"}
    steps = json.loads(Path(run.path, "filter/steps.json").read_text())
    assert [(step["before"], step["after"]) for step in steps] == [(950, 929), (929, 846)]
    arranged = _arranged(run)
    table = arranged.table()
    assert arranged.positive == "COVID-19"
    assert table.groupby("patientid")["split_side"].nunique().max() == 1
    assert 0.1 < (table["split_side"] == "test").mean() < 0.3
    assert sum(arranged.region(row) is not None for row in table.itertuples()) > 50
    assert sum(1 for _ in arranged.read_bytes(table.head(20))) == 20


def test_the_same_film_of_two_patients_is_found_twelve_times_and_kept_on_one_side(
    covid: Pipeline, tmp_path: Path
) -> None:
    films = covid.model_copy(update={"filter": [*covid.filter, "metadata.modality == 'X-ray'"]})
    run = _night(films, tmp_path)
    table = _arranged(run).table()
    assert len(table) == 380 and table["patientid"].nunique() == 198
    families = table.dropna(subset="near_duplicate_family").groupby("near_duplicate_family")
    assert families.size().tolist() == [2] * 12
    pairs = sorted(tuple(sorted(set(ids), key=int)) for ids in families["patientid"].unique())
    assert pairs == [
        *[("142", "446")] * 4,
        ("176", "448"),
        *[("87", "462")] * 3,
        *[("97", "178")] * 4,
    ]
    assert families["split_side"].nunique().tolist() == [1] * 12
    own = table["patientid"].map(lambda name: in_test(name, test=0.2))
    # by their own keys one pair would have a side each, and now trains; nobody else has moved
    assert own.groupby(table["near_duplicate_family"]).nunique().tolist().count(2) == 1
    assert Path(run.path, "validate/near_duplicates.png").stat().st_size > 10_000
    moved = table[own != (table["split_side"] == "test")]
    assert set(moved["patientid"]) == {"448"} and set(moved["split_side"]) == {"train"}


def test_a_source_that_has_not_changed_is_not_read_again(covid: Pipeline, tmp_path: Path) -> None:
    _night(covid, tmp_path, "first")
    run = _night(covid, tmp_path, "second")
    for stage in STAGES:
        manifest = run.read_manifest(stage)
        assert manifest is not None and manifest.reused_from is not None, stage


def test_fashion_mnist_is_read_from_the_official_files(shared_data: Path, tmp_path: Path) -> None:
    # the test images serve as training images too, so that the test is quick
    test = {
        "train_images": "t10k-images-idx3-ubyte.gz",
        "train_labels": "t10k-labels-idx1-ubyte.gz",
    }
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker"]
    pipeline = Pipeline.model_validate(
        {
            "name": "fashion",
            "source": {
                "kind": "idx",
                "uri": str(shared_data / "fashion-mnist"),
                "class_names": [*names, "Bag", "Ankle boot"],
                **test,
            },
            "filter": ["metadata.filename.str.match('test/0')"],
            "label": {"column": "label"},
            "split": {"test": 0.2, "layout": "shards"},
        }
    )
    run = _night(pipeline, tmp_path)
    arranged = _arranged(run)
    table = arranged.table()
    assert len(table) == 10_000
    assert table["class_name"].value_counts().tolist() == [1000] * 10
    assert Path(run.path, "arrange/train_shards/train-00000.tar").exists()


def test_folders_of_cifar10_are_read_from_their_archive(shared_data: Path, tmp_path: Path) -> None:
    whole, part = shared_data / "cifar10/cifar-10-jpeg.tar.xz", tmp_path / "part.tar.xz"
    with tarfile.open(whole, "r|xz") as read, tarfile.open(part, "w:xz", preset=0) as written:
        for entry in read:
            if entry.isfile() and PurePosixPath(entry.name).stem < "0006":
                written.addfile(entry, read.extractfile(entry))
    pipeline = Pipeline.model_validate(
        {
            "name": "cifar10",
            "source": {"kind": "class_folders", "uri": str(part), "levels": ["split", "label"]},
            "label": {"column": "label"},
            "split": {"column": "split"},
        }
    )
    table = _arranged(_night(pipeline, tmp_path)).table()
    counts = table.groupby(["split_side", "class_name"]).size()
    assert counts["test"].tolist() == counts["train"].tolist() == [6] * 10
