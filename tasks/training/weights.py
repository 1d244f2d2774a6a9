"""Where the weights of a backbone come from, and what identifies them."""

import importlib.util
from pathlib import Path

from tasks.contract import BadConfig, NoInput, open_filesystem, sha256_file, sha256_text
from tasks.spec import Train


def external_state(train: Train) -> str:
    """Return what, outside the pipeline file, determines the model: weights file, user's module.

    Parameters
    ----------
    train : Train
        The section of the pipeline file.

    Returns
    -------
    str
        Digest of the weights file (of its version, where it is remote) and of the module's source;
        empty when neither is used.

    Raises
    ------
    NoInput
        The weights file does not exist.
    BadConfig
        The module does not exist.
    """
    parts = []
    if train.weights not in ("imagenet", "none"):
        fs, path = open_filesystem(train.weights)
        if not fs.exists(path):
            raise NoInput(
                f"train.weights: {train.weights} does not exist; give a path or URI of a weights "
                "file, imagenet or none"
            )
        local = Path(path)
        parts.append(sha256_file(local) if local.is_file() else str(fs.ukey(path)))
    if ":" in train.architecture:
        parts.append(sha256_text(_source_of(train.architecture)))
    return " ".join(parts)


def fetch_weights(train: Train, folder: Path) -> Path | None:
    """Return a local path of the weights file, copied into a folder when it is remote.

    Parameters
    ----------
    train : Train
        The section of the pipeline file.
    folder : Path
        Where a remote file is put.

    Returns
    -------
    Path or None
        None when the weights do not come from a file.
    """
    if train.weights in ("imagenet", "none"):
        return None
    fs, path = open_filesystem(train.weights)
    local = Path(path)
    if local.is_file() and "file" in (
        (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    ):
        return local
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / local.name
    try:
        fs.get_file(path, str(target))
    except FileNotFoundError as error:
        raise NoInput(f"train.weights: {train.weights} does not exist") from error
    return target


def _source_of(architecture: str) -> str:
    module = architecture.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise BadConfig(f"train.architecture: module {module!r} is not found; is it on PYTHONPATH?")
    return Path(spec.origin).read_text(encoding="utf-8")
