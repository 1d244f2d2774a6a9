"""Finding and reading the pipeline files."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tasks.contract import BadConfig
from tasks.spec import Pipeline, SpecError, load_pipeline
from trusted_retraining.serving.plan import check_name, object_name
from trusted_retraining.settings import SettingError, Settings
from trusted_retraining.timetable import schedule_of

SUFFIXES = (".yaml", ".yml")


def read_pipelines(folder: Path) -> tuple[dict[Path, Pipeline], list[str]]:
    """Read every ``*.yaml`` of a folder but hidden ones.

    Parameters
    ----------
    folder : Path
        Where the pipeline files are.

    Returns
    -------
    pipelines : dict of Path to Pipeline
        Those that are right, by file name.
    errors : list of str
        What is wrong with the others: file, field, value and what is allowed.
    """
    found: dict[Path, Pipeline] = {}
    # a file keeps its name, and the model of that name, while it cannot be read
    bearers: dict[Path, str] = {}
    errors = []
    for path in sorted(_files(folder)):
        try:
            found[path] = _load(path)
        except SpecError as error:
            errors.append(str(error))
        except Exception as error:
            # whatever is in one file, the others keep their DAGs
            errors.append(f"{path}: cannot be read: {one_line(error)}")
        if path.suffix == ".yaml" and (path not in found or found[path].name == path.stem):
            bearers[path] = path.stem
    names = {path: each.name for path, each in found.items()}
    clashes = _clashes("name", names, bearers, names)
    models = {path: each.model_name for path, each in found.items() if path not in clashes}
    bearers = {path: name for path, name in bearers.items() if models.get(path, name) == name}
    bearers |= {path: name for path, name in models.items() if name == found[path].name}
    for path, name in models.items():
        # a model that no pipeline is named after is the first one's: whose versions they are, the
        # registry knows as well
        if object_name(name) not in map(object_name, bearers.values()):
            bearers[path] = name
    # two names that a cluster cannot tell apart are one
    clashes |= _clashes("deploy.model_name", models, bearers, names, spelled=object_name)
    return {path: found[path] for path in found if path not in clashes}, [
        *errors,
        *clashes.values(),
    ]


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.glob("*"):
        # hidden files are those of tools: .pre-commit-config.yaml, drafts of editors
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            yield path


def _load(path: Path) -> Pipeline:
    if path.suffix != ".yaml":
        raise SpecError(f"{path}: is not read; call it {path.stem}.yaml if it is a pipeline's")
    if path.exists() and not (path.is_file() or path.is_dir()):
        # a pipe would be waited for
        raise SpecError(f"{path}: is no file")
    return load_pipeline(path)


def _clashes(
    field: str,
    claims: Mapping[Path, str],
    bearers: Mapping[Path, str],
    names: Mapping[Path, str],
    *,
    spelled: Callable[[str], str] = str,
) -> dict[Path, str]:
    """Return what is wrong with the files that claim a name which is another's.

    A name belongs to the file that bears it, wherever others come in the order of the folder: no
    new file takes one over. Where none bears it, it is nobody's.

    Parameters
    ----------
    field : str
        What holds the name.
    claims, bearers : mapping of Path to str
        The names that files claim, and those that are theirs.
    names : mapping of Path to str
        Names of the pipelines.
    spelled : callable
        Returns the spelling in which names are compared.
    """
    owners: dict[str, Path] = {}
    # of names that are one, the plain one, which is the shortest, bears it
    for path, name in sorted(bearers.items(), key=lambda each: len(each[1])):
        owners.setdefault(spelled(name), path)
    rivals: dict[str, list[Path]] = {}
    for path, name in claims.items():
        rivals.setdefault(spelled(name), []).append(path)
    clashes = {}
    for path, name in claims.items():
        owner = owners.get(spelled(name))
        others = ", ".join(str(each) for each in rivals[spelled(name)] if each != path)
        if owner is None and others:
            clashes[path] = (
                f"{path}: {field}: {name!r} is claimed by {others} as well; each pipeline has a "
                f"name and a model of its own, and {name}.yaml is the one that may bear it"
            )
        elif owner is not None and owner != path:
            clashes[path] = (
                f"{path}: {field}: {name!r} belongs to pipeline "
                f"{names.get(owner, owner.stem)!r} ({owner}); each "
                "pipeline has a name and a model of its own"
            )
    return clashes


def usable_pipelines(settings: Settings) -> tuple[dict[Path, Pipeline], list[str]]:
    """Read the pipelines of an installation, and tell those that it cannot run from the others.

    Parameters
    ----------
    settings : Settings
        Folder of the pipeline files, runtime and cluster.

    Returns
    -------
    pipelines : dict of Path to Pipeline
        Those that can run, by file name.
    errors : list of str
        What is wrong with the others: file, field, value and what is allowed.
    """
    pipelines, errors = read_pipelines(settings.pipelines)
    usable = {}
    for path, pipeline in pipelines.items():
        try:
            check_runtime(pipeline, settings)
            check_serving(pipeline, settings)
            check_trigger(pipeline, settings)
            # says itself which field Airflow refuses
            schedule_of(pipeline, settings)
        except (SettingError, SpecError, BadConfig) as error:
            errors.append(f"{path}: {error}")
        except Exception as error:
            errors.append(f"{path}: cannot be checked: {one_line(error)}")
        else:
            usable[path] = pipeline
    return usable, errors


def check_runtime(pipeline: Pipeline, settings: Settings) -> None:
    """Refuse what cannot work where the stages run.

    Parameters
    ----------
    pipeline : Pipeline
        As in its file.
    settings : Settings
        The installation's settings.

    Raises
    ------
    SettingError
        Stages are pods, and something is set so that pods cannot work with it.
    SpecError
        An extra stage lacks its image or its command, the weights are not on this machine, or
        something is to be published into the file system of a pod.
    """
    runtime = settings.runtime_of(pipeline)
    for extra in pipeline.extra_stages:
        if runtime == "local" and not extra.command:
            raise SpecError(
                f"extra_stages: {extra.name}: with runtime local it needs a command; an image "
                "alone is for pods"
            )
        if runtime != "local" and extra.image is None:
            raise SpecError(
                f"extra_stages: {extra.name}: with runtime {runtime} it needs an image; a command "
                "alone is for one machine"
            )
    weights = pipeline.train.weights
    if runtime == "local" and weights not in ("imagenet", "none") and "://" not in weights:
        if not Path(weights).is_file():
            raise SpecError(
                f"train.weights: {weights!r}: no such file (looked for "
                f"{Path(weights).absolute()}); give the path or address of one, imagenet or none"
            )
    for name in ("dataset", "report"):
        section = getattr(pipeline.publish, name)
        if runtime != "local" and section is not None and "://" not in section.uri:
            raise SpecError(
                f"publish.{name}.uri: {section.uri!r} is a folder of the pod, which ends with it; "
                "give an address such as s3://bucket/prefix"
            )


def serves_on_cluster(pipeline: Pipeline, settings: Settings) -> bool:
    """Tell whether a blessed model is published and then served by a cluster.

    Parameters
    ----------
    pipeline : Pipeline
        As in its file.
    settings : Settings
        The installation's settings.

    Raises
    ------
    SettingError
        Stages are pods, and something is set so that pods cannot work with it.
    SpecError
        The stages are pods, and the model is to be served on the machine of one.
    """
    runtime, target = settings.runtime_of(pipeline), pipeline.deploy.target
    if runtime != "local" and target == "local":
        raise SpecError(
            f"deploy.target: 'local' serves on the machine of the stage, which with runtime "
            f"{runtime} is a pod that ends; use kserve or deployment"
        )
    return pipeline.deploy.by_cluster(runtime)


def check_serving(pipeline: Pipeline, settings: Settings) -> None:
    """Refuse a model that could not be served once it was trained and blessed.

    Parameters
    ----------
    pipeline : Pipeline
        As in its file.
    settings : Settings
        The installation's settings.

    Raises
    ------
    SettingError, SpecError
        As :func:`serves_on_cluster`.
    BadConfig
        The name is too long for the cluster.
    """
    if serves_on_cluster(pipeline, settings):
        check_name(pipeline.model_name)


def check_trigger(pipeline: Pipeline, settings: Settings) -> None:
    """Refuse to watch a folder into which the nights themselves write: each would start the next.

    Parameters
    ----------
    pipeline : Pipeline
        As in its file.
    settings : Settings
        The installation's settings.

    Raises
    ------
    SpecError
        Runs, artifacts or something published lie below what is watched.
    """
    if pipeline.trigger is None or not pipeline.trigger.polled or pipeline.watched_uri is None:
        return
    watched = _address(pipeline.watched_uri)
    published = pipeline.publish
    written = {
        "[trusted_retraining] storage_root": settings.storage_root,
        "[trusted_retraining] mlflow_artifacts": settings.mlflow_artifacts,
        "publish.dataset.uri": published.dataset.uri if published.dataset else "",
        "publish.report.uri": published.report.uri if published.report else "",
    }
    for name, uri in written.items():
        if uri and f"{_address(uri)}/".startswith(f"{watched}/"):
            raise SpecError(
                f"trigger: {pipeline.watched_uri} holds {name} ({uri}), into which every night "
                "writes, so each night would start the next: watch a folder beside it"
            )


def _address(uri: str) -> str:
    """Return a path or an address in one spelling, without a slash at its end."""
    found = uri if "://" in uri else Path(uri).absolute().as_uri()
    return found.replace("s3a://", "s3://", 1).rstrip("/")


def one_line(error: Exception) -> str:
    """Return an error of somebody else's code as a line of a message."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
