"""The page of results is made of the runs and of nothing else."""

import math
from pathlib import Path

import pytest

from benchmarks.nights import REPOSITORY
from benchmarks.published import experiments, page
from benchmarks.published.labelled import label_films
from benchmarks.published.statistics import estimate
from tasks.data.sources.cloud_annotations import read_cloud_annotations
from tasks.spec import apply_overrides, load_pipeline

EXPERIMENT = experiments.Experiment(
    name="one",
    pipeline="fashion_mnist",
    title="One, as it is (X)",
    source="x",
    seeds=2,
    key="evaluate.accuracy",
    metrics=["evaluate.least_recall"],
    original=experiments.Original(value=0.5, what="accuracy", **{"from": "a paper"}),
)


def run(seed: int, accuracy: float, *refused_by: str) -> dict[str, object]:
    return {
        "experiment": "one",
        "seed": seed,
        "revision": "abc",
        "stages": {"train": 2.0, "evaluate": 1.0 + seed},
        "blessed": not refused_by,
        "refused_by": list(refused_by),
        "metrics": {"evaluate.accuracy": accuracy},
    }


def test_interval_of_known_values() -> None:
    # quantile 0.975 of Student's t with 4 degrees of freedom: 2.7764451
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert (found.mean, found.runs) == (3.0, 5)
    assert found.low == pytest.approx(3 - half) and found.high == pytest.approx(3 + half)


def test_one_run_has_no_interval() -> None:
    assert str(estimate([0.25])) == "0.250"


@pytest.mark.parametrize("values", [[], [0.1, math.nan]])
def test_no_value_is_not_averaged_away(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no mean"):
        estimate(values)


def test_page_sets_ours_beside_theirs() -> None:
    text = page.render([EXPERIMENT], [run(0, 0.6), run(1, 0.8, "evaluate.least_recall")])
    assert "| `evaluate.accuracy` | 0.5 | 0.700 (-0.571 to 1.971) | 2 | 1 of 2 |" in text
    assert "[One, as it is (X)](#one-as-it-is-x)" in text
    assert "| `evaluate.least_recall` | - |" in text
    assert "Refused by `evaluate.least_recall`" in text
    assert "| 3 to 4 |" in text


def test_an_experiment_without_runs_is_left_out() -> None:
    assert "One, as it is" not in page.render([EXPERIMENT], [])


@pytest.mark.parametrize("experiment", experiments.load(), ids=lambda one: one.name)
def test_every_experiment_fits_its_pipeline(experiment: experiments.Experiment) -> None:
    pipeline = load_pipeline(REPOSITORY / f"dags/pipelines/{experiment.pipeline}.yaml")
    apply_overrides(pipeline, experiment.filled(Path("/data")) | {"train.seed": 1})


@pytest.mark.data
def test_films_are_labelled_as_a_bucket_would_be(shared_data: Path, tmp_path: Path) -> None:
    folder = label_films(shared_data / "covid-chestxray", tmp_path / "bucket")
    images, warnings = read_cloud_annotations(folder / "_annotations.json")
    assert len(images) == len(list(folder.iterdir())) - 1 > 150
    assert {label for image in images for label in image.labels} == {"COVID-19", "other"}
    assert sum(bool(image.boxes) for image in images) > 30
    assert not warnings
