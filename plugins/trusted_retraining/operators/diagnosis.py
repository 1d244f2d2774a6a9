"""Why a stage's pod came to its end, in one line, from what the cluster says about it.

Reads pods of both Kubernetes clients, which name their attributes alike.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from tasks.contract import StageError, is_bad_input
from trusted_retraining.pods import CONTAINER

Kind = Literal[
    "exit", "out of memory", "evicted", "node lost", "deleted", "image", "not started",
    "unschedulable", "deadline", "refused", "unknown",
]  # fmt: skip

NOT_STARTED = 125
"""Exit code put down for a stage whose process never ran."""
KILLED, ENDED = 137, 143

PATIENCE = timedelta(seconds=60)
"""Time after which what usually mends itself is taken for final."""

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CANNOT_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NODE_GONE = ("NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeNotReady")
_DISRUPTIONS = {
    "PreemptionByScheduler": "a pod of higher priority took its place",
    "DeletionByTaintManager": "its node got a taint that it does not tolerate",
    "EvictionByEvictionAPI": "its node is being emptied",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node ended it",
}
_GONE_FOR_GOOD = ("DeletionByTaintManager", "DeletionByPodGC")


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What became of a pod.

    Attributes
    ----------
    kind : str
        Class of the failure.
    reason : str
        One line for a person.
    exit_code : int
        The process's own, or one that stands for what happened to it.
    retry : bool
        Whether another attempt may do better.
    """

    kind: Kind
    reason: str
    exit_code: int
    retry: bool = True


def diagnose(
    pod: Any | None, events: Sequence[Any] = (), *, name: str, timed_out: bool = False
) -> Diagnosis:
    """Tell why a pod failed.

    Parameters
    ----------
    pod : V1Pod or None
        As the cluster has it now; None when it has it no more.
    events : sequence of CoreV1Event
        What the cluster has noted about it.
    name : str
        Name of the pod.
    timed_out : bool
        Whether it was given up because it took too long.
    """
    if pod is None:
        return _vanished(name, events)
    status = pod.status
    ended = terminated(pod)
    if ended is not None and ended.reason in ("ContainerCannotRun", "StartError"):
        reason = f"its container cannot be started: {_line(ended.message)}"
        return Diagnosis(kind="not started", reason=reason, exit_code=NOT_STARTED)
    if ended is not None and 0 < ended.exit_code < 128 and status.reason is None:
        # its own end, whatever was done to the pod afterwards
        return Diagnosis(kind="exit", reason=_last_line(ended.message), exit_code=ended.exit_code)
    for cause in (_of_the_pod, _of_the_container, _of_the_start):
        found = cause(pod, events, timed_out)
        if found is not None:
            return found
    return Diagnosis(
        kind="unknown", reason=f"pod {name} is {status.phase}, and says no more", exit_code=1
    )


def refused(error: BaseException) -> Diagnosis:
    """Tell why a pod was never created.

    Parameters
    ----------
    error : BaseException
        What the request for it came to.
    """
    if isinstance(error, StageError):
        # the store of the runs, which is asked before the cluster is
        retry = not is_bad_input(error.exit_code)
        reason = f"no pod was asked for: {_line(str(error))}"
        return Diagnosis(kind="unknown", reason=reason, exit_code=error.exit_code, retry=retry)
    code = getattr(error, "status", None)
    try:
        text = json.loads(getattr(error, "body", None) or "")["message"]
    except (ValueError, KeyError, TypeError):
        text = str(error) or type(error).__name__
    reason = f"the cluster took no pod: {_line(text)}"
    # the pod itself or its namespace is wrong; anything else, a full quota for one, may pass
    final = code in (400, 404, 422) or "violates PodSecurity" in text
    return Diagnosis(kind="refused", reason=reason, exit_code=NOT_STARTED, retry=not final)


