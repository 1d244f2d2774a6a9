"""Reads the text of a pipeline file: bounded, without surprises, and each text in it a clean one.

Airflow reads every pipeline file again and again in one process, so no file may keep it busy.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tasks.spec.base import SpecError, refusal
from tasks.spec.foreign_text import shown
from tasks.spec.masking import masked

MAX_CHARACTERS = 1_000_000
"""Characters of a pipeline file, also with what its aliases repeat written out."""

MAX_VALUES = 50_000
"""Keys and values in a pipeline file, those that its aliases repeat counted each time."""

MAX_DEPTH = 40
"""Levels of nesting in a pipeline file."""

# the same safe loader in C, where it is there: every parse of the DAG file reads every pipeline
_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_BOOL = "tag:yaml.org,2002:bool"

# what a database, a terminal and a page cannot hold; line breaks and tabs are meant
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HALF = re.compile("[\ud800-\udfff]")


class _Loader(_SAFE_LOADER):  # type: ignore[misc]
    """Refuses a key that is given twice: YAML lets the later one win, and rules vanish unseen.

    ``on``, ``off``, ``yes``, ``no``, ``12:30`` and ``010`` are words, as in YAML 1.2; to YAML 1.1
    they are true, false, a number of base 60 and one of base 8, which a class of that name, or
    ``mixed_precision: on``, is not. A field that is true or false understands the words all the
    same.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL or first in "tTfF"]
        for first, resolvers in _SAFE_LOADER.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if key.tag == _BOOL:
                key.tag = "tag:yaml.org,2002:str"
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _number(name: str) -> Any:
    construct = getattr(_SAFE_LOADER, f"construct_yaml_{name}")

    def constructed(loader: Any, node: yaml.ScalarNode) -> Any:
        # the time that base 60 takes grows with the square of the digits; and to YAML 1.1 010 is 8
        text = bool(re.match(r"[-+]?0[0-9_]|.*:", node.value))
        return node.value if text else construct(loader, node)

    return constructed


for _name in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _number(_name))


def file_text(path: Path) -> str:
    """Return the text of a pipeline file.

    Raises
    ------
    SpecError
        It cannot be read, is no UTF-8 or is too long.
    """
    try:
        with path.open("rb") as file:
            # four bytes make a character; what is longer is not read to its end
            content = file.read(4 * MAX_CHARACTERS + 1)
        if len(content) <= 4 * MAX_CHARACTERS:
            return content.decode("utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 at byte {error.start}; save it so") from error
    raise SpecError(f"{path}: {_TOO_LONG}")


def parsed(text: str, origin: str) -> Any:
    """Return the document that a YAML or JSON text holds.

    Parameters
    ----------
    text : str
        A whole document.
    origin : str
        What the errors call it.

    Raises
    ------
    SpecError
        It is not valid, nested too deep or too long, perhaps by what its aliases repeat.
    """
    try:
        _check_extent(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context
        raise SpecError(f"{origin}: is not valid YAML: {where}{problem}") from error
    except _TooMuch as error:
        raise SpecError(f"{origin}: {error}") from error
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SpecError(f"{origin}: is not valid YAML: {reason[:200]}") from error


class _TooMuch(ValueError):
    """More than a pipeline file may hold."""


_TOO_LONG = (
    f"holds more than {MAX_CHARACTERS:,} characters or {MAX_VALUES:,} values, counting what its "
    "aliases (*name) repeat; put long lists into a file of the source, and write out what is "
    "repeated a few times"
)


def _check_extent(text: str) -> None:
    """Bound nesting and size before anything is built.

    The C loader recurses and takes the whole process down with it; and an alias costs a reader of
    the document as much as what it stands for, which a few lines can make endless.
    """
    if len(text) > MAX_CHARACTERS:
        raise _TooMuch(_TOO_LONG)
    values = characters = 0
    open_ones: list[tuple[str | None, int, int]] = []
    extents: dict[str, tuple[int, int]] = {}
    for event in yaml.parse(text, Loader=_SAFE_LOADER):
        before = values, characters
        if isinstance(event, yaml.AliasEvent):
            # one that stands inside of what it names is not there yet
            if event.anchor not in extents:
                raise _TooMuch(f"*{shown(event.anchor)} stands for nothing, or for what it is in")
            more = extents[event.anchor]
            values, characters = values + more[0], characters + more[1]
        elif isinstance(event, yaml.ScalarEvent):
            values, characters = values + 1, characters + len(event.value)
            if event.anchor:
                extents[event.anchor] = (1, len(event.value))
        elif isinstance(event, yaml.CollectionStartEvent):
            extents.pop(event.anchor or "", None)
            open_ones.append((event.anchor, *before))
            values += 1
            if len(open_ones) > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values_before, characters_before = open_ones.pop()
            if anchor:
                extents[anchor] = (values - values_before, characters - characters_before)
        if values > MAX_VALUES or characters > MAX_CHARACTERS:
            raise _TooMuch(_TOO_LONG)


def refused_texts(document: Any) -> Iterator[str]:
    """Yield a sentence for each text of a document that no field may hold: field, reason, value.

    Parameters
    ----------
    document : Any
        Dicts, lists and single values, as YAML or JSON has them.
    """
    return _refused("", document)


def _refused(field: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str) and (why := _unfit(key)) is not None:
                yield f"{field or '(whole file)'}: a name {why}"
            yield from _refused(f"{field}.{shown(key)}" if field else shown(key), inner)
    elif isinstance(value, list | tuple | set):
        for position, inner in enumerate(value):
            yield from _refused(f"{field}.{position}", inner)
    elif isinstance(value, str) and (why := _unfit(value)) is not None:
        # masked before it is cut: half of an address cannot be told for one
        yield f"{field}: {why}, got {masked(repr(value))[:200]}"
    elif isinstance(value, bytes):
        yield f"{field}: is binary (!!binary); give a text"


def _unfit(text: str) -> str | None:
    if (why := refusal(text)) is not None:
        return why
    if (control := _CONTROL.search(text)) is not None:
        return (
            f"holds the control character {control[0]!a}; take it out (line breaks and tabs "
            "may stay)"
        )
    # JSON can write one, and neither a file nor a table can hold it
    return "holds half of a surrogate pair and no character" if _HALF.search(text) else None
