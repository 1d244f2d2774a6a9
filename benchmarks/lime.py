"""LIME as the explain stage runs it, against stock LIME and against bare inference.

Stock: ``LimeImageExplainer.explain_instance`` with its defaults (ten copies at a time) and
``model.predict``. Bare: the same number of copies through the served graph alone. Same images, same
segments, same seed, so the weights must be the same; all in one process, ours and bare in turn.

    python benchmarks/lime.py --out lime.json
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# the repository instead of this folder, in which this very file would hide the library
sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from lime.lime_image import LimeImageExplainer  # noqa: E402

from benchmarks.models import mobilenet_v2, small_cnn, smooth_images  # noqa: E402
from benchmarks.rows import Row, arguments, clocked, compare, finish, row  # noqa: E402
from tasks.training.export import export_model  # noqa: E402
from tasks.trust.lime_images import LimeExplainer, segment  # noqa: E402
from tasks.trust.masked_copies import load_tensors_signature  # noqa: E402

SEED = 0


def main() -> int:
    """Measure each model; exit code 1 when a target is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--segments", type=int, default=60)
    options = parser.parse_args()
    rows = []
    models = {
        "MobileNetV2 0.35, 96 px": (mobilenet_v2(96), 96),
        "CNN 32-64-64, 96 px": (small_cnn(96), 96),
    }
    for name, (model, side) in models.items():
        rows += measure(name, model, side, options)
    return finish(rows, options.out)


def measure(name: str, model: Any, side: int, options: argparse.Namespace) -> list[Row]:
    """Return two rows: against stock LIME, and against bare inference."""
    images = smooth_images(options.images, side)
    parts = [segment(image, count=options.segments) for image in images]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        export_model(
            model, Path(folder) / "model", name="bench", classes=["a", "b", "c"], positive=None
        )
        classify = load_tensors_signature(Path(folder) / "model")
    ours = LimeExplainer(classify, samples=options.samples, segments=options.segments, seed=SEED)
    # what is measured is the work, not the tracing before the first image
    model.predict(images[:1], verbose=0)

    stock_seconds, stock_weights = clocked(lambda: stock(model, images, parts, options.samples))
    bare = bare_inference(classify, side, options.samples, batch=ours.batch)
    ours_seconds, bare_seconds = 0.0, 0.0
    weights: dict[int, Any] = {}
    turns = []

    def explain(number: int) -> None:
        weights[number] = ours.explain(images[number]).weights

    for number in range(len(images)):
        (mine, least), told = compare(partial(explain, number), bare, turns=5)
        turns.append(told)
        ours_seconds, bare_seconds = ours_seconds + mine, bare_seconds + least
    difference = max(
        float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        for mine, theirs in zip(weights.values(), stock_weights, strict=True)
    )
    same = difference < 1e-3
    total = options.samples * len(images)
    mine, theirs, least = (
        total / seconds for seconds in (ours_seconds, stock_seconds, bare_seconds)
    )
    detail = {
        "images": len(images),
        "samples": options.samples,
        "segments": [int(part.max()) + 1 for part in parts],
        "same_samples": True,
        "largest_relative_difference_of_weights": difference,
        "same_weights": same,
        "batch": ours.batch,
        "against_bare_inference": turns,
    }
    return [
        row(
            f"LIME against {what}: {name}",
            mine,
            plain,
            "samples/s",
            target=target,
            passed=same and mine / plain >= target,
            detail=detail,
        )
        for what, plain, target in (("stock", theirs, 5.0), ("bare inference", least, 0.8))
    ]


def stock(model: Any, images: Any, parts: list[Any], samples: int) -> list[Any]:
    """Explain with LIME as it comes; return each image's weights."""
    found = []
    for image, part in zip(images, parts, strict=True):
        explainer = LimeImageExplainer(random_state=SEED)
        with contextlib.redirect_stderr(io.StringIO()):
            explanation = explainer.explain_instance(
                image,
                lambda copies: model.predict(copies, verbose=0),
                top_labels=1,
                num_samples=samples,
                segmentation_fn=lambda _, part=part: part,
            )
        weights = np.zeros(int(part.max()) + 1)
        for number, weight in explanation.local_exp[explanation.top_labels[0]]:
            weights[number] = weight
        found.append(weights)
    return found


def bare_inference(classify: Any, side: int, samples: int, *, batch: int) -> Callable[[], None]:
    """Return a function that only classifies one image's number of copies, in the same batches."""
    function = tf.function(
        classify, input_signature=[tf.TensorSpec([None, side, side, 3], tf.float32)]
    )
    sizes = [min(batch, samples - start) for start in range(0, samples, batch)]
    batches = [tf.constant(smooth_images(size, side)) for size in sizes]

    def run() -> None:
        for copies in batches:
            function(copies).numpy()

    return run


if __name__ == "__main__":
    sys.exit(main())