def hopeless(pod: Any, now: datetime | None = None) -> str | None:
    """Return why a pod that has not ended will never get any further; None when it may.

    Parameters
    ----------
    pod : V1Pod
        As the cluster has it.
    now : datetime, optional
        The time, for tests.
    """
    now = now or datetime.now(UTC)
    silent = _overdue(pod, now) if terminated(pod) is None else None
    if silent:
        return silent
    container = _container(pod)
    if pod.status.phase == "Failed" and container is not None and container.state.running:
        # a kubelet that ended the pod may leave its containers' states as they were, for ever
        return f"the pod has failed: {pod.status.reason}"
    waiting = _waiting(pod)
    since = pod.status.start_time
    if waiting is not None and waiting.reason in _CANNOT_START and since and now > since + PATIENCE:
        return f"{waiting.reason}: {_line(waiting.message)}"
    return None


def _overdue(pod: Any, now: datetime | None = None) -> str | None:
    """Return what it means that a deleted pod has not ended in its time; None when it may yet."""
    due = pod.metadata.deletion_timestamp
    # the cluster sets it to when the time to end itself is over
    if due is not None and (now or datetime.now(UTC)) > due + PATIENCE:
        return f"node {pod.spec.node_name} does not answer"
    return None


def terminated(pod: Any) -> Any | None:
    """Return how the stage's container ended; None when it has not."""
    status = _container(pod)
    return status.state.terminated if status is not None and status.state else None


def _vanished(name: str, events: Iterable[Any]) -> Diagnosis:
    """Tell from its events why a pod is not there any more."""
    for event in reversed(list(events)):
        text = _line(event.message)
        if event.reason in ("TaintManagerEviction", "NodeNotReady", "NodeLost"):
            reason = f"node lost: pod {name} was on a node that is gone ({text})"
            return Diagnosis(kind="node lost", reason=reason, exit_code=KILLED)
        if event.reason in ("Evicted", "Preempted", "Preempting"):
            reason = f"evicted: pod {name}: {text}"
            return Diagnosis(kind="evicted", reason=reason, exit_code=ENDED)
    return Diagnosis(
        kind="deleted",
        reason=f"pod {name} was deleted before it was done, by a person or the loss of its node",
        exit_code=ENDED,
    )


def _of_the_pod(pod: Any, _: Sequence[Any], timed_out: bool) -> Diagnosis | None:
    status, name, node = pod.status, pod.metadata.name, pod.spec.node_name
    text = _line(status.message)
    if status.reason in ("Evicted", "Preempting", "Preempted"):
        return Diagnosis(kind="evicted", reason=f"evicted from {node}: {text}", exit_code=ENDED)
    if status.reason == "DeadlineExceeded":
        minutes = (pod.spec.active_deadline_seconds or 0) / 60
        reason = f"took longer than stage_timeout_minutes, {minutes:g}"
        return Diagnosis(kind="deadline", reason=reason, exit_code=ENDED)
    if status.reason in _NODE_GONE:
        reason = f"node lost: {node}: {status.reason}: {text}"
        return Diagnosis(kind="node lost", reason=reason, exit_code=KILLED)
    for condition in status.conditions or ():
        if condition.type == "DisruptionTarget" and condition.status == "True":
            why = _DISRUPTIONS.get(condition.reason, _line(condition.message))
            if condition.reason in _GONE_FOR_GOOD:
                # a dead node is tainted too, but it is its silence that a person wants to hear of
                silent = terminated(pod) is None and _overdue(pod)
                reason = f"node lost: {silent or f'{node}: {why}'}"
                return Diagnosis(kind="node lost", reason=reason, exit_code=KILLED)
            return Diagnosis(kind="evicted", reason=f"evicted from {node}: {why}", exit_code=ENDED)
    if pod.metadata.deletion_timestamp is not None:
        if terminated(pod) is None and hopeless(pod) is not None:
            reason = f"node lost: {hopeless(pod)}"
            return Diagnosis(kind="node lost", reason=reason, exit_code=KILLED)
        reason = f"pod {name} was deleted before it was done"
        return Diagnosis(kind="deleted", reason=reason, exit_code=ENDED)
    if status.reason:
        # OutOfcpu, OutOfnvidia.com/gpu, NodeAffinity, UnexpectedAdmissionError: the node's refusal
        reason = f"node {node} refused it: {status.reason}: {text}"
        return Diagnosis(kind="refused", reason=reason, exit_code=NOT_STARTED)
    return None


