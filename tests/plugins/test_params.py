"""The trigger form is the pipeline's models, and left alone it is the scheduled night."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import ParamValidationError

from tasks.spec import Pipeline, SpecError, apply_overrides, load_pipeline
from trusted_retraining.params import OF_THE_DAG, changed_fields, trigger_form


@pytest.fixture
def pipeline(pipelines_folder: Path) -> Pipeline:
    return load_pipeline(pipelines_folder / "covid_xray.yaml")


def values(pipeline: Pipeline, **changes: Any) -> dict[str, Any]:
    form = {name: param.value for name, param in trigger_form(pipeline).items()}
    return form | {name.replace("__", "."): value for name, value in changes.items()}


def test_a_form_left_alone_changes_nothing(pipeline: Pipeline) -> None:
    assert changed_fields(pipeline, values(pipeline)) == {}


def test_only_what_was_changed_is_an_override(pipeline: Pipeline) -> None:
    changed = changed_fields(pipeline, values(pipeline, train__epochs=3, force=True))
    assert changed == {"train.epochs": 3}


def test_every_default_is_a_valid_entry(pipeline: Pipeline) -> None:
    for name, param in trigger_form(pipeline).items():
        assert param.resolve() == param.value, name


def test_every_field_of_the_form_is_a_field_of_the_pipeline(pipeline: Pipeline) -> None:
    entries = values(pipeline)
    del entries["force"]
    assert apply_overrides(pipeline, entries) == pipeline


def test_ranges_become_bounds(pipeline: Pipeline) -> None:
    form = trigger_form(pipeline)
    assert form["train.epochs"].schema["minimum"] == 1
    assert form["train.epochs"].schema["maximum"] == 10_000
    for name, wrong in [("train.epochs", 0), ("split.test", 1), ("train.alpha", 0)]:
        with pytest.raises(ParamValidationError):
            form[name].resolve(wrong)


def test_choices_become_dropdowns_and_switches_toggles(pipeline: Pipeline) -> None:
    form = trigger_form(pipeline)
    assert form["train.optimizer"].schema["enum"] == ["adam", "adamw", "sgd", "rmsprop"]
    assert form["train.augmentation.flip"].schema["type"] == "boolean"
    assert form["force"].schema["type"] == "boolean"
    with pytest.raises(ParamValidationError):
        form["train.optimizer"].resolve("magic")


def test_help_texts_and_sections_come_from_the_models(pipeline: Pipeline) -> None:
    form = trigger_form(pipeline)
    assert form["train.epochs"].schema["description_md"] == "Passes over the training images."
    assert form["train.epochs"].schema["section"].startswith("train: ")
    assert form["train.head.dropout"].schema["section"].startswith("train.head: ")


def test_optional_fields_may_be_left_blank(pipeline: Pipeline) -> None:
    form = trigger_form(pipeline)
    assert form["train.learning_rate"].resolve(None) is None
    changed = changed_fields(pipeline, values(pipeline, source__regions=None))
    assert changed == {"source.regions": None}


def test_a_blank_text_stands_for_the_empty_text(pipeline: Pipeline) -> None:
    assert trigger_form(pipeline)["split.salt"].resolve(None) is None
    assert changed_fields(pipeline, values(pipeline, split__salt=None)) == {}


def test_a_word_or_a_number_where_both_are_allowed(pipeline: Pipeline) -> None:
    assert trigger_form(pipeline)["train.frozen"].schema["examples"] == ["all", "none"]
    changed = changed_fields(pipeline, values(pipeline, train__frozen="20"))
    assert apply_overrides(pipeline, changed).train.frozen == 20


def test_fields_that_the_form_cannot_show_come_through_the_configuration(
    pipeline: Pipeline,
) -> None:
    rules = [{"metric": "evaluate.accuracy", "min": 0.9}]
    changed = changed_fields(pipeline, values(pipeline) | {"blessing.rules": rules})
    assert changed == {"blessing.rules": rules}
    assert "blessing.rules" not in trigger_form(pipeline)


@pytest.mark.parametrize("field", OF_THE_DAG)
def test_what_belongs_to_the_dag_cannot_be_changed_for_a_night(
    pipeline: Pipeline, field: str
) -> None:
    assert field.split(".")[0] in Pipeline.model_fields and field not in trigger_form(pipeline)
    with pytest.raises(SpecError, match=f"{field}: belongs to the DAG"):
        changed_fields(pipeline, {field: "demo"})


def test_titles_of_sections_are_plain_text(pipelines_folder: Path) -> None:
    for path in pipelines_folder.glob("*.yaml"):
        for name, param in trigger_form(load_pipeline(path)).items():
            assert "`" not in param.schema["section"], name


@pytest.mark.parametrize(
    ("source", "shown", "hidden"),
    [
        ({"kind": "coco", "uri": "x", "annotations": "a.json"}, "multi_label", "kind"),
        ({"kind": "cloud_annotations", "uri": "x"}, "multi_label", "kind"),
        (
            {"kind": "sql", "address": "sqlite:///x", "query": "SELECT 1", "images": "x"},
            "version_query",
            "kind",
        ),
        ({"kind": "custom", "reader": "a.b:C"}, "uri", "options"),
    ],
    ids=lambda value: value.get("kind") if isinstance(value, dict) else None,
)
def test_each_kind_of_source_has_its_own_fields_on_the_form(
    pipeline: Pipeline, source: dict[str, str], shown: str, hidden: str
) -> None:
    document = json.loads(pipeline.to_json()) | {"source": source}
    form = trigger_form(Pipeline.model_validate(document))
    title = type(Pipeline.model_validate(document).source).__doc__ or ""
    first = title.split(".")[0].split(":")[0].replace("`", "")[:20]
    assert form[f"source.{shown}"].schema["section"].startswith(f"source: {first}")
    assert f"source.{hidden}" not in form


def test_the_pipeline_s_own_names_come_first_and_mean_their_fields(pipelines_folder: Path) -> None:
    pipeline = load_pipeline(pipelines_folder / "fashion_mnist.yaml")
    form = trigger_form(pipeline)
    assert list(form)[:4] == ["force", "compile_optimizer", "epochs", "validation_split"]
    assert "train.epochs" not in form
    assert form["compile_optimizer"].schema["enum"] == ["adam", "adamw", "sgd", "rmsprop"]
    assert changed_fields(pipeline, values(pipeline)) == {}
    assert changed_fields(pipeline, values(pipeline, epochs=3)) == {"train.epochs": 3}
    assert changed_fields(pipeline, values(pipeline, train__epochs=3)) == {"train.epochs": 3}
    with pytest.raises(SpecError, match=r"train\.epochs is given twice"):
        changed_fields(pipeline, values(pipeline, epochs=3, train__epochs=4))


def test_another_name_does_not_free_what_belongs_to_the_dag(pipeline: Pipeline) -> None:
    document = json.loads(pipeline.to_json()) | {"parameters": {"hour": "schedule"}}
    with pytest.raises(SpecError, match="schedule: belongs to the DAG"):
        changed_fields(Pipeline.model_validate(document), {"hour": "0 5 * * *"})


@pytest.mark.parametrize(
    "conf",
    [
        {"deploy": {"model_name": "demo"}},
        {"publish": {"report": {"uri": "/x"}}},
        {"deploy": {"target": "kserve"}, "train.epochs": 3},
        {"extra_stages": []} | {"extra_stages.0.command": ["sh"]},
    ],
)
def test_a_whole_section_does_not_carry_what_belongs_to_the_dag(
    pipeline: Pipeline, conf: dict[str, Any]
) -> None:
    with pytest.raises(SpecError, match="belongs to the DAG"):
        changed_fields(pipeline, values(pipeline) | conf)
