"""What a stage is: what it reads, what determines its result, and how it is run."""

import abc
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.code_version import code_version
from tasks.contract import (
    Altered,
    Manifest,
    NoInput,
    RunDirectory,
    not_deployed,
    old_format,
)
from tasks.environment import Environment
from tasks.spec import Change, Pipeline
from tasks.storage import InputCache

log = logging.getLogger("tasks")


@dataclass(kw_only=True)
class Outcome:
    """What a stage has to say about its result, beside the files that it left in ``context.out``.

    Metrics are named without the stage: the runner puts it in front (``accuracy`` becomes
    ``evaluate.accuracy``). A confidence interval is ``NAME.low`` and ``NAME.high``. Metrics that
    are not finite are left out, so that a rule on one fails. ``addresses`` says where the stage put
    something outside of the run. ``seconds`` is for work that began in another process.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    rows_in: int | None = None
    rows_out: int | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None


class StageInput:
    """The committed outputs of an earlier stage.

    Parameters
    ----------
    manifest : Manifest
        What was committed.
    cache : InputCache, optional
        Knows which outputs are fetched and hashed already.
    """

    def __init__(self, manifest: Manifest, cache: InputCache | None = None) -> None:
        self.manifest = manifest
        self._cache = cache or InputCache()

    def path(self, name: str) -> Path:
        """Return the local path of an output, fetched from a remote run when first asked for; a
        folder's name ends with ``/``.

        Raises
        ------
        KeyError
            The manifest does not name it.
        NoInput
            A remote run does not hold it any more.
        Altered
            It is not what was committed, or a local run does not hold it any more.
        """
        return self._cache.path(self.manifest, name)

    def unverified_path(self, name: str) -> Path:
        """Return the local path of an output without hashing it; for a reader that compares each
        file with a digest of its own.

        Raises
        ------
        KeyError, NoInput, Altered
            As :meth:`path`; what lies on this machine is not examined.
        """
        return self._cache.unverified_path(self.manifest, name)

    def read(self, name: str) -> bytes:
        """Return the content of a file: the very bytes that were hashed.

        Raises
        ------
        KeyError, NoInput, Altered
            As :meth:`path`.
        """
        return self._cache.read(self.manifest, name)

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
        Folder to write outputs into, on this machine even if the run is not. Top-level names are
        what a manifest lists.
    environment : Environment
        Addresses and folders outside the run.
    changes : list of Change
        What the run has otherwise than its pipeline file.
    requested_by : str
        Who triggered the run; empty when the schedule or new data did.
    judged : str
        Digest of what ``bless`` committed, where its task vouches for it.
    cache : InputCache
        Outputs that this process has fetched and hashed.
    read : dict of str to Manifest
        What earlier stages had committed when it was read first: that is what this one works on,
        whatever is put there meanwhile.
    """

    pipeline: Pipeline
    run: RunDirectory
    out: Path
    environment: Environment
    changes: list[Change] = field(default_factory=list)
    requested_by: str = ""
    judged: str = ""
    cache: InputCache = field(default_factory=InputCache)
    read: dict[str, Manifest] = field(default_factory=dict)

    def input(self, stage: str) -> StageInput:
        """Return what an earlier stage committed.

        Raises
        ------
        NoInput
            It has not committed anything in this run.
        Altered
            Its manifest is not as it was committed, or of a format that is no evidence.
        """
        known = self.read.get(stage)
        if known is not None and known.is_evidence:
            return self.outputs(known)
        manifest, problem = self.run.examine_manifest(stage)
        if problem or (manifest is not None and not manifest.is_evidence):
            altered = Altered(
                f"{problem or old_format(self.run.stage_uri(stage))}; run {stage} again"
            )
            altered.stage = stage
            raise altered
        if manifest is None:
            failure = self.run.read_failure(stage)
            why = f" ({failure.reason})" if failure else ""
            raise NoInput(
                f"{self.run.stage_uri(stage)} holds no manifest{why}: run stage {stage!r} first"
            )
        self.read[stage] = manifest
        return self.outputs(manifest)

    @property
    def not_deployed(self) -> str:
        """Why a model that passes in this run is not deployed; empty when it is."""
        changed = [change for change in self.changes if change.is_rule]
        return (
            not_deployed(changed) if changed and not self.environment.deploy_changed_rules else ""
        )

    def outputs(self, manifest: Manifest) -> StageInput:
        """Return what a manifest names."""
        return StageInput(manifest, self.cache)


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
    mirrored : tuple of str
        Files among them that are also kept with a remote run, and so survive a killed pod.
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
    mirrored: tuple[str, ...] = ()
    uses_tensorflow: bool = False
    reusable: bool = True

    @abc.abstractmethod
    def config(self, pipeline: Pipeline) -> Any:
        """Return the part of the pipeline that determines the result, as JSON-able data."""

    @abc.abstractmethod
    def run(self, context: StageContext) -> Outcome:
        """Do the work: read inputs, write files into ``context.out``, tell the outcome."""

    def also_reads(self, pipeline: Pipeline) -> tuple[str, ...]:
        """Return the stages that it reads if they committed anything."""
        return self.optional_reads

    def state(self, context: StageContext) -> str:
        """Return whatever outside the run determines the result, such as the source's listing."""
        return ""

    def equivalent_states(self, context: StageContext) -> list[str]:
        """Return further states under which this very result may be reused by a later night."""
        return []

    def code_version(self) -> str:
        """Return the version of the code that makes the result."""
        return code_version(type(self).__module__)

    def after_commit(self, context: StageContext) -> None:
        """Do what needs this stage's own manifest to stand; not part of the commit."""
        return None
