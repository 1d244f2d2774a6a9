"""From evidence to verdict. Fails closed: what cannot be judged is a refusal with its reason."""

from tasks.contract import ModelIdentity, RuleResult, Verdict, now
from tasks.gate.champion import ChampionEvidence, compare_with_champion
from tasks.gate.evidence import Evidence, judge_evidence
from tasks.gate.rules import judge_rule
from tasks.spec import Blessing


def judge(
    blessing: Blessing, evidence: Evidence, *, model_name: str, champion: ChampionEvidence
) -> Verdict:
    """Judge a model by everything that is known of it.

    Parameters
    ----------
    blessing : Blessing
        The rules in force.
    evidence : Evidence
        What the stages committed, and how they failed.
    model_name : str
        Registered model.
    champion : ChampionEvidence
        Who serves now.

    Returns
    -------
    Verdict
        Blessed only if every stage did its work and every rule passed. The model has no version
        yet.
    """
    digest = evidence.model_digest
    results = judge_evidence(evidence)
    rules = blessing.all_rules()
    metrics, notes = evidence.metrics, evidence.notes
    results += [judge_rule(rule, metrics=metrics, notes=notes) for rule in rules]
    if blessing.champion is not None:
        results.append(compare_with_champion(blessing.champion, champion, challenger_digest=digest))
    elif champion.disagreement:
        # nobody asked for a comparison, but whoever deploys must know what is to be replaced
        results.append(
            RuleResult(
                metric="champion",
                bound="must be known",
                passed=False,
                reason=champion.disagreement,
            )
        )
    if not rules and (blessing.champion is None or champion.current is None):
        # a file that switches every rule off asks for a model that nobody has judged
        results.append(
            RuleResult(
                metric="blessing.rules",
                bound="at least one rule",
                passed=False,
                reason="no rule is in force: add one to blessing.rules or keep the default rules",
            )
        )
    return verdict_of(
        results,
        model=ModelIdentity(name=model_name, digest=digest),
        champion=champion_of(model_name, champion),
    )


def verdict_of(
    results: list[RuleResult], *, model: ModelIdentity, champion: ModelIdentity | None
) -> Verdict:
    """Return the verdict that follows from results: blessed if there are any and all passed."""
    return Verdict(
        blessed=bool(results) and all(result.passed for result in results),
        model=model,
        champion=champion,
        rules=results,
        reasons=[result.reason for result in results if not result.passed],
        at=now(),
    )


def champion_of(model_name: str, champion: ChampionEvidence) -> ModelIdentity | None:
    """Return who serves now, None when nobody does."""
    if champion.current is None:
        return None
    version, digest = champion.current
    return ModelIdentity(name=model_name, version=version, digest=digest)
