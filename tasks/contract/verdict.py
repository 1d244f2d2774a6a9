"""The verdict on a model: what a run says of it, and what is published of one that may serve."""

from tasks.contract.records import Flag, Line, Number, Record
from tasks.spec import Change


class RuleResult(Record):
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


class ModelIdentity(Record):
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


class EarlierVerdict(Record):
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


class Verdict(Record):
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


class PublishedAnswer(Record):
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


class Publication(Record):
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
