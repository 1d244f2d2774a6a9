"""Where a model comes from: source, data, code, packages, seeds and settings."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from tasks.code_version import library_versions
from tasks.reporting import wording
from tasks.reporting.facts import RunFacts
from tasks.reporting.view import Cell, Section, Table, number_cell
from tasks.spec.masking import without_queries

_MORE_PACKAGES = ("trusted-retraining", "mlflow", "pydantic", "fsspec", "pyarrow")

_ROOT = Path(__file__).parents[2]
"""The checkout, when this code runs from one."""


def lineage_section(run: RunFacts, *, code_revision: str) -> Section:
    """Return what an auditor needs to make the same model again.

    Parameters
    ----------
    run : RunFacts
        The run.
    code_revision : str
        Source revision; empty when unknown.
    """
    pipeline = run.pipeline
    source = pipeline.get("source") if isinstance(pipeline.get("source"), dict) else {}
    section = Section(
        key="lineage",
        title="Lineage",
        lead="The same source, settings and code give the same data digests and fingerprints. A"
        " model that is trained again gets a digest of its own: TensorFlow marks each file that it"
        " writes, and with another number of threads, or on a GPU, sums are rounded differently.",
    )
    section.facts = [
        ("Source", ", ".join(f"{key} {_show(value)}" for key, value in (source or {}).items())),
        ("Data fingerprint", _digest(run, "ingest")),
        ("Arranged data", _digest(run, "arrange")),
        ("Model digest", run.verdict.model.digest if run.verdict else ""),
        ("Code revision", code_revision or checkout_revision(_ROOT)),
        ("Seeds", ", ".join(f"{field} = {value}" for field, value in _seeds(pipeline))),
        ("MLflow run", run.mlflow_run_id or "not tracked"),
        ("Run folder", run.run.uri),
    ]
    section.facts = [(label, text or "unknown") for label, text in section.facts]
    section.tables = [
        table
        for table in (
            _digests_table(run),
            _packages_table(),
            _settings_table(pipeline),
        )
        if table is not None
    ]
    return section


def flatten(document: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of every field; lists are values."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, document


def _digests_table(run: RunFacts) -> Table | None:
    rows = [
        [
            Cell(name),
            Cell(stage.manifest.digest[:16], "code"),
            Cell(stage.manifest.fingerprint[:16], "code"),
            Cell(stage.manifest.code_version, "code"),
            number_cell(wording.size(sum(output.bytes for output in stage.manifest.outputs))),
        ]
        for name, stage in run.stages.items()
        if stage.manifest
    ]
    if not rows:
        return None
    return Table(
        title="Digests by stage (first 16 digits)",
        headings=["Stage", "Result", "Fingerprint", "Code", "Size"],
        rows=rows,
    )


def _packages_table() -> Table:
    versions = {"python": platform.python_version(), **library_versions()}
    for name in _MORE_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Table(
        title="Packages",
        headings=["Package", "Version"],
        rows=[[Cell(name), Cell(version, "code")] for name, version in sorted(versions.items())],
        folded=True,
    )


def _settings_table(pipeline: dict[str, Any]) -> Table | None:
    rows = [[Cell(field, "code"), Cell(_show(value))] for field, value in flatten(pipeline)]
    if not rows:
        return None
    return Table(title="Every setting, as run", headings=["Field", "Value"], rows=rows, folded=True)


def _seeds(pipeline: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for field, value in flatten(pipeline):
        if field.rpartition(".")[2] == "seed" or field == "split.salt":
            yield field, repr(value) if value == "" else value


def _digest(run: RunFacts, stage: str) -> str:
    manifest = run.stages[stage].manifest
    return manifest.digest if manifest else run.stages[stage].absence


def _show(value: Any) -> str:
    return "not set" if value is None else without_queries(str(value))


def checkout_revision(root: Path) -> str:
    """Return the git revision of a checkout, marked when changed; empty when there is none."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return ""
    question = ["-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        answer = subprocess.run(  # noqa: S603
            [git, *question], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip().replace("-dirty", ", with local changes")
