"""Real SavedModels and the real serving environment."""

import io
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]

# Two versions of a classifier by mean colour, with the signatures that the stage `train` exports.
MAKE_MODELS = """
import json, pathlib, sys
import tensorflow as tf

class Classifier(tf.Module):
    def __init__(self, bias):
        super().__init__()
        self.weights = tf.Variable([[0.02, 0.0], [0.0, 0.02], [bias, 0.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32, name="images")])
    def tensors(self, images):
        logits = tf.reduce_mean(images, [1, 2]) @ self.weights
        return {"probabilities": tf.nn.softmax(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving(self, image_bytes):
        def decode(encoded):
            image = tf.io.decode_image(encoded, 3, expand_animations=False)
            return tf.image.resize(image, [16, 16])
        spec = tf.TensorSpec([16, 16, 3], tf.float32)
        return self.tensors(tf.map_fn(decode, image_bytes, fn_output_signature=spec))

for version, bias in (("1", 0.0), ("2", 0.03)):
    folder = pathlib.Path(sys.argv[1]) / version / "model"
    model = Classifier(bias)
    signatures = {"serving_default": model.serving, "tensors": model.tensors}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    document = {"name": "demo", "classes": ["red", "green"], "positive": "red"}
    (folder / "model.json").write_text(json.dumps(document))
"""


@pytest.fixture(scope="session")
def serving_python() -> Path:
    """Interpreter of the serving environment."""
    default = REPOSITORY / ".local/serving-venv/bin/python"
    python = Path(os.environ.get("TRUSTED_RETRAINING_SERVING_PYTHON", default))
    if not python.exists():
        pytest.skip(f"no serving environment at {python}: make test creates it")
    return python


@pytest.fixture(scope="session")
def start_server(
    serving_python: Path,
) -> "Callable[..., AbstractContextManager[tuple[subprocess.Popen[bytes], str]]]":
    """Return a function that runs the model server on a folder; gives its process and address.

    Further arguments go to the server; what it says goes to ``<root>.log`` beside the folder.
    """

    @contextmanager
    def start(root: Path, *arguments: str) -> "Iterator[tuple[subprocess.Popen[bytes], str]]":
        port_file = root.parent / f"{root.name}.port.json"
        process = subprocess.Popen(
            [
                *(serving_python, "-m", "tasks.serving.server", "--root", root, "--port", "0"),
                *("--port-file", port_file, "--poll-seconds", "0.1", "--ends-with-stdin"),
                *arguments,
            ],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=(root.parent / f"{root.name}.log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        try:
            for _ in range(1200):
                if port_file.exists() or process.poll() is not None:
                    break
                time.sleep(0.1)
            yield process, json.loads(port_file.read_text())["url"]
        finally:
            # the closed pipe alone must end it
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)

    return start


@pytest.fixture(scope="session")
def saved_models(serving_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SavedModel folders of versions 1 and 2."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run(
        [serving_python, "-c", MAKE_MODELS, folder], check=True, capture_output=True, timeout=300
    )
    return {version: folder / version / "model" for version in ("1", "2")}


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Small encoded images: PNG, JPEG and BMP."""
    from PIL import Image

    encoded = []
    for kind, colour in (("PNG", (250, 10, 30)), ("JPEG", (10, 240, 90)), ("BMP", (9, 9, 200))):
        stream = io.BytesIO()
        Image.new("RGB", (20, 24), colour).save(stream, kind)
        encoded.append(stream.getvalue())
    return encoded


def offline(images: list[bytes], *, bias: float) -> list[tuple[float, ...]]:
    """Return what a version answers, computed without TensorFlow."""
    import numpy as np
    from PIL import Image

    rows = []
    for image in images:
        with Image.open(io.BytesIO(image)) as opened:
            mean = np.asarray(opened.convert("RGB"), float).mean(axis=(0, 1))
        logits = mean @ np.array([[0.02, 0.0], [0.0, 0.02], [bias, 0.0]])
        odds = np.exp(logits - logits.max())
        rows.append(tuple(float(each) for each in odds / odds.sum()))
    return rows


@pytest.fixture(scope="session")
def expected(images: list[bytes]) -> dict[str, list[tuple[float, ...]]]:
    """Probabilities of the images by version."""
    return {"1": offline(images, bias=0.0), "2": offline(images, bias=0.03)}
