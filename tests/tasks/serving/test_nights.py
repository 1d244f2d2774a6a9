"""Nights that follow each other: bless and deploy with a real registry and a running server."""

import dataclasses
import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks import registry, tracking
from tasks.contract import (
    BadInput,
    Manifest,
    RunDirectory,
    StageError,
    Verdict,
    describe_outputs,
    now,
    tree_sha256,
)
from tasks.data.trained_on import TRAINED_ON, TrainedOn
from tasks.environment import Environment
from tasks.gate.evidence import JUDGED
from tasks.runner import run_stage
from tasks.serving.client import ServerClient
from tasks.serving.files import read_pointer
from tasks.spec import Pipeline, apply_overrides
from tasks.stages import load_stage
from tests.tasks.places import environment_at

pytestmark = pytest.mark.usefixtures("made_up_evidence")

PIPELINE = Pipeline.model_validate(
    {
        "name": "demo",
        "source": {"kind": "synthetic"},
        "label": {"column": "colour", "classes": ["red", "green"]},
        # JPEG decoders differ by a grey level
        "deploy": {"tolerance": 0.02, "known_answers": 3},
        "blessing": {"champion": {"metric": "accuracy", "margin": 0.0}},
    }
)
GOOD = {"evaluate.least_recall": 0.9, "evaluate.balanced_accuracy_above_chance": 0.8}
Commit = Callable[..., RunDirectory]
Start = Callable[[Path], AbstractContextManager[tuple["subprocess.Popen[bytes]", str]]]


@pytest.fixture
def place(tmp_path: Path, serving_python: Path) -> Environment:
    """Registry and serving root of this test."""
    return environment_at(
        tmp_path,
        mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
        serving_python=serving_python,
        state_dir=tmp_path,
    )


@pytest.fixture
def server(start_server: Start, place: Environment) -> "Iterator[subprocess.Popen[bytes]]":
    place.serving_root.mkdir()
    with start_server(place.serving_root) as (process, url):
        object.__setattr__(place, "server_url", url)
        yield process


@pytest.fixture
def night(
    tmp_path: Path,
    saved_models: dict[str, Path],
    images: list[bytes],
    expected: dict[str, Any],
) -> Commit:
    """Return a function that commits all that comes before the verdict."""

    def committed(
        run_id: str,
        version: str,
        *,
        champion: str | None = None,
        answers: str | None = None,
        metrics: dict[str, float] = GOOD,
    ) -> RunDirectory:
        run = RunDirectory(str(tmp_path / "demo" / "runs" / run_id))
        ids = [f"{index}.image" for index in range(len(images))]
        for stage in JUDGED:
            folder = Path(run.path) / stage
            folder.mkdir(parents=True)
            if stage == "train":
                (folder / "model").mkdir()
                for file in sorted(saved_models[version].rglob("*")):
                    target = folder / "model" / file.relative_to(saved_models[version])
                    if file.is_dir():
                        target.mkdir()
                    else:
                        target.write_bytes(file.read_bytes())
            elif stage == "arrange":
                (folder / "folders").mkdir()
                for name, image in zip(ids, images, strict=True):
                    (folder / "folders" / name).write_bytes(image)
                digests = [hashlib.sha256(image).hexdigest() for image in images]
                table = {"image_id": ids, "image_path": ids, "split_side": "test"}
                table |= {"image_sha256": digests}
                pd.DataFrame(table).to_parquet(folder / "images.parquet")
                trained = pd.DataFrame(table).assign(split_side="train")
                TrainedOn.of(trained, PIPELINE.split).write(folder / TRAINED_ON)
                document = {"classes": ["red", "green"], "positive": None}
                (folder / "classes.json").write_text(json.dumps(document))
            elif stage == "evaluate":
                rows = {
                    "image_id": ids,
                    "class_index": [0, 1, 0],
                    "predicted_index": [0, 1, 0],
                    "probabilities": [list(each) for each in expected[answers or version]],
                    "champion_predicted_index": [0, 1, 0],
                }
                pd.DataFrame(rows).to_parquet(folder / "predictions.parquet")
                known = {"digest": tree_sha256(saved_models[champion])} if champion else None
                (folder / "evaluation.json").write_text(json.dumps({"champion": known}))
            outputs = describe_outputs(folder)
            run.write_manifest(
                Manifest(
                    stage=stage,
                    fingerprint="f",
                    location=run.stage_uri(stage),
                    outputs=outputs,
                    metrics=metrics if stage == "evaluate" else {},
                    started_at=now(),
                ).sealed()
            )
        return run

    return committed


def perform(stage: str, run: RunDirectory, place: Environment) -> Manifest:
    return run_stage(load_stage(stage), pipeline=PIPELINE, run=run, environment=place)


