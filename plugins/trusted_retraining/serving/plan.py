"""What is to serve, and what is known about what serves already."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from tasks.contract import BadConfig, Publication
from tasks.spec import Pipeline
from trusted_retraining.settings import Settings

STATE = "trusted-retraining/state"
"""Annotation in which earlier releases kept the :class:`State`. KServe copies annotations to pods,
so that every step restarted what served; it is read once more, and never written."""

SETTINGS_LABEL = "trusted-retraining/settings"
"""Label of pods with what they were made of, model and settings: it tells them from any others."""

SCALING = ("minReplicas", "maxReplicas")
"""Parts of a specification that change the number of pods, and no pod."""

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
    name : str
        Of its pods, in KServe's Standard mode; the same version with the same settings may have
        another one while it is tried.
    """

    version: str
    digest: str
    model_uri: str
    spec: dict[str, Any]
    name: str = field(default="", compare=False)

    @classmethod
    def nothing(cls) -> "Served":
        """Return what stands for no version at all."""
        return cls(version="", digest="", model_uri="", spec={})

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Served":
        """Return what a record holds; earlier releases kept the name within the specification."""
        spec = dict(document["spec"])
        name = spec.pop("name", "")
        return cls(**{"name": name, **document, "spec": spec})

    @cached_property
    def mark(self) -> str:
        """Value of :data:`SETTINGS_LABEL`."""
        pods = {key: value for key, value in self.spec.items() if key not in SCALING}
        text = json.dumps([self.digest, self.model_uri, pods], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class State:
    """What has been done so far to what serves a model.

    Attributes
    ----------
    serving : Served or None
        Has proved itself and gets the requests.
    candidate : Served or None
        Has to prove itself yet.
    previous : Served or None
        What served before ``serving``.
    unconfirmed : bool
        Whether ``serving`` was not yet asked as everybody does, so that ``previous`` runs on.
    held : Served or None
        Newest Knative revision, refused and kept from every request.
    revision_before : str
        Knative revision that was the newest when the candidate came.
    run_uri : str
        The night whose deployment changed the object last; empty once that was taken back.
    """

    serving: Served | None = None
    candidate: Served | None = None
    previous: Served | None = None
    unconfirmed: bool = False
    held: Served | None = None
    revision_before: str = ""
    run_uri: str = ""

    def to_json(self) -> str:
        """Return the record's text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, text: Any, where: str) -> "State":
        """Return the state in a record.

        Parameters
        ----------
        text : str
            The record.
        where : str
            What it was found in, for the error.

        Raises
        ------
        BadConfig
            It cannot be read. To take that for "nothing serves" would put an unproved version
            before everybody.
        """
        try:
            document = json.loads(text)
            for name in ("serving", "candidate", "previous", "held"):
                if document.get(name):
                    document[name] = Served.of(document[name])
            return cls(**document)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BadConfig(
                f"{where} is missing or damaged ({type(error).__name__}), so nothing tells what "
                "serves: put it back, or remove the object that serves"
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
