"""The runner: reuse, retries, failures, and what a kill leaves behind."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tasks.contract import Altered, BadInput, Manifest, NoInput, RunDirectory
from tasks.environment import Environment
from tasks.runner import Reuse, run_stage
from tasks.spec import Pipeline
from tasks.stages.base import Outcome, Stage, StageContext


class Count(Stage):
    """Counts how often it is computed."""

    name = "transform"
    scratch = ("checkpoints",)

    def __init__(self) -> None:
        self.computed = 0
        self.world = "a"
        self.rows = 3
        self.error: Exception | None = None

    def config(self, pipeline: Pipeline) -> Any:
        return pipeline.train.epochs

    def state(self, context: StageContext) -> str:
        return self.world

    def equivalent_states(self, context: StageContext) -> list[str]:
        return ["promoted"]

    def run(self, context: StageContext) -> Outcome:
        self.computed += 1
        self.kept = (context.out / "checkpoints").exists()
        (context.out / "left.txt").write_text("x")
        if self.error is not None:
            raise self.error
        (context.out / "result.txt").write_text(self.world)
        return Outcome(metrics={"rows": self.rows, "odd": math.nan}, notes={"rows": "three"})


class Later(Count):
    """Reads what ``Count`` wrote."""

    name = "filter"
    reads = ("transform",)


@pytest.fixture
def night(tmp_path: Path) -> Any:
    def run(
        stage: Stage, run_id: str = "one", *, epochs: int = 1, reuse: Reuse = "all"
    ) -> Manifest:
        pipeline = Pipeline.model_validate(
            {
                "name": "films",
                "source": {"kind": "synthetic"},
                "label": {"column": "finding"},
                "train": {"epochs": epochs},
            }
        )
        return run_stage(
            stage,
            pipeline=pipeline,
            run=RunDirectory(str(tmp_path / "films/runs" / run_id)),
            environment=Environment.read(),
            reuse=reuse,
        )

    return run


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_manifest_names_outputs_and_finite_metrics(night: Any) -> None:
    manifest = night(Count())
    assert [output.path for output in manifest.outputs] == ["left.txt", "result.txt"]
    assert manifest.metrics == {"transform.rows": 3.0}
    assert manifest.notes == {"transform.rows": "three"}


def test_a_retry_in_the_same_run_is_not_computed_again(night: Any) -> None:
    stage = Count()
    night(stage)
    night(stage)
    assert stage.computed == 1


def test_a_person_who_forces_a_stage_has_it_computed_always(night: Any) -> None:
    stage = Count()
    night(stage)
    night(stage, reuse="none")
    night(stage, reuse="none")
    assert stage.computed == 3


def test_a_run_that_computes_everything_computes_a_stage_once(night: Any) -> None:
    stage = Count()
    night(stage, "earlier")
    night(stage, "forced", reuse="own")
    night(stage, "forced", reuse="own")
    assert stage.computed == 2


def test_a_result_of_another_run_is_not_this_runs_own(night: Any) -> None:
    stage = Count()
    night(stage, "earlier")
    assert night(stage).reused_from is not None
    assert night(stage, reuse="own").reused_from is None
    assert stage.computed == 2


def test_the_next_night_takes_over_an_equal_result(night: Any) -> None:
    stage = Count()
    first = night(stage)
    second = night(stage, "two")
    third = night(stage, "three")
    assert stage.computed == 1
    assert second.location == first.location
    assert second.reused_from == third.reused_from == first.location.rsplit("/", 1)[0]


@pytest.mark.parametrize("change", ["config", "state", "forced"])
def test_a_change_is_computed(night: Any, change: str) -> None:
    stage = Count()
    night(stage)
    if change == "state":
        stage.world = "b"
    night(
        stage,
        "two",
        epochs=2 if change == "config" else 1,
        reuse="none" if change == "forced" else "all",
    )
    assert stage.computed == 2


def test_a_result_is_found_under_its_equivalent_state(night: Any) -> None:
    stage = Count()
    night(stage)
    stage.world = "promoted"
    assert night(stage, "two").reused_from is not None
    assert stage.computed == 1


def test_a_changed_input_makes_the_next_stage_stale_and_an_equal_one_does_not(night: Any) -> None:
    first, second = Count(), Later()
    night(first)
    night(second)
    night(first, "two", reuse="none")
    night(second, "two")
    assert (first.computed, second.computed) == (2, 1)
    first.world = "b"
    night(first, "three")
    night(second, "three")
    assert second.computed == 2


def test_a_failure_is_recorded_with_its_exit_code_and_cleared_by_success(
    night: Any, tmp_path: Path
) -> None:
    stage = Count()
    stage.error = BadInput("metadata.csv: row 3: age 'x' is not a number")
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    with pytest.raises(BadInput):
        night(stage)
    failure = run.read_failure("transform")
    assert failure is not None
    assert (failure.exit_code, failure.reason) == (65, str(stage.error))
    assert run.read_manifest("transform") is None
    stage.error = None
    night(stage)
    assert run.read_failure("transform") is None


def test_a_retry_keeps_checkpoints_and_clears_other_leftovers(night: Any, tmp_path: Path) -> None:
    folder = tmp_path / "films/runs/one/transform"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "half-written.txt").write_text("x")
    stage = Count()
    manifest = night(stage)
    assert stage.kept
    assert not (folder / "checkpoints").exists()
    assert [output.path for output in manifest.outputs] == ["left.txt", "result.txt"]


def test_a_stage_whose_input_is_missing_says_which_to_run_first(night: Any) -> None:
    with pytest.raises(NoInput, match="run stage 'transform' first"):
        night(Later())


def test_a_result_that_stood_is_withdrawn_when_it_cannot_be_had_again(
    night: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Count()
    night(stage)

    def away(_: StageContext) -> str:
        raise NoInput("the source is gone")

    monkeypatch.setattr(stage, "state", away)
    with pytest.raises(NoInput):
        night(stage)
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    assert run.read_manifest("transform") is None
    failure = run.read_failure("transform")
    assert failure is not None
    assert failure.reason == "the source is gone"


def test_a_stage_that_fails_when_it_is_computed_anew_says_why(night: Any, tmp_path: Path) -> None:
    stage = Count()
    night(stage)
    stage.error = NoInput("the disk is full")
    with pytest.raises(NoInput):
        night(stage, reuse="none")
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    failure = run.read_failure("transform")
    assert run.read_manifest("transform") is None
    assert failure is not None and failure.reason == "the disk is full"


def test_a_retry_of_what_follows_the_commit_clears_the_failure(
    night: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Count()
    run = RunDirectory(str(tmp_path / "films/runs/one"))

    def away(_: StageContext) -> None:
        raise RuntimeError("no\nconnection")

    with monkeypatch.context() as broken:
        broken.setattr(stage, "after_commit", away)
        with pytest.raises(RuntimeError):
            night(stage)
    failure = run.read_failure("transform")
    assert failure is not None
    assert failure.reason == "RuntimeError: no connection"
    assert run.read_manifest("transform") is not None
    night(stage)
    assert run.read_failure("transform") is None
    assert stage.computed == 1


@pytest.mark.parametrize("damage", ["gone", "cut", "altered"])
@pytest.mark.parametrize("run_id", ["one", "two"])
def test_a_result_whose_files_are_damaged_is_computed_again(
    night: Any, run_id: str, damage: str
) -> None:
    stage = Count()
    first = night(stage)
    path = Path(first.location.removeprefix("file://")) / "result.txt"
    if damage == "gone":
        path.unlink()
    else:
        path.write_text("" if damage == "cut" else "b")
    night(stage, run_id)
    assert stage.computed == 2


class Keyed(Count):
    """Has a setting that ought to be in a secret."""

    key = "hunter2222"

    def config(self, pipeline: Pipeline) -> Any:
        return {"options": {"api_key": self.key}, "side": 3}


def test_a_credential_among_the_settings_is_not_stored_and_counts_all_the_same(
    night: Any, tmp_path: Path
) -> None:
    stage = Keyed()
    manifest = night(stage)
    assert manifest.settings == {"options": {"api_key": "***"}, "side": 3}
    stored = (tmp_path / "films/runs/one/transform/manifest.json").read_text()
    assert "hunter2222" not in stored
    assert night(stage, "two").reused_from is not None
    stage.key = "hunter3333"
    assert night(stage, "three").reused_from is None


class Reader(Stage):
    """Reads the very file that ``Count`` wrote."""

    name = "filter"
    reads = ("transform",)

    def config(self, pipeline: Pipeline) -> Any:
        return None

    def run(self, context: StageContext) -> Outcome:
        (context.out / "copy.txt").write_bytes(context.input("transform").read("result.txt"))
        return Outcome()


@pytest.mark.parametrize("next_run", ["two", "three"], ids=["same run", "next run"])
def test_an_altered_result_of_an_old_run_ends_one_run_and_then_heals(
    night: Any, tmp_path: Path, next_run: str
) -> None:
    stage = Count()
    old = night(stage)
    taken_over = night(stage, "two")
    assert taken_over.location == old.location
    (Path(old.location.removeprefix("file://")) / "result.txt").write_text("b")
    with pytest.raises(Altered, match=r"runs/one/transform/result\.txt: is not what transform"):
        night(Reader(), "two")
    run = RunDirectory(str(tmp_path / "films/runs/two"))
    failure = run.read_failure("filter")
    assert failure is not None and failure.exit_code == 65
    assert run.read_manifest("transform") is None
    healed = night(stage, next_run)
    assert (healed.reused_from, stage.computed) == (None, 2)
    night(Reader(), next_run)


def test_a_retry_of_a_stage_whose_earlier_result_lies_in_the_future_does_not_keep_it(
    night: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Count()
    with monkeypatch.context() as tomorrow:
        tomorrow.setattr("tasks.runner.now", lambda: "2999-01-02T02:00:00+00:00")
        night(stage)
    run = RunDirectory(str(tmp_path / "films/runs/one"))

    def away(_: StageContext) -> str:
        raise NoInput("the source is gone")

    monkeypatch.setattr(stage, "state", away)
    with pytest.raises(NoInput):
        night(stage)
    assert run.read_manifest("transform") is None


def test_a_result_that_another_attempt_committed_meanwhile_is_kept_whatever_its_date(
    night: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Count()

    class Overtaken(Count):
        def state(self, context: StageContext) -> str:
            with monkeypatch.context() as yesterday:
                yesterday.setattr("tasks.runner.now", lambda: "1999-01-01T02:00:00+00:00")
                night(other)
            raise NoInput("the source is gone")

    with pytest.raises(NoInput):
        night(Overtaken())
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    manifest = run.read_manifest("transform")
    assert manifest is not None and manifest.started_at.startswith("1999")
    # and nothing ill is said of it
    assert run.read_failure("transform") is None


def edit_metric(manifest: Path) -> None:
    document = json.loads(manifest.read_text())
    document["metrics"]["transform.rows"] = 9999.0
    manifest.write_text(json.dumps(document))


def test_a_metric_edited_in_the_manifest_of_an_old_run_is_not_taken_over(
    night: Any, tmp_path: Path
) -> None:
    stage = Count()
    night(stage)
    edit_metric(tmp_path / "films/runs/one/transform/manifest.json")
    again = night(stage, "two")
    assert (again.reused_from, again.metrics) == (None, {"transform.rows": 3.0})


def test_a_metric_edited_in_the_manifest_of_this_run_ends_the_next_stage_and_is_had_again(
    night: Any, tmp_path: Path
) -> None:
    stage = Count()
    night(stage)
    edit_metric(tmp_path / "films/runs/one/transform/manifest.json")
    with pytest.raises(
        Altered, match=r"transform/manifest\.json: is not as it was committed.*again"
    ):
        night(Reader())
    night(stage)
    assert night(Reader()).inputs["transform"] == night(stage).digest


def test_a_manifest_in_the_older_format_is_computed_again(night: Any, tmp_path: Path) -> None:
    stage = Count()
    manifest = night(stage)
    old = {"format": 1, "digest": manifest.outputs_digest}
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    run.write_manifest(manifest.model_copy(update=old))
    with pytest.raises(Altered, match="older format, whose digest does not cover"):
        night(Reader())
    night(stage)
    night(Reader())
    run.write_manifest(manifest.model_copy(update=old))
    night(stage)
    assert run.read_manifest("transform").is_evidence


def test_what_is_said_anew_of_equal_files_does_not_part_a_run(night: Any) -> None:
    """The later stage is taken over, and says that it read what this run has."""
    first, later = Count(), Later()
    night(first)
    night(later)
    first.rows = 4
    renamed = night(first, "two", reuse="none")
    taken_over = night(later, "two")
    assert taken_over.reused_from is not None
    assert taken_over.inputs == {"transform": renamed.digest}
    assert night(first).digest != renamed.digest
    first.rows = 5
    again = night(first, "two", reuse="none")
    assert night(later, "two").inputs == {"transform": again.digest}
    assert later.computed == 1


@pytest.mark.parametrize("place", ["cache", "run"])
def test_a_result_that_was_computed_from_other_inputs_is_never_taken_over(
    night: Any, tmp_path: Path, place: str
) -> None:
    """Neither by an entry in the cache nor by a fingerprint, which no digest covers."""
    first, later = Count(), Later()
    night(first)
    strong = night(later)
    first.world = "weak"
    night(first, "two")
    weak = night(later, "two")
    assert later.computed == 2
    run = RunDirectory(str(tmp_path / "films/runs/two"))
    run.retract("filter")
    RunDirectory(str(tmp_path / "films/runs/one")).remember(weak.fingerprint, strong)
    if place == "run":
        run.write_manifest(strong.model_copy(update={"fingerprint": weak.fingerprint}))
    assert night(later, "two").reused_from is None
    assert later.computed == 3


@pytest.mark.parametrize("reuse", ["all", "own"])
def test_a_result_is_not_taken_over_for_another_state_of_the_world(
    night: Any, tmp_path: Path, reuse: Reuse
) -> None:
    stage = Count()
    old = night(stage)
    stage.world = "b"
    wanted = night(stage, "two").fingerprint
    run = RunDirectory(str(tmp_path / "films/runs/one"))
    run.remember(wanted, old)
    run.write_manifest(old.model_copy(update={"fingerprint": wanted}))
    night(stage, reuse=reuse)
    assert (Path(run.path) / "transform/result.txt").read_text() == "b"


def test_the_cache_does_not_ask_the_clock(night: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Count()
    with monkeypatch.context() as tomorrow:
        tomorrow.setattr("tasks.runner.now", lambda: "2999-01-02T02:00:00+00:00")
        night(stage)
    assert night(stage, "two").reused_from is not None
    assert stage.computed == 1
