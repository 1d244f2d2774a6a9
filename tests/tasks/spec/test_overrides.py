"""What a run may change is compared on the pipeline that comes out, whatever way it was spelt."""

import json
import typing
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from tasks.spec import Change, Pipeline, SpecError, changes, override
from tasks.spec.addresses import is_below
from tasks.spec.marks import Address, Code, mark_of
from tasks.spec.overrides import changes_from_all, check_run, check_same_run
from tasks.spec.resources import Resources
from tasks.spec.sources import CsvImages, Source
from tasks.spec.training import Train

RULES = [{"metric": "evaluate.accuracy", "min": 0.9}]
DOCUMENT: dict[str, Any] = {
    "name": "victim",
    "parameters": {"served_as": "deploy.model_name", "salt": "split.salt"},
    "source": {"kind": "csv_images", "uri": "s3://films/chest"},
    "label": {"column": "finding", "classes": ["yes", "no"]},
    "blessing": {"rules": RULES},
    "fairness": {"protected": [{"attribute": "sex"}]},
    "publish": {"report": {"uri": "s3://reports/all"}},
}
SYNTHETIC = sorted(
    f"source.{name}"
    for name in {*CsvImages.model_fields, "variant"}
    - {"uri", "encoding", "regions", "region_boxes", "region_labels"}
)
ALLOWED = ["s3://films/", "https://data.example/sets", "/data"]


@pytest.fixture
def file() -> Pipeline:
    """A pipeline as its file has it."""
    return Pipeline.model_validate(DOCUMENT)


@pytest.mark.parametrize(
    "overrides",
    [
        {"deploy.model_name": "other"},
        {"deploy": {"model_name": "other"}},
        {"deploy": {"model_name": "victim"}},
        {"served_as": "other"},
        {"publish": {"report": {"uri": "/elsewhere"}}},
        {"publish": {"report": None}},
        {"publish": {}},
        {"publish.report": None},
        {"publish.report.uri": "s3://elsewhere"},
        {"deploy": {"target": "local"}},
        {"name": "other"},
        {"name": None},
        {"runtime": "local"},
        {"schedule": None},
        {"trigger": {"uri": "/data"}},
        {"extra_stages": [{"name": "mine", "after": ["train"], "command": ["sh"]}]},
        {"parameters": {}},
        {"is_paused_upon_creation": True},
    ],
    ids=json.dumps,
)
def test_what_belongs_to_the_dag_is_the_same_in_every_run(file: Pipeline, overrides) -> None:
    with pytest.raises(SpecError):
        override(file, overrides)


@pytest.mark.parametrize("overrides", [{"deploy": {}}, {"deploy": {"tolerance": 0.002}}])
def test_a_section_as_a_whole_is_no_offence_where_it_leaves_the_fixed_fields(file, overrides):
    assert override(file, overrides).model_name == "victim"


def test_a_fixed_field_of_the_file_cannot_be_dropped_with_its_section(file: Pipeline) -> None:
    named = override_free(file, {"deploy.model_name": "served"})
    with pytest.raises(SpecError, match=r"deploy\.model_name: belongs to the DAG"):
        override(named, {"deploy": {}})


def override_free(file: Pipeline, fields: dict[str, Any]) -> Pipeline:
    """Return the file as its owner would change it."""
    from tasks.spec import apply_overrides

    return apply_overrides(file, fields)


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"train.architecture": "subprocess:call"}, "train.architecture"),
        ({"train": {"architecture": "os.path:join"}}, "train.architecture"),
        ({"source": {"kind": "custom", "reader": "os:system"}}, "source.reader"),
        (
            {"source": {"kind": "sql", "address": "file:///data/a.db", "query": "SELECT 1",
                        "images": "/data"}},
            "source.query",
        ),
        (
            {"source": {"kind": "sql", "address_env": "SOURCE_OTHER", "query": "SELECT 1",
                        "images": "/data"}},
            "source.address_env",
        ),
    ],
)  # fmt: skip
def test_a_trigger_names_neither_code_nor_a_reader_nor_a_secret(file, overrides, field) -> None:
    with pytest.raises(SpecError, match=f"{field}: .* is code, or names a secret"):
        override(file, overrides, allowed=ALLOWED)
    # whoever owns the file may
    assert override(file, overrides)


