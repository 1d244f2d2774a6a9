"""CIFAR-10's pipelines on a few of its photographs: the stages from ingest to the verdict."""

import json
import tarfile
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from tasks.contract import RunDirectory
from tasks.runner import run_stage
from tasks.spec import Pipeline, apply_overrides, load_pipeline
from tasks.stages import load_stage
from tests.tasks.places import environment_at

pytestmark = pytest.mark.data

REPOSITORY = Path(__file__).parents[3]
LEARNING = ("ingest", "transform", "filter", "arrange", "validate", "train", "evaluate")
CHECKS = ("fairness", "explain", "robustness")


@pytest.fixture(scope="module")
def photographs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 training and 6 test photographs of each class, in folders."""
    folder, taken = tmp_path_factory.mktemp("cifar10"), Counter[str]()
    with tarfile.open(shared_data / "cifar10/cifar-10-jpeg.tar.xz") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            group, wanted = str(path.parent), 30 if path.parts[:1] == ("train",) else 6
            if not member.isfile() or path.suffix != ".jpg" or taken[group] == wanted:
                continue
            taken[group] += 1
            stream = archive.extractfile(member)
            assert stream is not None
            (folder / group).mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(stream.read())
    assert len(taken) == 20
    return folder


def night(
    name: str, photographs: Path, root: Path, *, stages: tuple[str, ...]
) -> tuple[Pipeline, RunDirectory]:
    pipeline = apply_overrides(
        load_pipeline(REPOSITORY / f"dags/pipelines/{name}.yaml"),
        {
            "source": {
                "kind": "class_folders",
                "uri": str(photographs),
                "levels": ["split", "label"],
            },
            "train.epochs": 1,
            "explain.images": 2,
            "explain.samples": 50,
            "robustness.images": 10,
        },
    )
    run = RunDirectory(str(root / name / "runs" / "one"))
    environment = environment_at(root)
    for stage in stages:
        run_stage(load_stage(stage), pipeline=pipeline, run=run, environment=environment)
    return pipeline, run


def test_a_net_that_saw_few_photographs_once_is_refused(photographs: Path, tmp_path: Path) -> None:
    pipeline, run = night("cifar10", photographs, tmp_path, stages=(*LEARNING, *CHECKS, "bless"))
    arranged = run.read_manifest("arrange")
    assert arranged is not None
    assert arranged.rows_out == 360
    trained = run.read_manifest("train")
    assert trained is not None
    # 32-64-64 convolutions and 64 units, as the original has them
    assert trained.metrics["train.parameters"] == 122_570
    explained = run.read_manifest("explain")
    assert explained is not None
    pictures = {output.path for output in explained.outputs if output.path.endswith(".png")}
    assert pictures == {
        f"explanations{method}.png" for method in ("", "_gradient_shap", "_partition_shap")
    }
    verdict = run.read_verdict()
    assert verdict is not None
    assert not verdict.blessed
    assert any("evaluate.accuracy" in reason for reason in verdict.reasons)
    assert pipeline.deploy.cluster_target == "deployment"
    assert pipeline.deploy.replicas(pipeline.deploy.cluster_target) == 2


def test_the_private_net_is_judged_by_its_epsilon(photographs: Path, tmp_path: Path) -> None:
    pipeline, run = night("cifar10_private", photographs, tmp_path, stages=(*LEARNING, "bless"))
    manifest, verdict = run.read_manifest("train"), run.read_verdict()
    assert manifest is not None and verdict is not None
    assert 6 < manifest.metrics["train.dp.epsilon"] <= 8
    assert manifest.metrics["train.dp.images_per_group"] == 1
    judged = {rule.metric: rule.passed for rule in verdict.rules}
    assert judged["train.dp.epsilon"] and judged["train.dp.delta"]
    assert not judged["evaluate.accuracy"]
    document = json.loads((Path(run.path) / "train/training.json").read_text())
    assert document["dp.epsilon"] == manifest.metrics["train.dp.epsilon"]
    assert pipeline.train.privacy is not None
