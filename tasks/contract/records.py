"""What a run directory holds as JSON: manifests, failure records, the verdict."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tasks.contract.release import release
from tasks.spec import Change
from tasks.spec.foreign_text import visible
from tasks.spec.masking import masked

# strict: what is no number, or no yes or no, must not be taken for one
Number = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]

FORMAT = 2
"""Format of the manifests that are written now: their digest covers what they say of the result."""

_NOT_OF_THE_RESULT = {
    *("digest", "fingerprint", "state", "location", "reused_from"),
    *("seconds", "started_at", "code_version", "release"),
}
"""Fields of a manifest that its digest leaves out, so that equal results have equal digests."""


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
        Hash of the result and of all that is said of it: outputs, metrics, notes, warnings, inputs,
        settings. A manifest whose content has another digest is not read. In format 1, which is
        still read but is no evidence any more, of the outputs alone.
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
    settings : object
        The part of the pipeline that determined the result, as JSON-able data.
    state : str
        Digest of what outside of the run determined it, such as the source's listing; empty where
        nothing did.
    format : int
        2; 1 where it is not given.
    release : str
        Release of the code that sealed it; empty before there was this field.
    """

    stage: str
    fingerprint: str
    digest: str = ""
    location: str
    outputs: list[Output] = []
    metrics: dict[str, Number] = {}
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
    settings: Any = None
    state: str = ""
    format: int = 1
    release: str = ""

    @property
    def outputs_digest(self) -> str:
        """Hash of the outputs by path and content; what the next stages' fingerprints are made of,
        so that equal files are not worked on twice."""
        ordered = sorted(self.outputs, key=lambda output: output.path)
        return _sha256("".join(f"{output.path} {output.sha256}\n" for output in ordered))

    @property
    def is_evidence(self) -> bool:
        """Whether the digest covers what the manifest says of the result, and is that of it."""
        return self.format == FORMAT and self.is_intact

    @property
    def is_intact(self) -> bool:
        """Whether the digest is that of the content."""
        return self.digest == self._content_digest()

    def sealed(self) -> "Manifest":
        """Return the manifest with the digest of its content."""
        settings = json.loads(json.dumps(self.settings, default=str))
        current = self.model_copy(
            update={"format": FORMAT, "settings": settings, "release": release()}
        )
        return current.model_copy(update={"digest": current._content_digest()})

    def _content_digest(self) -> str:
        if self.format == 1:
            return self.outputs_digest
        # a field that a later release adds must not change the digest of what is there already
        document = self.model_dump(mode="json", exclude=_NOT_OF_THE_RESULT, exclude_defaults=True)
        return _sha256(json.dumps(document, sort_keys=True))

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


def old_format(place: str) -> str:
    """Return why a manifest of an older format is not used."""
    return (
        f"{place}/manifest.json: is of an older format, whose digest does not cover what it says "
        "of the result"
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    bound: str
    passed: Flag
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


REQUEST = "run.json"
"""Name of the :class:`Request` in the run's folder."""


class Request(_Record):
    """What a run was begun with, and by whom.

    Attributes
    ----------
    file : dict
        The pipeline file, as JSON, before any change.
    requested_by : str
        User who triggered the run; empty when the schedule or new data did.
    """

    file: dict[str, Any]
    requested_by: str = ""


class EarlierVerdict(_Record):
    """A verdict that was given on the very same model before.

    Attributes
    ----------
    at : str
        ISO 8601, UTC.
    verdict : str
        As :attr:`Verdict.word`.
    run_uri : str
    requested_by : str
    changed : list of str
        Rules, and fields like them, that the run had changed.
    reasons : list of str
    """

    at: str
    verdict: str
    run_uri: str = ""
    requested_by: str = ""
    changed: list[str] = []
    reasons: list[str] = []


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
    changes : list of Change
        What the run had otherwise than its pipeline file.
    requested_by : str
        Who triggered the run; empty when the schedule or new data did.
    deployable : bool
        False where a model that passed is not deployed all the same, because the run changed the
        rules.
    earlier : list of EarlierVerdict
        What was said of the very same model before, oldest first.
    """

    blessed: Flag
    model: ModelIdentity
    champion: ModelIdentity | None = None
    rules: list[RuleResult] = []
    reasons: list[Line] = []
    at: str = ""
    changes: list[Change] = []
    requested_by: str = ""
    deployable: Flag = True
    earlier: list[EarlierVerdict] = []

    @property
    def passed(self) -> bool:
        """Whether it blesses and nothing in it says otherwise: a rule at least, all of them passed,
        no reason against it."""
        passed = bool(self.rules) and all(rule.passed for rule in self.rules)
        return self.blessed and passed and not self.reasons

    @property
    def may_serve(self) -> bool:
        """Whether the model passed, under rules under which it may also be deployed."""
        return self.passed and self.deployable

    @property
    def changed_rules(self) -> list[Change]:
        """The changes that decide what the model is judged on and by."""
        return [change for change in self.changes if change.is_rule]

    @property
    def word(self) -> str:
        """``blessed``, ``passed, not deployed`` or ``rejected``."""
        if not self.passed:
            return "rejected"
        return "blessed" if self.deployable else "passed, not deployed"

    @property
    def refusal(self) -> str:
        """Why the model may not serve, in one sentence; empty when it may."""
        if self.may_serve:
            return ""
        if not self.passed:
            reasons = "; ".join(self.reasons[:5]) or "a rule did not pass"
            return f"{self.model.name}: the verdict refuses this model: {reasons}"
        return f"{self.model.name}: {not_deployed(self.changed_rules)}"


def not_deployed(changed: list[Change]) -> str:
    """Return why a model that passed is not deployed, and how it could be."""
    names = ", ".join(change.field for change in changed) or "unknown"
    return (
        f"passed its rules, but under changed rules: not deployed ({names}); to deploy under them "
        "put them into the pipeline file and run it again"
    )


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
    probabilities: list[Number]


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
    tolerance: Number
