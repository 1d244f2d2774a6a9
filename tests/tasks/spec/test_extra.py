"""Extra stages and publishing in the pipeline file: what is taken, and what is refused, by name."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tasks.contract import STAGES, judged_stages, stage_names
from tasks.spec import Pipeline, PublishReport
from tasks.spec.extra import BUILT_IN
from tasks.spec.resources import StageName

BASE = {"name": "films", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}


def pipeline(*extras: dict[str, Any], **more: Any) -> Pipeline:
    filled = [{"name": "x", "image": "x:1", "after": ["train"], **extra} for extra in extras]
    return Pipeline.model_validate({**BASE, "extra_stages": filled, **more})


def test_the_names_that_are_taken_are_those_of_our_own_stages() -> None:
    assert set(BUILT_IN) == set(STAGES) == {*get_args(StageName), "deploy"}


def test_a_file_without_the_sections_is_as_it_was() -> None:
    plain = Pipeline.model_validate(BASE)
    assert stage_names(plain.extra_stages) == STAGES
    assert judged_stages(plain) == STAGES[: STAGES.index("bless")]
    assert plain.publish.dataset is None and plain.publish.report is None


def test_stages_stand_where_they_belong_whatever_the_order_in_the_file() -> None:
    given = pipeline(
        {"name": "late", "after": ["early", "deploy"]},
        {"name": "second", "after": ["early"]},
        {"name": "early", "after": ["ingest"]},
        {"name": "later_still", "after": ["late"]},
    )
    names = stage_names(given.extra_stages)
    before, after = names[: names.index("bless")], names[names.index("bless") :]
    assert before[-2:] == ("early", "second")
    assert after[-3:] == ("late", "later_still", "report")
    assert "late" not in judged_stages(given) and "second" in judged_stages(given)


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ([{"name": "train"}], "'train' is taken"),
        ([{"name": "blessing_gate"}], "is taken by the night itself"),
        ([{"name": "Kappa"}], "should match pattern"),
        ([{}, {}], "'x' is given twice"),
        ([{"after": ["report"]}], "cannot come after 'report'"),
        ([{"after": ["nobody"]}], "cannot come after 'nobody'; it can after ingest"),
        ([{"after": []}], "at least 1 item"),
        ([{"after": ["train", "train"]}], "names a stage twice"),
        ([{"after": ["deploy", "reject"]}], "of which one is always skipped; use bless"),
        (
            [{"name": "a", "after": ["b"]}, {"name": "b", "after": ["a"]}],
            "wait for each other: a, b",
        ),
        ([{"name": "a", "after": ["a"]}], "wait for each other: a"),
        ([{"image": None}], "needs an image (for pods), a command"),
        ([{"image": "a b"}], "should match pattern"),
        ([{"image": "-v/etc:/x"}], "should match pattern"),
        ([{"reads": ["evaluate/x"]}], "is not stage/output of one of train"),
        ([{"reads": ["train/"]}], "is not stage/output"),
        ([{"env": {"TRUSTED_RETRAINING_INPUTS": "/"}}], "is a variable of the protocol"),
        ([{"env": {"A=B": "x"}}], "should match pattern"),
        ([{"command": ["a\0b"]}], "NUL"),
        ([{"user": 0}], "greater than or equal to 1"),
        ([{"resources": {"memory": "1Gi", "shared_memory": "2Gi"}}], "must not be more than"),
        ([{"credentials": ["root"]}], "'storage' or 'mlflow'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(extras: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        pipeline(*extras)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "image", ["kappa", "a/b", "r.example:5000/a/b:1.2", "a:1@sha256:" + "0" * 64, "A.example/b:v1"]
)
def test_names_of_images_are_taken(image: str) -> None:
    assert pipeline({"image": image}).extra_stages[0].image == image


def test_a_rule_cannot_rest_on_what_comes_after_the_verdict() -> None:
    rules = {"rules": [{"metric": "x.score", "min": 0}]}
    assert pipeline({}, blessing=rules).blessing.rules
    with pytest.raises(ValidationError, match="which runs after the verdict"):
        pipeline({"after": ["bless"]}, blessing=rules)


def test_its_requests_are_those_of_data_stages_without_a_card() -> None:
    data = {
        "gpu": 1,
        "cpu": "3",
        "memory": "7Gi",
        "ephemeral_storage": "1Gi",
        "shared_memory": "1Gi",
    }
    given = pipeline({"resources": {"cpu": "250m"}}, resources={"data": data})
    found = given.extra_stages[0].requests(given.resources)
    assert (found.gpu, found.cpu, found.memory) == (0, "250m", "7Gi")


@pytest.mark.parametrize("uri", ["https://reports.example/x", "s3://user:secret@bucket/x"])
def test_what_cannot_be_written_to_is_no_destination(uri: str) -> None:
    with pytest.raises(ValidationError):
        PublishReport(uri=uri)