def verdict(run: RunDirectory) -> Verdict:
    found = run.read_verdict()
    assert found is not None
    return found


def champion_of(place: Environment) -> str | None:
    identity = registry.champion_identity(place, "demo")
    return identity[0] if identity else None


def tags_of(place: Environment, version: str) -> dict[str, str]:
    with tracking.mlflow_client(place) as client:
        return dict(client.get_model_version("demo", version).tags)


class Askers:
    """Clients that ask the server all the time, and remember who answered."""

    def __init__(self, url: str, images: list[bytes]) -> None:
        self.answered: list[str] = []
        self.failures: list[Exception] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, images)) for _ in range(2)]

    def _ask(self, url: str, images: list[bytes]) -> None:
        with ServerClient(url) as client:
            while not self._done.is_set():
                try:
                    self.answered.append(client.predict_v1("demo", images[:1])["model_version"])
                except StageError as error:
                    self.failures.append(error)
                time.sleep(0.02)

    def __enter__(self) -> "Askers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


def test_a_better_challenger_takes_over_without_a_failed_request_and_a_wrong_one_does_not(
    night: Commit,
    place: Environment,
    server: "subprocess.Popen[bytes]",
    images: list[bytes],
) -> None:
    first = night("one", "1")
    perform("bless", first, place)
    assert verdict(first).blessed
    perform("deploy", first, place)
    assert champion_of(place) == "1"

    # the second night's predictions are those of another model: what is served would differ
    wrong = night("wrong", "2", champion="1", answers="1")
    perform("bless", wrong, place)
    assert verdict(wrong).model.version == "2"
    with Askers(place.server_url, images) as askers:
        with pytest.raises(StageError, match="differ from the offline predictions"):
            perform("deploy", wrong, place)
    assert askers.failures == []
    assert set(askers.answered) == {"1"}
    assert champion_of(place) == "1"
    pointer = read_pointer(place.serving_root / "demo")
    assert pointer is not None and pointer.version == "1"

    second = night("two", "2", champion="1")
    perform("bless", second, place)
    assert verdict(second).champion is not None
    with Askers(place.server_url, images) as askers:
        perform("deploy", second, place)
        seen = len(askers.answered)
        while len(askers.answered) < seen + 4:
            time.sleep(0.01)
    assert askers.failures == []
    assert set(askers.answered) == {"1", "2"}
    assert askers.answered[-1] == "2"
    assert champion_of(place) == "2"
    deployment = json.loads((Path(second.path) / "deploy/deployment.json").read_text())
    assert deployment["previous"]["version"] == "1"
    # what both were trained on is kept beside them and in the registry
    for run in (first, second):
        model = verdict(run).model
        beside = place.serving_root / "demo" / f"{model.digest[:12]}.{TRAINED_ON}"
        assert tags_of(place, model.version or "")["trained_on"] == TrainedOn.read(beside).digest

    # the same night's task once more: nothing moves
    again = perform("deploy", second, place)
    assert again.metrics["deploy.already_serving"] == 1
    assert champion_of(place) == "2"


def test_a_server_that_dies_leaves_the_champion_and_the_pointer(
    night: Commit, place: Environment, server: "subprocess.Popen[bytes]"
) -> None:
    first = night("one", "1")
    perform("bless", first, place)
    perform("deploy", first, place)
    second = night("two", "2", champion="1")
    short = PIPELINE.model_copy(
        update={"deploy": PIPELINE.deploy.model_copy(update={"startup_seconds": 20})}
    )
    run_stage(load_stage("bless"), pipeline=short, run=second, environment=place)
    server.kill()
    server.wait()
    with pytest.raises(StageError, match=r"127\.0\.0\.1"):
        run_stage(load_stage("deploy"), pipeline=short, run=second, environment=place)
    assert champion_of(place) == "1"
    pointer = read_pointer(place.serving_root / "demo")
    assert pointer is not None and pointer.version == "1"


def test_of_two_nights_that_judged_against_the_same_champion_only_the_first_deploys(
    night: Commit, place: Environment
) -> None:
    one, two = night("one", "1"), night("two", "2")
    perform("bless", one, place)
    perform("bless", two, place)
    perform("deploy", one, place)
    with pytest.raises(BadInput, match="version 1 became champion after the verdict was given"):
        perform("deploy", two, place)
    assert champion_of(place) == "1"


