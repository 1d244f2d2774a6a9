"""The registered model as MLflow loads it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks import registry, tracking
from tasks.contract import RunDirectory, tree_sha256
from tasks.spec import Pipeline
from tests.tasks.places import environment_at

PREDICT = """
import json, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
images = [open(name, "rb").read() for name in sys.argv[2:]]
model = mlflow.pyfunc.load_model("models:/demo@champion")
answers = [model.predict(images[0]), model.predict(images), model.predict(pd.DataFrame(images))]
print(json.dumps([answer.to_dict("list") for answer in answers]))
"""


def test_the_champion_predicts_from_image_bytes_anywhere(
    tmp_path: Path,
    saved_models: dict[str, Path],
    images: list[bytes],
    expected: dict[str, list[tuple[float, ...]]],
) -> None:
    import json

    store = environment_at(tmp_path, mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db")
    pipeline = Pipeline.model_validate(
        {"name": "demo", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
    )
    run = RunDirectory(str(tmp_path / "demo" / "runs" / "one"))
    version = registry.register(
        store,
        model_name="demo",
        model_dir=saved_models["1"],
        digest=tree_sha256(saved_models["1"]),
        run_id=tracking.find_or_create_run(pipeline=pipeline, run=run, environment=store),
        example=lambda: images[0],
        tags={},
    )
    registry.set_alias(store, "demo", registry.CHAMPION, version)
    names = []
    for index, image in enumerate(images):
        (tmp_path / str(index)).write_bytes(image)
        names.append(str(tmp_path / str(index)))
    # elsewhere and without our package: the model carries its own code
    answered = subprocess.run(
        [sys.executable, "-c", PREDICT, store.mlflow_uri, *names],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answered.returncode == 0, answered.stderr[-2000:]
    one, many, frame = json.loads(answered.stdout.splitlines()[-1])
    assert one["class_name"] == ["red"]
    assert many["class_name"] == ["red", "green", "red"]
    wanted: Any = [row[0] for row in expected["1"]]
    assert many["probability.red"] == pytest.approx(wanted, abs=0.02)
    assert frame == many
