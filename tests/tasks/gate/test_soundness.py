"""Evidence that was altered, made elsewhere or under other settings blesses nothing."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.contract import Altered, RunDirectory, StageError, describe_outputs
from tasks.gate.evidence import JUDGED, Evidence
from tasks.gate.recomputed import _evaluation, answers_on_record
from tasks.stages.base import StageInput
from tests.tasks.sound import PIPELINE, Night, make_night, restored


@pytest.fixture(scope="module")
def one_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return make_night(tmp_path_factory.mktemp("sound") / "store")


@pytest.fixture
def night(one_night: Night, tmp_path: Path) -> Iterator[Night]:
    with restored(one_night, tmp_path / "aside"):
        yield one_night


def beside(night: Night, name: str) -> Night:
    """Return another run of the same pipeline."""
    return Night(RunDirectory(f"{night.run.pipeline_path}/runs/{name}"), night.environment)


def reseal(night: Night, stage: str, **changes: Any) -> None:
    """Commit a stage once more, as somebody does who knows how a manifest is made."""
    outputs = describe_outputs(night.folder(stage))
    manifest = night.manifest(stage).model_copy(update={"outputs": outputs, **changes})
    night.run.write_manifest(manifest.sealed())


def with_metric(night: Night, stage: str, name: str, value: float) -> dict[str, float]:
    return night.manifest(stage).metrics | {name: value}


def replace(path: Path, content: bytes) -> None:
    """Write a file anew: its old content may have another name, by a hard link."""
    path.unlink()
    path.write_bytes(content)


def damage(night: Night, side: str) -> Path:
    """Alter an image of a side in place, for which `ingest` and `arrange` have a hard link."""
    table = pd.read_parquet(night.folder("arrange") / "images.parquet")
    row = table[table["split_side"] == side].iloc[3]
    image = night.folder("arrange") / "folders" / row["image_path"]
    image.unlink()
    os.link(night.folder("ingest") / "images" / row["image_id"], image)
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    return image


def predictions(night: Night, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = night.folder("evaluate") / "predictions.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def all_right(table: pd.DataFrame) -> pd.DataFrame:
    truth = table["class_index"]
    sure = [[1.0 - index, float(index)] for index in truth]
    return table.assign(predicted_index=truth, correct=True, probabilities=sure)


def test_a_night_that_nobody_touched_is_blessed(night: Night) -> None:
    verdict = night.verdict()
    assert verdict.reasons == []
    assert verdict.blessed


def test_predictions_that_were_altered_after_the_evaluation_are_not_read(night: Night) -> None:
    predictions(night, all_right)
    with pytest.raises(Altered, match=r"predictions\.parquet: is not what evaluate committed"):
        night.perform("fairness", reuse="none")
    assert night.run.read_manifest("evaluate") is None
    verdict = night.verdict()
    assert not verdict.blessed
    assert any("evaluate failed: exit 65" in reason for reason in verdict.reasons)
    # and the run heals
    for stage in ("evaluate", "fairness", "explain", "robustness"):
        night.perform(stage)
    assert night.verdict().blessed


def test_altered_predictions_are_a_refusal_for_the_verdict_itself(night: Night) -> None:
    predictions(night, all_right)
    verdict = night.verdict()
    assert not verdict.blessed
    assert any("predictions.parquet: is not what evaluate committed" in r for r in verdict.reasons)


def test_test_images_that_were_swapped_for_training_images_are_not_answered(night: Night) -> None:
    folders = night.folder("arrange") / "folders"
    known = sorted(path for path in (folders / "train").rglob("*") if path.is_file())
    for number, path in enumerate(sorted((folders / "test").rglob("*.*"))):
        replace(path, known[number % len(known)].read_bytes())
    with pytest.raises(Altered, match=r"folders/test/.*: is not what arrange committed"):
        night.perform("evaluate", reuse="none")
    assert not night.verdict().blessed


@pytest.mark.parametrize("stage", ["evaluate", "fairness", "train"])
def test_a_metric_edited_in_a_manifest_is_a_refusal(night: Night, stage: str) -> None:
    path = night.folder(stage) / "manifest.json"
    name, value = next(iter(night.manifest(stage).metrics.items()))
    text = path.read_text()
    assert f'"{name}": {value}' in text
    path.write_text(text.replace(f'"{name}": {value}', f'"{name}": 0.999'))
    reasons = night.verdict().reasons
    assert any(f"{stage}/manifest.json: is not as it was committed" in each for each in reasons)


@pytest.mark.parametrize(
    "metric",
    [
        *("evaluate.accuracy", "evaluate.balanced_accuracy", "evaluate.least_recall"),
        *("evaluate.recall.Pneumonia", "evaluate.roc_auc", "evaluate.accuracy.low"),
        *("fairness.sex.accuracy_gap", "fairness.sex.worst_group_accuracy"),
        *("fairness.sex.statistical_parity_difference", "fairness.sex.accuracy_gap.high"),
        "fairness.sex.fairlearn.accuracy_difference.low",
    ],
)
def test_a_figure_that_does_not_follow_from_the_predictions_is_a_refusal(
    night: Night, metric: str
) -> None:
    stage = metric.split(".")[0]
    found = night.manifest(stage).metrics[metric]
    reseal(night, stage, metrics=with_metric(night, stage, metric, 0.98765))
    expected = f"{metric} is 0.98765 in the manifest, but the predictions give {found:.6g}"
    assert any(each.startswith(expected) for each in night.verdict().reasons)


def test_a_figure_that_no_prediction_gives_is_a_refusal(night: Night) -> None:
    reseal(night, "evaluate", metrics=with_metric(night, "evaluate", "evaluate.trust", 1.0))
    reasons = night.verdict().reasons
    assert any("evaluate.trust is 1 in the manifest, but does not follow" in r for r in reasons)


@pytest.mark.parametrize("field", ["metrics", "notes"])
def test_no_stage_speaks_for_another(night: Night, field: str) -> None:
    # the figures of robustness cannot be computed once more, those of evaluate can
    said = getattr(night.manifest("robustness"), field)
    name, value = "evaluate.accuracy", 0.995 if field == "metrics" else "60 of 60 found"
    reseal(night, "robustness", **{field: said | {name: value}})
    reasons = night.verdict().reasons
    expected = f"robustness/manifest.json speaks of {name}, which is no figure of robustness"
    assert expected in reasons


def test_an_interval_that_evaluate_does_not_compute_is_a_refusal(night: Night) -> None:
    name = "evaluate.least_recall.low"
    assert name not in night.manifest("evaluate").metrics
    reseal(night, "evaluate", metrics=with_metric(night, "evaluate", name, 1.0))
    reasons = night.verdict().reasons
    assert any(f"{name} is 1 in the manifest, but does not follow" in r for r in reasons)


def test_predictions_that_are_not_the_models_own_are_a_refusal(night: Night) -> None:
    # the whole evaluation as whoever knows how it is made would make it, of answers made up
    predictions(night, all_right)
    reseal(night, "evaluate")
    rows, arranged = answers_on_record(Evidence.read(night.run), StageInput)
    figures = _evaluation(rows, arranged, PIPELINE)
    reseal(night, "evaluate", metrics={f"evaluate.{key}": found for key, found in figures.items()})
    for stage in ("fairness", "explain", "robustness"):
        night.perform(stage, reuse="none")
    verdict = night.verdict()
    assert not verdict.blessed
    (reason,) = verdict.reasons
    assert reason.startswith("the model answers 32 of 32 test images otherwise than predictions")


@pytest.mark.parametrize("error", [StageError("the bucket does not answer"), MemoryError()])
def test_no_verdict_is_given_on_what_may_be_right_at_the_next_attempt(
    night: Night, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(*_: object) -> str:
        raise error

    monkeypatch.setattr("tasks.stages.asked_again._difference", away)
    with pytest.raises(type(error)):
        night.perform("bless")
    assert night.run.read_manifest("bless") is None


@pytest.mark.parametrize("which", ["answers_on_record", "_difference"])
def test_a_model_that_cannot_be_asked_is_not_blessed(
    night: Night, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    def broken(*_: object) -> str:
        raise ValueError("no such tensor")

    monkeypatch.setattr(f"tasks.stages.asked_again.{which}", broken)
    (reason,) = night.verdict().reasons
    assert "ValueError: no such tensor" in reason


Change = Callable[[pd.DataFrame], pd.DataFrame]
FORGED: dict[str, tuple[Change, str]] = {
    "another truth": (lambda table: table.assign(class_index=0), "class_index of "),
    "answers that the probabilities do not give": (
        lambda table: table.assign(predicted_index=table["class_index"]),
        "predicted_index of ",
    ),
    "fewer rows": (lambda table: table.iloc[2:], "which are not the "),
    "a row twice": (lambda table: pd.concat([table, table.iloc[:1]]), "which are not the "),
    "a row of another image": (
        lambda table: table.assign(image_id=["x", *table["image_id"].iloc[1:]]),
        "which are not the ",
    ),
    "another answer of the champion than its probabilities give": (
        lambda table: table.assign(
            champion_probabilities=table["probabilities"],
            champion_predicted_index=1 - table["predicted_index"],
        ),
        "champion_predicted_index of ",
    ),
    "half of the champion's answers": (
        lambda table: table.assign(champion_predicted_index=table["predicted_index"]),
        "some answers of the champion are missing",
    ),
    "no numbers": (
        lambda table: table.assign(probabilities=[[float("nan")] * 2] * len(table)),
        "are not 2 numbers an image",
    ),
    "no probabilities": (
        lambda table: table.drop(columns="probabilities"),
        "cannot be computed from the predictions",
    ),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_predictions_that_are_not_those_of_the_test_images_are_a_refusal(
    night: Night, forgery: str
) -> None:
    change, reason = FORGED[forgery]
    predictions(night, change)
    reseal(night, "evaluate")
    verdict = night.verdict()
    assert not verdict.blessed
    assert any(reason in each for each in verdict.reasons)


def test_perfect_predictions_with_their_figures_are_betrayed_by_those_who_read_others(
    night: Night,
) -> None:
    predictions(night, all_right)
    metrics = dict.fromkeys(night.manifest("evaluate").metrics, 1.0)
    reseal(night, "evaluate", metrics=metrics)
    reasons = night.verdict().reasons
    assert any("fairness examined another result of evaluate" in each for each in reasons)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "fairness": ({"fairness.min_group": 12}, "fairness ran with fairness.min_group 12, but"),
    "evaluate": ({"evaluate.bootstrap": 60}, "evaluate ran with evaluate.bootstrap 60, but"),
    "robustness": (
        {"robustness.images": 3},
        "robustness ran with robustness.images 3, but tonight's is 4: run robustness again",
    ),
}


@pytest.mark.parametrize("stage", OTHERS)
def test_evidence_made_under_other_settings_is_a_refusal(night: Night, stage: str) -> None:
    overrides, reason = OTHERS[stage]
    night.perform(stage, overrides)
    verdict = night.verdict()
    assert not verdict.blessed
    assert any(each.startswith(reason) for each in verdict.reasons)
    night.perform(stage)
    assert not any(each.startswith(reason) for each in night.verdict().reasons)


def test_another_protected_attribute_than_the_one_that_was_examined_is_a_refusal(
    night: Night,
) -> None:
    other = {"attribute": "race", "privileged": ["White"], "unprivileged": ["Black"]}
    verdict = night.verdict({"fairness.protected": [other]})
    assert any(
        each.startswith('fairness ran with fairness.protected.0.attribute "sex", but')
        for each in verdict.reasons
    )


def test_evidence_computed_by_other_code_is_a_refusal(night: Night) -> None:
    reseal(night, "explain", code_version="0123456789abcdef")
    reasons = night.verdict().reasons
    assert any("explain was computed by other code (0123456789abcdef) than" in r for r in reasons)


def test_settings_written_into_a_manifest_do_not_make_its_fingerprint(night: Night) -> None:
    night.perform("robustness", {"robustness.images": 3})
    settings = night.manifest("robustness").settings
    settings["robustness"]["images"] = 4
    reseal(night, "robustness", settings=settings)
    reasons = night.verdict().reasons
    assert any("robustness's fingerprint is not that of its settings" in r for r in reasons)


def test_evidence_of_another_model_is_none_of_this_one(night: Night) -> None:
    """Its fingerprint, which no digest covers, is that of this model's."""
    other = beside(night, "two")
    for stage in JUDGED:
        other.perform(stage, {"train.epochs": 1, "train.seed": 5})
    for stage in ("evaluate", "fairness", "explain", "robustness"):
        own, foreign = night.manifest(stage), other.manifest(stage)
        inputs = {name: night.manifest(name).digest for name in own.inputs}
        update = {"fingerprint": own.fingerprint, "state": own.state, "inputs": inputs}
        night.run.write_manifest(foreign.model_copy(update=update).sealed())
    reasons = night.verdict().reasons
    assert any("evaluate was computed from other results than this run holds" in r for r in reasons)
    for stage in JUDGED:
        night.perform(stage)
    assert night.verdict().blessed