def test_code_that_the_file_names_stays_with_any_other_change(file: Pipeline) -> None:
    own = override_free(
        file, {"source": {"kind": "custom", "reader": "films:Reader", "options": {"side": 3}}}
    )
    assert override(own, {"train.epochs": 3}, allowed=ALLOWED).train.epochs == 3
    for other in ({"side": 4}, {"side": 3.0}, {"side": "3"}, {"side": 3, "more": None}, {}):
        with pytest.raises(SpecError, match=r"source\.options"):
            override(own, {"source.options": other}, allowed=ALLOWED)
    on = override_free(own, {"source.options": {"side": 1}})
    with pytest.raises(SpecError, match=r"source\.options"):
        override(on, {"source.options": {"side": True}}, allowed=ALLOWED)
    with pytest.raises(SpecError, match=r"source\.reader"):
        override(own, {"source.reader": "os:system"}, allowed=ALLOWED)


def test_architectures_by_their_name_are_no_code(file: Pipeline) -> None:
    changed = override(file, {"train.architecture": "dense"}, allowed=ALLOWED)
    assert changed.train.architecture == "dense"


@pytest.mark.parametrize(
    "address",
    [
        "s3://films/chest/2026",
        "s3a://films/other",
        "https://data.example/sets/a.zip?version=3",
        "https://DATA.example:443/sets/a.zip",
        "/data/films",
        "file:///data/films",
    ],
)
def test_a_run_is_pointed_at_what_the_installation_allows(file: Pipeline, address: str) -> None:
    assert override(file, {"source.uri": address}, allowed=ALLOWED).source.uri == address
    assert override(file, {"train.weights": address}, allowed=ALLOWED).train.weights == address


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "s3://films-evil/chest",
        "s3://films@evil/chest",
        "https://data.example/setsevil/a.zip",
        "https://data.example/sets/../secret.zip",
        "https://data.example/sets/%2e%2e/secret.zip",
        "https://data.example/sets/%252e%252e/secret.zip",
        "https://data.example.evil/sets/a.zip",
        "https://data.example:8443/sets/a.zip",
        "http://data.example/sets/a.zip",
        "https://data.example\\@evil/sets/a.zip",
        "https://evil/data.example/sets",
        "s3://films/x::file:///etc/passwd",
        "simplecache::s3://films/x",
        "/data/../etc/passwd",
        "/database",
        "file:/data/films",
        "file://evil/data/films",
        "data/films",
        "gs://films/chest",
    ],
)
def test_anything_else_is_refused_and_the_way_out_named(file: Pipeline, address: str) -> None:
    for field in ("source.uri", "train.weights"):
        with pytest.raises(SpecError):
            override(file, {field: address}, allowed=ALLOWED)
    assert not is_below(address, ALLOWED)


def test_an_address_of_the_file_is_its_owner_s_wherever_it_leads(file: Pipeline) -> None:
    assert override(file, {"train.epochs": 2}, allowed=()).train.epochs == 2
    with pytest.raises(SpecError, match=r"no other address.*allowed_addresses"):
        override(file, {"source.uri": "s3://films/chest/2026"}, allowed=())


@pytest.mark.parametrize("path", ["data/films", "/etc/hostname", "../films", "/data/my films"])
def test_on_one_machine_any_path_is_open(path: str) -> None:
    # a way up is refused all the same: nobody can tell where it leads
    assert is_below(path, ["/"]) is (".." not in path)
    assert not is_below("http://127.0.0.1/x", ["/"])


