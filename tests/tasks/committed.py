"""Stages that a night has committed, although none ran."""

from pathlib import Path
from typing import Any

from tasks.contract import Manifest, RunDirectory, describe_outputs


def commit(
    run: RunDirectory,
    stage: str,
    files: dict[str, str],
    *,
    fingerprint: str = "f" * 64,
    **fields: Any,
) -> Manifest:
    """Write a stage's files and its manifest.

    Parameters
    ----------
    run : RunDirectory
        The night.
    stage : str
        Name of the stage.
    files : dict of str
        Texts by their paths in the stage's folder.
    fingerprint : str
        What the stage was made of.
    **fields : Any
        More of the manifest.

    Returns
    -------
    Manifest
        What was committed.
    """
    folder = Path(run.path) / stage
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    outputs = describe_outputs(folder)
    manifest = Manifest(
        stage=stage,
        fingerprint=fingerprint,
        location=run.stage_uri(stage),
        outputs=outputs,
        made_for=[fingerprint],
        **fields,
    ).sealed()
    run.write_manifest(manifest)
    return manifest
