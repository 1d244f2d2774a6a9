"""What all sections of a pipeline file share."""

import ast
import inspect
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class SpecError(ValueError):
    """A pipeline file or override is wrong; the text names file, field, value and the way out."""


class Section(BaseModel):
    """A section of the pipeline file. A field's docstring is its help text, everywhere."""

    # JSON has no word for NaN and infinity: a bound of either would reach a stage as no bound.
    # Built on first use: every parse of the DAG file imports all sections, and needs one schema.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Make the fields' docstrings their descriptions.

        ``use_attribute_docstrings`` does the same by a walk through frames and tokens, a class at a
        time, which took half of the import.
        """
        super().__pydantic_init_subclass__(**kwargs)
        texts = _docstrings(sys.modules[cls.__module__].__file__).get(cls.__qualname__, {})
        for name, field in cls.model_fields.items():
            if field.description is None:
                field.description = texts.get(name)


@lru_cache
def _docstrings(file: str | None) -> dict[str, dict[str, str]]:
    """Return class to field to docstring, of a source file; of no file, nothing."""
    if file is None:
        return {}
    classes: dict[str, dict[str, str]] = {}
    for node in ast.parse(Path(file).read_bytes()).body:
        if isinstance(node, ast.ClassDef):
            texts = classes.setdefault(node.name, {})
            for field, text in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                    and isinstance(text.value.value, str)
                ):
                    texts[field.target.id] = inspect.cleandoc(text.value.value)
    return classes


def without_password(text: str) -> str:
    """Return the text with user and password of every address in it left out."""
    # a password that is not quoted may hold slashes, and drivers take one from the query, too
    text = re.sub(r"(?<=://)[^/:@\s'\"]*(?::[^@\s'\"]*)?@", "***@", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|secret|token)(?:=|%3d))[^&\s'\"]+", r"\1***", text)


def _holds_no_password(uri: str) -> str:
    if urlsplit(uri).password is not None:
        # every field is logged, reported and handed to pods as it stands
        raise ValueError("holds a password; put it into ~/.netrc, which is asked for the host")
    return uri


def _names_something(uri: str) -> str:
    if not uri.strip():
        # to a path library the empty text is the folder of the process
        raise ValueError("is empty; give a path, an s3:// URI or an http(s) address")
    return uri


def _stays_inside(path: str) -> str:
    parts = path.replace("\\", "/").split("/")
    if ".." in parts or path.startswith(("/", "\\")) or "://" in path or "\0" in path:
        raise ValueError(
            "leads out of the source; give a path inside it, relative to source.uri, without '..'"
        )
    return path


def _none_is_the_source_itself(value: Any) -> Any:
    # what YAML makes of nothing: --set source.images=
    return "" if value is None else value


Uri = Annotated[str, AfterValidator(_holds_no_password), AfterValidator(_names_something)]
InnerFile = Annotated[str, Field(min_length=1), AfterValidator(_stays_inside)]
"""Path of a file inside the source."""
InnerFolder = Annotated[
    str, BeforeValidator(_none_is_the_source_itself), AfterValidator(_stays_inside)
]
"""Path of a folder inside the source; empty, or ``.``: the source itself."""
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NAME = r"^[a-z][a-z0-9_]{0,59}$"
Name = Annotated[str, Field(pattern=NAME)]
