"""Finding and reading the pipeline files."""

from pathlib import Path

from tasks.spec import Pipeline, SpecError, load_pipeline
from trusted_retraining.settings import SettingError, Settings


def read_pipelines(folder: Path) -> tuple[list[Pipeline], list[str]]:
    """Read every ``*.yaml`` of a folder.

    Parameters
    ----------
    folder : Path
        Where the pipeline files are.

    Returns
    -------
    pipelines : list of Pipeline
        Those that are right, by file name.
    errors : list of str
        What is wrong with the others: file, field, value and what is allowed.
    """
    pipelines: dict[str, Pipeline] = {}
    origin: dict[str, Path] = {}
    errors = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            pipeline = load_pipeline(path)
        except SpecError as error:
            errors.append(str(error))
            continue
        if pipeline.name in pipelines:
            errors.append(
                f"{path}: name: {pipeline.name!r} is taken by {origin[pipeline.name]}; "
                "each pipeline needs a name of its own"
            )
            continue
        pipelines[pipeline.name] = pipeline
        origin[pipeline.name] = path
    return list(pipelines.values()), errors


def usable_pipelines(settings: Settings) -> tuple[list[Pipeline], list[str]]:
    """Read the pipelines of an installation, and tell those that it cannot run from the others.

    Parameters
    ----------
    settings : Settings
        Folder of the pipeline files, runtime and cluster.

    Returns
    -------
    pipelines : list of Pipeline
        Those that can run, by file name.
    errors : list of str
        What is wrong with the others.
    """
    pipelines, errors = read_pipelines(settings.pipelines)
    usable = []
    for pipeline in pipelines:
        try:
            serves_on_cluster(pipeline, settings)
            check_runtime(pipeline, settings)
            check_trigger(pipeline, settings)
        except (SettingError, SpecError) as error:
            errors.append(f"{pipeline.name}: {error}")
        else:
            usable.append(pipeline)
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
        An extra stage lacks its image or its command, or something is to be published into the
        file system of a pod.
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
    return runtime != "local" if target is None else target != "local"


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
