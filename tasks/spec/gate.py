"""Sections that decide whether a model may serve, and where."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.spec.base import NO_TRUTH, WEEK_SECONDS, Fraction, Name, Number, Section


class Rule(Section):
    """A bound on a metric. A metric that is missing or not a number fails."""

    metric: str
    """Dotted name of the metric, such as ``evaluate.balanced_accuracy``."""
    min: Number | None = None
    """Least value that passes."""
    max: Number | None = None
    """Largest value that passes."""
    on: Literal["value", "interval"] = "value"
    """Whether the value or its whole confidence interval must be within the bounds."""
    why: str = ""
    """What the rule is for, shown beside its verdict."""

    @model_validator(mode="after")
    def _bounded(self) -> "Rule":
        if self.min is None and self.max is None:
            raise ValueError(f"rule on {self.metric!r} needs min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"rule on {self.metric!r}: min {self.min} is above max {self.max}")
        return self

    def implies(self, other: "Rule") -> bool:
        """Return whether whatever passes this rule passes the other one, too."""
        least = other.min is None or (self.min is not None and self.min >= other.min)
        largest = other.max is None or (self.max is not None and self.max <= other.max)
        # an interval within the bounds holds its value
        kind = self.on == "interval" or other.on == "value"
        return self.metric == other.metric and least and largest and kind


class ChampionComparison(Section):
    """The challenger against the champion, on the same test rows."""

    metric: Literal["accuracy", "balanced_accuracy"] = "balanced_accuracy"
    """What is compared."""
    margin: Fraction = 0.02
    """How much worse the challenger may be."""


COLLAPSE_RULES = (
    Rule(
        metric="evaluate.least_recall",
        min=0.05,
        why="a model that never finds one of its classes is of no use, whatever its accuracy",
    ),
    Rule(
        metric="evaluate.balanced_accuracy_above_chance",
        min=0.05,
        why="guessing, or one answer for everything, must not pass",
    ),
)


class Blessing(Section):
    """The rules a model must meet before it may serve."""

    rules: list[Rule] = []
    """Rules of this pipeline; one on a metric of a default rule can make it stricter, and never
    laxer: both hold."""
    default_rules: bool = True
    """Also refuse collapsed models (least recall, balanced accuracy against chance)."""
    without: list[Literal["evaluate.least_recall", "evaluate.balanced_accuracy_above_chance"]] = []
    """Default rules that are switched off, by their metric."""
    champion: ChampionComparison | None = ChampionComparison()
    """Comparison with the model that serves now; null leaves it out."""

    def all_rules(self) -> list[Rule]:
        """Return the rules in force: the default ones, then the pipeline's own.

        A default rule is left out where one of the pipeline's own implies it.
        """
        defaults = COLLAPSE_RULES if self.default_rules else ()
        kept = [
            rule
            for rule in defaults
            if rule.metric not in self.without and not any(own.implies(rule) for own in self.rules)
        ]
        return [*kept, *self.rules]


class Deploy(Section):
    """How the blessed model is put into service."""

    model_name: Name | None = None
    """Name of the registered and served model; the pipeline's name when left out."""
    known_answers: Annotated[int, Field(ge=1, le=256), NO_TRUTH] = 8
    """Test images whose served answers must equal the offline predictions before the switch."""
    tolerance: Annotated[float, Field(gt=0, lt=0.5, strict=True)] = 1e-3
    """Largest difference of a probability between served and offline answer."""
    startup_seconds: Annotated[int, Field(ge=1, le=WEEK_SECONDS, strict=True)] = 120
    """Time the model server has to become ready; on a cluster with the image pulled and a node
    started."""
    target: Literal["local", "kserve", "deployment"] | None = None
    """What serves: ``local`` (a model server on this machine), ``kserve`` (an InferenceService),
    ``deployment`` (a plain Deployment with its Service). Left out: ``local`` where stages run on
    this machine, else ``on_cluster``."""
    on_cluster: Literal["kserve", "deployment"] = "kserve"
    """What serves on a cluster where ``target`` is left out, so that the same file also runs on one
    machine."""
    mode: Literal["knative", "standard"] = "knative"
    """KServe's deployment mode. ``standard`` needs KServe 0.20 or later; scale to zero needs
    ``knative``."""
    canary_percent: Annotated[int, Field(ge=0, le=99)] | None = None
    """Share of the requests that a new version gets until it has proved itself (``kserve``).
    Left out: 10 in mode ``knative``; ``standard`` splits no requests and takes 0 only."""
    observe_seconds: Annotated[int, Field(ge=0, le=86400), NO_TRUTH] = 60
    """Time for which the canary is watched, by requests of our own and Prometheus where one is
    set."""
    max_error_rate: Fraction = 0.0
    """Share of the watched requests that may fail."""
    max_latency_ms: Annotated[float, Field(gt=0, strict=True)] = 5000.0
    """Bound on the 95th percentile of the watched requests' latency, one image each."""
    min_replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Model servers at least; 0 scales to zero when idle. Left out: 1 with ``kserve``, 2 with
    ``deployment``."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 4
    """Model servers at most."""
    gpu: Annotated[int, Field(ge=0, le=16)] = 0
    """GPUs of a model server."""
    cpu: Annotated[str, Field(pattern=r"^\d+(\.\d+)?m?$")] = "1"
    """CPUs that a model server requests."""
    cpu_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)?m?$")] | None = None
    """CPUs that a model server may take. Left out: four times ``cpu``, so that loading a model is
    not slowed down."""
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)?(Mi|Gi)$")] = "2Gi"
    """Memory of a model server, request and limit. What a request may hold follows from it: see
    serving.md."""
    max_pixels: Annotated[int, Field(ge=1, le=1_000_000_000), NO_TRUTH] = 25_000_000
    """Pixels of the largest image that is served, as its header says; fewer where ``memory`` does
    not bear them. Larger ones are set aside when the data are taken in, too."""

    @model_validator(mode="after")
    def _can_work(self) -> "Deploy":
        at_least = self.replicas(self.cluster_target)
        if at_least > self.max_replicas:
            raise ValueError(f"min_replicas {at_least} is above max_replicas {self.max_replicas}")
        if self.min_replicas == 0 and self.cluster_target == "deployment":
            raise ValueError("min_replicas 0 (scale to zero) needs target: kserve, mode: knative")
        if self.min_replicas == 0 and self.mode == "standard":
            raise ValueError("min_replicas 0 (scale to zero) needs mode: knative")
        if self.cpu_limit is not None and _thousandths(self.cpu_limit) < _thousandths(self.cpu):
            raise ValueError(f"cpu_limit {self.cpu_limit} is below cpu {self.cpu}")
        by_kserve = self.cluster_target == "kserve" and self.target != "local"
        if by_kserve and self.mode == "standard" and self.canary_percent:
            raise ValueError(
                f"canary_percent {self.canary_percent}: KServe sends no requests to a canary in "
                "mode: standard, so a new version is asked by the deployment alone; leave it out "
                "or set 0, or use mode: knative"
            )
        return self

    @property
    def canary_share(self) -> int:
        """Percentage of the requests that a canary gets."""
        if self.mode == "standard":
            return 0
        return 10 if self.canary_percent is None else self.canary_percent

    @property
    def cpu_at_most(self) -> str:
        """The limit on CPUs, as Kubernetes writes it."""
        return self.cpu_limit or _quantity(4 * _thousandths(self.cpu))

    @property
    def cluster_target(self) -> str:
        """What serves where a cluster does."""
        return self.target if self.target in ("kserve", "deployment") else self.on_cluster

    def by_cluster(self, runtime: str | None) -> bool:
        """Return whether a cluster serves the model of a pipeline whose stages run there, or on
        this machine (``local``, or not known)."""
        return runtime in ("kubernetes", "eks") if self.target is None else self.target != "local"

    def replicas(self, target: str) -> int:
        """Return how many model servers run at least."""
        if self.min_replicas is not None:
            return self.min_replicas
        return 2 if target == "deployment" else 1


def _thousandths(cpu: str) -> int:
    return round(float(cpu[:-1]) if cpu.endswith("m") else 1000 * float(cpu))


def _quantity(thousandths: int) -> str:
    whole, rest = divmod(thousandths, 1000)
    return f"{thousandths}m" if rest else str(whole)
