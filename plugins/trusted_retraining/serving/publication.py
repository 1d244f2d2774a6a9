"""What ``publish`` committed, and whether it still is what was judged."""

import hashlib

from tasks.contract import (
    BadInput,
    NoInput,
    Publication,
    RunDirectory,
    StageError,
    Verdict,
    old_format,
    stored_tree_sha256,
)


def read_blessed(
    run: RunDirectory, *, model_name: str, not_deployed: str = ""
) -> tuple[Verdict, Publication]:
    """Return the verdict and the publication of a night, which are about the same model.

    Parameters
    ----------
    run : RunDirectory
        The night.
    model_name : str
        Registered and served model.
    not_deployed : str
        Why nothing is deployed in this run, whatever its verdict says; empty when it is.

    Raises
    ------
    StageError
        One is missing or damaged, the verdict refuses, or they are about different models.
    """
    verdict = run.read_verdict_in_force()
    if verdict is None:
        raise NoInput(f"{run.stage_uri('bless')} holds no readable verdict: run 'bless' first")
    if not verdict.may_serve:
        raise BadInput(verdict.refusal)
    if not_deployed:
        raise BadInput(f"{verdict.model.name}: {not_deployed}")
    if verdict.model.name != model_name:
        raise BadInput(
            f"the verdict is on model {verdict.model.name!r}, but deploy.model_name is "
            f"{model_name!r}: run stage 'bless' again"
        )
    publication = _read_publication(run)
    published = publication.model
    if (published.name, published.digest) != (model_name, verdict.model.digest):
        raise BadInput(
            f"the verdict is on {model_name} {verdict.model.digest[:12]}, but {published.name} "
            f"{published.digest[:12]} was published: run stage 'publish' again"
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
