"""What a run directory holds as JSON: manifests and failure records; what all records share."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tasks.contract.release import release
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


class Record(BaseModel):
    """A document of the run directory. What it does not know it refuses."""

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


class Output(Record):
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


class Manifest(Record):
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
    made_for : list of str
        Fingerprints under which the result may be used, as they were when it was computed. The
        digest covers them, unlike ``fingerprint``, which is that of the night.
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
    made_for: list[str] = []
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


class Failure(Record):
    """Why a stage has no manifest; written by the stage or, if it was killed, by its operator."""

    stage: str
    exit_code: int
    reason: Line
    seconds: float = 0.0
    at: str = ""