def test_a_night_of_results_taken_over_is_as_good_as_its_origin(night: Night) -> None:
    tonight = beside(night, "two")
    for stage in JUDGED:
        assert tonight.perform(stage).reused_from == night.run.uri
    assert tonight.verdict().blessed


def test_one_damaged_image_of_an_old_run_costs_one_night_and_no_later_one(night: Night) -> None:
    tonight = beside(night, "two")
    before = JUDGED[: JUDGED.index("evaluate")]
    for stage in before:
        tonight.perform(stage)
    image = damage(night, "test")
    with pytest.raises(Altered) as caught:
        tonight.perform("evaluate", reuse="none")
    assert str(caught.value).startswith(f"{image}: is not what arrange committed: sha256 is ")
    assert str(caught.value).endswith("run arrange again with --force")
    # the advice leads to the next one, and so to the end
    with pytest.raises(Altered, match=r"is not what ingest committed.*run ingest again with --fo"):
        tonight.perform("arrange", reuse="none")
    for stage in ("ingest", "arrange"):
        tonight.perform(stage, reuse="none")
    for stage in JUDGED:
        tonight.perform(stage)
    assert tonight.verdict().blessed
    following = beside(night, "three")
    for stage in JUDGED:
        following.perform(stage)
    assert following.verdict().blessed


