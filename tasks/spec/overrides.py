"""What a run changes of its pipeline file, by effect: compared after the overrides are applied."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.spec.addresses import is_below
from tasks.spec.base import SpecError
from tasks.spec.marks import Code, Mark, marked_fields
from tasks.spec.masking import masked
from tasks.spec.pipeline import Pipeline, apply_overrides

OF_THE_DAG = (
    *("name", "description", "tags", "owner", "schedule", "trigger", "extra_stages", "parameters"),
    *("publish.dataset", "publish.report", "deploy.model_name"),
    *("retries", "retry_delay_seconds", "stage_timeout_minutes", "runtime", "deploy.target"),
    "is_paused_upon_creation",
)
"""Fields of the pipeline that no run can change."""

OF_THE_RUN = ("name", "deploy.model_name")
"""Fields that all stages of a run have in common, whatever becomes of the file meanwhile."""

NO_RULES = (
    # what is judged, and where the data of the night are; not how they are read, which says what
    # their labels and groups are
    *("train", "source.uri", "source.address", "source.chunk_rows"),
    # of the films that are made up, all but the planted flaws
    *("source.rows", "source.size", "source.seed"),
    # pictures, warnings and speed
    *("evaluate.mistakes", "evaluate.answers", "evaluate.overfit_gap", "evaluate.batch_size"),
    # where stages run and what is handed out beside the model
    *("publish", "resources", "runtime", "retries", "retry_delay_seconds", "stage_timeout_minutes"),
    # words, and when a night starts
    *("name", "description", "tags", "owner", "parameters", "schedule", "trigger"),
    "is_paused_upon_creation",
)
"""Fields that do not decide what a model is judged on and by. Any other is a rule, a new one too:
changed, the model is judged but not deployed."""

RULES_AMONG_THEM = ("train.privacy",)
"""Fields inside of these that are rules all the same: what the file promises of every model."""


class Change(BaseModel):
    """A field that a run changes.

    Attributes
    ----------
    field : str
        Dotted name.
    file, run : any
        Value in the pipeline file and in the run, as JSON has it; None also where one of them has
        no such field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str
    file: Any = None
    run: Any = None

    @property
    def is_rule(self) -> bool:
        """Whether it decides what the model is judged on and by."""
        return _among(self.field, RULES_AMONG_THEM) or not _within(self.field, NO_RULES)

    @property
    def in_words(self) -> str:
        """Field, value in the file and value in the run, in one line."""
        return f"{self.field}: {_short(self.run)}, in the pipeline file {_short(self.file)}"


def changes(file: Pipeline, run: Pipeline) -> list[Change]:
    """Return the fields that a run has otherwise than the pipeline file, by name.

    Parameters
    ----------
    file, run : Pipeline
        As in the file; and as run, overrides applied.
    """
    before, after = (each.model_dump(mode="json", by_alias=True) for each in (file, run))
    return list(_differences("", before, after))


def changes_from_all(files: Iterable[Pipeline], run: Pipeline) -> list[Change]:
    """Return the fields that a run has otherwise than any of some states of its pipeline file.

    Parameters
    ----------
    files : iterable of Pipeline
        The file at several times; where several differ from the run, the last one is told.
    run : Pipeline
        Overrides applied.
    """
    found = {change.field: change for file in files for change in changes(file, run)}
    return [found[field] for field in sorted(found)]


def _differences(path: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            field = f"{path}.{name}" if path else name
            yield from _differences(field, before.get(name), after.get(name))
    elif not _equal(before, after):
        yield Change(field=path, file=before, run=after)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are one in a file, where 1 is neither true nor 1.0."""
    return _written(one) == _written(other)


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def override(
    file: Pipeline, overrides: Mapping[str, Any], *, allowed: Iterable[str] | None = None
) -> Pipeline:
    """Return the pipeline as a run has it, if the run may have it so.

    Parameters
    ----------
    file : Pipeline
        As in its file.
    overrides : mapping
        Dotted field, or whole section, to value.
    allowed : iterable of str, optional
        As for :func:`check_run`.

    Raises
    ------
    SpecError
        A field does not exist, a value is not allowed, or a run may not change it.
    """
    named = [file.parameters.get(name, name) for name in overrides]
    _refuse_fixed(name for name in named if name.split(".")[0] in OF_THE_DAG or name in OF_THE_DAG)
    run = apply_overrides(file, dict(overrides))
    check_run(file, run, allowed=allowed)
    return run


def check_run(file: Pipeline, run: Pipeline, *, allowed: Iterable[str] | None = None) -> None:
    """Refuse a run that differs from its pipeline file where no run may.

    Parameters
    ----------
    file, run : Pipeline
        As in the file; and as run, overrides applied.
    allowed : iterable of str, optional
        Prefixes below which addresses may lie. None, for whoever owns the file: any address, and
        code too.

    Raises
    ------
    SpecError
        Fields of the DAG differ, code, or addresses outside of what is allowed.
    """
    _refuse_fixed(each.field for each in changes(file, run) if _among(each.field, OF_THE_DAG))
    if allowed is not None:
        _check_marked(file, run, tuple(allowed))


def _refuse_fixed(fields: Iterable[str]) -> None:
    fixed = ", ".join(fields)
    if fixed:
        raise SpecError(
            f"{fixed}: belongs to the DAG and is the same in every run; change it in the pipeline "
            "file"
        )


def check_same_run(begun: Pipeline, file: Pipeline) -> None:
    """Refuse to go on with a run under another pipeline file than it was begun with.

    Parameters
    ----------
    begun, file : Pipeline
        The file when the run began, and the one that a later stage was given.

    Raises
    ------
    SpecError
        They differ in what all stages of a run have in common.
    """
    for change in changes(begun, file):
        if _among(change.field, OF_THE_RUN):
            raise SpecError(
                f"{change.field}: this run was begun with {_short(change.file)}, and the pipeline "
                f"file given now has {_short(change.run)}: start a new run"
            )


def _check_marked(file: Pipeline, run: Pipeline, allowed: tuple[str, ...]) -> None:
    known = {name: value for name, _, value in marked_fields(file)}
    for name, mark, value in marked_fields(run):
        if value is None or (name in known and _equal(known[name], value)):
            continue
        for each in value if isinstance(value, list) else [value]:
            problem = _problem(mark, each, allowed)
            if problem:
                raise SpecError(f"{name}: {_short(each)} {problem}")


def _problem(mark: Mark, value: Any, allowed: tuple[str, ...]) -> str:
    if isinstance(mark, Code):
        if mark.harmless(value):
            return ""
        return "is code, or names a secret, which only the pipeline file may; change it there"
    if value in mark.words or is_below(str(value), allowed):
        return ""
    places = ", ".join(allowed) or "no other address"
    return (
        f"is outside of what a run may be pointed at ({places}); put it into the pipeline file, or "
        "allow it in [trusted_retraining] allowed_addresses"
    )


def _among(field: str, names: Iterable[str]) -> bool:
    """Return whether a field is one of some, is inside of one, or holds one."""
    return _within(field, names) or any(name.startswith(f"{field}.") for name in names)


def _within(field: str, names: Iterable[str]) -> bool:
    """Return whether a field is one of some, or is inside of one."""
    return any(f"{field}.".startswith(f"{name}.") for name in names)


def _short(value: Any) -> str:
    text = masked("not set" if value is None else repr(value))
    return text if len(text) <= 120 else f"{text[:117]}..."
