"""The champion's files, from wherever a copy is left that has the recorded digest."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tasks.contract import Altered, Champion, StageError, is_bad_input, tree_sha256
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
    problems: list[str] = []
    away = False
    for find in (_registered, _served_here, _published):
        try:
            for folder in find(context, champion):
                if tree_sha256(folder) == champion.digest:
                    _warn(problems)
                    return folder
                problems.append(
                    f"the files at {folder} are not those of the champion (digest "
                    f"{champion.digest[:12]}): restore them"
                )
        except (StageError, OSError) as error:
            away |= isinstance(error, StageError) and not is_bad_input(error.exit_code)
            problems.append(" ".join(str(error).split()))
    # where a copy is out of reach, a later attempt may find it as it should be
    raise (StageError if away else Altered)("; ".join(problems) or f"no copy of {champion} is left")


def _warn(problems: list[str]) -> None:
    for problem in problems:
        log.warning("another copy of the champion answers: %s", problem)


def served_files(environment: Environment, model: str, *, digest: str) -> Path | None:
    """Return the copy that serves on this machine; None when that is another version."""
    folder = environment.serving_root / model
    with suppress(ValueError):
        pointer = read_what_serves(folder)
        if pointer is not None and pointer.digest == digest:
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
    model = context.pipeline.model_name
    found = served_files(context.environment, model, digest=champion.digest)
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
