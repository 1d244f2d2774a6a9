"""Rules on what a night will never measure, told before it has trained for hours."""

import re
from collections.abc import Iterable, Sequence

from tasks.spec.extra import BUILT_IN, VERDICT_STAGES
from tasks.spec.trust import Explain, Fairness, Robustness

_AFTERWARDS = {*VERDICT_STAGES, "publish", "publish_data", "report"}

_PART = re.compile(r"explain\.(?:\w+\.)?(?:mass_inside_part|part_focus)\.(?P<part>.+)")
_ATTACK = re.compile(r"robustness\.(?P<attack>\w+)\.(?:accuracy|success_rate)_at_(?P<strength>.+)")


def why_never_measured(
    metric: str,
    *,
    extra_stages: Sequence[str],
    fairness: Fairness,
    explain: Explain,
    robustness: Robustness,
) -> str | None:
    """Return why a night cannot measure a metric before its verdict; None when it may.

    Only what the pipeline file itself declares is looked at: a class or a group of the data may
    still turn out not to be there, which the verdict tells.

    Parameters
    ----------
    metric : str
        Such as ``fairness.sex.accuracy_gap``, or an end of its interval (``.low``, ``.high``).
    extra_stages : sequence of str
        Names of the pipeline's own stages.
    fairness, explain, robustness : Section
        What the checks are asked for.
    """
    name = re.sub(r"\.(low|high)$", "", metric)
    stage, _, rest = name.partition(".")
    stages = [*(each for each in BUILT_IN if each not in _AFTERWARDS), *extra_stages]
    if stage not in stages or not rest:
        return f"a metric is named stage.name, of one of the stages {', '.join(stages)}"
    attributes = [each.attribute for each in fairness.protected]
    if stage == "fairness" and not any(rest.startswith(f"{each}.") for each in attributes):
        return f"fairness.protected declares {_listed(attributes)}; declare the attribute there"
    part = _PART.fullmatch(name)
    if part and part["part"] not in explain.parts:
        return f"explain.parts declares {_listed(explain.parts)}; declare the part there"
    attack = _ATTACK.fullmatch(name)
    if attack and attack["attack"] not in robustness.attacks:
        return f"robustness.attacks asks for {_listed(robustness.attacks)}; add the attack there"
    strengths = [f"{strength:g}" for strength in robustness.strengths]
    if attack and attack["strength"] not in strengths:
        return f"robustness.strengths asks for {_listed(strengths)}; add the strength there"
    return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
