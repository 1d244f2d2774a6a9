"""What is put in the place of a result while others work with it is not what they work with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import (
    BadInput,
    Manifest,
    ModelIdentity,
    NoInput,
    RuleResult,
    RunDirectory,
    StageError,
    Verdict,
    read_blessing,
)
from tests.tasks.committed import commit
from tests.tasks.sound import Night, make_night, restored

Examine = Callable[[RunDirectory, str], tuple[Manifest | None, str]]


@pytest.fixture(scope="module")
def one_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return make_night(tmp_path_factory.mktemp("replaced") / "store")


@pytest.fixture
def night(one_night: Night, tmp_path: Path) -> Iterator[Night]:
    with restored(one_night, tmp_path / "aside"):
        yield one_night


def show(
    monkeypatch: pytest.MonkeyPatch, stage: str, *, number: int, instead: Manifest
) -> list[int]:
    """Let one reading of a stage's manifest, counted from 1, find another one; return the counts of
    all readings so far."""
    honest: Examine = RunDirectory.examine_manifest
    readings: list[int] = []

    def examine(run: RunDirectory, name: str) -> tuple[Manifest | None, str]:
        if name != stage:
            return honest(run, name)
        readings.append(len(readings) + 1)
        return (instead, "") if readings[-1] == number else honest(run, name)

    monkeypatch.setattr(RunDirectory, "examine_manifest", examine)
    return readings


def better(manifest: Manifest, **metrics: float) -> Manifest:
    return manifest.model_copy(update={"metrics": manifest.metrics | metrics}).sealed()


def test_the_verdict_is_on_what_its_manifest_says_it_is_on(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is examined once more from predictions cannot be forged, what robustness says can
    name = "robustness.clean_accuracy"
    rules = {"blessing.rules": [{"metric": name, "min": 0.999}]}
    assert not night.verdict(rules).passed
    honest = night.manifest("robustness")
    readings = show(monkeypatch, "robustness", number=2, instead=better(honest, **{name: 1.0}))
    with pytest.raises(StageError, match="robustness: its result was replaced while the verdict"):
        night.perform("bless", rules)
    assert len(readings) == 2 and night.run.read_manifest("bless") is None


def test_a_stage_works_on_what_it_read_first(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = night.manifest("evaluate")
    other = honest.model_copy(update={"outputs": []}).sealed()
    for number in (2, 3):
        with monkeypatch.context() as patched:
            readings = show(patched, "evaluate", number=number, instead=other)
            again = night.perform("fairness", reuse="none")
            assert readings == [1] and again.inputs["evaluate"] == honest.digest


def test_nothing_is_published_with_what_was_replaced_since_its_operator_asked(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = night.perform("bless").digest
    for stage in ("arrange", "evaluate", "bless"):
        honest = night.manifest(stage)
        other = honest.model_copy(update={"warnings": ["another result"]}).sealed()
        with monkeypatch.context() as patched:
            show(patched, stage, number=1, instead=other)
            with pytest.raises(BadInput, match=rf"{stage} holds another result than the verdict"):
                night.perform("publish", judged=judged)
    assert night.run.read_manifest("publish") is None
    assert night.perform("publish", judged=judged).stage == "publish"


def verdict_on(digest: str, *, blessed: bool) -> str:
    rule = RuleResult(metric="evaluate.accuracy", bound=">= 0.8", passed=blessed, reason="why")
    return Verdict(
        blessed=blessed,
        model=ModelIdentity(name="films", digest=digest),
        rules=[rule],
        reasons=[] if blessed else ["why"],
    ).model_dump_json()


@pytest.fixture
def blessing(tmp_path: Path) -> Callable[..., Verdict]:
    """Return a function that reads the verdict as publish and deploy do."""
    run = RunDirectory(f"{tmp_path}/films/runs/one")
    model = commit(run, "train", {"model/saved_model.pb": "x"}).output("model/").sha256

    def read(*, judged: str = "", blessed: bool = True) -> Verdict:
        if not (Path(run.path) / "bless").exists():
            commit(run, "bless", {"verdict.json": verdict_on(model, blessed=blessed)})
        more: Any = {"foreign": lambda: "", "has_registry": False, "judged": judged}
        return read_blessing(run, model_name="films", not_deployed="", **more)

    return read


def test_a_verdict_that_its_task_did_not_hand_on_lets_nothing_into_service(
    blessing: Callable[..., Verdict], tmp_path: Path
) -> None:
    assert blessing().may_serve
    run = RunDirectory(f"{tmp_path}/films/runs/one")
    manifest = run.read_manifest("bless")
    assert manifest is not None and blessing(judged=manifest.digest).may_serve
    with pytest.raises(BadInput, match="another verdict than its task handed on"):
        blessing(judged="0" * 64)


def test_a_verdict_is_read_by_the_manifest_that_is_compared(
    blessing: Callable[..., Verdict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="refuses this model"):
        blessing(blessed=False)
    run = RunDirectory(f"{tmp_path}/films/runs/one")
    handed = run.read_manifest("bless")
    model = run.read_manifest("train")
    assert handed is not None and model is not None
    digest = model.output("model/").sha256
    forged = commit(run, "bless", {"verdict.json": verdict_on(digest, blessed=True)})
    run.write_manifest(handed)
    for number in (1, 2, 3):
        with monkeypatch.context() as patched:
            show(patched, "bless", number=number, instead=forged)
            with pytest.raises((BadInput, NoInput)):
                blessing(judged=handed.digest)
