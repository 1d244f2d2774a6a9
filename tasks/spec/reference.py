"""The reference of the pipeline file, made from its models."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tasks.spec.base import Section
from tasks.spec.pipeline import Pipeline

INTRODUCTION = """\
# The pipeline file

One file `dags/pipelines/NAME.yaml` is one pipeline: one DAG, one model, one night. It is YAML,
checked against the models in `tasks/spec/`. A field that does not exist, or a value that is not
allowed, is one line that names file, field and value: on the command line with exit code 78, in the
Airflow UI as an import error.

Any field can be changed for one night: `make retrain PIPELINE=NAME SET="train.epochs=15"`,
`.venv/bin/python -m tasks STAGE --set train.epochs=15`, or the trigger form in the Airflow
UI, which is made from the same models. A scheduled night is the form left alone. The report
opens with the fields that differ from the file, and by whom. Some cannot be changed for one night,
and under changed rules a model is judged but not deployed: see [airflow.md](airflow.md).

This page is made by `.venv/bin/python -m tasks reference`; a test keeps it current.
"""

_VARIANTS = "One of {names}, told apart by `{key}`."


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [INTRODUCTION, "## Top level\n", field_table(Pipeline, skip_sections=True)]
    for name, field in Pipeline.model_fields.items():
        models = section_models(field)
        if not models:
            continue
        key = field.alias or name
        parts.append(f"## {key}\n")
        if field.description:
            parts.append(f"{_prose(field.description)}\n")
        if len(models) > 1:
            names = ", ".join(f"`{_kind(model)}`" for model in models)
            parts.append(_VARIANTS.format(names=names, key="kind") + "\n")
        for model in models:
            if len(models) > 1:
                parts.append(f"### kind: {_kind(model)}\n")
            parts += _section(model, key)
    return "\n".join(parts)


def _section(model: type[BaseModel], path: str) -> Iterator[str]:
    yield f"{_prose(inspect.getdoc(model) or '')}\n"
    yield field_table(model)
    for name, field in model.model_fields.items():
        for inner in section_models(field):
            repeated = "[]" if "list[" in str(field.annotation) else ""
            yield f"### {path}.{name}{repeated}\n"
            yield from _section(inner, f"{path}.{name}{repeated}")


def field_table(model: type[BaseModel], *, skip_sections: bool = False) -> str:
    """Return the fields of a model as a table in Markdown: values, defaults, meanings."""
    schemas = model.model_json_schema(by_alias=True)["properties"]
    lines = ["| Field | Values | Default | Meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if skip_sections and section_models(field):
            continue
        key = field.alias or name
        values = _values(schemas[key]).replace("|", "\\|")
        meaning = _prose(field.description or "").replace("|", "\\|")
        lines.append(f"| `{key}` | {values} | {_default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def section_models(field: FieldInfo) -> list[type[Section]]:
    """Return the sections that a field holds, directly, in a list, or as one of several."""
    found: list[type[Section]] = []

    def search(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, Section):
            found.append(annotation)
        for argument in getattr(annotation, "__args__", ()):
            search(argument)

    search(field.annotation)
    return found


def _kind(model: type[BaseModel]) -> str:
    return str(model.model_fields["kind"].default)


def _values(schema: dict[str, Any]) -> str:
    if "$ref" in schema or "oneOf" in schema:
        return "section"
    if "anyOf" in schema:
        return " or ".join(_values(option) for option in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"{len(schema['prefixItems'])} of {_values(schema['prefixItems'][0])}"
        return f"list of {_values(schema.get('items', {}))}"
    names = {"integer": "whole number", "number": "number", "string": "text", "null": "null"}
    name = names.get(schema.get("type", ""), schema.get("type", "any"))
    return f"{name}{_bounds(schema)}"


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    parts = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    if "pattern" in schema:
        parts.append(f"like `{schema['pattern']}`")
    return f" {', '.join(parts)}" if parts else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "its defaults"
    return f"`{json.dumps(value, default=list)}`"


def _prose(text: str) -> str:
    """Turn a docstring into one line of Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join(text.split()))
