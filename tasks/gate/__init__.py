"""Decides whether a model may serve: rules on metrics, checks that must have run, the champion."""

from tasks.gate.champion import ChampionEvidence, compare_with_champion
from tasks.gate.evidence import Evidence, judge_evidence
from tasks.gate.rules import judge_rule
from tasks.gate.verdict import judge

__all__ = [
    "ChampionEvidence",
    "Evidence",
    "compare_with_champion",
    "judge",
    "judge_evidence",
    "judge_rule",
]
