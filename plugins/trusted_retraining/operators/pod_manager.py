"""What creates and reads the pods of stages."""

import time
from collections.abc import Callable
from typing import Any

from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLoggingStatus, PodManager
from kubernetes.client import V1Pod
from kubernetes.client.exceptions import ApiException

from trusted_retraining.scrubbing import ScrubbedLog
from trusted_retraining.triggers.pod import given_hope

PAUSE_SECONDS = 10.0
"""Time after which lines that could not be read are asked for again."""


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

    def fetch_container_logs(
        self, pod: V1Pod, container_name: str, **kwargs: Any
    ) -> PodLoggingStatus:
        """Log a container's lines until it ends, also past a node that is silent for a while.

        The provider would give up the stage. A kubelet that is restarted comes back, and a node
        that is gone is noticed by the cluster, after which there is nothing to wait for.
        """
        key = (pod.metadata.namespace, pod.metadata.name, container_name)
        while True:
            try:
                return super().fetch_container_logs(pod, container_name, **kwargs)
            except ApiException as error:
                if error.status is None or error.status < 500:
                    raise
                if not self.container_is_running(pod, container_name):
                    self.log.warning("the last lines could not be read: %s", error.reason)
                    return PodLoggingStatus(running=False, last_log_time=None)
                self.log.warning("its node does not hand out its lines; trying again")
            time.sleep(PAUSE_SECONDS)
            kwargs["since_time"] = self.container_log_times.get(key)
