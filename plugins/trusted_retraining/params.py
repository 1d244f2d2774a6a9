"""The trigger form: Airflow Params made from the models of the pipeline file.

A field is on the form if it is a single value, or a list of them, in a section of the file. Its
name there is its dotted name (``train.epochs``), its default the pipeline's own value, so that the
form left alone is the scheduled night. A field that the pipeline has given a name of its own
(``parameters``) is there by that name, before all others. Fields that only exist in lists of
sections (rules, column functions) are overridden by the same dotted names in the run's
configuration.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from airflow.sdk import Param

from tasks.spec import Pipeline, SpecError, override
from tasks.spec.overrides import OF_THE_DAG

FORCE = "force"
"""The one parameter that is not a field of the pipeline."""

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern")
_Schema = dict[str, Any]


def trigger_form(pipeline: Pipeline) -> dict[str, Param]:
    """Return the form of a pipeline, in the order of its sections.

    Parameters
    ----------
    pipeline : Pipeline
        Its values are the defaults.
    """
    form = {
        FORCE: Param(
            False,
            type="boolean",
            title="Compute everything",
            description="Compute every stage, even where an earlier night has the same result.",
            section="Night",
        )
    }
    fields = {name: rest for name, *rest in _fields(pipeline)}
    named = {
        name: (*fields.pop(field)[:2], f"parameters: {pipeline.name}'s own names of fields")
        for name, field in pipeline.parameters.items()
        if field in fields
    }
    form |= {name: Param(rest[0], **_entry(name, *rest)) for name, rest in (named | fields).items()}
    return form


def changed_fields(pipeline: Pipeline, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides that a filled form, or a run's configuration, asks for.

    Parameters
    ----------
    pipeline : Pipeline
        As in its file.
    params : Mapping
        The run's parameters: the form's, and any others that came with the configuration.

    Returns
    -------
    dict
        Dotted field to value, for :func:`tasks.spec.override`. A field that has its default is not
        among them.

    Raises
    ------
    SpecError
        A field is given twice, or no run may change it.
    """
    own = pipeline.parameters
    defaults = {name: (value, schema) for name, value, schema, _ in _fields(pipeline)}
    overrides: dict[str, Any] = {}
    for given, value in params.items():
        if given == FORCE:
            continue
        name = own.get(given, given)
        if name in defaults:
            default, schema = defaults[name]
            # the form sends null for a text field left blank
            value = "" if value is None and "null" not in _types(schema) else value
            if value == default:
                continue
        if name in overrides:
            raise SpecError(f"{name} is given twice, by its own name and by the pipeline's")
        overrides[name] = value
    override(pipeline, overrides)
    return overrides


def _fields(pipeline: Pipeline) -> Iterator[tuple[str, Any, _Schema, str]]:
    """Yield dotted name, value, JSON schema and section title of each field on the form."""
    schema = _pipeline_schema()
    document = json.loads(pipeline.to_json())
    for name, value in document.items():
        field = schema["properties"][name]
        if name in OF_THE_DAG:
            continue
        if isinstance(value, dict):
            yield from _section(name, value, _model(field, value))
        elif name == "filter":
            yield name, value, field, _title(name, field)


def _section(path: str, values: dict[str, Any], model: _Schema) -> Iterator[tuple[Any, ...]]:
    for name, value in values.items():
        field = model["properties"][name]
        if isinstance(value, dict) and _is_section(field):
            yield from _section(f"{path}.{name}", value, _model(field, value))
        elif "const" not in field and _fits(field) and f"{path}.{name}" not in OF_THE_DAG:
            yield f"{path}.{name}", value, field, _title(path, model)


def _model(field: _Schema, value: dict[str, Any]) -> _Schema:
    """Return the schema of the section that a field holds, the one in use of several."""
    options = [field, *field.get("anyOf", []), *field.get("oneOf", [])]
    models = [_pipeline_schema()["$defs"][o["$ref"].split("/")[-1]] for o in options if "$ref" in o]
    kind = value.get("kind")
    # told apart by kind where they have one: the fields of one may be among another's
    return next(
        model
        for model in models
        if set(value) <= set(model["properties"])
        and model["properties"].get("kind", {}).get("const") == kind
    )


def _is_section(field: _Schema) -> bool:
    """Tell a section, whose fields are known, from a mapping with keys of the author's."""
    return "$ref" in json.dumps(field) and "additionalProperties" not in field


def _fits(field: _Schema) -> bool:
    """Tell whether the form can show it: no sections inside, one type beside null or text."""
    text = json.dumps(field)
    return "$ref" not in text and "additionalProperties" not in text


def _entry(name: str, value: Any, field: _Schema, section: str) -> _Schema:
    options = _options(field)
    entry: _Schema = {
        "title": name,
        "section": section,
        "description_md": field.get("description"),
    }
    types = _types(field)
    if value == "" and "null" not in types:
        # a text that may be empty: the form would insist on an entry otherwise
        types.append("null")
    entry["type"] = types[0] if len(types) == 1 else types
    main = [option for option in options if option.get("type") != "null"]
    if len(main) == 1:
        entry |= {key: main[0][key] for key in _BOUNDS if key in main[0]}
        if "enum" in main[0]:
            entry["enum"] = [*main[0]["enum"], *([None] if "null" in types else [])]
        entry |= _items(main[0])
    else:
        # a choice of words beside another type: suggestions in a free field
        entry["examples"] = [word for option in main for word in option.get("enum", [])]
    return entry


def _items(option: _Schema) -> _Schema:
    if option.get("type") != "array":
        return {}
    bounds = {key: option[key] for key in ("minItems", "maxItems") if key in option}
    item = option.get("items") or option["prefixItems"][0]
    # the form offers the words of an enum as a multiple choice when they come as examples
    return bounds | {"items": item} | ({"examples": item["enum"]} if "enum" in item else {})


def _options(field: _Schema) -> list[_Schema]:
    return list(field.get("anyOf") or [field])


def _types(field: _Schema) -> list[str]:
    return list(dict.fromkeys(option["type"] for option in _options(field)))


def _title(path: str, model: _Schema) -> str:
    sentence = re.split(r"(?<=[.:;])\s|\n\n", model.get("description", ""), maxsplit=1)[0]
    # a section's title is plain text on the form, and no Markdown
    return f"{path}: {' '.join(sentence.replace('`', '').split()).rstrip('.:;')}"


@lru_cache(maxsize=1)
def _pipeline_schema() -> _Schema:
    return Pipeline.model_json_schema(by_alias=True)
