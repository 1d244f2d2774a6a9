"""The verdict that lets a model be published and deployed: one rule for both sides."""

from collections.abc import Callable

from tasks.contract.errors import BadConfig, BadInput, NoInput
from tasks.contract.run_directory import RunDirectory
from tasks.contract.verdict import Verdict


def read_blessing(
    run: RunDirectory,
    *,
    model_name: str,
    not_deployed: str,
    foreign: Callable[[], str],
    has_registry: bool,
    judged: str = "",
) -> Verdict:
    """Return a run's verdict, which blesses the very model that ``train`` committed.

    Parameters
    ----------
    run : RunDirectory
        The run.
    model_name : str
        Registered and served model.
    not_deployed : str
        Why nothing is deployed in this run, whatever its verdict says; empty when it is.
    foreign : callable
        Returns why the model is not the pipeline's own; empty when it is.
    has_registry : bool
        Whether there is a registry.
    judged : str
        Digest of what ``bless`` committed, where its task vouches for it.

    Raises
    ------
    StageError
        There is none, it refuses the model, it is on another one, or the registry that it names a
        version of is not to be seen from here.
    """
    manifest = run.read_manifest("bless")
    # both by one reading: whoever replaces them may do so between two
    verdict = run.read_verdict_in_force(manifest) if manifest is not None else None
    if manifest is None or verdict is None:
        raise NoInput(f"{run.stage_uri('bless')} holds no readable verdict: run 'bless' first")
    if judged and manifest.digest != judged:
        raise BadInput(
            f"{run.stage_uri('bless')} holds another verdict than its task handed on: run 'bless' "
            "again"
        )
    if not verdict.may_serve:
        raise BadInput(verdict.refusal)
    if not_deployed:
        # whatever rules the verdict was given under, this stage was told others
        raise BadInput(f"{verdict.model.name}: {not_deployed}")
    if verdict.model.name != model_name:
        raise BadInput(
            f"the verdict is on model {verdict.model.name!r}, but deploy.model_name is "
            f"{model_name!r}: run stage 'bless' again"
        )
    if reason := foreign():
        raise BadInput(reason)
    _check_trained(run, verdict)
    if has_registry and not verdict.model.version:
        raise BadInput(
            f"{model_name}: the verdict names no registered version, so none could become the "
            "champion: run stage 'bless' again"
        )
    if verdict.model.version and not has_registry:
        # what serves would change, and the registry's champion would not
        raise BadConfig(
            f"{model_name}: the verdict is on version {verdict.model.version} of a registry, but "
            "MLFLOW_TRACKING_URI is not set: set it as it was for 'bless', or run stage 'bless' "
            "again without a registry"
        )
    return verdict


def _check_trained(run: RunDirectory, verdict: Verdict) -> None:
    manifest = run.read_manifest("train")
    try:
        trained = manifest.output("model/").sha256 if manifest is not None else ""
    except KeyError:
        trained = ""
    if not trained:
        raise NoInput(f"{run.stage_uri('train')} holds no model: run stage 'train' again")
    if verdict.model.digest != trained:
        raise BadInput(
            f"the verdict is on model {verdict.model.digest[:12]}, but train committed "
            f"{trained[:12]}: run stage 'bless' again"
        )
