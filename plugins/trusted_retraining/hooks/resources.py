"""The kinds of Kubernetes object that a deployment is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind of namespaced object.

    Attributes
    ----------
    group : str
        API group; empty for the core group.
    version, plural, kind : str
        As in paths and in manifests.
    """

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """``group/version`` as in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version


INFERENCE_SERVICE = Resource(
    group="serving.kserve.io",
    version="v1beta1",
    plural="inferenceservices",
    kind="InferenceService",
)
DEPLOYMENT = Resource(group="apps", version="v1", plural="deployments", kind="Deployment")
SERVICE = Resource(group="", version="v1", plural="services", kind="Service")
CONFIG_MAP = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
POD = Resource(group="", version="v1", plural="pods", kind="Pod")
DISRUPTION_BUDGET = Resource(
    group="policy", version="v1", plural="poddisruptionbudgets", kind="PodDisruptionBudget"
)
AUTOSCALER = Resource(
    group="autoscaling",
    version="v2",
    plural="horizontalpodautoscalers",
    kind="HorizontalPodAutoscaler",
)


def resource_of(kind: str) -> Resource:
    """Return the resource of a manifest's kind.

    Raises
    ------
    KeyError
        It is none of ours.
    """
    known = (
        *(INFERENCE_SERVICE, DEPLOYMENT, SERVICE, CONFIG_MAP, POD),
        *(DISRUPTION_BUDGET, AUTOSCALER),
    )
    return {each.kind: each for each in known}[kind]
