"""The stage ``bless``."""

import json
import logging
from typing import Any

from tasks import registry, tracking
from tasks.contract import (
    Altered,
    Champion,
    Disagreement,
    EarlierVerdict,
    ModelIdentity,
    NoInput,
    RuleResult,
    StageError,
    Verdict,
    is_bad_input,
    judged_stages,
    write_atomically,
)
from tasks.gate import ChampionEvidence, Evidence, history, judge
from tasks.gate.evidence import JUDGED
from tasks.gate.recomputed import judge_figures
from tasks.gate.settings import Tonight, judge_settings
from tasks.gate.verdict import champion_of, verdict_of
from tasks.registry_owner import foreign_model
from tasks.spec import Pipeline
from tasks.stages.asked_again import judge_answers
from tasks.stages.base import Outcome, Stage, StageContext
from tasks.stages.champion_files import champion_files
from tasks.stages.who_serves import records_of, who_serves

log = logging.getLogger("tasks")


class Bless(Stage):
    """Judges the trained model: every stage must have done its work, every rule must hold, and the
    champion must not be better by more than the margin. Registers the model with its verdict.

    It runs whatever became of the stages before: a check that crashed is a refusal with its reason,
    not a night without a verdict.
    """

    name = "bless"
    optional_reads = JUDGED
    produces = {"verdict.json": "whether the model may serve, rule by rule, with reasons"}
    reusable = False

    def config(self, pipeline: Pipeline) -> Any:
        return pipeline.blessing.model_dump(mode="json")

    def also_reads(self, pipeline: Pipeline) -> tuple[str, ...]:
        """Return every stage that counts for the verdict, extra ones too."""
        return judged_stages(pipeline)

    def run(self, context: StageContext) -> Outcome:
        evidence = Evidence.read(context.run, judged_stages(context.pipeline))
        _check_unchanged(context, evidence)
        verdict = self._judge(context, evidence).model_copy(
            update={
                "changes": context.changes,
                "requested_by": context.requested_by,
                "deployable": not context.not_deployed,
            }
        )
        if evidence.model_digest:
            verdict = self._remember(context, evidence, verdict)
        write_atomically(context.out / "verdict.json", verdict.model_dump_json(indent=1))
        _tell(verdict)
        return _outcome(verdict)

    def _judge(self, context: StageContext, evidence: Evidence) -> Verdict:
        pipeline = context.pipeline
        current, disagreement = None, ""
        try:
            current = who_serves(context)
        except Disagreement as error:
            disagreement = str(error)
        champion = _champion_evidence(context, evidence, current, disagreement)
        try:
            verdict = judge(
                pipeline.blessing, evidence, model_name=pipeline.model_name, champion=champion
            )
        except Exception as error:
            # evidence so odd that it cannot even be judged must end in a refusal, not in no verdict
            log.exception("bless: the evidence cannot be judged")
            model = ModelIdentity(name=pipeline.model_name, digest=evidence.model_digest)
            verdict = verdict_of(
                [_refusal("bless", f"{type(error).__name__}: {error}")],
                model=model,
                champion=champion_of(pipeline.model_name, champion),
            )
        unsound = evidence_problems(context, evidence, current)
        problem = _model_problem(context, evidence) if evidence.model_digest else ""
        if problem:
            unsound.append(_refusal("train", problem))
        if foreign := foreign_model(context.environment, pipeline):
            unsound.append(_refusal("deploy.model_name", foreign))
        if unsound:
            rules = [*verdict.rules, *unsound]
            verdict = verdict_of(rules, model=verdict.model, champion=verdict.champion)
        return verdict

    def _remember(self, context: StageContext, evidence: Evidence, verdict: Verdict) -> Verdict:
        """Add the verdict to those on this model, which it then lists; register the model."""
        environment, run = context.environment, context.run
        earlier = history.earlier_verdicts(
            environment, run, model_name=verdict.model.name, digest=evidence.model_digest
        )
        verdict = verdict.model_copy(update={"earlier": earlier})
        entry = history.entry_of(verdict, run, reasons=verdict.reasons)
        if environment.mlflow_uri:
            return self._register(context, evidence, verdict, entry)
        history.keep(environment, run, verdict=verdict, entry=entry)
        return verdict

    def _register(
        self,
        context: StageContext,
        evidence: Evidence,
        verdict: Verdict,
        entry: EarlierVerdict,
    ) -> Verdict:
        pipeline, environment = context.pipeline, context.environment
        if _model_problem(context, evidence) or foreign_model(environment, pipeline):
            return verdict
        name, digest = pipeline.model_name, evidence.model_digest
        tags = {
            "verdict": verdict.word,
            "reasons": "\n".join(verdict.reasons)[:2000] or verdict.refusal or "every rule passed",
            "run_uri": context.run.uri,
            "pipeline": pipeline.name,
        }
        version = registry.register(
            environment,
            model_name=name,
            model_dir=context.outputs(evidence.manifests["train"]).path("model/"),
            digest=digest,
            run_id=tracking.find_or_create_run(
                pipeline=pipeline, run=context.run, environment=environment
            ),
            example=lambda: _example(context, evidence),
            tags={name: tags[name] for name in ("run_uri", "pipeline")},
        )
        model = ModelIdentity(name=name, version=version, digest=digest)
        verdict = verdict.model_copy(update={"model": model})
        # before the tags that it takes the place of: what was said before is never lost
        history.keep(environment, context.run, verdict=verdict, entry=entry)
        if _was_champion(context, digest):
            # what it earned its place with stays; tonight's opinion stands beside it
            tags = {f"last_{key}": text for key, text in tags.items() if key != "pipeline"}
        registry.tag(environment, name, version, tags)
        _keep_trained_on(context, evidence, version)
        registry.set_alias(environment, name, registry.CHALLENGER, version)
        return verdict


