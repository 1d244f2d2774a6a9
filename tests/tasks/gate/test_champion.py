"""Challenger against champion on the same rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.contract import RuleResult
from tasks.gate.champion import ChampionEvidence, compare_with_champion, paired_difference
from tasks.spec import ChampionComparison

TRUTH = np.array([0] * 60 + [1] * 40)


def answers(*, wrong: list[int]) -> np.ndarray:
    predicted = TRUTH.copy()
    predicted[wrong] = 1 - predicted[wrong]
    return predicted


def write(
    folder: Path,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    *,
    saw: list[int] | None = None,
    certain: bool = True,
) -> Path:
    path = folder / "predictions.parquet"
    columns = {
        "class_index": pa.array(TRUTH),
        "predicted_index": pa.array(challenger),
        "champion_predicted_index": pa.nulls(len(TRUTH), pa.int64())
        if champion is None
        else pa.array(champion),
    }
    if saw is not None:
        known = np.isin(np.arange(len(TRUTH)), saw)
        columns["champion_saw"] = pa.array(known, mask=None if certain else ~known)
    pq.write_table(pa.table(columns), path)
    return path


def compared(
    predictions: Path | None,
    *,
    current: tuple[str, str] | None = ("3", "old"),
    evaluated: str | None = "old",
    margin: float = 0.02,
    not_compared: str = "",
) -> RuleResult:
    return compare_with_champion(
        ChampionComparison(metric="balanced_accuracy", margin=margin),
        ChampionEvidence(
            current=current,
            evaluated_digest=evaluated,
            predictions=predictions,
            not_compared=not_compared,
        ),
        challenger_digest="new",
    )


def test_a_better_challenger_passes_with_its_interval(tmp_path: Path) -> None:
    path = write(tmp_path, answers(wrong=[0]), answers(wrong=[*range(0, 12), *range(60, 70)]))
    result = compared(path)
    assert result.passed
    # 59/60 and 40/40 against 48/60 and 30/40
    assert result.value == pytest.approx((59 / 60 + 1) / 2 - (48 / 60 + 30 / 40) / 2)
    assert result.low is not None and result.high is not None
    assert 0 < result.low < result.value < result.high
    assert "on the same 100 test rows" in result.reason


def test_a_slightly_worse_challenger_passes_within_the_margin_only(tmp_path: Path) -> None:
    path = write(tmp_path, answers(wrong=[0, 1, 2]), answers(wrong=[0]))
    assert compared(path, margin=0.02).passed
    assert not compared(path, margin=0.01).passed


def test_rows_that_the_champion_was_trained_on_are_left_out_and_counted(tmp_path: Path) -> None:
    # it knows those by heart, and is wrong on half of the others
    by_heart = [*range(20), *range(60, 80)]
    champion = answers(wrong=[*range(20, 60, 2), *range(80, 100, 2)])
    challenger = answers(wrong=by_heart)
    assert not compared(write(tmp_path, challenger, champion, saw=[])).passed
    result = compared(write(tmp_path, challenger, champion, saw=by_heart))
    assert result.passed
    assert result.value == pytest.approx(0.5)
    assert "on the same 60 test rows" in result.reason
    assert "40 more are left out, the champion was trained on them" in result.reason


@pytest.mark.parametrize(
    "saw", [list(range(75)), list(range(60)), list(range(100))], ids=["few", "no class", "all"]
)
def test_too_few_rows_that_the_champion_has_not_seen_are_a_refusal(
    tmp_path: Path, saw: list[int]
) -> None:
    same = answers(wrong=[])
    result = compared(write(tmp_path, same, same, saw=saw))
    assert not result.passed
    assert f"was trained on {len(saw)} of 100 test rows" in result.reason
    assert "go back to the split" in result.reason


def test_that_nobody_knows_what_the_champion_was_trained_on_is_said(tmp_path: Path) -> None:
    same = answers(wrong=[])
    known = compared(write(tmp_path, same, same, saw=[]))
    unknown = compared(write(tmp_path, same, same))
    assert known.passed and unknown.passed
    assert "not known" not in known.reason
    assert "what the champion was trained on is not known" in unknown.reason


def test_what_is_known_is_left_out_and_the_rest_is_said_to_be_uncertain(tmp_path: Path) -> None:
    same = answers(wrong=[])
    result = compared(write(tmp_path, same, same, saw=[0, 1], certain=False))
    assert "on the same 98 test rows" in result.reason
    assert "2 more are left out" in result.reason
    assert "others of the same groups is not known" in result.reason


def test_equal_answers_pass_without_any_margin(tmp_path: Path) -> None:
    same = answers(wrong=[3, 70])
    assert compared(write(tmp_path, same, same), margin=0).passed


def test_without_a_champion_there_is_nothing_to_beat() -> None:
    result = compared(None, current=None, evaluated=None)
    assert result.passed
    assert result.reason == "no champion yet"


def test_the_champion_itself_passes() -> None:
    result = compared(None, current=("3", "new"), evaluated=None)
    assert result.passed
    assert "is the champion already" in result.reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evaluated": None}, "run evaluate again"),
        ({"evaluated": "another"}, "became champion after the evaluation"),
        ({"not_compared": "the champion knows other classes"}, "knows other classes"),
    ],
)
def test_a_champion_that_was_not_compared_is_a_refusal(
    tmp_path: Path, options: dict[str, str | None], said: str
) -> None:
    path = write(tmp_path, answers(wrong=[]), answers(wrong=[]))
    result = compared(path, **options)  # type: ignore[arg-type]
    assert not result.passed
    assert said in result.reason


def test_predictions_without_the_champion_are_a_refusal(tmp_path: Path) -> None:
    result = compared(write(tmp_path, answers(wrong=[]), None))
    assert not result.passed
    assert "champion_predicted_index is empty in 100 of 100 rows" in result.reason
    assert not compared(None).passed


def test_a_damaged_file_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1 no more")
    assert not compared(tmp_path / "predictions.parquet").passed


def test_the_interval_agrees_with_resampling_the_rows_one_by_one() -> None:
    ours, theirs = answers(wrong=[0, 1, 61]), answers(wrong=[*range(6), *range(60, 66)])
    *_, low, high = paired_difference(TRUTH, ours, theirs, metric="balanced_accuracy", seed=1)
    random = np.random.default_rng(2)

    def balanced(truth: np.ndarray, right: np.ndarray) -> float:
        return float(np.mean([right[truth == index].mean() for index in (0, 1)]))

    plain = []
    for _ in range(2000):
        rows = random.integers(0, len(TRUTH), len(TRUTH))
        truth = TRUTH[rows]
        plain.append(balanced(truth, ours[rows] == truth) - balanced(truth, theirs[rows] == truth))
    assert low == pytest.approx(np.quantile(plain, 0.025), abs=0.012)
    assert high == pytest.approx(np.quantile(plain, 0.975), abs=0.012)


def test_the_interval_is_the_same_every_time() -> None:
    ours, theirs = answers(wrong=[1]), answers(wrong=[2, 3])
    first = paired_difference(TRUTH, ours, theirs, metric="accuracy")
    assert first == paired_difference(TRUTH, ours, theirs, metric="accuracy")
    assert first[0] == pytest.approx(0.99)
