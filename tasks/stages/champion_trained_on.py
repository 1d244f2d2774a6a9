"""What the model that serves was trained on, from wherever a record of it is left."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import RunDirectory, StageError, parse_champion, sha256_file
from tasks.serving.files import POINTER, PREVIOUS, Pointer, read_pointer
from tasks.spec.data import Split
from tasks.stages.base import StageContext

if TYPE_CHECKING:
    from tasks.data.trained_on import TrainedOn

log = logging.getLogger("tasks")

KEPT_RECORDS = 5
"""Records beside the served copies; those of what serves and of the way back are among them."""


@dataclass(frozen=True, kw_only=True)
class ChampionTrainedOn:
    """What is known of one model that serves.

    Attributes
    ----------
    name : str
        For messages.
    record : TrainedOn or None
        None when it is not known.
    problem : str
        Why it is not known.
    """

    name: str
    record: "TrainedOn | None"
    problem: str = ""


def champions_trained_on(context: StageContext) -> list[ChampionTrainedOn]:
    """Return what is known of every model that some record calls the champion.

    Whether they agree on one is for the verdict to say; here each that may serve is heeded.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    return [trained_on(context, *champion) for champion in _champions(context)]


def state_of(context: StageContext) -> str:
    """Return what :func:`champions_trained_on` depends on, without fetching more than needed.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    digests = set()
    for version, digest in _champions(context):
        tagged = _tags(context, version, digest).get(_tag_name())
        if tagged is None:
            found = trained_on(context, version, digest)
            tagged = found.record.digest if found.record else f"not known: {digest}"
        digests.add(tagged)
    return " ".join(sorted(digests))


def trained_on(context: StageContext, version: str, digest: str) -> ChampionTrainedOn:
    """Return what is known of a model: from beside its served copy, from its version in the
    registry, from the run that trained it.

    Parameters
    ----------
    context : StageContext
        Of the stage that asks.
    version, digest : str
        The model.

    Raises
    ------
    StageError
        MLflow cannot be reached.
    """
    from tasks.data.trained_on import TrainedOn

    name = f"the champion (version {version} of {context.pipeline.model_name})"
    tags = _tags(context, version, digest)
    problems = []
    registered_record = tags.get(_tag_name())
    for path in _files(context, version, digest, tags):
        try:
            if registered_record is None and not _is_kept_record(path, digest):
                problems.append(f"{path} is not the record that champion.json names")
                continue
            record = TrainedOn.read(path)
        except (StageError, OSError) as error:
            problems.append(str(error))
            continue
        if registered_record in (None, record.digest):
            return ChampionTrainedOn(name=name, record=record)
        problems.append(f"{path} is not the record that was registered")
    for run in _runs(context, tags):
        try:
            found = _of_run(context, run, digest)
        except (StageError, OSError, KeyError, ValueError) as error:
            problems.append(f"{run.uri}: {error}")
            continue
        if found is not None:
            return ChampionTrainedOn(name=name, record=found)
    problem = "; ".join(problems[:3]) or "neither a record nor the run that trained it is left"
    return ChampionTrainedOn(name=name, record=None, problem=" ".join(problem.split())[:300])


def keep_beside_served(record: Path, folder: Path, pointer: Pointer) -> None:
    """Copy a record into the folder of the served model, beside the versions, unless the pointer
    names another one of the same model.

    Parameters
    ----------
    record : Path
        The file.
    folder : Path
        The model's, below the serving root.
    pointer : Pointer
        To the model that it belongs to.
    """
    if pointer.trained_on != sha256_file(record):
        return
    target = _beside_served(folder, pointer.digest)
    draft = target.with_name(f".{target.name}")
    shutil.copyfile(record, draft)
    draft.replace(target)
    records = sorted(folder.glob(_beside_served(folder, "*").name), key=_age)
    for old in records[:-KEPT_RECORDS]:
        old.unlink(missing_ok=True)


def _champions(context: StageContext) -> list[tuple[str, str]]:
    environment, model = context.environment, context.pipeline.model_name
    found: dict[str, tuple[str, str]] = {}
    if environment.mlflow_uri:
        from tasks.registry import champion_identity

        registered = champion_identity(environment, model)
        if registered is not None:
            found[registered[1]] = (registered[0], registered[1])
    if environment.served:
        served = parse_champion(environment.served)
        if served is not None:
            found.setdefault(served.digest, served)
        return list(found.values())
    pointer = read_pointer(environment.serving_root / model)
    if pointer is not None:
        found.setdefault(pointer.digest, (pointer.version, pointer.digest))
    return list(found.values())


def _tags(context: StageContext, version: str, digest: str) -> dict[str, str]:
    if not context.environment.mlflow_uri:
        return {}
    from tasks.registry_trained_on import version_tags

    tags = version_tags(context.environment, context.pipeline.model_name, version)
    # a registry that was made anew gives the number to another model
    return tags if tags.get("digest", "") == digest else {}


def _files(
    context: StageContext, version: str, digest: str, tags: dict[str, str]
) -> Iterator[Path]:
    environment, model = context.environment, context.pipeline.model_name
    served = _beside_served(environment.serving_root / model, digest)
    if served.is_file():
        yield served
    if _tag_name() in tags:
        from tasks.data.trained_on import TRAINED_ON
        from tasks.registry_trained_on import fetch_trained_on

        try:
            yield fetch_trained_on(environment, model, version, TRAINED_ON)
        except StageError as error:
            log.warning("the record of what version %s was trained on: %s", version, error)


def _runs(context: StageContext, tags: dict[str, str]) -> Iterator[RunDirectory]:
    """Yield the run that registered the version, then the pipeline's others."""
    options = context.run.storage_options
    if tags.get("run_uri"):
        yield RunDirectory(tags["run_uri"], options)
    fs, runs = context.run.fs, f"{context.run.pipeline_path}/runs"
    fs.invalidate_cache()
    try:
        folders = sorted(fs.ls(runs, detail=False), reverse=True)
    except FileNotFoundError:
        return
    for folder in folders:
        if folder.rstrip("/") != context.run.path:
            yield RunDirectory(fs.unstrip_protocol(folder), options)


def _of_run(context: StageContext, run: RunDirectory, digest: str) -> "TrainedOn | None":
    """Return what a run trained on; None when its model has another digest than the one given: a
    run that was cleared holds another model than the one that it registered."""
    from tasks.data import Arranged
    from tasks.data.trained_on import TRAINED_ON, TrainedOn

    trained, arranged = run.read_manifest("train"), run.read_manifest("arrange")
    if trained is None or arranged is None:
        return None
    if trained.output("model/").sha256 != digest:
        return None
    outputs = context.outputs(arranged)
    if outputs.has(TRAINED_ON):
        return TrainedOn.read(outputs.path(TRAINED_ON))
    pipeline: Any = run.read_json("pipeline.json")
    return TrainedOn.of(Arranged(outputs).table(), Split.model_validate(pipeline["split"]))


def _is_kept_record(path: Path, digest: str) -> bool:
    """Return whether a pointer beside a record vouches for it; one of an earlier release does for
    none."""
    pointers = [read_pointer(path.parent, name=name) for name in (POINTER, PREVIOUS)]
    known = {each.trained_on for each in pointers if each and each.digest == digest} - {""}
    return bool(known) and sha256_file(path) in known


def _beside_served(folder: Path, digest: str) -> Path:
    from tasks.data.trained_on import TRAINED_ON

    return folder / f"{digest[:12] if digest != '*' else digest}.{TRAINED_ON}"


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _tag_name() -> str:
    from tasks.registry_trained_on import TAG

    return TAG