def _check_unchanged(context: StageContext, evidence: Evidence) -> None:
    """Refuse to judge other results than those that the manifest will name as judged, and the gate
    asks their tasks about."""
    for name, found in evidence.manifests.items():
        known = context.read.get(name)
        if known is None or known.digest != found.digest:
            raise StageError(f"{name}: its result was replaced while the verdict was given")


def evidence_problems(
    context: StageContext, evidence: Evidence, champion: Champion | None
) -> list[RuleResult]:
    """Return a failing result for whatever was not made as tonight's pipeline makes it, is not what
    comes out of the hashed files, or not what the models answer.

    Parameters
    ----------
    context : StageContext
        Of ``bless``.
    evidence : Evidence
        What the stages committed.
    champion : Champion or None
        Who serves.
    """
    from tasks.stages import load_stage
    from tasks.stages.extra import Extra

    pipeline, tonight = context.pipeline, {}
    for name in evidence.manifests:
        extra = pipeline.extra_stage(name)
        stage = Extra(extra) if extra is not None else load_stage(name)
        tonight[name] = Tonight(
            settings=stage.config(pipeline),
            code=stage.code_version(),
            reads=frozenset(stage.reads),
            may_read=frozenset(stage.also_reads(pipeline)),
        )
    return [
        *judge_settings(evidence, tonight),
        *judge_figures(evidence, pipeline, context.outputs),
        *judge_answers(context, evidence, champion),
    ]


def _keep_trained_on(context: StageContext, evidence: Evidence, version: str) -> None:
    from tasks.data.trained_on import TRAINED_ON, TrainedOn
    from tasks.registry_trained_on import keep_trained_on

    outputs = context.outputs(evidence.manifests["arrange"])
    if not outputs.has(TRAINED_ON):
        return
    try:
        record = outputs.path(TRAINED_ON)
        digest = TrainedOn.read(record).digest
    except (Altered, NoInput) as error:
        # whoever asks later is told that it is not known
        log.warning("bless: the version gets no record of what it was trained on: %s", error)
        return
    keep_trained_on(
        context.environment, context.pipeline.model_name, version, record=record, digest=digest
    )