def test_a_champion_judged_again_keeps_the_verdict_that_made_it_champion(
    night: Commit, place: Environment
) -> None:
    first = night("one", "1")
    perform("bless", first, place)
    registry.set_alias(place, "demo", registry.CHAMPION, "1")
    again = night("again", "1", champion="1", metrics=GOOD | {"evaluate.least_recall": 0.0})
    perform("bless", again, place)
    perform("reject", again, place)
    tags = tags_of(place, "1")
    assert (tags["verdict"], tags["run_uri"]) == ("blessed", first.uri)
    assert (tags["last_verdict"], tags["last_run_uri"]) == ("rejected", again.uri)
    assert "least_recall" in tags["last_reasons"]
    # a version that does not serve carries the newest verdict
    other = night("other", "2", champion="1", metrics=GOOD | {"evaluate.least_recall": 0.0})
    perform("bless", other, place)
    better = night("better", "2", champion="1")
    perform("bless", better, place)
    assert tags_of(place, "2")["verdict"] == "blessed"
    assert "last_verdict" not in tags_of(place, "2")


def test_a_refusal_stays_beside_a_later_blessing_of_the_same_model(
    night: Commit, place: Environment
) -> None:
    refused = night("one", "1", metrics=GOOD | {"evaluate.least_recall": 0.0})
    perform("bless", refused, place)
    perform("reject", refused, place)
    lax = apply_overrides(PIPELINE, {"blessing.without": ["evaluate.least_recall"]})
    again = night("two", "1", metrics=GOOD | {"evaluate.least_recall": 0.0})
    run_stage(
        load_stage("bless"),
        pipeline=lax,
        file=PIPELINE,
        requested_by="admin",
        run=again,
        environment=place,
    )
    tags = tags_of(place, "1")
    assert tags["verdict"] == "passed, not deployed"
    assert "least_recall" in tags["rejected_before"]
    kept = [json.loads(text) for key, text in sorted(tags.items()) if key.startswith("verdict.")]
    assert [(each["verdict"], each["requested_by"], each["changed"]) for each in kept] == [
        ("rejected", "", []),
        ("passed, not deployed", "admin", ["blessing.without"]),
    ]
    assert kept[0]["run_uri"] == refused.uri
    (earlier,) = verdict(again).earlier
    assert earlier.verdict == "rejected"
    assert "least_recall" in earlier.reasons[0]
    with pytest.raises(BadInput, match="under changed rules: not deployed"):
        perform("deploy", again, place)
    assert champion_of(place) is None
    # a third run under the rules of the file, in which the model is as it must be
    third = night("three", "1")
    perform("bless", third, place)
    tags = tags_of(place, "1")
    assert tags["verdict"] == "blessed"
    assert "least_recall" in tags["rejected_before"]
    assert [each.verdict for each in verdict(third).earlier] == [
        "rejected",
        "passed, not deployed",
    ]


def test_what_an_earlier_release_said_of_a_model_is_kept(night: Commit, place: Environment) -> None:
    perform("bless", night("one", "1"), place)
    with tracking.mlflow_client(place) as client:
        for key in tags_of(place, "1"):
            if key.startswith("verdict."):
                client.delete_model_version_tag("demo", "1", key)
        client.set_model_version_tag("demo", "1", "verdict", "rejected")
        client.set_model_version_tag("demo", "1", "reasons", "women are found less often")
    again = night("two", "1")
    perform("bless", again, place)
    assert json.loads(tags_of(place, "1")["verdict.before"])["reasons"] == [
        "women are found less often"
    ]
    assert [each.verdict for each in verdict(again).earlier] == ["rejected"]


def test_the_champion_judged_again_every_night_does_not_fill_its_tags(
    night: Commit, place: Environment
) -> None:
    for name in ("one", "two", "three"):
        perform("bless", night(name, "1"), place)
    assert sum(key.startswith("verdict.") for key in tags_of(place, "1")) == 1


def test_predictions_changed_after_the_evaluation_are_no_evidence(
    night: Commit, place: Environment
) -> None:
    perform("bless", night("one", "1"), place)
    registry.set_alias(place, "demo", registry.CHAMPION, "1")
    run = night("two", "2", champion="1")
    path = Path(run.path) / "evaluate" / "predictions.parquet"
    pd.read_parquet(path).assign(champion_predicted_index=[1, 0, 1]).to_parquet(path)
    perform("bless", run, place)
    assert not verdict(run).blessed
    assert "predictions.parquet: is not what evaluate committed" in verdict(run).reasons[0]


def test_a_verdict_without_a_registered_version_is_not_deployed_where_there_is_a_registry(
    night: Commit, place: Environment
) -> None:
    run = night("one", "1")
    perform("bless", run, dataclasses.replace(place, mlflow_uri=""))
    assert verdict(run).blessed
    with pytest.raises(BadInput, match="no registered version"):
        perform("deploy", run, place)
