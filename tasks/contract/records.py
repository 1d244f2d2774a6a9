"""What a run directory holds as JSON: manifests, failure records, the verdict."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tasks.spec.foreign_text import visible
from tasks.spec.masking import masked


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _line(text: str) -> str:
    return masked(visible(text))


Line = Annotated[str, AfterValidator(_line)]
"""A sentence for a person that may quote others: one line without credentials, however it came
here, also out of the records of earlier versions."""


def _inside(path: str) -> str:
    if path.rstrip("/") in (".", ".."):
        raise ValueError(f"{path!r} leads out of the stage's folder")
    return path


class Output(_Record):
    """A committed file, or a folder of them.

    Attributes
    ----------
    path : str
        Name in the stage folder, of a file or of a folder, which ends with ``/``. It is read back
        from storage and made a path on this machine, so it can never lead elsewhere.
    bytes : int
        Size; of a folder, of all files together.
    sha256 : str
        Digest of the file; of a folder, of its sorted ``path sha256`` lines.
    files : int
        1, or the number of files in the folder.
    """

    path: Annotated[str, Field(pattern=r"^[^/\x00]+/?$"), AfterValidator(_inside)]
    bytes: int
    sha256: str
    files: int = 1


class Manifest(_Record):
    """What a stage did. Small: it travels as XCom.

    Attributes
    ----------
    stage, fingerprint : str
        Which stage, and the hash of everything that determines its result.
    digest : str
        Hash of the outputs; what the next stages' fingerprints are made of.
    location : str
        URI of the folder that holds the outputs; another run's when reused.
    outputs : list of Output
        All that the stage produced.
    metrics : dict of str to float
        Flat dotted names that begin with the stage: ``evaluate.accuracy``. A confidence interval is
        ``NAME.low`` and ``NAME.high``.
    notes : dict of str to str
        Metric name to a sentence that explains its value (which group, which class).
    warnings : list of str
        For the report; they do not stop the night.
    rows_in, rows_out : int or None
        Rows read and left, where the stage works on rows.
    seconds : float
        Wall time of the computation; of the original one when reused.
    started_at : str
        ISO 8601, UTC.
    code_version : str
        Digest of the source of the modules that the stage uses.
    reused_from : str or None
        URI of the run that computed this result; None when computed here.
    inputs : dict of str to str
        Stage read to the digest it had.
    addresses : dict of str to str
        What the stage put outside of the run, and where: ``report`` to its URI.
    """

    stage: str
    fingerprint: str
    digest: str
    location: str
    outputs: list[Output] = []
    metrics: dict[str, float] = {}
    notes: dict[str, Line] = {}
    warnings: list[Line] = []
    rows_in: int | None = None
    rows_out: int | None = None
    seconds: float = 0.0
    started_at: str = ""
    code_version: str = ""
    reused_from: str | None = None
    inputs: dict[str, str] = {}
    addresses: dict[str, Line] = {}

    def output(self, path: str) -> Output:
        """Return the entry of an output.

        Raises
        ------
        KeyError
            The manifest does not name it.
        """
        for entry in self.outputs:
            if entry.path == path:
                return entry
        raise KeyError(f"{self.stage} committed no {path}")


class Failure(_Record):
    """Why a stage has no manifest; written by the stage or, if it was killed, by its operator."""

    stage: str
    exit_code: int
    reason: Line
    seconds: float = 0.0
    at: str = ""


class RuleResult(_Record):
    """A blessing rule and what became of it.

    Attributes
    ----------
    metric : str
        Dotted name.
    value, low, high : float or None
        The metric and its confidence interval; None when missing or not computed.
    bound : str
        What it must meet, as text: ``>= 0.7``, ``-0.1 .. 0.1``.
    passed : bool
    reason : str
        One sentence for a person, with the group or class concerned.
    """

    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bound: str
    passed: bool
    reason: Line


class ModelIdentity(_Record):
    """The model that was judged.

    Attributes
    ----------
    name : str
        Registered model.
    version : str or None
        Version in the registry; None when it was not registered.
    digest : str
        SHA-256 of the model folder (``path sha256`` lines); empty when there is no model.
    """

    name: str
    version: str | None = None
    digest: str = ""


class Verdict(_Record):
    """Whether the model may serve, rule by rule. ``blessed`` is true only if every rule passed.

    Attributes
    ----------
    blessed : bool
    model : ModelIdentity
    champion : ModelIdentity or None
        Who served when the verdict was given.
    rules : list of RuleResult
    reasons : list of str
        The sentences of everything that failed; empty when blessed.
    at : str
        ISO 8601, UTC.
    """

    blessed: bool
    model: ModelIdentity
    champion: ModelIdentity | None = None
    rules: list[RuleResult] = []
    reasons: list[Line] = []
    at: str = ""

    @property
    def may_serve(self) -> bool:
        """Whether it blesses and nothing in it says otherwise: a rule at least, all of them passed,
        no reason against it."""
        passed = bool(self.rules) and all(rule.passed for rule in self.rules)
        return self.blessed and passed and not self.reasons


class PublishedAnswer(_Record):
    """A test image and what the model makes of it offline.

    Attributes
    ----------
    image_id : str
        Names the image in messages.
    image_b64 : str
        The encoded image (PNG, JPEG, ...) in base64.
    probabilities : list of float
        Offline prediction, one per class, 0 .. 1.
    """

    image_id: str
    image_b64: str
    probabilities: list[float]


class Publication(_Record):
    """A blessed model where a model server fetches it, and how to find out that it is served.

    Attributes
    ----------
    model : ModelIdentity
        As in the verdict.
    model_uri : str
        fsspec URI of the SavedModel folder.
    known_answers : list of PublishedAnswer
        What the served model must answer.
    tolerance : float
        Largest difference allowed of a probability.
    """

    model: ModelIdentity
    model_uri: str
    known_answers: list[PublishedAnswer]
    tolerance: float
