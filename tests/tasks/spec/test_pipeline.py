"""Reading pipeline files and overriding their fields."""

from pathlib import Path
from typing import Any

import pytest

from tasks.spec import Pipeline, SpecError, apply_overrides, load_pipeline, parse_overrides

MINIMAL = {"name": "films", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}
PIPELINES = sorted((Path(__file__).parents[3] / "dags/pipelines").glob("*.yaml"))


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline.model_validate(MINIMAL)


def test_a_rule_on_an_interval_is_written_as_in_the_documents(tmp_path: Path) -> None:
    path = tmp_path / "films.yaml"
    rule = "{metric: evaluate.accuracy, min: 0.5, on: interval}"
    path.write_text(
        "name: films\nsource: {kind: synthetic}\nlabel: {column: finding}\n"
        f"blessing: {{rules: [{rule}]}}\n"
    )
    assert load_pipeline(path).blessing.rules[0].on == "interval"


def test_json_text_is_read_back_unchanged(pipeline: Pipeline) -> None:
    assert load_pipeline(pipeline.to_json()) == pipeline


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_every_shipped_pipeline_is_valid_and_named_like_its_file(path: Path) -> None:
    assert load_pipeline(path).name == path.stem


def test_an_unknown_field_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "films.yaml"
    path.write_text("name: films\nsource: {kind: synthetic}\nlabel: {column: a}\ntrian: {}\n")
    with pytest.raises(SpecError, match=r"films\.yaml: trian: no such field"):
        load_pipeline(path)


def test_a_wrong_value_is_shown_with_what_is_allowed(pipeline: Pipeline) -> None:
    with pytest.raises(SpecError, match=r"train\.optimizer.*'adam', 'adamw', 'sgd'.*got 'adma'"):
        apply_overrides(pipeline, {"train.optimizer": "adma"})


def test_overrides_reach_nested_fields_and_leave_the_original(pipeline: Pipeline) -> None:
    changed = apply_overrides(
        pipeline, parse_overrides(["train.head.dropout=0.2", "split.group=patientid"])
    )
    assert (changed.train.head.dropout, changed.split.group) == (0.2, "patientid")
    assert pipeline.train.head.dropout == 0.5


def test_a_field_with_an_alias_is_overridden_by_its_name_in_the_file(pipeline: Pipeline) -> None:
    assert apply_overrides(pipeline, {"validate.min_rows": 7}).validation.min_rows == 7


def test_a_misspelt_override_lists_the_fields_there_are(pipeline: Pipeline) -> None:
    with pytest.raises(SpecError, match=r"train\.epoch: no such field; there is .*epochs"):
        apply_overrides(pipeline, {"train.epoch": 3})


@pytest.mark.parametrize("assignment", ["train.epochs", "=3", "train.epochs=[1"])
def test_an_assignment_that_is_none_is_refused(assignment: str) -> None:
    with pytest.raises(SpecError):
        parse_overrides([assignment])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "films.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"films\.yaml"):
        load_pipeline(path)


def test_a_favourable_outcome_must_be_a_class(pipeline: Pipeline) -> None:
    with pytest.raises(SpecError, match=r"fairness\.favourable 'covdi'"):
        apply_overrides(
            pipeline, {"label.classes": ["covid", "other"], "fairness.favourable": "covdi"}
        )


@pytest.mark.parametrize(
    ("own", "in_force"),
    [
        ({"min": 0.4}, [{"min": 0.4}]),
        ({"min": 0.4, "on": "interval"}, [{"min": 0.4, "on": "interval"}]),
        # a laxer one, or one on another side, stands beside the default rule
        ({"min": -1}, [{"min": 0.05}, {"min": -1}]),
        ({"max": 1}, [{"min": 0.05}, {"max": 1}]),
    ],
)
def test_an_own_rule_makes_a_default_rule_stricter_and_never_laxer(
    pipeline: Pipeline, own: dict[str, Any], in_force: list[dict[str, Any]]
) -> None:
    metric = "evaluate.least_recall"
    changed = apply_overrides(pipeline, {"blessing.rules": [{"metric": metric, **own}]})
    rules = changed.blessing.all_rules()
    found = [
        rule.model_dump(exclude_defaults=True, exclude={"metric", "why"})
        for rule in rules
        if rule.metric == metric
    ]
    assert found == in_force
    assert any(rule.metric == "evaluate.balanced_accuracy_above_chance" for rule in rules)


