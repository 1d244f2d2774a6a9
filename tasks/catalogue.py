"""The catalogue of components: every stage with inputs, outputs and settings, made from its class
and its models."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from tasks.contract import STAGES
from tasks.spec import MODEL_STAGES, ExtraStage, Pipeline, Section
from tasks.spec.reference import field_table, section_models
from tasks.stages import load_stage
from tasks.stages.base import Stage

INTRODUCTION = """\
# Components

A night is made of these. Each is one stage:
`.venv/bin/python -m tasks STAGE --run-uri URI --spec FILE` alone,
a process or a pod in a DAG. What a stage reads and writes is a folder of the run; a
manifest, written last, names the files with their digests. Settings are fields of the
[pipeline file](pipeline-file.md). Those named here determine a stage's result: a change of one of
them computes it anew, and a night in which no setting, no input and no line of its code has changed
takes over the earlier result.

This page is made by `.venv/bin/python -m tasks components`; a test keeps it current.
"""

_SAMPLE = {"name": "sample", "source": {"kind": "synthetic"}, "label": {"column": "finding"}}

_HOMES = {"model_name": "deploy.model_name", "validation": "validate"}
"""Attributes of the pipeline to the fields that they stand for."""


def catalogue() -> str:
    """Return the catalogue as Markdown."""
    parts = [INTRODUCTION, _overview()]
    parts += [_component(load_stage(name)) for name in STAGES]
    parts.append(_extra())
    return "\n".join(parts)


def _overview() -> str:
    lines = ["| Component | Reads | Writes | GPU |", "| --- | --- | --- | --- |"]
    for name in STAGES:
        stage = load_stage(name)
        reads = ", ".join(stage.reads) or (
            "whatever there is" if stage.optional_reads else "the source"
        )
        writes = ", ".join(f"`{output}`" for output in stage.produces)
        gpu = "yes" if name in MODEL_STAGES else "no"
        lines.append(f"| [{name}](#{name}) | {reads} | {writes} | {gpu} |")
    lines.append("| [your own](#your-own) | any | any | if asked for |")
    return "\n".join(lines) + "\n"


def _component(stage: Stage) -> str:
    parts = [f"## {stage.name}\n", f"{_prose(inspect.getdoc(type(stage)) or '')}\n"]
    parts += ["**Inputs**\n", _inputs(stage), "**Outputs**\n", _outputs(stage)]
    parts += ["**Settings**\n", *_settings(stage)]
    if not stage.reusable:
        parts.append("It is done anew every night: it judges, tells or acts on the world.\n")
    return "\n".join(parts)


def _inputs(stage: Stage) -> str:
    lines = [f"- [{name}](#{name})" for name in stage.reads]
    more = [name for name in stage.optional_reads if name not in stage.reads]
    if more:
        links = ", ".join(f"[{name}](#{name})" for name in more)
        lines.append(f"- if they committed anything: {links}")
    return "\n".join(lines or ["- the source of the pipeline file"]) + "\n"


def _outputs(stage: Stage) -> str:
    lines = ["| Output | What it holds |", "| --- | --- |"]
    lines += [f"| `{name}` | {_prose(text)} |" for name, text in stage.produces.items()]
    return "\n".join(lines) + "\n"


def _settings(stage: Stage) -> Iterator[str]:
    fields = settings_of(stage)
    if not fields:
        yield "None.\n"
        return
    single = [field for field in fields if _section(field) is None]
    if single:
        yield "\n".join(_single(field) for field in single) + "\n"
    for field in fields:
        models = _section(field) or []
        if len(models) > 1:
            yield f"`{field}`: one of several kinds, see [there](pipeline-file.md#{field}).\n"
        for model in models if len(models) == 1 else ():
            yield from _tables(model, field)


def _tables(model: type[Section], path: str) -> Iterator[str]:
    yield f"`{path}`: {_prose(inspect.getdoc(model) or '')}\n"
    yield field_table(model)
    for name, field in model.model_fields.items():
        for inner in section_models(field):
            yield from _tables(inner, f"{path}.{name}")


def settings_of(stage: Stage) -> list[str]:
    """Return the fields of the pipeline file that determine a stage's result, as it asks for them.

    Parameters
    ----------
    stage : Stage
        Its ``config`` is called with a pipeline that notes what is read.

    Returns
    -------
    list of str
        Sections, and dotted fields of sections of which only those are read.
    """
    asked: list[str] = []
    stage.config(_Noting(Pipeline.model_validate(_SAMPLE), "", asked))  # type: ignore[arg-type]
    return list(dict.fromkeys(asked))


class _Noting:
    """Stands for a model, and notes which of its fields are read."""

    def __init__(self, model: BaseModel, path: str, asked: list[str]) -> None:
        self._model, self._path, self._asked = model, path, asked

    def __getattr__(self, name: str) -> Any:
        if name in ("model_dump", "model_dump_json", "to_json"):
            self._asked.append(self._path)
            return getattr(self._model, name)
        value = getattr(self._model, name)
        field = _HOMES.get(name, name)
        path = f"{self._path}.{field}" if self._path else field
        if isinstance(value, Section):
            return _Noting(value, path, self._asked)
        self._asked.append(path)
        return value


def _section(field: str) -> list[type[Section]] | None:
    """Return the models of a whole section; None for a field within one."""
    if "." in field:
        return None
    for name, info in Pipeline.model_fields.items():
        if (info.alias or name) == field:
            return section_models(info) or None
    return None


def _single(field: str) -> str:
    section, _, name = field.rpartition(".")
    model: Any = (_section(section) or [Pipeline])[0] if section else Pipeline
    info = model.model_fields[name]
    default = info.get_default(call_default_factory=True)
    return f"- `{field}` (`{json.dumps(default)}`): {_prose(info.description or '')}"


def _extra() -> str:
    return "\n".join(
        [
            "## Your own\n",
            f"{_prose(inspect.getdoc(ExtraStage) or '')} How to write one: "
            "[extra-stages.md](extra-stages.md).\n",
            field_table(ExtraStage),
        ]
    )


def _prose(text: str) -> str:
    """Turn a docstring into paragraphs of Markdown, without the part that tells of arguments."""
    text = re.split(r"\n\s*\n(?:Parameters|Attributes)\n-+", text)[0]
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return re.sub(r"``([^`]+)``", r"`\1`", "\n\n".join(paragraphs)).replace("|", "\\|")