def test_a_night_after_damage_that_nobody_noticed_heals_by_itself(night: Night) -> None:
    damage(night, "train")
    tonight = beside(night, "two")
    taken_over = {stage: tonight.perform(stage).reused_from for stage in JUDGED}
    assert (taken_over["ingest"], taken_over["arrange"]) == (None, None)
    assert taken_over["train"] == night.run.uri
    assert tonight.verdict().blessed


def test_a_verdict_whose_manifest_was_edited_is_none(night: Night) -> None:
    night.verdict()
    path = night.folder("bless") / "manifest.json"
    text = path.read_text()
    assert '"bless.rules_failed": 0.0' in text
    path.write_text(text.replace('"bless.rules_failed": 0.0', '"bless.rules_failed": 1.0'))
    assert night.run.read_verdict() is None
    with pytest.raises(Altered, match=r"bless/manifest\.json: is not as it was committed"):
        night.perform("deploy")


def test_the_model_is_judged_by_its_files(night: Night) -> None:
    other = night.folder("train") / "model/model.json"
    shutil.copy(other, other.with_name("more.json"))
    assert any("train/model: is not what train committed" in r for r in night.verdict().reasons)


def test_a_folder_that_is_linked_into_the_model_is_no_part_of_it(
    night: Night, tmp_path: Path
) -> None:
    (night.folder("train") / "model/assets.extra").symlink_to(tmp_path)
    assert any("train/model: is not what train committed" in r for r in night.verdict().reasons)
