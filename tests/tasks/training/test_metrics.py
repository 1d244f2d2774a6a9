"""Metrics against values worked out by hand."""

import numpy as np
import pytest

from tasks.training.metrics import bootstrap_intervals, confusion_matrix, measure, roc_auc

CLASSES = ["cat", "dog", "owl"]
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 0, 2, 0, 0])


def certain(predicted: np.ndarray, classes: int = 3) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predicted]


def test_the_figures_are_those_worked_out_by_hand() -> None:
    measured = measure(TRUTH, certain(PREDICTED), classes=CLASSES, positive_index=None)
    recall = [3 / 4, 2 / 3, 1 / 3]
    balanced = sum(recall) / 3
    expected = {
        "accuracy": 6 / 10,
        "balanced_accuracy": balanced,
        "balanced_accuracy_above_chance": (balanced - 1 / 3) / (2 / 3),
        "least_recall": 1 / 3,
        "recall.cat": recall[0],
        "recall.dog": recall[1],
        "recall.owl": recall[2],
        "precision.cat": 3 / 6,
        "precision.dog": 2 / 3,
        "precision.owl": 1.0,
        "f1.cat": 0.6,
        "f1.dog": 2 / 3,
        "f1.owl": 0.5,
        "rows": 10,
    }
    assert {k: measured.metrics[k] for k in expected} == pytest.approx(expected)
    assert measured.notes["least_recall"] == "class 'owl': 1 of 3 test images found"
    assert measured.warnings == []


def test_a_model_that_always_says_the_same_is_shown_for_what_it_is() -> None:
    truth = np.array([0] * 95 + [1] * 5)
    measured = measure(
        truth, certain(np.zeros(100, int), 2), classes=["well", "ill"], positive_index=1
    )
    assert measured.metrics["accuracy"] == 0.95
    assert measured.metrics["least_recall"] == 0
    assert measured.metrics["balanced_accuracy_above_chance"] == 0
    assert "'ill': 0 of 5" in measured.notes["least_recall"]
    assert (
        "100% of the test images are put into 'well'"
        in (measured.notes["balanced_accuracy_above_chance"])
    )


def test_a_class_without_test_images_is_warned_of_and_left_out() -> None:
    measured = measure(
        np.array([0, 1]), certain(np.array([0, 1])), classes=CLASSES, positive_index=None
    )
    assert measured.metrics["balanced_accuracy"] == 1
    assert "recall.owl" not in measured.metrics
    assert "roc_auc" not in measured.metrics
    assert "owl" in measured.warnings[0]


def test_chance_is_that_of_the_classes_that_have_test_images() -> None:
    truth = np.array([0] * 6 + [1] * 6)
    always = measure(
        truth,
        certain(np.zeros(12, int), 25),
        classes=[f"c{i}" for i in range(25)],
        positive_index=1,
    )
    assert always.metrics["balanced_accuracy"] == 0.5
    assert always.metrics["balanced_accuracy_above_chance"] == 0
    alone = measure(truth[:6], certain(truth[:6]), classes=CLASSES, positive_index=None)
    assert "balanced_accuracy_above_chance" not in alone.metrics


def test_roc_auc_is_about_the_positive_class() -> None:
    truth = np.array([0, 0, 1, 1])
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    probabilities = np.stack([1 - scores, scores], axis=1)
    assert roc_auc(truth, probabilities, positive_index=1) == pytest.approx(0.75)
    assert roc_auc(1 - truth, probabilities[:, ::-1], positive_index=0) == pytest.approx(0.75)
    assert roc_auc(np.zeros(4, int), probabilities, positive_index=1) is None


def test_roc_auc_of_many_classes_is_the_mean_over_the_rest() -> None:
    assert roc_auc(TRUTH, certain(TRUTH), positive_index=None) == 1


def test_the_confusion_matrix_has_the_truth_in_its_rows() -> None:
    np.testing.assert_array_equal(
        confusion_matrix(TRUTH, PREDICTED, classes=3), [[3, 1, 0], [1, 2, 0], [2, 0, 1]]
    )


def interval(groups: list[str], truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    return bootstrap_intervals(
        truth, predicted, groups, classes=3, resamples=4000, confidence=0.95, seed=0
    )["accuracy"]


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 3, 120)
    predicted = np.where(generator.random(120) < 0.7, truth, (truth + 1) % 3)
    right = truth == predicted
    plain = np.array([generator.choice(right, 120).mean() for _ in range(4000)])
    low, high = interval([str(i) for i in range(120)], truth, predicted)
    assert (low, high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.015)


def test_patients_with_many_alike_images_make_the_interval_wider() -> None:
    generator = np.random.default_rng(2)
    truth = np.repeat(generator.integers(0, 3, 30), 4)
    wrong = np.repeat(generator.random(30) < 0.3, 4)
    predicted = np.where(wrong, (truth + 1) % 3, truth)
    alone = interval([str(i) for i in range(120)], truth, predicted)
    together = interval([str(i // 4) for i in range(120)], truth, predicted)
    assert together[1] - together[0] > 1.6 * (alone[1] - alone[0])


def test_no_resamples_no_interval() -> None:
    assert (
        bootstrap_intervals(
            TRUTH, PREDICTED, ["a"] * 10, classes=3, resamples=0, confidence=0.9, seed=0
        )
        == {}
    )


def test_one_patient_tells_nothing_of_how_patients_differ() -> None:
    assert (
        bootstrap_intervals(
            TRUTH, PREDICTED, ["a"] * 10, classes=3, resamples=100, confidence=0.9, seed=0
        )
        == {}
    )


def test_five_right_answers_do_not_prove_a_perfect_model() -> None:
    truth = np.array([0, 0, 0, 0, 1])
    intervals = bootstrap_intervals(
        truth, truth, list("abcde"), classes=3, resamples=100, confidence=0.95, seed=0
    )
    # Clopper and Pearson's interval of 5 of 5 is 0.478 to 1
    assert intervals["accuracy"] == (pytest.approx(0.478, abs=1e-3), 1)
    # the one image of the second class may as well have been luck: 0.025 of its recall is sure
    assert intervals["balanced_accuracy"] == (pytest.approx((1 + 0.025) / 2), 1)