def test_a_default_rule_is_switched_off_by_its_name(pipeline: Pipeline) -> None:
    changed = apply_overrides(pipeline, {"blessing.without": ["evaluate.least_recall"]})
    names = [rule.metric for rule in changed.blessing.all_rules()]
    assert "evaluate.least_recall" not in names
    assert "evaluate.balanced_accuracy_above_chance" in names
    with pytest.raises(SpecError, match=r"blessing\.without"):
        apply_overrides(pipeline, {"blessing.without": ["evaluate.leest_recall"]})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("blessing.rules", [{"metric": "evaluate.accuracy", "min": False}]),
        ("deploy.known_answers", True),
        ("evaluate.bootstrap", True),
        ("fairness.n_boot", True),
        ("train.privacy", {"noise_multiplier": True}),
        ("robustness.strengths", [0.1, True]),
        ("blessing.rules", [{"metric": "evaluate.accuracy", "min": "0.99"}]),
        ("blessing.rules", [{"metric": "evaluate.accuracy", "max": True}]),
        ("blessing.champion.margin", "0.5"),
        ("blessing.champion.margin", True),
        ("deploy.tolerance", "0.4"),
        ("deploy.max_error_rate", True),
        ("validate.min_rows", True),
        ("validate.max_class_share", "1"),
    ],
)
def test_a_number_of_a_rule_is_a_number(pipeline: Pipeline, field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"{field}.*valid (number|integer)"):
        apply_overrides(pipeline, {field: value})


def test_a_whole_number_is_a_bound_as_well(pipeline: Pipeline) -> None:
    rules = [{"metric": "evaluate.accuracy", "min": 0, "max": 1}]
    assert apply_overrides(pipeline, {"blessing.rules": rules}).blessing.rules[0].max == 1


@pytest.mark.parametrize("end", [".low", ".high"])
def test_a_class_or_a_column_cannot_pose_as_an_interval(pipeline: Pipeline, end: str) -> None:
    with pytest.raises(SpecError, match="rename it by a transform"):
        apply_overrides(pipeline, {"label": {"column": "a", "classes": ["risk", f"risk{end}"]}})
    with pytest.raises(SpecError, match="rename it by a transform"):
        apply_overrides(pipeline, {"fairness.protected": [{"attribute": f"income{end}"}]})
    apply_overrides(pipeline, {"label": {"column": "a", "classes": ["low", "high"]}})


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["sex", "sex"], "'sex' is given twice"),
        (["race*age", "race * age"], r"'race\*age' is given twice"),
        (["sex", "sex.fairlearn"], "'sex.fairlearn' ends as the metrics of Fairlearn do"),
    ],
)
def test_no_attribute_can_pose_as_another_one(
    pipeline: Pipeline, names: list[str], told: str
) -> None:
    protected = [{"attribute": name} for name in names]
    with pytest.raises(SpecError, match=rf"fairness\.protected: {told}"):
        apply_overrides(pipeline, {"fairness.protected": protected})


def test_a_rule_without_a_bound_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(SpecError, match="needs min, max or both"):
        apply_overrides(pipeline, {"blessing.rules": [{"metric": "evaluate.accuracy"}]})


@pytest.mark.parametrize("bound", [".nan", ".inf", "-.inf"])
def test_a_bound_that_json_cannot_carry_is_refused_rather_than_dropped(
    pipeline: Pipeline, bound: str
) -> None:
    rules = parse_overrides([f"blessing.rules=[{{metric: m, min: {bound}, max: 1}}]"])
    with pytest.raises(SpecError, match=r"blessing\.rules\.0\.min: .*finite"):
        apply_overrides(pipeline, rules)