def _of_the_container(pod: Any, _: Sequence[Any], timed_out: bool) -> Diagnosis | None:
    ended, waiting = terminated(pod), _waiting(pod)
    if ended is not None and ended.reason == "OOMKilled":
        limit = _memory_limit(pod)
        reason = (
            f"out of memory: it took more than {limit}; give it more with "
            f"resources.stages.{pod.metadata.labels.get('trusted-retraining/stage')}.memory"
        )
        return Diagnosis(kind="out of memory", reason=reason, exit_code=KILLED)
    if ended is not None:
        code = ended.exit_code or 1
        return Diagnosis(kind="exit", reason=_last_line(ended.message), exit_code=code)
    if waiting is not None and waiting.reason in _IMAGE:
        image = next(c.image for c in pod.spec.containers if c.name == CONTAINER)
        reason = (
            f"image {image} cannot be pulled: {waiting.reason}: {_line(waiting.message)}; see the "
            "settings tasks_image and image_pull_secrets"
        )
        # a name that is none stays one
        retry = waiting.reason != "InvalidImageName"
        return Diagnosis(kind="image", reason=reason, exit_code=NOT_STARTED, retry=retry)
    if waiting is not None and waiting.reason in _CANNOT_START:
        reason = f"its container cannot be started: {waiting.reason}: {_line(waiting.message)}"
        return Diagnosis(kind="not started", reason=reason, exit_code=NOT_STARTED)
    return None


def _of_the_start(pod: Any, events: Sequence[Any], timed_out: bool) -> Diagnosis | None:
    conditions = {condition.type: condition for condition in pod.status.conditions or ()}
    scheduled = conditions.get("PodScheduled")
    if pod.status.phase == "Pending" and (scheduled is None or scheduled.status != "True"):
        text = _line(scheduled.message) if scheduled else "the scheduler has not seen it"
        if scheduled is not None and scheduled.reason == "SchedulingGated":
            text = "it waits for its queue to admit it"
        reason = f"unschedulable: no node took it within schedule_timeout_seconds: {text}"
        return Diagnosis(kind="unschedulable", reason=reason, exit_code=NOT_STARTED)
    if pod.status.phase == "Pending":
        noted = [_line(e.message) for e in events if e.type == "Warning"]
        text = noted[-1] if noted else "its image may be large, or its node slow"
        reason = f"did not start within startup_timeout_seconds: {text}"
        return Diagnosis(kind="not started", reason=reason, exit_code=NOT_STARTED)
    if timed_out:
        reason = "took longer than stage_timeout_minutes and the time to start"
        return Diagnosis(kind="deadline", reason=reason, exit_code=ENDED)
    return None


def _container(pod: Any) -> Any | None:
    statuses = pod.status.container_statuses or ()
    return next((status for status in statuses if status.name == CONTAINER), None)


def _waiting(pod: Any) -> Any | None:
    status = _container(pod)
    return status.state.waiting if status is not None and status.state else None


def _memory_limit(pod: Any) -> str:
    container = next(c for c in pod.spec.containers if c.name == CONTAINER)
    limits = (container.resources and container.resources.limits) or {}
    return str(limits.get("memory", "its node had"))


def _line(text: str | None) -> str:
    return " ".join((text or "no reason given").split())


def _last_line(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return _line(lines[-1]) if lines else "ended without saying why; see the task log"
