"""Makes the archive of a state of the package: a store, a registry and a serving root.

    .venv/bin/python tests/upgrades/make_fixture.py tests/upgrades/NAME.tar.xz

Run it in a checkout of the state that is to be kept, before anything is changed. It runs three
nights of ``tiny.yaml`` by the command line of that very checkout:

- ``first``: blessed and deployed as version 1;
- ``second``: trained with another seed, blessed, published as for a cluster, and deployed as
  version 2, so that there is a way back;
- ``third``: the training diverges, the verdict refuses, the champion stays; only this night has a
  report, because the pages of the others would make up half of the archive.

The archive also holds the checkout's pipeline files, and ``state.json``: the commit, the versions
of the libraries, and the folder that the absolute paths in the archive begin with.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SPEC = Path(__file__).with_name("tiny.yaml")
DATA = ("ingest", "transform", "filter", "arrange", "validate")
CHECKS = ("evaluate", "fairness", "explain", "robustness", "extra rows")
LIBRARIES = ("tensorflow", "keras", "mlflow", "pandas", "pyarrow", "pydantic")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path, help="file to be written, NAME.tar.xz")
    archive: Path = parser.parse_args().archive
    # a short path that nothing else contains: it is replaced in the unpacked files
    root = Path(tempfile.mkdtemp(prefix="trusted-retraining-upgrade-"))
    try:
        make(root)
        with tarfile.open(archive, "w:xz", preset=9) as packed:
            packed.add(root, arcname="", filter=_anonymous)
    finally:
        shutil.rmtree(root)


def make(root: Path) -> None:
    """Leave the three nights in a folder."""
    judged = (*DATA, "train", *CHECKS, "bless")
    run_stages(root, "first", (*judged, "deploy"))
    run_stages(root, "second", (*judged, "publish", "deploy"), overrides=("train.seed=2",))
    diverging = ("train.learning_rate=1e30", "train.optimizer=sgd")
    run_stages(root, "third", (*DATA, "train"), overrides=diverging, fails="train")
    run_stages(root, "third", ("bless", "reject", "report"), overrides=diverging)
    shutil.copytree(REPOSITORY / "dags/pipelines", root / "pipelines")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    state = {
        "root": str(root),
        "commit": commit.stdout.strip(),
        "versions": {name: metadata.version(name) for name in LIBRARIES},
    }
    (root / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    for described in root.rglob("MLmodel"):
        text = described.read_text(encoding="utf-8")
        described.write_text(text.replace(str(REPOSITORY), "/repository"), encoding="utf-8")
    for left in (*root.rglob("*.lock"), root / "last-run.json"):
        left.unlink(missing_ok=True)


def run_stages(
    root: Path,
    run_id: str,
    stages: tuple[str, ...],
    *,
    overrides: tuple[str, ...] = (),
    fails: str = "",
) -> None:
    """Run stages of a night one after the other; all succeed but the one that must fail."""
    variables = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "TRUSTED_RETRAINING_SERVING_ROOT": str(root / "served"),
        "TRUSTED_RETRAINING_STATE": str(root),
        "TRUSTED_RETRAINING_SERVING_PYTHON": os.environ.get(
            "TRUSTED_RETRAINING_SERVING_PYTHON", str(REPOSITORY / ".local/serving-venv/bin/python")
        ),
    }
    options = ["--run-uri", str(root / "store/tiny/runs" / run_id), "--spec", str(SPEC)]
    for override in overrides:
        options += ["--set", override]
    for stage in stages:
        print(f"{run_id}: {stage}", file=sys.stderr)  # noqa: T201
        ended = subprocess.run(
            [sys.executable, "-m", "tasks", *stage.split(), *options],
            # MLflow writes down the folder that it is started in
            cwd=root,
            env={**os.environ, **variables, "PYTHONPATH": str(REPOSITORY)},
        )
        if (ended.returncode != 0) != (stage == fails):
            sys.exit(f"{run_id}: {stage} ended with {ended.returncode}")


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
