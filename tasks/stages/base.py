"""What a stage is: what it reads, what determines its result, and how it is run."""

import abc
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from tasks.contract import Manifest, NoInput, RunDirectory
from tasks.environment import Environment
from tasks.spec import Pipeline

log = logging.getLogger("tasks")


@dataclass(kw_only=True)
class Outcome:
    """What a stage has to say about its result, beside the files that it left in ``context.out``.

    Metrics are named without the stage: the runner puts it in front (``accuracy`` becomes
    ``evaluate.accuracy``). A confidence interval is ``NAME.low`` and ``NAME.high``. Metrics that
    are not finite are left out, so that a rule on one fails.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    rows_in: int | None = None
    rows_out: int | None = None


class StageInput:
    """The committed outputs of an earlier stage."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        _, folder = url_to_fs(manifest.location)
        self._folder = Path(folder)

    def path(self, name: str) -> Path:
        """Return the local path of an output; a folder's name ends with ``/``.

        Raises
        ------
        KeyError
            The manifest does not name it.
        """
        return self._folder / self.manifest.output(name).path

    def has(self, name: str) -> bool:
        """Tell whether the stage committed an output of that name."""
        return any(output.path == name for output in self.manifest.outputs)


@dataclass(kw_only=True)
class StageContext:
    """What a running stage is given.

    Attributes
    ----------
    pipeline : Pipeline
        The night's pipeline, overrides applied.
    run : RunDirectory
        The run.
    out : Path
        Folder to write outputs into. Top-level names are what a manifest lists.
    environment : Environment
        Addresses and folders outside the run.
    """

    pipeline: Pipeline
    run: RunDirectory
    out: Path
    environment: Environment

    def input(self, stage: str) -> StageInput:
        """Return what an earlier stage committed.

        Raises
        ------
        NoInput
            It has not committed anything in this run.
        """
        manifest = self.run.read_manifest(stage)
        if manifest is None:
            raise NoInput(
                f"{self.run.stage_uri(stage)} holds no manifest: run stage {stage!r} first"
            )
        return StageInput(manifest)


class Stage(abc.ABC):
    """One stage of a night. The class docstring is its help text.

    Attributes
    ----------
    name : str
        Its name on the command line and in the run directory.
    reads : tuple of str
        Stages whose outputs it reads; their digests go into the fingerprint.
    optional_reads : tuple of str
        Stages that it also reads if they committed anything.
    produces : dict of str to str
        Output name to what it holds, for the help text and the catalogue.
    scratch : tuple of str
        Names in ``out`` that are not outputs and survive a killed attempt (checkpoints).
    uses_tensorflow : bool
        Whether the work needs TensorFlow, which is then imported quietly beforehand.
    reusable : bool
        False for stages that act on the world or must judge afresh every night.
    """

    name: str
    reads: tuple[str, ...] = ()
    optional_reads: tuple[str, ...] = ()
    produces: dict[str, str] = {}
    scratch: tuple[str, ...] = ()
    uses_tensorflow: bool = False
    reusable: bool = True

    @abc.abstractmethod
    def config(self, pipeline: Pipeline) -> Any:
        """Return the part of the pipeline that determines the result, as JSON-able data."""

    @abc.abstractmethod
    def run(self, context: StageContext) -> Outcome:
        """Do the work: read inputs, write files into ``context.out``, tell the outcome."""

    def state(self, context: StageContext) -> str:
        """Return whatever outside the run determines the result, such as the source's listing."""
        return ""

    def equivalent_states(self, context: StageContext) -> list[str]:
        """Return further states under which this very result may be reused by a later night."""
        return []

    def after_commit(self, context: StageContext) -> None:
        """Do what needs this stage's own manifest to stand; not part of the commit."""
        return None
