"""A small night of real stages up to the verdict, for tests that alter what it left."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contract import Manifest, RunDirectory, Verdict
from tasks.environment import Environment
from tasks.gate.evidence import JUDGED
from tasks.runner import run_stage
from tasks.spec import Pipeline, apply_overrides
from tasks.stages import load_stage
from tests.tasks import places

PIPELINE = Pipeline.model_validate(
    {
        "name": "films",
        "source": {"kind": "synthetic", "rows": 160, "size": 32},
        "transform": [{"column": "finding", "function": "regex('^Pneumonia.*', 'Pneumonia')"}],
        "filter": ["metadata.finding != 'todo'"],
        "label": {"column": "finding", "classes": ["No Finding", "Pneumonia"]},
        "split": {"group": "patientid", "test": 0.3},
        "validate": {"min_rows": 1, "min_per_class": 1, "min_test_per_class": 1},
        "train": {
            "architecture": "dense",
            "image_size": [32, 32],
            "channels": 1,
            "epochs": 2,
            "batch_size": 16,
        },
        "evaluate": {"bootstrap": 50},
        "fairness": {
            "min_group": 5,
            "n_boot": 10,
            "protected": [{"attribute": "sex", "privileged": ["M"], "unprivileged": ["F"]}],
        },
        "explain": {"images": 2, "samples": 50},
        "robustness": {"images": 4, "attacks": ["fgsm"], "strengths": [0.05]},
        "blessing": {
            "default_rules": False,
            "rules": [{"metric": "evaluate.accuracy", "min": 0}],
        },
    }
)


@dataclass
class Night:
    """A run whose stages can be asked again."""

    run: RunDirectory
    environment: Environment

    def perform(self, stage: str, overrides: dict[str, Any] | None = None, **more: Any) -> Manifest:
        """Run a stage of it."""
        pipeline = apply_overrides(PIPELINE, overrides or {})
        return run_stage(
            load_stage(stage),
            pipeline=pipeline,
            file=pipeline,
            run=self.run,
            environment=self.environment,
            **more,
        )

    def verdict(self, overrides: dict[str, Any] | None = None) -> Verdict:
        """Return the verdict, given now."""
        self.perform("bless", overrides)
        found = self.run.read_verdict()
        assert found is not None
        return found

    def manifest(self, stage: str) -> Manifest:
        """Return what a stage has committed."""
        found = self.run.read_manifest(stage)
        assert found is not None
        return found

    def folder(self, stage: str) -> Path:
        """Return where a stage's outputs are."""
        return Path(self.run.path) / stage


def environment_at(
    root: Path, *, mlflow: bool = False, serving_python: Path = Path("absent")
) -> Environment:
    """Return the surroundings of a night whose store is in a folder."""
    return places.environment_at(
        root,
        mlflow_uri=f"sqlite:///{root}/mlflow.db" if mlflow else "",
        serving_python=serving_python,
        state_dir=root / "state",
    )


def make_night(root: Path) -> Night:
    """Run every stage before the verdict."""
    environment = environment_at(root)
    night = Night(RunDirectory(str(root / "films/runs/one")), environment)
    for stage in JUDGED:
        night.perform(stage)
    return night


@contextmanager
def restored(night: Night, aside: Path) -> Iterator[Night]:
    """Put the night back as it was when a test is done with it: manifests name places."""
    root = Path(night.run.path).parents[2]
    shutil.copytree(root, aside)
    try:
        yield night
    finally:
        shutil.rmtree(root)
        shutil.move(aside, root)