def _was_champion(context: StageContext, digest: str) -> bool:
    """Return whether a model serves, or did when the champion was last known."""
    try:
        records = records_of(context)
    except Disagreement:
        # whatever serves, a version must not lose the verdict that it may have earned
        return True
    known = [records.registry, records.served]
    if records.registry is None:
        known.append(records.last)
    return any(each is not None and each.digest == digest for each in known)


def _champion_evidence(
    context: StageContext, evidence: Evidence, current: Champion | None, disagreement: str
) -> ChampionEvidence:
    manifest = evidence.manifests.get("evaluate")
    evaluated, predictions, not_compared = None, None, ""
    if manifest is not None:
        outputs = context.outputs(manifest)
        try:
            if outputs.has("predictions.parquet"):
                predictions = outputs.path("predictions.parquet")
            document = json.loads(outputs.read("evaluation.json"))
            champion = document.get("champion") or {}
            evaluated = champion.get("digest")
            if evaluated is not None and not champion.get("compared", True):
                said = [text for text in manifest.warnings if "the champion" in text]
                not_compared = "; ".join(said) or "evaluate does not say why"
        except (Altered, NoInput) as error:
            evaluated, not_compared = current.digest if current else None, str(error)
        except (OSError, KeyError, ValueError, AttributeError) as error:
            log.warning("bless: evaluation.json cannot be read: %s", error)
    altered = ""
    if current is not None and current.digest == evidence.model_digest:
        # a record alone makes no model the champion already
        try:
            champion_files(context, current)
        except StageError as error:
            if not is_bad_input(error.exit_code):
                raise
            altered = str(error)
    return ChampionEvidence(
        current=current,
        evaluated_digest=evaluated,
        predictions=predictions,
        not_compared=not_compared,
        altered=altered,
        disagreement=disagreement,
    )


def _model_problem(context: StageContext, evidence: Evidence) -> str:
    try:
        context.outputs(evidence.manifests["train"]).path("model/")
    except (Altered, NoInput) as error:
        return str(error)
    return ""


def _example(context: StageContext, evidence: Evidence) -> bytes:
    """Return the smallest test image, the registered model's input example."""
    from tasks.data import Arranged

    arranged = Arranged(context.outputs(evidence.manifests["arrange"]))
    images = list(arranged.read_bytes(arranged.table("test").head(32)))
    if not images:
        raise StageError("arrange committed no test image")
    return min(images, key=len)


def _refusal(metric: str, reason: str) -> RuleResult:
    return RuleResult(metric=metric, bound="must be sound", passed=False, reason=reason)


def _tell(verdict: Verdict) -> None:
    for rule in verdict.rules:
        log.info("%s  %s", "pass  " if rule.passed else "REFUSE", rule.reason)
    model = verdict.model
    log.info(
        "%s version %s: %s (%d of %d rules passed)",
        model.name,
        model.version or "(not registered)",
        "refused" if verdict.word == "rejected" else verdict.word,
        sum(rule.passed for rule in verdict.rules),
        len(verdict.rules),
    )
    for change in verdict.changes:
        log.info("changed: %s", change.in_words)
    if verdict.passed and not verdict.deployable:
        log.warning("%s", verdict.refusal)


def _outcome(verdict: Verdict) -> Outcome:
    metrics = {
        "blessed": float(verdict.may_serve),
        "rules_passed": float(sum(rule.passed for rule in verdict.rules)),
        "rules_failed": float(sum(not rule.passed for rule in verdict.rules)),
    }
    for rule in verdict.rules:
        if rule.metric.startswith("champion.") and rule.value is not None:
            metrics["champion_difference"] = rule.value
            if rule.low is not None and rule.high is not None:
                metrics["champion_difference.low"] = rule.low
                metrics["champion_difference.high"] = rule.high
    return Outcome(metrics=metrics)


STAGE = Bless()
