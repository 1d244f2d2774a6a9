"""PGD as the robustness stage runs it, against stock ART.

Stock: ART's ``TensorFlowV2Classifier`` and ``ProjectedGradientDescent`` as they come, 32 images at
a time. Ours: ``CompiledPGD`` on ``CompiledClassifier``. Same model, images, strength, steps
and start, in one process; the adversarial accuracy must be the same.

    python benchmarks/pgd.py --out pgd.json
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# the repository instead of this folder, whose files are named after what they measure
sys.path[0] = str(Path(__file__).resolve().parents[1])

import keras  # noqa: E402
import numpy as np  # noqa: E402
from art.attacks.evasion import ProjectedGradientDescent  # noqa: E402
from art.estimators.classification import TensorFlowV2Classifier  # noqa: E402

from benchmarks.models import mobilenet_v2, small_cnn, smooth_images  # noqa: E402
from benchmarks.rows import Row, arguments, compare, finish, row  # noqa: E402
from tasks.trust.attacks import CHUNK, CompiledClassifier, CompiledPGD, logits_model  # noqa: E402

TARGET = 4.0
STRENGTH, STEPS = 0.01, 10
STOCK_BATCH = 32
"""ART's default."""


def main() -> int:
    """Measure each model; exit code 1 when a target is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    rows = [
        measure("MobileNetV2 0.35, 96 px", mobilenet_v2(96), 96, options),
        measure("CNN 32-64-64, 32 px", small_cnn(32), 32, options),
    ]
    return finish(rows, options.out)


def measure(name: str, model: Any, side: int, options: argparse.Namespace) -> Row:
    """Return one row: images attacked a second, ours and stock."""
    images = smooth_images(options.images, side)
    logits = logits_model(model)
    # the model's own answers are the truth, so that every image is right before the attack
    truth = np.asarray(logits(images)).argmax(axis=1)
    targets = np.eye(3, dtype=np.float32)[truth]
    stock = TensorFlowV2Classifier(
        model=logits,
        nb_classes=3,
        input_shape=(side, side, 3),
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 255.0),
    )
    ours = CompiledClassifier(logits, classes=3, chunk=min(CHUNK, options.images))
    attacks = {
        "ours": pgd(CompiledPGD, ours, CHUNK),
        "plain": pgd(ProjectedGradientDescent, stock, STOCK_BATCH),
    }
    changed: dict[str, Any] = {}

    def attack(kind: str) -> None:
        changed[kind] = attacks[kind].generate(images, targets)

    (mine, theirs), turns = compare(
        partial(attack, "ours"), partial(attack, "plain"), turns=options.repeats
    )
    accuracy = {
        kind: float((np.asarray(logits(found)).argmax(axis=1) == truth).mean())
        for kind, found in changed.items()
    }
    same = abs(accuracy["ours"] - accuracy["plain"]) <= 1 / options.images
    return row(
        f"PGD against stock ART: {name}",
        options.images / mine,
        options.images / theirs,
        "images/s",
        target=TARGET,
        passed=same and theirs / mine >= TARGET,
        detail={
            "images": options.images,
            "steps": STEPS,
            "strength": STRENGTH,
            "batch": {"ours": CHUNK, "plain": STOCK_BATCH},
            "adversarial_accuracy": accuracy,
            "share_of_equal_pixels": float((changed["ours"] == changed["plain"]).mean()),
            **turns,
        },
    )


def pgd(attack: Any, classifier: Any, batch: int) -> Any:
    """Return the attack without a random start, so that both begin alike."""
    return attack(
        classifier,
        eps=255 * STRENGTH,
        eps_step=2.5 * 255 * STRENGTH / STEPS,
        max_iter=STEPS,
        batch_size=batch,
        verbose=False,
    )


if __name__ == "__main__":
    sys.exit(main())
