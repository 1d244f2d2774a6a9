"""The pipeline file as a whole, and the ways to read and override it."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from tasks.spec.base import STORED, WEEK_SECONDS, Name, Section, SpecError, StageMinutes
from tasks.spec.data import Label, Split, Transform, Validate
from tasks.spec.document import file_text, parsed, refused_texts
from tasks.spec.expressions import check_predicate
from tasks.spec.extra import ExtraStage, after_verdict, in_order
from tasks.spec.gate import Blessing, Deploy
from tasks.spec.masking import masked
from tasks.spec.publishing import Publish
from tasks.spec.resources import Resources
from tasks.spec.sources import Source
from tasks.spec.training import Evaluate, Train
from tasks.spec.trigger import Trigger
from tasks.spec.trust import Explain, Fairness, Robustness


class Pipeline(Section):
    """One pipeline file: one DAG, one model, one night."""

    name: Name
    """Name of the DAG, the MLflow experiment and, unless told otherwise, the served model."""
    description: str = ""
    """What the model is for; shown in the Airflow UI and in the report (Markdown)."""
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] = []
    """Tags in the Airflow UI."""
    owner: Annotated[str, Field(min_length=1, max_length=500)] = "ml"
    """Owner in the Airflow UI."""
    schedule: str | None = "0 2 * * *"
    """Cron expression in UTC; null: no hour of its own."""
    is_paused_upon_creation: bool | None = None
    """Whether the DAG waits for somebody to switch it on when Airflow sees it for the first time;
    null: Airflow's own setting ``dags_are_paused_at_creation``."""
    retries: Annotated[int, Field(ge=0, le=20)] = 2
    """Retries of a stage that failed for another reason than bad input."""
    retry_delay_seconds: Annotated[int, Field(ge=1, le=WEEK_SECONDS, strict=True)] = 60
    """Wait before the first retry; it doubles each time."""
    stage_timeout_minutes: StageMinutes = 240
    """Time after which a stage is ended."""
    runtime: Literal["local", "kubernetes", "eks"] | None = None
    """Where stages run: processes of the worker, or pods; null: the installation's setting."""

    parameters: dict[Name, str] = {}
    """Names of one's own for fields, such as ``{epochs: train.epochs}``: first on the trigger form,
    and understood wherever a field can be changed."""
    trigger: Trigger | None = None
    source: Source
    transform: list[Transform] = []
    """Column functions, applied in order."""
    filter: list[str] = []
    """Predicates over ``metadata``; a row stays when every one holds."""
    label: Label
    split: Split = Split()
    validation: Validate = Field(default=Validate(), alias="validate")
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    fairness: Fairness = Fairness()
    explain: Explain = Explain()
    robustness: Robustness = Robustness()
    blessing: Blessing = Blessing()
    deploy: Deploy = Deploy()
    extra_stages: list[ExtraStage] = []
    publish: Publish = Publish()
    resources: Resources = Resources()

    @field_validator("filter")
    @classmethod
    def _safe(cls, predicates: list[str]) -> list[str]:
        for predicate in predicates:
            check_predicate(predicate)
        return predicates

    @model_validator(mode="after")
    def _favourable_is_a_class(self) -> "Pipeline":
        favourable, classes = self.fairness.favourable, self.label.classes
        if favourable != "correct" and classes is not None and favourable not in classes:
            raise ValueError(
                f"fairness.favourable {favourable!r} is neither 'correct' nor one of {classes}"
            )
        return self

    @model_validator(mode="after")
    def _parts_hold_pixels(self) -> "Pipeline":
        height, width = self.train.image_size
        for name in self.explain.parts_without_pixels((height, width)):
            raise ValueError(
                f"explain.parts.{name}: holds no pixel of an image of {height} x {width} "
                "(train.image_size); draw it larger"
            )
        return self

    @model_validator(mode="after")
    def _parameters_name_fields(self) -> "Pipeline":
        document = self.model_dump(mode="json", by_alias=True) if self.parameters else {}
        for name, field in self.parameters.items():
            if name in document or name == "force":
                raise ValueError(f"parameters.{name}: is a name that is taken; choose another")
            if field in list(self.parameters.values())[: list(self.parameters).index(name)]:
                raise ValueError(f"parameters.{name}: {field} has a name already")
            value: Any = document
            for part in field.split("."):
                value = value.get(part, ...) if isinstance(value, dict) else ...
            if value is ... or isinstance(value, dict):
                raise ValueError(
                    f"parameters.{name}: {field} is no field with a value; name one, such as "
                    "train.epochs"
                )
        return self

    @model_validator(mode="after")
    def _something_is_watched(self) -> "Pipeline":
        uri = self.watched_uri
        if self.trigger is not None and (uri is None or self.trigger.polled) and not _listed(uri):
            raise ValueError(
                f"trigger.uri: what is to be watched? {uri or self.source.kind} cannot be listed; "
                "give a path or an s3:// URI"
            )
        return self

    @model_validator(mode="after")
    def _extra_stages_fit_in(self) -> "Pipeline":
        for extra in in_order(self.extra_stages):
            extra.requests(self.resources)
        late = after_verdict(in_order(self.extra_stages))
        for rule in self.blessing.rules:
            stage = rule.metric.partition(".")[0]
            if stage in late:
                raise ValueError(
                    f"blessing.rules: {rule.metric!r} comes from extra stage {stage!r}, which runs "
                    "after the verdict; take bless, deploy and reject out of its after"
                )
        return self

    def extra_stage(self, name: str) -> ExtraStage | None:
        """Return the extra stage of that name; None when there is none."""
        return next((extra for extra in self.extra_stages if extra.name == name), None)

    @property
    def watched_uri(self) -> str | None:
        """Where new data start a night: ``trigger.uri``, or the source's own address."""
        given = self.trigger.uri if self.trigger is not None else None
        return given or getattr(self.source, "uri", None)

    @property
    def model_name(self) -> str:
        """Name under which the model is registered and served."""
        return self.deploy.model_name or self.name

    def to_json(self) -> str:
        """Return the pipeline as JSON that :func:`load_pipeline` reads back unchanged."""
        return self.model_dump_json(by_alias=True)


