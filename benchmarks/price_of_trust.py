"""A night of Fashion-MNIST against a plain Keras script: what all of the trust costs.

Plain: one process that reads the four files, fits the same net with the same settings and prints
its accuracy on the test set. Ours: the night through Airflow, from the same files to the model in
service, everything computed.

    python benchmarks/price_of_trust.py --out price_of_trust.json
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.nights import REPOSITORY, environment, prepare, timed  # noqa: E402
from benchmarks.rows import Row, arguments, clocked, finish, row  # noqa: E402

DATA = Path(os.environ.get("TRUSTED_RETRAINING_DATA", REPOSITORY.parent / "shared/data"))
PLAIN = """
import gzip, sys
import keras, numpy as np

def read(name, header):
    with gzip.open(f"{sys.argv[1]}/{name}.gz") as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=header)

def part(name):
    return (read(f"{name}-images-idx3-ubyte", 16).reshape(-1, 28, 28) / 255.0,
            read(f"{name}-labels-idx1-ubyte", 8))

keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(128, activation="relu"),
    keras.layers.Dense(10),
])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])
images, labels = part("train")
model.fit(images, labels, epochs=10, validation_split=0.05, verbose=0)
print(model.evaluate(*part("t10k"), verbose=0)[1])
"""
CHECKS = ("fairness", "explain", "robustness", "bless", "report")


def main() -> int:
    """Measure; there is no target, the numbers are for reading."""
    options = arguments(__doc__).parse_args()
    source = DATA / "fashion-mnist"
    rows = measure(source) if source.is_dir() else []
    if not rows:
        print(f"skipped: no data set {source} (set TRUSTED_RETRAINING_DATA)")
    return finish(rows, options.out)


def measure(source: Path) -> list[Row]:
    """Return the rows: the whole night, and its training alone."""
    plain, answer = clocked(
        lambda: subprocess.run(
            [sys.executable, "-c", PLAIN, str(source)],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        prepare(state)
        command = [sys.executable, "-m", "trusted_retraining.local.night", "fashion_mnist"]
        ours = timed([*command, "--source", str(source)], environment(state))
        last = json.loads((state / "last-run.json").read_text())
    seconds = {name: stage["seconds"] for name, stage in last["stages"].items()}
    accuracy = {
        "ours": last["metrics"]["evaluate.accuracy"],
        "plain": float(answer.stdout.split()[-1]),
    }
    detail = {"stages": seconds, "accuracy": accuracy, "blessed": last["blessed"]}
    checks = sum(seconds[name] for name in CHECKS)
    return [
        row("price of trust: night of Fashion-MNIST", ours, plain, "s", detail=detail),
        row("price of trust: stage train alone", seconds["train"], plain, "s"),
        row(
            "price of trust: checks, verdict and report",
            checks,
            plain,
            "s",
            detail={"stages": CHECKS},
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
