"""What was said of a model before: verdicts by its digest, to which one is added and none removed.

They are kept as tags of the model's version, or, without a registry, in the pipeline's folder.
"""

import logging
import re
from pathlib import Path

from tasks import registry
from tasks.contract import (
    EarlierVerdict,
    RunDirectory,
    Verdict,
    sha256_text,
    storage_errors,
    write_atomically,
)
from tasks.environment import Environment

log = logging.getLogger("tasks")

PREFIX = "verdict."
"""What the tags of a version that hold its verdicts begin with."""

_LISTED, _LENGTH = 10, 200
"""Entries of a list, and characters of each, that a tag of MLflow has room for."""


def entry_of(verdict: Verdict, run: RunDirectory, *, reasons: list[str]) -> EarlierVerdict:
    """Return a verdict as it is kept.

    Parameters
    ----------
    verdict : Verdict
        As given.
    run : RunDirectory
        The run it was given in.
    reasons : list of str
        Why the model does not serve; a verdict that nothing stands against is kept as it is.
    """
    return EarlierVerdict(
        at=verdict.at,
        verdict="rejected" if reasons and verdict.may_serve else verdict.word,
        run_uri=run.uri,
        requested_by=verdict.requested_by[:_LENGTH],
        changed=[change.field for change in verdict.changed_rules][:_LISTED],
        reasons=[reason[:_LENGTH] for reason in reasons[:_LISTED]],
    )


def earlier_verdicts(
    environment: Environment, run: RunDirectory, *, model_name: str, digest: str
) -> list[EarlierVerdict]:
    """Return the verdicts on a model so far, oldest first.

    Parameters
    ----------
    environment : Environment
        Where the registry is.
    run : RunDirectory
        A run of the pipeline.
    model_name, digest : str
        Registered model, and digest of its files.

    Raises
    ------
    StageError
        The registry or the storage cannot be reached.
    """
    if not environment.mlflow_uri:
        texts = list(_stored(run, digest).items())
    else:
        versions = registry.tags_by_digest(environment, model_name, digest)
        texts = [each for tags in versions for each in _tagged(tags).items()]
    entries = []
    for key, text in texts:
        try:
            entries.append((_number(key), EarlierVerdict.model_validate_json(text)))
        except ValueError:
            log.warning("%s: an earlier verdict cannot be read (%s)", model_name, key)
    # by their numbers first: a clock may have been set back between two of them
    return [entry for _, entry in sorted(entries, key=lambda each: (each[0], each[1].at))]


def keep(
    environment: Environment, run: RunDirectory, *, verdict: Verdict, entry: EarlierVerdict
) -> None:
    """Add a verdict to those on its model.

    Parameters
    ----------
    environment : Environment
        Where the registry is.
    run : RunDirectory
        The run it was given in.
    verdict : Verdict
        Names the model and its version.
    entry : EarlierVerdict
        What is kept.

    Raises
    ------
    StageError
        The registry or the storage cannot be reached.
    """
    text, model = entry.model_dump_json(), verdict.model
    last = verdict.earlier[-1:] if entry.verdict == "blessed" and not entry.changed else []
    if any((each.verdict, each.changed) == ("blessed", []) for each in last):
        # the champion is judged again every night
        return
    moment = entry.at.replace("+00:00", "Z")
    # numbered as well: two may be given within a second
    key = f"{PREFIX}{moment}.{len(verdict.earlier):04d}-{sha256_text(text)[:8]}"
    if environment.mlflow_uri and model.version:
        # what an earlier release said stands in the tags that are about to be written anew
        before = [each.model_dump_json() for each in verdict.earlier if not each.at]
        tags = {f"{PREFIX}before": each for each in before} | {key: text}
        refused = [each for each in verdict.earlier if each.verdict == "rejected"]
        if refused and entry.verdict != "rejected":
            # beside the tag `verdict`, which has the latest
            said = "; ".join(refused[-1].reasons)
            tags["rejected_before"] = f"{len(refused)}, last {refused[-1].at}: {said}"[:2000]
        registry.tag(environment, model.name, model.version, tags)
    elif model.digest:
        folder = f"{run.pipeline_path}/verdicts/{model.digest}"
        path = f"{folder}/{key.replace(':', '')}.json"
        if run.is_local:
            write_atomically(Path(path), text)
            return
        with storage_errors(folder):
            run.fs.pipe_file(path, text.encode())


def _number(key: str) -> int:
    """Return which verdict on a model a key is of; those of an earlier release have no number."""
    found = re.search(r"\.(\d{4,})-[0-9a-f]{8}(\.json)?$", key)
    return int(found[1]) if found else -1


def _tagged(tags: dict[str, str]) -> dict[str, str]:
    found = {key: text for key, text in tags.items() if key.startswith(PREFIX)}
    if "verdict" in tags and not found:
        entry = EarlierVerdict(
            at="",
            verdict=tags["verdict"],
            run_uri=tags.get("run_uri", ""),
            reasons=tags.get("reasons", "").splitlines(),
        )
        found[f"{PREFIX}before"] = entry.model_dump_json()
    return found


def _stored(run: RunDirectory, digest: str) -> dict[str, str]:
    folder = f"{run.pipeline_path}/verdicts/{digest}"
    with storage_errors(folder):
        paths = [path for path in run.fs.find(folder) if str(path).endswith(".json")]
        return {str(path): bytes(run.fs.cat_file(path)).decode() for path in paths}
