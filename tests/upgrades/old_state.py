"""Unpacks what an earlier state of the package left, as if it had been made where it lies now."""

import hashlib
import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tasks.contract import RunDirectory
from tasks.environment import Environment
from tasks.spec import Pipeline, load_pipeline
from tests.tasks.places import environment_at

FOLDER = Path(__file__).parent
ARCHIVES = sorted(FOLDER.glob("*.tar.xz"))
"""One archive for each state that is kept, named by its commit; see README.md."""

MODEL = "tiny"
"""Pipeline and registered model of every archive."""


@dataclass(frozen=True, kw_only=True)
class OldState:
    """An unpacked archive.

    Attributes
    ----------
    root : Path
        Holds ``store``, ``mlflow.db``, ``mlflow-artifacts``, ``served``, ``pipelines`` and
        ``state.json``.
    """

    root: Path

    @property
    def environment(self) -> Environment:
        """Its registry and serving root, for stages of the code under test."""
        return environment_at(
            self.root, mlflow_uri=f"sqlite:///{self.root}/mlflow.db", state_dir=self.root
        )

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline whose nights it holds."""
        return load_pipeline(str(FOLDER / "tiny.yaml"))

    def run(self, name: str) -> RunDirectory:
        """Return the folder of a night: ``first``, ``second``, ``third``, or a new one."""
        return RunDirectory(str(self.root / "store" / MODEL / "runs" / name))


def unpack(archive: Path, root: Path) -> OldState:
    """Unpack an archive into a folder, and let every absolute path lead there.

    Parameters
    ----------
    archive : Path
        As ``make_fixture.py`` wrote it.
    root : Path
        An empty folder.
    """
    with tarfile.open(archive) as packed:
        packed.extractall(root, filter="data")
    old = json.loads((root / "state.json").read_text(encoding="utf-8"))["root"]
    for path in root.rglob("*"):
        if path.suffix in (".json", ".html", ".yaml") or path.name == "MLmodel":
            path.write_bytes(path.read_bytes().replace(old.encode(), str(root).encode()))
    _relocate_database(root / "mlflow.db", old, str(root))
    for manifest in root.glob("store/*/runs/*/*/manifest.json"):
        _hash_again(manifest)
    return OldState(root=root)


def _relocate_database(path: Path, old: str, new: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for column in database.execute(f'PRAGMA table_info("{table}")').fetchall():
                database.execute(
                    f'UPDATE "{table}" SET "{column[1]}" = replace("{column[1]}", ?, ?) '  # noqa: S608
                    f'WHERE instr("{column[1]}", ?) > 0 AND typeof("{column[1]}") = \'text\'',
                    (old, new, old),
                )


def _hash_again(path: Path) -> None:
    """Make a manifest true again of its files that hold a path, by the rule of that time: the
    digest was that of the outputs alone."""
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["reused_from"]:
        return
    changed = False
    for output in manifest["outputs"]:
        file = path.parent / output["path"]
        if not file.is_file():
            continue
        raw = file.read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        changed = changed or digest != output["sha256"]
        output.update(sha256=digest, bytes=len(raw))
    if changed:
        by_path = sorted(manifest["outputs"], key=lambda output: str(output["path"]))
        lines = [f"{output['path']} {output['sha256']}\n" for output in by_path]
        manifest["digest"] = hashlib.sha256("".join(lines).encode()).hexdigest()
        path.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
