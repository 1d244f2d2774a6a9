"""What the stages committed, and whether it belongs together."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.contract import (
    CHECKS,
    STAGES,
    Failure,
    Manifest,
    RuleResult,
    RunDirectory,
    old_format,
)
from tasks.spec.foreign_text import shown

JUDGED = STAGES[: STAGES.index("bless")]
"""Stages of our own that must have succeeded before a model may be blessed."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a verdict rests on.

    Attributes
    ----------
    manifests : dict of str to Manifest
        What was committed, by stage.
    failures : dict of str to Failure
        Why a stage's last attempt failed, by stage.
    judged : sequence of str
        Stages that must have succeeded, extra ones too.
    unusable : dict of str to str
        What is wrong with a manifest that is there, by stage.
    """

    manifests: dict[str, Manifest]
    failures: dict[str, Failure]
    judged: Sequence[str] = JUDGED
    unusable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, run: RunDirectory, judged: Sequence[str] = JUDGED) -> "Evidence":
        """Collect manifests and failure records of a run; unreadable ones count as absent."""
        manifests, unusable = {}, {}
        for name in judged:
            found, problem = run.examine_manifest(name)
            if found is not None and not found.is_evidence:
                problem = old_format(run.stage_uri(name))
            if problem:
                unusable[name] = problem
            elif found is not None:
                manifests[name] = found
        failures = {name: run.read_failure(name) for name in judged}
        return cls(
            judged=judged,
            manifests=manifests,
            unusable=unusable,
            failures={name: found for name, found in failures.items() if found is not None},
        )

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of all stages together."""
        return {k: v for each in self.manifests.values() for k, v in each.metrics.items()}

    @property
    def notes(self) -> dict[str, str]:
        """Notes on metrics of all stages together."""
        return {k: v for each in self.manifests.values() for k, v in each.notes.items()}

    @property
    def model_digest(self) -> str:
        """Tree digest of the trained model; empty when there is none."""
        try:
            return self.manifests["train"].output("model/").sha256
        except KeyError:
            return ""


def judge_evidence(evidence: Evidence) -> list[RuleResult]:
    """Return a failing result for each stage that crashed, did not run or examined something else.

    An empty list means that the evidence is whole: nothing is said about stages that did well.
    """
    results = []
    for stage in evidence.judged:
        problem = _problem(stage, evidence)
        if problem:
            results.append(
                RuleResult(metric=stage, bound="must succeed", passed=False, reason=problem)
            )
    if "train" in evidence.manifests and not evidence.model_digest:
        results.append(
            RuleResult(
                metric="train",
                bound="must commit a model",
                passed=False,
                reason="train committed no model/",
            )
        )
    return results


def _problem(stage: str, evidence: Evidence) -> str:
    if stage in evidence.unusable:
        return f"{evidence.unusable[stage]}; run {stage} again"
    manifest, failure = evidence.manifests.get(stage), evidence.failures.get(stage)
    if failure is not None:
        # a success after it would have removed the record
        verb = "crashed" if stage in CHECKS or stage not in STAGES else "failed"
        return f"{stage} {verb}: exit {failure.exit_code}: {failure.reason}"
    if manifest is None:
        return f"{stage} did not run: it committed no manifest"
    if manifest.stage != stage:
        return f"{stage}/manifest.json is that of {manifest.stage!r}"
    # a rule finds a figure by its name alone, and nobody computes another stage's once more
    foreign = [n for n in (*manifest.metrics, *manifest.notes) if not n.startswith(f"{stage}.")]
    if foreign:
        return f"{stage}/manifest.json speaks of {shown(foreign[0])}, which is no figure of {stage}"
    for name, digest in manifest.inputs.items():
        source = evidence.manifests.get(name)
        # a run cleared halfway must not mix the check of one model with another model
        if source is not None and source.digest != digest:
            return f"{stage} examined another result of {name} than this run holds: run it again"
    return ""