def test_a_section_given_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "films.yaml"
    path.write_text("name: films\nblessing: {default_rules: true}\nblessing: {rules: []}\n")
    with pytest.raises(SpecError, match=r"line 3, column 1: 'blessing' is given twice"):
        load_pipeline(path)


@pytest.mark.parametrize("text", [b"name: [films\n: x\n\n", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "films.yaml"
    path.write_bytes(text)
    with pytest.raises(SpecError, match=r"films\.yaml: is not") as caught:
        load_pipeline(path)
    assert "\n" not in str(caught.value)


def test_a_password_in_an_address_is_refused_and_not_repeated(pipeline: Pipeline) -> None:
    source = {"kind": "csv_images", "uri": "https://me:s3cret@example.org/films.zip"}
    with pytest.raises(SpecError, match=r"source.*uri: holds a password; .*netrc") as caught:
        apply_overrides(pipeline, {"source": source})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://films:p-w@db/films",
        "postgresql://films:a/b@db/films",
        "postgresql://db/films?user=films&password=p-w",
        "https://p-w@example.org/data",
        f"https://films:{'p-w' * 200}@example.org/data",
    ],
)
def test_no_password_shows_in_a_message(tmp_path: Path, address: str) -> None:
    path = tmp_path / "films.yaml"
    path.write_text(f"name: {address}\nsource: {{kind: synthetic}}\nlabel: {{column: a}}\n")
    with pytest.raises(SpecError, match=r"name: .*got .*\*\*\*") as error:
        load_pipeline(path)
    assert "p-w" not in str(error.value) and "a/b" not in str(error.value)


def named(pipeline: Pipeline, **parameters: str) -> Pipeline:
    return Pipeline.model_validate(
        pipeline.model_dump(mode="json", by_alias=True) | {"parameters": parameters}
    )


def test_a_name_of_the_pipeline_s_own_stands_for_its_field(pipeline: Pipeline) -> None:
    own = named(pipeline, rounds="train.epochs", wait="retry_delay_seconds")
    changed = apply_overrides(own, {"rounds": 3, "wait": 7})
    assert (changed.train.epochs, changed.retry_delay_seconds) == (3, 7)
    with pytest.raises(SpecError, match=r"rounds and train\.epochs are the same field"):
        apply_overrides(own, {"rounds": 3, "train.epochs": 3})


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"rounds": "train.epoch"}, r"parameters\.rounds: train\.epoch is no field"),
        ({"rounds": "train"}, r"train is no field with a value"),
        ({"train": "train.epochs"}, r"parameters\.train: is a name that is taken"),
        ({"force": "train.epochs"}, r"parameters\.force: is a name that is taken"),
        ({"a": "train.epochs", "b": "train.epochs"}, r"train\.epochs has a name already"),
    ],
)
def test_names_that_lead_nowhere_or_astray_are_refused(
    pipeline: Pipeline, parameters: dict[str, str], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        named(pipeline, **parameters)


def test_the_words_of_yaml_1_1_for_true_and_false_are_words(tmp_path: Path) -> None:
    path = tmp_path / "votes.yaml"
    path.write_text(
        "name: votes\nsource: {kind: synthetic}\nlabel: {column: a, classes: [yes, no]}\n"
        "train: {mixed_precision: on, augmentation: {flip: yes}}\n"
        "blessing: {default_rules: off}\n"
    )
    found = load_pipeline(path)
    assert found.label.classes == ["yes", "no"]
    assert found.train.mixed_precision == "on"
    # a field that is true or false understands them all the same
    assert found.train.augmentation.flip is True
    assert found.blessing.default_rules is False
    assert parse_overrides(["train.mixed_precision=off"]) == {"train.mixed_precision": "off"}
    assert parse_overrides(["a=true", "b=False"]) == {"a": True, "b": False}
