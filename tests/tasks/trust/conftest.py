"""A night's arranged images, trained model and predictions, small and known by construction.

Every image shows a checkerboard pattern in a square (the relevant region) whose sign is its class,
and one in a corner whose sign is the class, too. Two linear models read one or the other.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.contract import Manifest, RunDirectory, describe_outputs, sha256_file
from tasks.spec import Pipeline
from tests.tasks.places import environment_at

SIDE = 48
CLASSES = ["clear", "opacity"]
SQUARE = np.zeros((SIDE, SIDE), dtype=bool)
SQUARE[14:34, 14:34] = True
CORNER = np.zeros((SIDE, SIDE), dtype=bool)
CORNER[:10, :10] = True
CHECKER = np.where(np.indices((SIDE, SIDE)).sum(axis=0) % 2 == 0, 1.0, -1.0)


def linear_model(area: np.ndarray, *, gain: float = 0.02) -> Any:
    """A softmax of how strongly the checkerboard shows in an area, and of nothing else."""
    import keras

    weight = (CHECKER * area / area.sum() * gain).ravel()
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.layers[-1].set_weights([np.stack([-weight, weight], axis=1), np.zeros(2)])
    return model


@dataclass(frozen=True)
class Film:
    """One test image."""

    pixels: np.ndarray
    label: int
    sex: str | None


def make_films(count: int = 60) -> list[Film]:
    """Films of both classes and sexes, with patterns of rising contrast."""
    generator = np.random.default_rng(3)
    films = []
    for number in range(count):
        label = number % 2
        sign = 2 * label - 1
        contrast = 12 + 80 * number / count
        pattern = sign * contrast * CHECKER * (SQUARE | CORNER)
        pixels = 128 + pattern + generator.normal(0, 4, (SIDE, SIDE))
        sex = None if number % 15 == 0 else ("F", "M")[(number // 2) % 2]
        films.append(Film(np.clip(np.round(pixels), 0, 255).astype(np.uint8), label, sex))
    return films


class Night:
    """A run directory with what the checks read, and a pipeline to run them under."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDirectory(str(folder / "root/night/runs/one"))
        self.films = make_films()
        self.training_films = make_films(10)

    def pipeline(self, **sections: Any) -> Pipeline:
        """The pipeline, with the sections given."""
        document = {
            "name": "night",
            "source": {"kind": "synthetic"},
            "label": {"column": "finding", "classes": CLASSES, "positive": "opacity"},
            "evaluate": {"bootstrap": 200},
            **sections,
        }
        return Pipeline.model_validate(document)

    def check(self, stage: str, **sections: Any) -> Manifest:
        """Run a check."""
        from tasks.runner import run_stage
        from tasks.stages import load_stage

        environment = environment_at(Path("/nonexistent"))
        return run_stage(
            load_stage(stage),
            pipeline=self.pipeline(**sections),
            run=self.run,
            environment=environment,
        )

    def folder(self, stage: str) -> Path:
        """Folder of a stage."""
        return Path(self.run.path) / stage

    def document(self, stage: str, name: str) -> Any:
        """A JSON output of a stage."""
        return json.loads((self.folder(stage) / name).read_text(encoding="utf-8"))

    def commit(self, stage: str) -> None:
        """Write the manifest of a stage whose files lie there."""
        outputs = describe_outputs(self.folder(stage))
        manifest = Manifest(
            stage=stage,
            fingerprint=stage,
            location=self.run.stage_uri(stage),
            outputs=outputs,
        ).sealed()
        self.run.write_manifest(manifest)

    def arrange(self) -> None:
        """Write the arranged images, their masks and their table."""
        out = self.folder("arrange")
        rows = []
        sides = [("test", "film", film) for film in self.films]
        sides += [("train", "seen", film) for film in self.training_films]
        for number, (side, stem, film) in enumerate(sides):
            name = f"{stem}{number:02}.png"
            path = f"{side}/{CLASSES[film.label]}/{name}"
            for place, pixels in (
                (out / "folders" / path, film.pixels),
                (out / "regions" / name, SQUARE.astype(np.uint8) * 255),
            ):
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place)
            rows.append(
                {
                    "image_id": name,
                    "image_path": path,
                    "shard": None,
                    "image_sha256": sha256_file(out / "folders" / path),
                    "split_side": side,
                    "class_name": CLASSES[film.label],
                    "class_index": film.label,
                    "group_key": name,
                    "region_path": name,
                    "sex": film.sex,
                    "age": str(20 + number),
                }
            )
        pd.DataFrame(rows).astype({"sex": "string"}).to_parquet(out / "images.parquet")
        text = json.dumps({"classes": CLASSES, "positive": "opacity"})
        (out / "classes.json").write_text(text, encoding="utf-8")
        self.commit("arrange")

    def train(self, model: Any) -> None:
        """Leave a model as training leaves it."""
        from tasks.training.export import export_model

        out = self.folder("train")
        out.mkdir(parents=True, exist_ok=True)
        model.save(out / "model.keras")
        export_model(model, out / "model", name="night", classes=CLASSES, positive="opacity")
        self.commit("train")

    def evaluate(self, answer: Callable[[Film], int]) -> None:
        """Leave predictions as the evaluation leaves them."""
        out = self.folder("evaluate")
        out.mkdir(parents=True, exist_ok=True)
        labels = np.array([film.label for film in self.films])
        answers = np.array([answer(film) for film in self.films])
        table = pd.DataFrame(
            {
                "image_id": [f"film{number:02}.png" for number in range(len(self.films))],
                "class_index": labels,
                "predicted_index": answers,
                "probabilities": list(np.eye(2)[answers]),
                "correct": labels == answers,
            }
        )
        # another order than the arranged one: what joins them is the image's name
        table.iloc[::-1].to_parquet(out / "predictions.parquet")
        self.commit("evaluate")


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """A night whose images are arranged and predicted rightly."""
    made = Night(tmp_path)
    made.arrange()
    made.evaluate(lambda film: film.label)
    return made
