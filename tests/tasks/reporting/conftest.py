"""A night's run directory, written through the contract as the stages write theirs."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.contract import (
    Failure,
    Manifest,
    ModelIdentity,
    RuleResult,
    RunDirectory,
    Verdict,
    describe_outputs,
)
from tasks.spec import Label, Pipeline, Synthetic

Commit = Callable[..., Manifest]


def picture(width: int = 640, height: int = 400, *, noise: bool = False) -> bytes:
    """Return a PNG; of noise, one that hardly compresses."""
    if noise:
        image = Image.effect_noise((width, height), 80).convert("RGB")
    else:
        image = Image.linear_gradient("L").resize((width, height))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def commit(
    run: RunDirectory, stage: str, files: dict[str, bytes | str | Any], **fields: Any
) -> Manifest:
    """Write a stage's files and its manifest; dictionaries and lists become JSON."""
    folder = Path(run.path) / stage
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        (folder / name).write_bytes(content)
    outputs = describe_outputs(folder)
    metrics = {f"{stage}.{name}": value for name, value in fields.pop("metrics", {}).items()}
    notes = {f"{stage}.{name}": text for name, text in fields.pop("notes", {}).items()}
    manifest = Manifest(
        stage=stage,
        fingerprint="f" * 64,
        location=run.stage_uri(stage),
        outputs=outputs,
        metrics=metrics,
        notes=notes,
        started_at="2026-01-31T02:00:00+00:00",
        code_version="c" * 16,
        **{"seconds": 1.5, **fields},
    ).sealed()
    run.write_manifest(manifest)
    return manifest


def images_table(classes: list[str]) -> bytes:
    """Return an ``images.parquet`` with 8 training and 2 test images of each class."""
    names = [name for name in classes for _ in range(10)]
    sides = ["test" if i % 10 < 2 else "train" for i in range(len(names))]
    stream = io.BytesIO()
    pq.write_table(pa.table({"class_name": names, "split_side": sides}), stream)
    return stream.getvalue()