@pytest.mark.parametrize(
    ("overrides", "rules"),
    [
        ({"train.epochs": 3, "source.uri": "/data/x", "evaluate.mistakes": 2}, []),
        ({"resources.spot": True, "evaluate.batch_size": 8}, []),
        ({"source.max_missing": 1.0}, ["source.max_missing"]),
        ({"source.metadata": "others.csv"}, ["source.metadata"]),
        ({"source": {"kind": "synthetic", "variant": "plain"}}, SYNTHETIC),
        ({"train.privacy": {"noise_multiplier": 1.0}}, ["train.privacy"]),
        ({"blessing": {"rules": []}}, ["blessing.rules"]),
        ({"blessing.default_rules": False}, ["blessing.default_rules"]),
        ({"blessing.without": ["evaluate.least_recall"]}, ["blessing.without"]),
        ({"blessing.champion": None}, ["blessing.champion"]),
        ({"blessing": {"rules": RULES, "champion": {}}}, []),
        ({"deploy.tolerance": 0.49}, ["deploy.tolerance"]),
        ({"salt": "other"}, ["split.salt"]),
        ({"split": {"test": 0.3}}, ["split.test"]),
        ({"filter": ["metadata.a == 1"]}, ["filter"]),
        ({"transform": [{"column": "a", "function": "lower()"}]}, ["transform"]),
        ({"label.positive": "yes"}, ["label.positive"]),
        ({"validate.leakage": "warn"}, ["validate.leakage"]),
        ({"fairness": {}}, ["fairness.protected"]),
        ({"fairness.favourable": "yes"}, ["fairness.favourable"]),
        ({"evaluate.confidence": 0.51}, ["evaluate.confidence"]),
        ({"evaluate.bootstrap": 4}, ["evaluate.bootstrap"]),
        ({"fairness.min_group": 2}, ["fairness.min_group"]),
        ({"fairness": {"n_boot": 3}}, ["fairness.n_boot", "fairness.protected"]),
        ({"explain.parts": {"eyes": [[0, 0, 1, 1]]}}, ["explain.parts.eyes"]),
        ({"explain": {"seed": 3, "images": 4}}, ["explain.images", "explain.seed"]),
        ({"robustness.images": 2}, ["robustness.images"]),
        ({"robustness.strengths": [0.0001]}, ["robustness.strengths"]),
        ({"blessing": {"rules": RULES}, "split": {}, "filter": []}, []),
    ],
)
def test_changes_of_the_rules_are_told_from_others(file: Pipeline, overrides, rules) -> None:
    changed = changes(file, override(file, overrides))
    assert [change.field for change in changed if change.is_rule] == rules


def test_every_field_is_a_rule_but_those_that_are_known_to_be_none() -> None:
    assert {name for name in _fields_of(Pipeline) if not Change(field=name).is_rule} == {
        *("name", "description", "tags", "owner", "parameters", "schedule", "trigger"),
        *("is_paused_upon_creation", "runtime"),
        *("retries", "retry_delay_seconds", "stage_timeout_minutes"),
        *(f"train.{name}" for name in Train.model_fields if name != "privacy"),
        *(f"resources.{name}" for name in Resources.model_fields),
        *("publish.dataset", "publish.report", "evaluate.batch_size"),
        *("evaluate.mistakes", "evaluate.answers", "evaluate.overfit_gap"),
    }
    sources = get_args(get_args(Source)[0])
    assert {name for kind in sources for name in kind.model_fields if not _of_source(name)} == {
        *("uri", "address", "chunk_rows", "rows", "size", "seed"),
    }
    assert Change(field="train.privacy.target_epsilon").is_rule
    assert Change(field="robustness.a_field_of_tomorrow").is_rule
    assert Change(field="a_section_of_tomorrow").is_rule


def _of_source(name: str) -> bool:
    return Change(field=f"source.{name}").is_rule


