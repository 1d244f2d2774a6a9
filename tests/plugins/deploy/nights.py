"""Nights that were blessed and published, written by hand, and the pipelines that made them."""

import shutil
from pathlib import Path
from typing import Any

from tasks.contract import (
    Manifest,
    ModelIdentity,
    Output,
    Publication,
    PublishedAnswer,
    RuleResult,
    RunDirectory,
    Verdict,
    tree_sha256,
)
from tasks.spec import Pipeline
from tests.tasks.committed import commit

PASSED = RuleResult(metric="evaluate.accuracy", value=0.9, bound=">= 0.8", passed=True, reason="")


def pipeline_of(**deploy: Any) -> Pipeline:
    """Return a pipeline with these fields of ``deploy``."""
    return Pipeline.model_validate(
        {
            "name": "demo_night",
            "source": {"kind": "synthetic"},
            "label": {"column": "finding"},
            "deploy": {"observe_seconds": 0, "startup_seconds": 5, **deploy},
        }
    )


def commit_night(
    root: Path,
    cluster: Any,
    version: str,
    *,
    champion: str | None = None,
    blessed: bool = True,
    published: str = "",
    saved_model: Path | None = None,
    answers: list[PublishedAnswer] | None = None,
) -> RunDirectory:
    """Commit verdict and publication of a version, and tell the cluster what it answers.

    Parameters
    ----------
    root : Path
        Storage root.
    cluster : Cluster
        Gets the version's digest and answers.
    version : str
        A number.
    champion : str, optional
        Version that it was compared with.
    blessed : bool
        The verdict.
    published : str
        Address of the folder of models where it is not below the root.
    saved_model : Path, optional
        Files of a real model; a few bytes when left out.
    answers : list of PublishedAnswer, optional
        What is known to be its answers; made up when left out.
    """
    run = RunDirectory(f"{root}/demo_night/runs/night-{version}")
    model = root / "models/demo_night" / version
    if saved_model is not None:
        shutil.copytree(saved_model, model, dirs_exist_ok=True)
    else:
        (model / "variables").mkdir(parents=True, exist_ok=True)
        (model / "saved_model.pb").write_text(f"weights of {version}")
        (model / "variables/data").write_text("7")
    digest = tree_sha256(model)
    cluster.versions[version] = digest
    number = int(version)
    answers = answers or [
        PublishedAnswer(
            image_id=f"{index}.png",
            image_b64=f"aW1hZ2U{index}",
            probabilities=[0.1 * index + 0.01 * number, 0.9 - 0.1 * index - 0.01 * number],
        )
        for index in range(3)
    ]
    cluster.answers[digest] = {a.image_b64: a.probabilities for a in answers}
    identity = ModelIdentity(name="demo_night", version=version, digest=digest)
    before = None
    if champion is not None:
        before = identity.model_copy(
            update={"version": champion, "digest": cluster.versions[champion]}
        )
    verdict = Verdict(
        blessed=blessed,
        model=identity,
        champion=before,
        rules=[PASSED.model_copy(update={"passed": blessed})],
        reasons=[] if blessed else ["too bad"],
    )
    publication = Publication(
        model=identity,
        model_uri=f"{published or f'file://{root}/models'}/demo_night/{version}",
        known_answers=answers,
        tolerance=0.001,
    )
    run.write_manifest(
        Manifest(
            stage="train",
            fingerprint="f" * 64,
            location=run.stage_uri("train"),
            outputs=[Output(path="model/", bytes=1, sha256=digest)],
        ).sealed()
    )
    commit(run, "bless", {"verdict.json": verdict.model_dump_json()})
    commit(run, "publish", {"publication.json": publication.model_dump_json()})
    return run