def _listed(uri: str | None) -> bool:
    return uri is not None and not uri.startswith(("http://", "https://"))


def load_pipeline(spec: str | Path) -> Pipeline:
    """Read a pipeline from a YAML or JSON file, or from JSON text.

    Parameters
    ----------
    spec : str or Path
        Path of the file, or the JSON text itself (it starts with ``{``).

    Raises
    ------
    SpecError
        Names the file, the field, the value given and what is allowed.
    """
    text = str(spec)
    origin = "the given JSON"
    if not text.lstrip().startswith("{"):
        origin, text = text, file_text(Path(text))
    document = parsed(text, origin)
    if not isinstance(document, dict):
        raise SpecError(f"{origin}: must be a mapping of sections, got {type(document).__name__}")
    return _validated(document, origin)


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Turn ``["train.epochs=15", ...]`` into ``{"train.epochs": 15, ...}``; values are YAML.

    Raises
    ------
    SpecError
        An assignment lacks its ``=`` or its value is not YAML.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        field, equals, value = assignment.partition("=")
        if not equals or not field:
            raise SpecError(f"{assignment!r} is not field=value, such as train.epochs=15")
        try:
            overrides[field] = parsed(value, field)
        except SpecError as error:
            raise SpecError(f"{field}: {value!r} is not a YAML value") from error
    return overrides


def apply_overrides(pipeline: Pipeline, overrides: dict[str, Any]) -> Pipeline:
    """Return the pipeline with dotted fields replaced, validated anew.

    Parameters
    ----------
    pipeline : Pipeline
        Stays as it is.
    overrides : dict
        Dotted field name to value: ``{"train.epochs": 15}``; or a name of the pipeline's own
        ``parameters``.

    Raises
    ------
    SpecError
        A field does not exist, is given by both of its names, or a value is not allowed.
    """
    document = pipeline.model_dump(mode="json", by_alias=True)
    for name, value in overrides.items():
        field = pipeline.parameters.get(name, name)
        if field != name and field in overrides:
            raise SpecError(f"{name} and {field} are the same field; give one of them")
        *sections, leaf = field.split(".")
        target: Any = document
        for section in sections:
            target = target.get(section) if isinstance(target, dict) else None
        if not isinstance(target, dict) or leaf not in target:
            known = ", ".join(sorted(target)) if isinstance(target, dict) else "no section"
            raise SpecError(f"{field}: no such field; there is {known}")
        target[leaf] = value
    return _validated(document, f"{pipeline.name} with {', '.join(overrides) or 'no'} override")


def stored_pipeline(document: dict[str, Any]) -> Pipeline:
    """Return the pipeline that an earlier run stored, whatever its addresses hold.

    Raises
    ------
    SpecError
        It is none of this version's.
    """
    try:
        return Pipeline.model_validate(document, context=STORED)
    except ValidationError as error:
        raise SpecError(*_explain(error, "the run's pipeline.json")) from error


def _validated(document: dict[str, Any], origin: str) -> Pipeline:
    # of every text, not only of the fields that are addresses: options, variables, descriptions
    refused = list(islice(refused_texts(document), 5))
    if refused:
        raise SpecError(*(f"{origin}: {told}" for told in refused))
    try:
        return Pipeline.model_validate(document)
    except ValidationError as error:
        raise SpecError(*_explain(error, origin)) from error


def _explain(error: ValidationError, origin: str) -> list[str]:
    lines = []
    for problem in error.errors()[:5]:
        field = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        message = problem["msg"].removeprefix("Value error, ")
        given = (
            "" if problem["type"] in ("missing", "model_type") else f", got {problem['input']!r}"
        )
        if problem["type"] == "extra_forbidden":
            message, given = "no such field", ""
        # masked before it is cut: half of an address cannot be told for one
        lines.append(f"{origin}: {field}: {message}{masked(given)[:200]}")
    if error.error_count() > 5:
        lines.append(f"... and {error.error_count() - 5} more")
    return lines
