"""Section for stages that somebody else wrote: any container, or any command."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StringConstraints, field_validator, model_validator

from tasks.spec.base import Section, StageMinutes
from tasks.spec.marks import Code
from tasks.spec.resources import ObjectName, Requests, Resources, StageName, StageRequests

BUILT_IN: tuple[str, ...] = (*get_args(StageName), "deploy")
"""Stages of our own."""

VERDICT_STAGES = ("bless", "deploy", "reject")
"""Stages of our own with which the verdict has been given."""

_NEVER_BEFORE = ("publish", "publish_data", "report")
"""Stages of our own that no extra stage can come after: they are not part of every night, or tell
of the whole of it."""

_TAKEN = frozenset({*BUILT_IN, "blessing_gate", "outcome", "champion", "extra"})
"""Names that mean something else to a night already."""

OWN_VARIABLES = "TRUSTED_RETRAINING_"
"""What the variables of the protocol begin with."""

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")]
Image = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*(?::[0-9]+/[a-z0-9._/-]+)?"
                                   r"(?::[\w.-]{1,128})?(?:@sha256:[0-9a-f]{64})?$", max_length=400)
]  # fmt: skip


class ExtraStage(Section):
    """A stage of your own: any container as a pod, any command on one machine. It finds the outputs
    of the stages that it comes after in one folder and leaves its own in another; see
    ``docs/extra-stages.md``."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    """Its name, and what its metrics begin with; none of a stage that is there already."""
    description: str = ""
    """What it does, for the Airflow UI and the report."""
    image: Annotated[Image, Code()] | None = None
    """Container image, where stages are pods; best with its digest (``name@sha256:...``)."""
    command: Annotated[list[str], Code()] = []
    """Program and arguments, without a shell; ``{inputs}`` and ``{outputs}`` stand for the two
    folders. In a pod it takes the place of the image's entry point; left out: that one. On one
    machine there must be one."""
    after: Annotated[list[str], Field(min_length=1)]
    """Stages that it comes after, ours and yours: what they committed are its inputs. After
    ``bless``, ``deploy`` or ``reject`` (or a stage that is) it no longer counts for the verdict."""
    reads: list[str] | None = None
    """Outputs that it is given, as ``stage/output`` (``train/model/``); left out: all of them."""
    env: Annotated[dict[Variable, str], Code()] = {}
    """Variables that it is given besides those of the protocol; no place for secrets."""
    inherit: Annotated[list[Variable], Code()] = []
    """Variables of the worker that a command on one machine is given."""
    secret: Annotated[ObjectName, Code()] | None = None
    """Secret of the stages' namespace whose keys become variables of the container."""
    credentials: Annotated[list[Literal["storage", "mlflow"]], Code()] = []
    """Credentials of our own stages that it is given too; none unless asked for."""
    resources: StageRequests = StageRequests()
    """What its pod asks for; what is left out is as for data stages, without a GPU."""
    user: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """User id of the container; left out: the installation's setting. Never root."""
    read_only_root: bool = False
    """Whether the container's own file system is read-only; ``/tmp`` and the outputs never are."""
    timeout_minutes: StageMinutes | None = None
    """Time after which it is ended; left out: ``stage_timeout_minutes``."""
    reuse: bool = True
    """Whether an equal result of an earlier run is taken over; false where the image or the command
    may change without a change of its name."""

    @field_validator("env", "inherit")
    @classmethod
    def _not_ours(cls, names: Any) -> Any:
        for name in names:
            if name.startswith(OWN_VARIABLES):
                raise ValueError(f"{name} is a variable of the protocol; choose another name")
        return names

    @field_validator("command", "env")
    @classmethod
    def _passable(cls, texts: Any) -> Any:
        for text in texts.values() if isinstance(texts, dict) else texts:
            if "\0" in text:
                raise ValueError("a text with a NUL character cannot be given to a program")
        return texts

    @model_validator(mode="after")
    def _consistent(self) -> "ExtraStage":
        if self.name in _TAKEN:
            raise ValueError(f"name {self.name!r} is taken by the night itself; choose another")
        if self.image is None and not self.command:
            raise ValueError(
                f"extra stage {self.name!r} needs an image (for pods), a command (for one "
                "machine), or both"
            )
        if len(set(self.after)) != len(self.after):
            raise ValueError(f"after of {self.name!r} names a stage twice: {self.after}")
        if {"deploy", "reject"} <= set(self.after):
            raise ValueError(
                f"after of {self.name!r} holds deploy and reject, of which one is always skipped; "
                "use bless"
            )
        for entry in self.reads or ():
            stage, slash, output = entry.partition("/")
            if stage not in self.after or not slash or not output.strip("/"):
                raise ValueError(
                    f"reads of {self.name!r}: {entry!r} is not stage/output of one of "
                    f"{', '.join(self.after)}"
                )
        return self

    def requests(self, resources: Resources) -> Requests:
        """Return what its container asks for.

        Parameters
        ----------
        resources : Resources
            The pipeline's; its ``data`` fills what is left out.
        """
        own = {
            name: value
            for name in Requests.model_fields
            if (value := getattr(self.resources, name)) is not None
        }
        return Requests.model_validate(resources.data.model_dump() | {"gpu": 0} | own)

    def determinants(self) -> dict[str, Any]:
        """Return the fields that determine its result, as JSON-able data."""
        return self.model_dump(
            mode="json",
            include={"image", "command", "reads", "env", "inherit", "secret", "credentials"},
        )


def in_order(extras: Sequence[ExtraStage]) -> list[ExtraStage]:
    """Return the stages so that each comes behind those that it is after.

    Raises
    ------
    ValueError
        Two have one name, one comes after a stage that is not there, or they go round in a circle.
    """
    waiting = {extra.name: extra for extra in extras}
    if len(waiting) != len(extras):
        names = [extra.name for extra in extras]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"extra_stages: {twice!r} is given twice; each needs a name of its own")
    allowed = [name for name in BUILT_IN if name not in _NEVER_BEFORE]
    for extra in extras:
        strange = [name for name in extra.after if name not in waiting and name not in allowed]
        if strange:
            raise ValueError(
                f"extra stage {extra.name!r} cannot come after {strange[0]!r}; it can after "
                f"{', '.join([*allowed, *(name for name in waiting if name != extra.name)])}"
            )
    ordered: list[ExtraStage] = []
    while waiting:
        ready = [extra for extra in waiting.values() if not set(extra.after) & waiting.keys()]
        if not ready:
            raise ValueError(f"extra_stages wait for each other: {', '.join(waiting)}")
        for extra in ready:
            ordered.append(waiting.pop(extra.name))
    return ordered


def after_verdict(extras: Iterable[ExtraStage]) -> set[str]:
    """Return the names of the stages that run once the verdict has been given.

    Parameters
    ----------
    extras : iterable of ExtraStage
        As :func:`in_order` returns them.
    """
    late: set[str] = set()
    for extra in extras:
        if set(extra.after) & {*VERDICT_STAGES, *late}:
            late.add(extra.name)
    return late
