"""What a deployment leaves in the night's folder."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.contract import (
    Manifest,
    Output,
    RunDirectory,
    fingerprint,
    sha256_text,
)
from trusted_retraining.serving.plan import Plan, Served

STAGE = "deploy"


def commit(
    run: RunDirectory,
    plan: Plan,
    document: dict[str, Any],
    *,
    previous: Served | None,
    metrics: dict[str, float],
    seconds: float,
) -> Manifest:
    """Write ``deployment.json`` and the stage's manifest, and return the manifest.

    Parameters
    ----------
    run : RunDirectory
        The night.
    plan : Plan
        What serves now.
    document : dict
        What is to be told of it besides.
    previous : Served or None
        What served before.
    metrics : dict of str to float
        By dotted name.
    seconds : float
        How long it took.
    """
    told = document | {
        "target": plan.pipeline.deploy.cluster_target,
        "namespace": plan.namespace,
        "name": plan.name,
        "model_uri": plan.model_uri,
        "previous": previous and {"version": previous.version, "digest": previous.digest},
    }
    run.write_json(f"{STAGE}/deployment.json", told)
    raw = bytes(run.fs.cat_file(f"{run.path}/{STAGE}/deployment.json"))
    output = Output(path="deployment.json", bytes=len(raw), sha256=sha256_text(raw.decode("utf-8")))
    inputs = {
        name: found.digest for name in ("bless", "publish") if (found := run.read_manifest(name))
    }
    started = datetime.now(UTC) - timedelta(seconds=seconds)
    config = plan.pipeline.deploy.model_dump(mode="json")
    manifest = Manifest(
        stage=STAGE,
        fingerprint=fingerprint(
            stage=STAGE, config=config, inputs=inputs, code="", state=plan.digest
        ),
        location=run.stage_uri(STAGE),
        outputs=[output],
        metrics=metrics,
        seconds=round(seconds, 3),
        started_at=started.isoformat(timespec="seconds"),
        inputs=inputs,
    ).sealed()
    run.write_manifest(manifest)
    return manifest
