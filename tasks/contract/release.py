"""Which release this side is of: plugin and stage image must understand each other."""

import hashlib
from functools import cache
from pathlib import Path

import tasks
from tasks.contract.errors import BadConfig

RELEASE_VARIABLE = "TRUSTED_RETRAINING_RELEASE"
"""Variable in which the Airflow side says what it is to a stage; absent when one is run by hand."""

_SHARED = ("contract", "spec")
"""Packages that both sides have: what is handed over is made by the one and read by the other."""


@cache
def release() -> str:
    """Return the version of this side, and what tells two states of one version apart: a digest of
    the modules that both sides have."""
    root = Path(tasks.__file__).parent
    digest = hashlib.sha256()
    for package in _SHARED:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return f"{tasks.__version__}+{digest.hexdigest()[:8]}"


def check_release(airflow_side: str) -> None:
    """Refuse to work for an Airflow side of another release.

    Parameters
    ----------
    airflow_side : str
        What it says of itself; empty when nobody did.

    Raises
    ------
    BadConfig
        It is another one than this.
    """
    if airflow_side and airflow_side != release():
        raise BadConfig(
            f"this stage is of release {release()}, but Airflow's plugin is of {airflow_side}: "
            "install both from one release ([trusted_retraining] tasks_image or stage_python names "
            "the stage's)"
        )
