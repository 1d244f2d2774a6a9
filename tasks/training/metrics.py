"""How good a classifier is on the test rows, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]


@dataclass(kw_only=True)
class Measured:
    """Metrics by name, sentences about some of them, and what the report should warn of."""

    metrics: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def measure(
    truth: Labels,
    probabilities: NDArray[np.floating[Any]],
    *,
    classes: list[str],
    positive_index: int | None,
) -> Measured:
    """Measure predictions against the truth.

    Parameters
    ----------
    truth : ndarray
        Integers, shape (n,), class indices.
    probabilities : ndarray
        Shape (n, len(classes)), rows sum to 1; the largest one is the prediction.
    classes : list of str
        Class names.
    positive_index : int or None
        Class that ROC AUC is about where there are two.

    Returns
    -------
    Measured
        ``accuracy``, ``balanced_accuracy`` (mean recall of the classes that have test rows),
        ``balanced_accuracy_above_chance`` ((ba - 1/K) / (1 - 1/K), K the number of these classes:
        0 for one answer to everything, 1 at best; left out where K is 1),
        ``least_recall``, ``roc_auc`` (of the positive class, or mean over classes against the rest;
        left out where a class has no test rows), ``recall.CLASS``, ``precision.CLASS``,
        ``f1.CLASS``. All within 0..1, except above chance, which may be negative; larger is better.
    """
    from sklearn.metrics import precision_recall_fscore_support

    predicted = probabilities.argmax(axis=1)
    kinds = np.arange(len(classes))
    # a class that is never predicted has no precision; it counts as 0, as its F1 does
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=kinds, zero_division=0.0
    )
    present = support > 0
    result = Measured()
    result.metrics["accuracy"] = float(np.mean(predicted == truth))
    # of the classes that are measured: always naming one of them gets 1/K, however many more exist
    balanced, chance = float(recall[present].mean()), 1 / int(present.sum())
    result.metrics["balanced_accuracy"] = balanced
    if chance < 1:
        result.metrics["balanced_accuracy_above_chance"] = (balanced - chance) / (1 - chance)
    least = int(kinds[present][recall[present].argmin()])
    result.metrics["least_recall"] = float(recall[least])
    right = int(np.sum((truth == least) & (predicted == least)))
    result.notes["least_recall"] = (
        f"class {classes[least]!r}: {right} of {support[least]} test images found"
    )
    favourite = int(np.bincount(predicted, minlength=len(classes)).argmax())
    share = float(np.mean(predicted == favourite))
    result.notes["balanced_accuracy_above_chance"] = (
        f"balanced accuracy {balanced:.3f} where guessing gives {chance:.3f}; {share:.0%} of the "
        f"test images are put into {classes[favourite]!r}"
    )
    area = roc_auc(truth, probabilities, positive_index=positive_index)
    if area is not None:
        result.metrics["roc_auc"] = area
    for index, name in enumerate(classes):
        if present[index]:
            result.metrics[f"recall.{name}"] = float(recall[index])
            result.metrics[f"precision.{name}"] = float(precision[index])
            result.metrics[f"f1.{name}"] = float(f1[index])
    result.metrics["rows"] = float(len(truth))
    absent = [classes[index] for index in kinds[~present]]
    if absent:
        result.warnings.append(
            f"{len(absent)} classes have no test images and are not measured: "
            f"{', '.join(absent[:5])}"
        )
    return result


def roc_auc(
    truth: Labels, probabilities: NDArray[np.floating[Any]], *, positive_index: int | None
) -> float | None:
    """Return the area under the ROC curve; None where a class has no test rows.

    Parameters
    ----------
    truth : ndarray
        Integers, shape (n,), class indices.
    probabilities : ndarray
        Shape (n, classes).
    positive_index : int or None
        Class that the curve is about where there are two (the last one when None). With more
        classes it is the unweighted mean over each class against the rest.
    """
    from sklearn.metrics import roc_auc_score

    classes = probabilities.shape[1]
    if len(np.unique(truth)) < classes:
        return None
    if classes == 2:
        positive = 1 if positive_index is None else positive_index
        return float(roc_auc_score(truth == positive, probabilities[:, positive]))
    areas = [roc_auc_score(truth == index, probabilities[:, index]) for index in range(classes)]
    return float(np.mean(areas))


def confusion_matrix(truth: Labels, predicted: Labels, *, classes: int) -> NDArray[np.int64]:
    """Return counts, shape (classes, classes): row is the truth, column the prediction."""
    pairs = np.asarray(truth, np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def bootstrap_intervals(
    truth: Labels,
    predicted: Labels,
    groups: Sequence[str],
    *,
    classes: int,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Return percentile bootstrap intervals of accuracy and balanced accuracy.

    Groups (patients) are resampled, not rows: images of one patient are alike, and an interval that
    takes them for independent is too narrow [1]_. Where every answer is right the bootstrap has no
    spread, and its lower end is replaced by that of Clopper and Pearson for as many groups, all of
    them right [2]_; balanced accuracy's by that of its smallest class, in its share of the mean.

    Parameters
    ----------
    truth, predicted : ndarray
        Integers, shape (n,), class indices.
    groups : sequence of str
        Group of each row.
    classes : int
        Number of classes.
    resamples : int
        Number of resamples; 0 returns nothing.
    confidence : float
        Confidence of the intervals, in (0, 1).
    seed : int
        Seed of the resampling.

    Returns
    -------
    dict
        ``accuracy`` and ``balanced_accuracy`` to (low, high), within 0..1. Empty when there are
        fewer than two groups, which tell nothing of how groups differ.

    References
    ----------
    .. [1] Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.
    .. [2] Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934).
    """
    if not resamples or len(set(groups)) < 2:
        return {}
    _, group = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    counts = np.zeros((group.max() + 1, 2 * classes), np.int64)
    np.add.at(counts, (group, truth), 1)
    right = truth == predicted
    np.add.at(counts, (group[right], classes + truth[right]), 1)
    # groups with equal counts are interchangeable: few kinds, however many groups
    kinds, multiplicity = np.unique(counts, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(counts), multiplicity / len(counts), size=resamples)
    sums = (drawn @ kinds).astype(float)
    seen, hits = sums[:, :classes], sums[:, classes:]
    with np.errstate(invalid="ignore"):
        recall = hits / seen
    values = {
        "accuracy": hits.sum(axis=1) / seen.sum(axis=1),
        "balanced_accuracy": np.nanmean(recall, axis=1),
    }
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    if right.all():
        holders = (counts[:, :classes] > 0).sum(axis=0)
        measured = holders[holders > 0]
        return {
            "accuracy": (_least_share(len(counts), tails[0]), 1.0),
            "balanced_accuracy": (
                1 - (1 - _least_share(int(measured.min()), tails[0])) / len(measured),
                1.0,
            ),
        }
    return {
        name: (float(low), float(high))
        for name, sample in values.items()
        for low, high in [np.quantile(sample, tails)]
    }


def _least_share(trials: int, tail: float) -> float:
    """Return the share of successes under which that many in a row would be rarer than the tail."""
    return float(tail ** (1 / trials))
