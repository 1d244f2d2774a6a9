"""The champion's files, from wherever a copy is left that has the recorded digest."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tasks.contract import Altered, Champion, StageError, tree_sha256
from tasks.environment import Environment
from tasks.serving.files import read_what_serves
from tasks.stages.base import StageContext

log = logging.getLogger("tasks")


def champion_files(context: StageContext, champion: Champion) -> Path:
    """Return a folder with the champion's SavedModel, hashed a moment ago.

    The registry's copy is asked first, then the one that serves on this machine, then the one that
    was published for a cluster.

    Raises
    ------
    StageError
        No copy is left whose files are those of the digest; names each with what is wrong.
    """
    former_digest, former = _former_digest(context), None
    problems: list[str] = []
    for find in (_registered, _served_here, _published):
        try:
            for folder in find(context, champion):
                digest = tree_sha256(folder)
                if digest == champion.digest:
                    _warn(problems)
                    return folder
                if digest == former_digest:
                    former = former or folder
                    continue
                problems.append(
                    f"the files at {folder} are not those of the champion (digest "
                    f"{champion.digest[:12]}): restore them"
                )
        except (StageError, OSError) as error:
            problems.append(" ".join(str(error).split()))
    if former is not None:
        # only where no copy has the digest itself: a tag that names the former one may be wrong
        _warn(problems)
        return former
    raise Altered("; ".join(problems) or f"no copy of {champion} is left")


def _warn(problems: list[str]) -> None:
    for problem in problems:
        log.warning("another copy of the champion answers: %s", problem)


def _former_digest(context: StageContext) -> str:
    """Return the digest of the files that an earlier release registered, see the registry."""
    if not context.environment.mlflow_uri:
        return ""
    from tasks.registry import former_digest

    return former_digest(context.environment, context.pipeline.model_name)


def served_files(environment: Environment, model: str, *, digests: set[str]) -> Path | None:
    """Return the copy that serves on this machine; None when that is another version."""
    folder = environment.serving_root / model
    with suppress(ValueError):
        pointer = read_what_serves(folder)
        if pointer is not None and pointer.digest in digests:
            return folder / pointer.path
    return None


def _registered(context: StageContext, champion: Champion) -> Iterator[Path]:
    from tasks.registry import champion as fetch

    registered = fetch(context.environment, context.pipeline.model_name)
    if registered is None:
        return
    if registered.digest != champion.digest:
        raise StageError("another version has become champion meanwhile")
    yield registered.model_dir


def _served_here(context: StageContext, champion: Champion) -> Iterator[Path]:
    known = {champion.digest, _former_digest(context)} - {""}
    found = served_files(context.environment, context.pipeline.model_name, digests=known)
    if found is not None:
        yield found


def _published(context: StageContext, champion: Champion) -> Iterator[Path]:
    """Yield what the stage ``publish`` left for the model servers of a cluster."""
    fs, model = context.run.fs, context.pipeline.model_name
    root = f"{context.run.pipeline_path.rsplit('/', 1)[0]}/models/{model}"
    fs.invalidate_cache()
    for name in (f"{champion.version}-{champion.digest[:12]}", champion.version):
        if not fs.exists(f"{root}/{name}/saved_model.pb"):
            continue
        if context.run.is_local:
            yield Path(root) / name
            continue
        target = Path(tempfile.mkdtemp(dir=context.cache.folder)) / "model"
        fs.get(f"{root}/{name}/", str(target), recursive=True)
        yield target