def verdict(*, blessed: bool, champion: bool = True, reason: str = "") -> Verdict:
    """Return a verdict of two rules, of which the second decides."""
    reason = reason or "women are found 0.32 less often than men, and at most 0.1 is allowed"
    return Verdict(
        blessed=blessed,
        model=ModelIdentity(name="demo", version="7", digest="d" * 64),
        champion=ModelIdentity(name="demo", version="6", digest="e" * 64) if champion else None,
        rules=[
            RuleResult(
                metric="evaluate.balanced_accuracy",
                value=0.874,
                low=0.812,
                high=0.926,
                bound=">= 0.7",
                passed=True,
                reason="0.874 is at least 0.7",
            ),
            RuleResult(
                metric="fairness.sex.equal_opportunity_difference",
                value=-0.02 if blessed else -0.32,
                bound="-0.1 .. 0.1",
                passed=blessed,
                reason="-0.02 is within the bounds" if blessed else reason,
            ),
        ],
        reasons=[] if blessed else [reason],
        at="2026-01-31T02:04:00+00:00",
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """An empty run of the pipeline ``demo``."""
    return RunDirectory(str(tmp_path / "artifacts/demo/runs/manual__2026-01-31"))


@pytest.fixture
def pipeline() -> Pipeline:
    """A small pipeline."""
    return Pipeline(
        name="demo",
        description="Tells shadows from clear lungs.",
        source=Synthetic(),
        label=Label(column="finding", classes=["clear", "opacity"]),
    )


@pytest.fixture
def night(run: RunDirectory, pipeline: Pipeline) -> Callable[..., RunDirectory]:
    """Write a whole night; ``blessed`` tells how it ended, ``failed`` names crashed stages."""

    def write(
        *,
        blessed: bool = True,
        failed: tuple[str, ...] = (),
        classes: tuple[str, ...] = ("clear", "opacity"),
    ) -> RunDirectory:
        run.write_json("pipeline.json", json.loads(pipeline.to_json()))
        run.write_json("mlflow.json", {"run_id": "0123456789abcdef"})
        stages = _stages(list(classes), verdict(blessed=blessed))
        stages.pop("reject" if blessed else "deploy")
        for name, (files, fields) in stages.items():
            if name in failed:
                run.write_failure(
                    Failure(stage=name, exit_code=137, reason="killed: out of memory", seconds=9.0)
                )
            else:
                commit(run, name, files, **fields)
        return run

    return write


def _stages(
    classes: list[str], decision: Verdict
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    shots = {"metrics": {"accuracy": 0.9, "accuracy.low": 0.85, "accuracy.high": 0.94, "rows": 4}}
    shots["metrics"] |= {"balanced_accuracy": 0.874, "least_recall": 0.8, "roc_auc": 0.95}
    for name in classes:
        shots["metrics"] |= {f"recall.{name}": 0.8, f"precision.{name}": 0.7, f"f1.{name}": 0.75}
    quarantine = f"row,filename,reason\n3,{classes[0]}.png,truncated\n5,b.png,undecodable\n"
    steps = [{"predicate": "metadata.finding != 'todo'", "rows_before": 28, "rows_after": 20}]
    checks = [{"name": "classes", "severity": "warning", "message": f"{classes[0]} is rare"}]
    reused = {"reused_from": "file:///artifacts/demo/runs/scheduled__2026-01-30", "seconds": 33.0}
    champion = {"version": "6", "digest": "e" * 64}
    return {
        "ingest": ({"quarantine.csv": quarantine}, {"rows_in": 30, "rows_out": 28, **reused}),
        "transform": ({}, {"rows_in": 28, "rows_out": 28}),
        "filter": ({"steps.json": steps}, {"rows_in": 28, "rows_out": 20}),
        "arrange": (
            {"images.parquet": images_table(classes), "classes.json": {"classes": classes}},
            {"rows_in": 20, "rows_out": 20},
        ),
        "validate": (
            {"validation.json": {"checks": checks}},
            {"warnings": [f"class {classes[0]} has few rows"]},
        ),
        "train": (
            {"history.csv": "epoch,loss,accuracy\n1,0.7,0.5\n2,0.4,0.8\n"},
            {"metrics": {"accuracy_inference": 0.91, "accuracy_logged": 0.92, "epochs": 2}},
        ),
        "evaluate": (
            {"confusion_matrix.png": picture(), "curves.png": picture(), "mistakes.png": picture()},
            shots,
        ),
        "fairness": (
            {"fairness.json": {"attributes": []}, "fairness_sex.png": picture()},
            {
                "metrics": {
                    "sex.statistical_parity_difference": -0.03,
                    "sex.equal_opportunity_difference": -0.02,
                },
                "notes": {"sex.equal_opportunity_difference": "F 0.86, M 0.88"},
            },
        ),
        "explain": (
            {"explanations.png": picture(1200, 500)},
            {"metrics": {"mass_inside_region": 0.71, "region_area": 0.31}},
        ),
        "robustness": (
            {"accuracy_by_strength.png": picture(), "adversarial_examples.png": picture()},
            {
                "metrics": {
                    "clean_accuracy": 0.9,
                    "fgsm.accuracy_at_0.01": 0.6,
                    "pgd.accuracy_at_0.01": 0.4,
                    "pgd.accuracy_at_0.02": 0.1,
                }
            },
        ),
        "bless": ({"verdict.json": decision.model_dump_json()}, {}),
        "deploy": ({"deployment.json": {"model": {"name": "demo", "version": "7"}}}, {}),
        "reject": (
            {"rejection.json": {"model": {"name": "demo", "version": "7"}, "champion": champion}},
            {},
        ),
        "report": ({"report.html": "<!DOCTYPE html>"}, {}),
    }
