"""What is to serve, and what is known about what serves already."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.contract import BadConfig, Publication
from tasks.spec import Pipeline
from trusted_retraining.settings import Settings

STATE = "trusted-retraining/state"
"""Annotation that holds the :class:`State`, in the very object whose specification it is about."""

MODEL_LABEL = "trusted-retraining/model"
OURS = {"app.kubernetes.io/managed-by": "trusted-retraining"}

LONGEST_NAME = 40
"""Characters of a served model's name: Knative puts `latest-` before it and `-predictor-00001`
behind it, and a host name's part has 63."""


def object_name(model: str) -> str:
    """Return the name of a served model's objects in a cluster, which knows no underscores."""
    return model.replace("_", "-").rstrip("-")


def check_name(model: str) -> None:
    """Refuse a model whose name no cluster serves.

    Raises
    ------
    BadConfig
        It is too long.
    """
    if len(object_name(model)) > LONGEST_NAME:
        raise BadConfig(
            f"deploy.model_name: {model!r} has {len(object_name(model))} characters; a cluster "
            f"serves names of up to {LONGEST_NAME}"
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One version of a model, to be put into service.

    Attributes
    ----------
    model, version, digest : str
        Registered model, its version, and the digest that was judged.
    model_uri : str
        Where the published files are.
    run_uri : str
        The night.
    pipeline : Pipeline
        The night's, overrides applied.
    settings : Settings
        The installation's.
    """

    model: str
    version: str
    digest: str
    model_uri: str
    run_uri: str
    pipeline: Pipeline
    settings: Settings

    @classmethod
    def of(
        cls, publication: Publication, *, run_uri: str, pipeline: Pipeline, settings: Settings
    ) -> "Plan":
        """Return the plan to serve what was published."""
        model = publication.model
        return cls(
            model=model.name,
            version=str(model.version),
            digest=model.digest,
            model_uri=publication.model_uri,
            run_uri=run_uri,
            pipeline=pipeline,
            settings=settings,
        )

    @property
    def name(self) -> str:
        """Name of the objects in the cluster, which knows no underscores.

        Raises
        ------
        BadConfig
            It would be too long.
        """
        check_name(self.model)
        return object_name(self.model)

    @property
    def namespace(self) -> str:
        """Where it is served."""
        return self.settings.serving.namespace

    @property
    def labels(self) -> dict[str, str]:
        """Labels of every object and pod."""
        return {"app.kubernetes.io/name": self.name, MODEL_LABEL: self.model, **OURS}


@dataclass(frozen=True, kw_only=True)
class Served:
    """A version as it was, is, or is to be served.

    Attributes
    ----------
    version, digest, model_uri : str
        Which one it is.
    spec : dict
        Its predictor or pod, as applied: the way back to it.
    """

    version: str
    digest: str
    model_uri: str
    spec: dict[str, Any]

    @classmethod
    def nothing(cls) -> "Served":
        """Return what stands for no version at all."""
        return cls(version="", digest="", model_uri="", spec={})


@dataclass(frozen=True, kw_only=True)
class State:
    """What we have done to an object so far, kept in the object itself.

    Attributes
    ----------
    serving : Served or None
        Has proved itself and gets the requests.
    candidate : Served or None
        Has to prove itself yet.
    previous : Served or None
        What served before ``serving``.
    revision_before : str
        Knative revision that was the newest when the candidate came.
    run_uri : str
        The night whose deployment changed the object last; empty once that was taken back.
    """

    serving: Served | None = None
    candidate: Served | None = None
    previous: Served | None = None
    revision_before: str = ""
    run_uri: str = ""

    def to_json(self) -> str:
        """Return the annotation's text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, found: dict[str, Any] | None) -> "State":
        """Return the state in an object; an empty one when there is no object.

        Raises
        ------
        BadConfig
            There is an object, but nothing readable in it. To take that for "nothing serves" would
            put an unproved version before everybody.
        """
        if not found:
            return cls()
        metadata = found["metadata"]
        try:
            document = json.loads((metadata.get("annotations") or {})[STATE])
            for name in ("serving", "candidate", "previous"):
                if document.get(name):
                    document[name] = Served(**document[name])
            return cls(**document)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BadConfig(
                f"{found.get('kind', 'object')} {metadata['name']}: its annotation {STATE} is "
                f"missing or damaged ({type(error).__name__}), so nothing tells what serves: put "
                "it back, or remove the object"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether something is ready, or will not be; and why not yet."""

    ready: bool
    reason: str = ""
    hopeless: bool = False


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where to ask.

    Attributes
    ----------
    url : str
        Before ``/v1/models/...``.
    headers : dict of str to str
        ``Host`` where an ingress tells models apart by it.
    revision, service : str
        For Prometheus.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    revision: str = ""
    service: str = ""
