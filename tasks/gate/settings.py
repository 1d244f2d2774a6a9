"""Whether evidence was made under tonight's settings, by tonight's code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.contract import Manifest, RuleResult, fingerprint
from tasks.gate.evidence import Evidence
from tasks.spec.masking import masked_deep

_SHOWN = 60
"""Letters of a value that a message quotes."""


@dataclass(frozen=True)
class Tonight:
    """What determines a stage's result tonight.

    Attributes
    ----------
    settings : object
        The part of the pipeline that the stage reads, as JSON-able data.
    code : str
        Version of its code.
    """

    settings: Any
    code: str
    reads: frozenset[str]
    """Stages without whose results there is none."""
    may_read: frozenset[str]
    """Stages whose results it reads where they are there."""


def judge_settings(evidence: Evidence, tonight: Mapping[str, Tonight]) -> list[RuleResult]:
    """Return a failing result for each stage that ran under other settings or other code.

    What lies outside of the run may have changed since, such as the source, and is not compared:
    each manifest keeps a digest of what it was, with which its fingerprint must still come out.

    Parameters
    ----------
    evidence : Evidence
        What the stages committed.
    tonight : mapping of str to Tonight
        By stage.

    Returns
    -------
    list of RuleResult
        Empty when all of it was made as it would be made now.
    """
    results = []
    for stage, expected in tonight.items():
        manifest = evidence.manifests.get(stage)
        problem = manifest and _problem(manifest, expected, evidence)
        if problem:
            results.append(
                RuleResult(
                    metric=stage,
                    bound="under tonight's settings",
                    passed=False,
                    reason=f"{problem}: run {stage} again",
                )
            )
    return results


def _problem(manifest: Manifest, expected: Tonight, evidence: Evidence) -> str:
    stage = manifest.stage
    # masked, as they are stored; what that hides the fingerprint tells, which is compared below
    settings = masked_deep(json.loads(json.dumps(expected.settings, default=str)))
    difference = _difference(masked_deep(manifest.settings), settings)
    if difference is not None:
        field, was, now = difference
        return (
            f"{stage} ran with {field or 'settings'} {_shown(was)}, but tonight's is {_shown(now)}"
        )
    if manifest.code_version != expected.code:
        return (
            f"{stage} was computed by other code ({manifest.code_version or 'unknown'}) than "
            f"tonight's ({expected.code})"
        )
    strange = manifest.inputs.keys() - expected.reads - expected.may_read
    if strange:
        return f"{stage} reads {', '.join(sorted(strange))}, says its manifest, and it never does"
    untold = expected.reads - manifest.inputs.keys()
    if untold:
        return (
            f"{stage}'s manifest does not say which result of {', '.join(sorted(untold))} it read"
        )
    read = {name: evidence.manifests.get(name) for name in manifest.inputs}
    if None in read.values():
        # that an input is missing is a refusal of its own, since the verdict asks for it as well
        return ""
    wanted = fingerprint(
        stage=stage,
        config=expected.settings,
        inputs={name: found.outputs_digest for name, found in read.items() if found},
        code=expected.code,
        state=manifest.state,
    )
    if wanted != manifest.fingerprint:
        return f"{stage}'s fingerprint is not that of its settings, inputs and code"
    if wanted not in manifest.made_for:
        # the fingerprint itself can be written anew without the digest
        return f"{stage} was computed from other results than this run holds, or for another state"
    return ""


def _difference(was: Any, now: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """Return the first field that differs, with both values."""
    if isinstance(was, dict) and isinstance(now, dict):
        pairs = [(key, was.get(key), now.get(key)) for key in sorted({*was, *now})]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [(str(number), *both) for number, both in enumerate(zip(was, now, strict=True))]
    else:
        return None if was == now and type(was) is type(now) else (path, was, now)
    for key, before, after in pairs:
        found = _difference(before, after, f"{path}.{key}" if path else key)
        if found is not None:
            return found
    return None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