def _fields_of(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        name = field.alias or name
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from (f"{name}.{inner}" for inner in section.model_fields)
        else:
            yield name


def test_changes_from_the_file_at_either_time_count(file: Pipeline) -> None:
    now = override_free(file, {"split.salt": "tonight", "train.epochs": 9})
    assert [each.field for each in changes_from_all([file, now], file)] == [
        *("split.salt", "train.epochs"),
    ]
    assert changes_from_all([file, file], file) == []


def test_a_change_has_the_value_of_the_file_and_that_of_the_run(file: Pipeline) -> None:
    (change,) = changes(file, override(file, {"train.epochs": 3}))
    assert (change.field, change.file, change.run) == ("train.epochs", 10, 3)
    assert change.in_words == "train.epochs: 3, in the pipeline file 10"


def test_a_spec_that_was_made_otherwise_is_held_against_the_file_as_well(file: Pipeline) -> None:
    made = override_free(file, {"deploy.model_name": "other"})
    with pytest.raises(SpecError, match=r"deploy\.model_name: belongs to the DAG"):
        check_run(file, made)


def test_a_run_goes_on_under_the_name_that_it_was_begun_with(file: Pipeline) -> None:
    check_same_run(file, override_free(file, {"train.epochs": 3, "retries": 5}))
    with pytest.raises(SpecError, match="start a new run"):
        check_same_run(file, override_free(file, {"deploy.model_name": "other"}))


PLAIN = {
    # words for people, or for Airflow
    "Pipeline.description", "Pipeline.tags", "Pipeline.owner", "Pipeline.schedule",
    "Pipeline.parameters", "Rule.why", "ExtraStage.description", "PublishDataset.license",
    "PublishDataset.description",
    # names of columns, classes, metrics, stages: looked up, never opened
    "Rule.metric", "Label.column", "Label.classes", "Label.positive", "Split.group",
    "Split.column", "Split.salt", "Split.blank_groups", "Validate.required_columns",
    "Transform.column",
    "Transform.into", "ProtectedAttribute.attribute", "ProtectedAttribute.privileged",
    "ProtectedAttribute.unprivileged", "Fairness.favourable", "CsvImages.filename_column",
    "CsvImages.encoding", "FairFace.encoding",
    "CsvImages.region_labels", "Idx.class_names", "Cifar10.class_names", "ClassFolders.levels",
    "Parquet.image_column", "TFRecord.image_feature", "TFRecord.features", "Sql.image_column",
    "CloudAnnotations.priority", "CloudAnnotations.region_labels", "Coco.priority",
    "Coco.region_labels", "PublishDataset.columns", "ExtraStage.after", "ExtraStage.reads",
    # expressions that are parsed and never executed
    "Transform.function", "Pipeline.filter",
}  # fmt: skip
"""Free texts that are neither code nor an address, each looked at by a person."""


def models(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for each in get_args(annotation) for found in models(each)]


def is_free_text(annotation: Any) -> bool:
    """Return whether a type takes any text: no choice of words, no pattern, no path inside."""
    if annotation is str or annotation is Any:
        return True
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        bound = any(_binds(mark) for mark in marks)
        return is_free_text(inner) and not bound
    if get_origin(annotation) in (typing.Literal,):
        return False
    return any(is_free_text(each) for each in get_args(annotation))


def _binds(mark: Any) -> bool:
    pattern = getattr(mark, "pattern", None) or any(
        getattr(each, "pattern", None) for each in getattr(mark, "metadata", ())
    )
    inside = getattr(getattr(mark, "func", None), "__name__", "") == "_stays_inside"
    return bool(pattern) or inside


def test_every_text_of_the_pipeline_file_is_code_an_address_or_known_to_be_harmless() -> None:
    hints: dict[str, str] = {}
    pending, seen = [Pipeline], set()
    while pending:
        model = pending.pop()
        if model in seen:
            continue
        seen.add(model)
        annotations = typing.get_type_hints(model, include_extras=True)
        for name, field in model.model_fields.items():
            pending += models(field.annotation)
            if mark_of(field) is None and is_free_text(annotations[name]):
                hints[f"{model.__name__}.{name}"] = str(annotations[name])
    assert set(hints) - PLAIN == set(), "mark it as Code or Address, or list it as harmless"


def test_the_marks_are_where_they_are_looked_for() -> None:
    from tasks.spec import Custom, ExtraStage, Sql, Train

    assert isinstance(mark_of(Custom.model_fields["reader"]), Code)
    assert isinstance(mark_of(Sql.model_fields["address_env"]), Code)
    assert isinstance(mark_of(Sql.model_fields["address"]), Address)
    assert mark_of(Train.model_fields["weights"]) == Address(words=("none", "imagenet"))
    assert all(
        isinstance(mark_of(ExtraStage.model_fields[name]), Code)
        for name in ("image", "command", "env", "inherit", "secret", "credentials")
    )
