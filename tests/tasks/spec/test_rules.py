"""Rules that no model could meet are refused when the pipeline file is read."""

from pathlib import Path
from typing import Any

import pytest

from tasks.spec import Pipeline, SpecError, apply_overrides, load_pipeline

DOCUMENT = {
    "name": "faces",
    "source": {"kind": "synthetic"},
    "label": {"column": "gender"},
    "fairness": {"protected": [{"attribute": "race*age"}, {"attribute": "sex"}]},
    "explain": {"parts": {"eyes": [[0.2, 0.3, 0.8, 0.5]]}},
    "robustness": {"attacks": ["fgsm"], "strengths": [0.002, 0.01]},
    "extra_stages": [{"name": "judge", "after": ["evaluate"], "command": ["true"]}],
}


def ruled(metric: str, **changes: Any) -> Pipeline:
    rules = {"rules": [{"metric": metric, "min": 0.5}]}
    return Pipeline.model_validate({**DOCUMENT, **changes, "blessing": rules})


@pytest.mark.parametrize(
    "metric",
    [
        "evaluate.recall.a class of the data",
        "train.anything.of.a.trainer",
        "fairness.race*age.accuracy_gap",
        "fairness.sex.fairlearn.accuracy_ratio",
        "explain.focus",
        "explain.part_focus.eyes",
        "explain.gradient_shap.mass_inside_part.eyes.low",
        "robustness.clean_accuracy",
        "robustness.fgsm.accuracy_at_0.002",
        "robustness.fgsm.success_rate_at_0.01.high",
        "judge.score",
    ],
)
def test_a_rule_on_what_may_be_measured_is_taken(metric: str) -> None:
    assert ruled(metric).blessing.rules[0].metric == metric


@pytest.mark.parametrize(
    ("metric", "way_out"),
    [
        ("evalute.accuracy", "one of the stages ingest, .*evaluate, .*judge"),
        ("accuracy", "one of the stages"),
        ("judge", "one of the stages"),
        ("deploy.seconds", "one of the stages"),
        ("fairness.race.accuracy_gap", r"fairness.protected declares race\*age, sex"),
        ("fairness.accuracy_gap", "fairness.protected declares"),
        ("explain.part_focus.eye", "explain.parts declares eyes"),
        ("explain.lime.mass_inside_part.mouth.low", "explain.parts declares eyes"),
        ("robustness.pgd.accuracy_at_0.01", "robustness.attacks asks for fgsm"),
        ("robustness.fgsm.accuracy_at_0.010", "robustness.strengths asks for 0.002, 0.01"),
        ("robustness.fgsm.accuracy_at_0.02", "robustness.strengths asks for 0.002, 0.01"),
    ],
)
def test_a_rule_on_what_is_never_measured_is_refused_with_the_way_out(
    metric: str, way_out: str
) -> None:
    with pytest.raises(ValueError, match=f"{metric.replace('*', '.')}' is never .*{way_out}"):
        ruled(metric)


def test_a_check_that_is_asked_for_less_is_no_way_around_its_rule() -> None:
    demo = load_pipeline(Path(__file__).parents[3] / "dags/pipelines/demo.yaml")
    with pytest.raises(SpecError, match=r"robustness\.attacks asks for pgd"):
        apply_overrides(demo, {"robustness.attacks": ["pgd"]})
