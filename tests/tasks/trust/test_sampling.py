"""Which test images are looked at."""

import io
import os
import subprocess
import sys
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from PIL import Image

from tasks.trust.sampling import decode_images, stratified


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"{n:03}" for n in range(100)],
            "class_index": [0] * 90 + [1] * 10,
            "correct": ([True] * 80 + [False] * 10) + [True] * 9 + [False],
            "has_region": [n % 10 == 0 for n in range(100)],
        }
    )


def test_every_stratum_has_its_turn_before_any_has_two() -> None:
    chosen = stratified(table(), by=["class_index", "correct"], count=4, seed=0)
    assert len(chosen.groupby(["class_index", "correct"])) == 4
    eight = stratified(table(), by=["class_index", "correct"], count=8, seed=0)
    # the stratum of a single row is used up, the others go on
    assert sorted(eight.groupby(["class_index", "correct"]).size()) == [1, 2, 2, 3]


def test_the_choice_is_seeded_and_does_not_depend_on_the_order_of_rows() -> None:
    first = stratified(table(), by=["class_index"], count=10, seed=1)
    turned = stratified(table().iloc[::-1], by=["class_index"], count=10, seed=1)
    other = stratified(table(), by=["class_index"], count=10, seed=2)
    assert list(first["image_id"]) == list(turned["image_id"])
    assert list(first["image_id"]) != list(other["image_id"])


def test_rows_with_a_region_come_first_in_their_stratum() -> None:
    chosen = stratified(table(), by=["class_index"], count=10, seed=0, first="has_region")
    assert chosen.loc[chosen["class_index"] == 0, "has_region"].all()


def test_all_rows_are_taken_when_there_are_not_more() -> None:
    assert len(stratified(table(), by=["class_index"], count=1000, seed=0)) == 100


def test_images_are_decoded_as_the_model_sees_them() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30), 77, dtype=np.uint8)).save(buffer, format="PNG")
    images = decode_images([buffer.getvalue()] * 3, image_size=(8, 10), channels=3)
    assert images.shape == (3, 8, 10, 3) and images.dtype == np.float32
    assert (images == 77).all()


def test_the_checks_say_nothing_that_a_person_did_not_ask_for() -> None:
    script = """
import io, logging, sys
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(name)s %(message)s")
from tasks.native_log import import_tensorflow
import_tensorflow()
import numpy as np, tensorflow as tf
from PIL import Image
from tasks.trust import attacks
from tasks.trust.lime_images import LimeExplainer
from tasks.trust.sampling import decode_images
import tasks.figures, matplotlib.font_manager
logging.getLogger("tensorflow").setLevel("WARNING")
buffer = io.BytesIO()
Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, "PNG")
image, = decode_images([buffer.getvalue()], image_size=(8, 8), channels=1)
classify = lambda x: tf.nn.softmax(tf.stack([tf.reduce_sum(x, (1, 2, 3)) / 4000] * 2, axis=1))
LimeExplainer(classify, samples=60, segments=4, seed=0).explain(image)
"""
    with TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            # a machine on which none of them ever ran
            env={**os.environ, "HOME": home, "MPLCONFIGDIR": home, "XDG_CACHE_HOME": home},
        )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line]
    assert [line for line in lines if not line.startswith("tasks device: ")] == []
