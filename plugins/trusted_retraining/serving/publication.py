"""What ``publish`` committed, and whether it still is what was judged."""

import hashlib
from contextlib import closing

from tasks.contract import (
    BadInput,
    NoInput,
    Publication,
    RunDirectory,
    StageError,
    Verdict,
    foreign_to,
    old_format,
    read_blessing,
    stored_tree_sha256,
)
from tasks.spec import Pipeline
from trusted_retraining.hooks.mlflow import MlflowHook
from trusted_retraining.settings import Settings


def read_blessed(
    run: RunDirectory,
    *,
    pipeline: Pipeline,
    settings: Settings,
    not_deployed: str = "",
    judged: str = "",
) -> tuple[Verdict, Publication]:
    """Return the verdict and the publication of a run, which are about the same model.

    Parameters
    ----------
    run : RunDirectory
        The run.
    pipeline : Pipeline
        The run's, overrides applied.
    settings : Settings
        The installation's settings.
    not_deployed : str
        Why nothing is deployed in this run, whatever its verdict says; empty when it is.
    judged : str
        Digest of what ``bless`` committed, where its task vouches for it.

    Raises
    ------
    StageError
        One is missing or damaged, the verdict refuses, they are about different models, or the
        model belongs to another pipeline.
    """
    model_name = pipeline.model_name
    verdict = read_blessing(
        run,
        model_name=model_name,
        not_deployed=not_deployed,
        foreign=lambda: _foreign(pipeline, settings),
        has_registry=bool(settings.mlflow_uri),
        judged=judged,
    )
    publication = _read_publication(run)
    published = publication.model
    if (published.name, published.digest) != (model_name, verdict.model.digest):
        raise BadInput(
            f"the verdict is on {model_name} {verdict.model.digest[:12]}, but {published.name} "
            f"{published.digest[:12]} was published: run stage 'publish' again"
        )
    if verdict.model.version and published.version != verdict.model.version:
        # a registry that was set up anew counts from 1 again
        raise BadInput(
            f"the verdict is on {model_name} version {verdict.model.version}, but version "
            f"{published.version} was published: run stage 'publish' again"
        )
    return verdict, publication


def check_published_files(run: RunDirectory, publication: Publication) -> None:
    """Hash the published files anew.

    Raises
    ------
    BadInput
        They are not those that were judged: changed after the blessing, or gone.
    """
    fs, folder = run.open(publication.model_uri)
    wanted = publication.model.digest
    try:
        found = stored_tree_sha256(fs, folder)
    except FileNotFoundError:
        raise BadInput(
            f"{publication.model_uri}: holds no files: run stage 'publish' again"
        ) from None
    if found != wanted:
        raise BadInput(
            f"{publication.model_uri}: was changed after it was blessed: digest is {found[:12]}, "
            f"the verdict is on {wanted[:12]}; find out who did it, then run 'publish' again"
        )


def _foreign(pipeline: Pipeline, settings: Settings) -> str:
    if not settings.mlflow_uri:
        return ""
    with closing(MlflowHook(settings.mlflow_uri)) as registry:
        owner = registry.owner(pipeline.model_name)
    return foreign_to(pipeline.name, owner, model=pipeline.model_name)


def _read_publication(run: RunDirectory) -> Publication:
    manifest = run.read_manifest("publish")
    if manifest is None:
        raise NoInput(f"{run.stage_uri('publish')} holds no manifest: run stage 'publish' first")
    if not manifest.is_evidence:
        raise BadInput(f"{old_format(run.stage_uri('publish'))}: run stage 'publish' again")
    fs, folder = run.open(manifest.location)
    path = f"{folder}/publication.json"
    try:
        raw = bytes(fs.cat_file(path))
        expected = manifest.output("publication.json").sha256
        if hashlib.sha256(raw).hexdigest() != expected:
            raise BadInput(f"{path}: is not the file that publish committed: run 'publish' again")
        return Publication.model_validate_json(raw)
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise StageError(f"{path}: cannot be read: {error}; run 'publish' again") from error
