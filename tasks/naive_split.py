"""What a random split of the images would have claimed, beside the split by groups."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract import BadInput
from tasks.data import Arranged
from tasks.data.split import in_test
from tasks.spec import Pipeline, Train
from tasks.training.images import load_pixels
from tasks.training.learning import learn
from tasks.training.metrics import bootstrap_intervals, measure

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("tasks")

MEASURES = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training with one split.

    Attributes
    ----------
    accuracy, balanced_accuracy : float
        On the split's test images.
    intervals : dict of str to tuple
        Bootstrap intervals of both, over what was split: images, or groups.
    images_training, images_test : int
        Sizes.
    shared : float
        Share of the test images whose group is in training as well.
    accuracy_shared, accuracy_unseen : float or None
        Accuracy on those, and on the others; None where there are none.
    """

    accuracy: float
    balanced_accuracy: float
    intervals: dict[str, tuple[float, float]]
    images_training: int
    images_test: int
    shared: float
    accuracy_shared: float | None
    accuracy_unseen: float | None


def compare_splits(arranged: Arranged, pipeline: Pipeline, *, repeats: int) -> dict[str, Any]:
    """Train with a random split of the images and with one of the groups, and measure each.

    Both have the pipeline's settings, the same seed, and about the same share of the images in the
    test. In the random split the images of one patient fall on both sides, as they do where nobody
    thought of patients: the model is then asked about people whom it knows. Neither touches the
    night's own model.

    Parameters
    ----------
    arranged : Arranged
        The arranged images, of which training and test side are put together.
    pipeline : Pipeline
        Settings of training and evaluation.
    repeats : int
        Splits and trainings of each kind, with seeds 0, 1, ...

    Returns
    -------
    dict
        ``by_image`` and ``by_group``, a list of :class:`Arm` as dictionaries each; ``overstated``,
        by measure the mean of by-image less by-group over the repeats, with a 95 % interval of
        Student's t where there are two or more, which takes repeats on the same images for
        independent and so is too narrow if anything; ``images``, ``groups``.

    Raises
    ------
    BadInput
        Every image is a group of its own: both splits are the same.
    """
    table = arranged.table()
    images, groups = len(table), table["group_key"].nunique()
    if groups == images:
        raise BadInput(
            f"each of the {images} images is a group of its own, so that a random split of images "
            "is what the pipeline has; name the patients' column in split.group"
        )
    share = float((table["split_side"] == "test").mean())
    arms: dict[str, list[Arm]] = {"by_image": [], "by_group": []}
    for seed in range(repeats):
        by_image = np.zeros(images, bool)
        by_image[np.random.default_rng(seed).permutation(images)[: round(share * images)]] = True
        held = [in_test(group, test=share, salt=f"repeat {seed}") for group in table["group_key"]]
        for kind, test in (("by_image", by_image), ("by_group", np.array(held))):
            log.info("%s, %d of %d", kind.replace("_", " "), seed + 1, repeats)
            arms[kind].append(_train_and_measure(arranged, table, test, pipeline, kind, seed))
    pairs = list(zip(arms["by_image"], arms["by_group"], strict=True))
    return {
        "images": images,
        "groups": int(groups),
        **{kind: [asdict(arm) for arm in found] for kind, found in arms.items()},
        "overstated": {
            name: _mean_and_interval([getattr(a, name) - getattr(b, name) for a, b in pairs])
            for name in MEASURES
        },
    }


def sentences(document: dict[str, Any], classes: Sequence[str]) -> list[str]:
    """Return the comparison in words, for people and for the log.

    Parameters
    ----------
    document : dict
        As :func:`compare_splits` returns it.
    classes : sequence of str
        Class names.
    """
    by_image, by_group = document["by_image"], document["by_group"]
    lines = [
        f"{document['images']} images of {document['groups']} groups, {len(classes)} classes, "
        f"{len(by_image)} trainings of each kind"
    ]
    for name in MEASURES:
        claimed, honest = (np.mean([arm[name] for arm in arms]) for arms in (by_image, by_group))
        difference = document["overstated"][name]
        low, high = difference.get("low"), difference.get("high")
        around = f" (95 % interval {low:.3f} to {high:.3f})" if low is not None else ""
        lines.append(
            f"{name.replace('_', ' ')}: {claimed:.3f} by a random split of images, {honest:.3f} by "
            f"groups that the model never saw; overstated by {difference['mean']:.3f}{around}"
        )
    shared = np.mean([arm["shared"] for arm in by_image])
    line = f"{shared:.0%} of the random split's test images are of a group that is in its training"
    both = [arm for arm in by_image if None not in (arm["accuracy_shared"], arm["accuracy_unseen"])]
    if both:
        known, unseen = (
            np.mean([arm[f"accuracy_{which}"] for arm in both]) for which in ("shared", "unseen")
        )
        line += f": accuracy {known:.3f} on those, {unseen:.3f} on the others"
    return [*lines, line]


def _train_and_measure(
    arranged: Arranged, table: "pd.DataFrame", test: Any, pipeline: Pipeline, kind: str, seed: int
) -> Arm:
    units = table["group_key"] if kind == "by_group" else table["image_id"]
    # who splits by image also watches by image
    training = table[~test].assign(group_key=units[~test]).reset_index(drop=True)
    asked = table[test].reset_index(drop=True)
    if training.empty or asked.empty:
        raise BadInput(f"the split {kind} leaves a side without images: there are too few groups")
    train = pipeline.train.model_copy(update={"seed": seed})
    with tempfile.TemporaryDirectory() as scratch:
        learned = learn(
            train,
            training,
            lambda: arranged.read_bytes(training),
            classes=arranged.classes,
            scratch=Path(scratch),
            key="naive split",
        )
        probabilities = _predict(learned.model, arranged, asked, train, Path(scratch))
    truth = asked["class_index"].to_numpy(np.int64)
    predicted = probabilities.argmax(axis=1)
    found = measure(
        truth, probabilities, classes=arranged.classes, positive_index=arranged.positive_index
    )
    known = asked["group_key"].isin(set(table["group_key"][~test])).to_numpy()
    right = predicted == truth
    return Arm(
        accuracy=found.metrics["accuracy"],
        balanced_accuracy=found.metrics["balanced_accuracy"],
        intervals=bootstrap_intervals(
            truth,
            predicted,
            list(units[test]),
            classes=len(arranged.classes),
            resamples=pipeline.evaluate.bootstrap,
            confidence=pipeline.evaluate.confidence,
            seed=0,
        ),
        images_training=len(training),
        images_test=len(asked),
        shared=float(known.mean()),
        accuracy_shared=float(right[known].mean()) if known.any() else None,
        accuracy_unseen=float(right[~known].mean()) if not known.all() else None,
    )


def _predict(
    model: Any, arranged: Arranged, rows: "pd.DataFrame", train: Train, scratch: Path
) -> Any:
    pixels = load_pixels(
        lambda: arranged.read_bytes(rows),
        names=list(rows["image_id"]),
        image_size=train.image_size,
        channels=train.channels,
        spill=scratch / "test.npy",
        upright=train.exif_orientation == "apply",
    )
    parts = np.array_split(pixels, -(-len(pixels) // 256))
    return np.concatenate([model(part.astype(np.float32), training=False) for part in parts])


def _mean_and_interval(values: list[float]) -> dict[str, float]:
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean}
    reach = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return {"mean": mean, "low": mean - float(reach), "high": mean + float(reach)}
