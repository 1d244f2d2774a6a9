"""What all sections of a pipeline file share."""

import ast
import inspect
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from tasks.spec.foreign_text import visible
from tasks.spec.marks import Address
from tasks.spec.masking import masked, secret_in


class SpecError(ValueError):
    """A pipeline file or override is wrong; the text names file, field, value and the way out.

    Parameters
    ----------
    *lines : str
        One per problem; whatever they quote, each stays one line and shows no credential.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*(masked(visible(line)) for line in lines))

    def __str__(self) -> str:
        return "\n".join(self.args)


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


STORED = {"stored": True}
"""Validation context of what an earlier run stored: it is read as it is, and masked when shown."""


def refusal(text: str) -> str | None:
    """Return why a field must not hold a text, and the way out; None when it may.

    Every field is logged, stored and handed to pods as it stands.
    """
    what = secret_in(text)
    if what is None:
        return None
    if re.search(r"(?i)\bs3[an]?:|x-amz-", text):
        way = "keys of a bucket belong into an Airflow connection or a Kubernetes secret"
    elif re.search(r"(?i)(?<![a-z])(?:https?|ftps?|gs|file):", text):
        way = (
            "put it into ~/.netrc, which is asked for the host, or fetch from a bucket whose keys "
            "are in an Airflow connection or a Kubernetes secret"
        )
    else:
        way = "put the whole address into a secret and name its variable in address_env"
    return f"holds {what}; {way}"


def without_secret(address: str, info: ValidationInfo) -> str:
    """Return an address; refuse one that holds a credential, unless an earlier run stored it."""
    why = refusal(address)
    if why is not None and not (info.context or {}).get("stored"):
        raise ValueError(why)
    return address


NO_SECRET = AfterValidator(without_secret)


def like_an_interval(name: str) -> str:
    """Return what is wrong with a name that metrics are named after; empty when nothing is.

    ``recall.risk.low`` would be taken for the lower end of the interval of ``recall.risk``.
    """
    if not name.endswith((".low", ".high")):
        return ""
    way = name.rpartition(".")[2]
    return (
        f"{name!r} ends as the interval of a metric does (NAME.low, NAME.high): rename it by a "
        f"transform, such as replace('.{way}', ' {way}')"
    )


def _is_no_interval(name: str) -> str:
    problem = like_an_interval(name)
    if problem:
        raise ValueError(problem)
    return name


MetricPart = Annotated[str, AfterValidator(_is_no_interval)]
"""A name of the data's that metrics are named after: of a class, of a column."""


def _names_something(uri: str) -> str:
    if not uri.strip():
        # to a path library the empty text is the folder of the process
        raise ValueError("is empty; give a path, an s3:// URI or an http(s) address")
    return uri


def _stays_inside(path: str) -> str:
    parts = unquote(path).replace("\\", "/").split("/")
    if ".." in parts or path.startswith(("/", "\\")) or "://" in path or "\0" in path:
        raise ValueError(
            "leads out of the source; give a path inside it, relative to source.uri, without '..'"
        )
    return path


def _none_is_the_source_itself(value: Any) -> Any:
    # what YAML makes of nothing: --set source.images=
    return "" if value is None else value


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("Input should be a valid number")
    return value


NO_TRUTH = BeforeValidator(_no_truth)
"""On a number that may be written as a text (1e-3 is one in YAML): true is not 1, or
``known_answers: true`` would ask for a single one."""
Uri = Annotated[str, NO_SECRET, AfterValidator(_names_something), Address()]
"""A field that holds an address, or a path. Every field that does has this type."""
InnerFile = Annotated[str, Field(min_length=1), AfterValidator(_stays_inside)]
"""Path of a file inside the source."""
InnerFolder = Annotated[
    str, BeforeValidator(_none_is_the_source_itself), AfterValidator(_stays_inside)
]
"""Path of a folder inside the source; empty, or ``.``: the source itself."""
# strict: a bound of "0.9" or false is a mistake, and no number
Number = Annotated[float, Field(strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
OpenFraction = Annotated[float, Field(gt=0, lt=1, strict=True)]
PositiveInt = Annotated[int, Field(ge=1, strict=True)]
YEAR_MINUTES, WEEK_SECONDS = 525_600, 604_800
"""Longest times of a stage and between two of them: a longer one is a slip, and clocks overflow."""
StageMinutes = Annotated[int, Field(ge=1, le=YEAR_MINUTES, strict=True)]
NAME = r"^[a-z][a-z0-9_]{0,59}$"
Name = Annotated[str, Field(pattern=NAME)]
