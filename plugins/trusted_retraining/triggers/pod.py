"""Triggers that wait for a stage's pod in the place of a worker."""

from typing import Any

from airflow.providers.amazon.aws.triggers.eks import EksPodTrigger
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import (
    AsyncPodManager,
    PodLaunchTimeoutException,
)

from trusted_retraining.operators.diagnosis import hopeless
from trusted_retraining.scrubbing import ScrubbedLog


class StageAsyncPodManager(AsyncPodManager):
    """Gives up a pod that can get no further, and keeps credentials out of its lines."""

    @property
    def log(self) -> Any:
        """Return the logger of the pod's lines and events."""
        return ScrubbedLog(super().log)

    async def read_pod(self, pod: Any) -> Any:
        """Return the pod as it is now."""
        return given_hope(await super().read_pod(pod))


class _Watchful(KubernetesPodTrigger):
    """Waits like the provider's trigger, but not for a node that is gone."""

    @property
    def pod_manager(self) -> AsyncPodManager:
        """Return what reads the pod."""
        if "_pod_manager" not in self.__dict__:
            self._pod_manager = StageAsyncPodManager(async_hook=self.hook)
        return self._pod_manager

    async def _get_pod(self) -> Any:  # type: ignore[override]
        return given_hope(await super()._get_pod())

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class and its arguments."""
        own = type(self)
        return f"{own.__module__}.{own.__qualname__}", super().serialize()[1]


class StagePodTrigger(_Watchful):
    """Waits for the pod of a stage."""


class StageEksPodTrigger(_Watchful, EksPodTrigger):
    """Waits for the pod of a stage on EKS."""


def given_hope(pod: Any) -> Any:
    """Return the pod.

    Parameters
    ----------
    pod : V1Pod
        As the cluster has it.

    Raises
    ------
    PodLaunchTimeoutException
        It will get no further. Of the provider's errors this is the one on which it does not wait
        for the pod's end after all.
    """
    reason = hopeless(pod)
    if reason is not None:
        raise PodLaunchTimeoutException(reason)
    return pod
