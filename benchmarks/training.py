"""An epoch as the train stage runs it, against bare ``model.fit`` on arrays in memory.

Ours: the stage's batches from decoded pixels, its compiled trainer and its checkpoints. Plain: the
same model, optimizer and arithmetic fed with float32 arrays. Both in one process, turn by turn
in alternating order, after an epoch to warm up; the best turn of each counts.

    python benchmarks/training.py --out training.json
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# the repository instead of this folder, in which this very file would hide the library
sys.path[0] = str(Path(__file__).resolve().parents[1])

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from benchmarks.rows import Row, arguments, compare, finish, row  # noqa: E402
from tasks.spec import Train  # noqa: E402
from tasks.training import fitting, trainers  # noqa: E402
from tasks.training.architectures import build_classifier  # noqa: E402
from tasks.training.checkpoints import Checkpoint, Progress  # noqa: E402
from tasks.training.input_pipeline import Examples  # noqa: E402

TARGET = 0.95
CASES = {
    "dense 128, 28 px": (Train(architecture="dense", image_size=(28, 28), channels=1), 20_000),
    "CNN 32-64-64, 96 px": (Train(architecture="cnn", image_size=(96, 96), channels=1), 320),
    "MobileNetV2 0.35 frozen, 96 px": (Train(frozen="all", weights="random.weights.h5"), 320),
}
"""What is trained, and on how many images."""


def main() -> int:
    """Measure each case; exit code 1 when a target is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--turns", type=int, default=16)
    options = parser.parse_args()
    rows = [measure(name, *case, turns=options.turns) for name, case in CASES.items()]
    return finish(rows, options.out)


def measure(name: str, train: Train, images: int, *, turns: int) -> Row:
    """Return the row of one case."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (images, *train.image_size, train.channels), np.uint8)
    labels = generator.integers(0, 2, images)
    with tempfile.TemporaryDirectory() as folder:
        ours = our_epoch(train, pixels, labels, Path(folder))
        plain = plain_epoch(train, pixels, labels)
        (mine, theirs), detail = compare(ours, plain, turns=turns)
    return row(
        f"training against bare fit: {name}",
        images / mine,
        images / theirs,
        "images/s",
        target=TARGET,
        passed=theirs / mine >= TARGET,
        detail={"images": images, "batch_size": train.batch_size, **detail},
    )


def our_epoch(train: Train, pixels: Any, labels: Any, folder: Path) -> Callable[[], None]:
    """Return a function that trains for an epoch as the stage does."""
    fitting.prepare(train)
    trainer = trainers.compiled(build(train, len(labels)), train)
    number = tf.Variable(0, dtype=tf.int64)
    batches = Examples(pixels, labels, np.arange(len(labels))).shuffled(
        train.batch_size, seed=train.seed, epoch=number
    )
    state = [*trainer.variables, *trainer.optimizer.variables]
    checkpoint = Checkpoint(folder, "benchmark")

    def epoch() -> None:
        number.assign_add(1)
        trainer.fit(batches, epochs=1, shuffle=False, verbose=0)
        checkpoint.save_if_due(state, Progress())

    return epoch


def plain_epoch(train: Train, pixels: Any, labels: Any) -> Callable[[], None]:
    """Return a function that trains for an epoch with Keras alone."""
    fitting.prepare(train)
    model = build(train, len(labels))
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    model.compile(
        optimizer=train.optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile="auto" if on_gpu else False,
    )
    images = pixels.astype(np.float32)

    def epoch() -> None:
        model.fit(images, labels, batch_size=train.batch_size, epochs=1, verbose=0)

    return epoch


def build(train: Train, images: int) -> keras.Model:
    """Return the case's model."""
    steps = -(-images // train.batch_size)
    if train.weights == "none":
        return build_classifier(train, classes=2, steps_per_epoch=steps, weights_file=None)
    # frozen layers want weights from a file; time does not depend on what they are
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / train.weights
        backbone = keras.applications.MobileNetV2(
            (*train.image_size, train.channels), alpha=train.alpha, include_top=False, weights=None
        )
        backbone.save_weights(file)
        return build_classifier(train, classes=2, steps_per_epoch=steps, weights_file=file)


if __name__ == "__main__":
    sys.exit(main())
