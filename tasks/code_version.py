"""Digest of the source that a stage runs, so that a changed line of code makes its result stale."""

import ast
import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

import tasks

RESULT_LIBRARIES = (
    "adversarial-robustness-toolbox",
    "aif360",
    "dp-accounting",
    "fairlearn",
    "keras",
    "lime",
    "numpy",
    "pandas",
    "pillow",
    "scikit-image",
    "scikit-learn",
    "shap",
    "simplejpeg",
    "tensorflow",
)
"""Distributions whose version may change a result."""

_STANDS_IN = {"tensorflow": "tensorflow-cpu"}
"""Builds of the same release under another name: the image without CUDA has them."""

_PLUMBING = frozenset({"tasks", "tasks.stages", "tasks.tracking", "tasks.environment"})
"""Modules that carry results but do not make them."""


def library_versions() -> dict[str, str]:
    """Return the installed version of each library that may change a result."""
    return {name: installed_version(name) or "absent" for name in RESULT_LIBRARIES}


def installed_version(name: str) -> str | None:
    """Return the installed version of a distribution, or of the one that stands in for it.

    Parameters
    ----------
    name : str
        Name of the distribution, such as ``tensorflow``.
    """
    for candidate in (name, _STANDS_IN.get(name)):
        try:
            return metadata.version(candidate) if candidate else None
        except metadata.PackageNotFoundError:
            continue
    return None


def code_version(module: str) -> str:
    """Hash a module of ``tasks`` with all modules of ``tasks`` that it imports, late ones too.

    Parameters
    ----------
    module : str
        Dotted name, such as ``tasks.stages.train``.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    sources = _closure(module)
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}\n".encode() + sources[name].read_bytes())
    digest.update(repr(sorted(library_versions().items())).encode())
    return digest.hexdigest()[:16]


def _closure(module: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        path = _source(name)
        if path is None or name in found or name in _PLUMBING:
            continue
        found[name] = path
        pending.extend(_imports(path))
    return found


def _source(name: str) -> Path | None:
    # not by importlib: to find a.b.c it imports a.b, and with that TensorFlow, at every stage start
    for root in tasks.__path__:
        path = Path(root).joinpath(*name.split(".")[1:])
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


@cache
def _imports(path: Path) -> list[str]:
    """Return the imported names under ``tasks``; ``from a import b`` may mean module ``a.b``."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name == "tasks" or name.startswith("tasks.")]
