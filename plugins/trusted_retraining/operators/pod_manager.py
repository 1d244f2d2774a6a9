"""What creates and reads the pods of stages."""

from collections.abc import Callable
from typing import Any

from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from kubernetes.client import V1Pod

from trusted_retraining.scrubbing import ScrubbedLog
from trusted_retraining.triggers.pod import given_hope


class StagePodManager(PodManager):
    """Gives up a pod that can get no further, and keeps credentials out of its lines.

    Parameters
    ----------
    before_create : callable
        Called before a pod is created, but not when an earlier attempt's pod is found again.
    **kwargs
        Passed to the provider's ``PodManager``.
    """

    def __init__(self, *, before_create: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._before_create = before_create

    @property
    def log(self) -> Any:
        """Return the logger of the pod's lines and events."""
        return ScrubbedLog(super().log)

    def create_pod(self, pod: V1Pod) -> V1Pod:
        """Create a pod."""
        self._before_create()
        return super().create_pod(pod)

    def read_pod(self, pod: V1Pod) -> V1Pod:
        """Return the pod as it is now."""
        return given_hope(super().read_pod(pod))
