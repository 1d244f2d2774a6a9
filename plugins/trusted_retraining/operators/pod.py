"""Stages as pods of a cluster."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NoReturn

import yaml
from airflow.providers.amazon.aws.operators.eks import EksPodOperator
from airflow.providers.cncf.kubernetes.operators.pod import (
    FoundMoreThanOnePodFailure,
    KubernetesPodOperator,
)
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from kubernetes.client import V1Pod
from kubernetes.client.exceptions import ApiException

from tasks.contract import BadConfig
from tasks.spec import Pipeline
from trusted_retraining.operators.diagnosis import Diagnosis, diagnose, refused, terminated
from trusted_retraining.operators.pod_manager import StagePodManager
from trusted_retraining.operators.stage import StageMixin
from trusted_retraining.pods import CONTAINER, stage_pod, stage_variables
from trusted_retraining.scrubbing import ScrubbedLog, scrub, scrub_pod
from trusted_retraining.settings import Settings
from trusted_retraining.triggers.pod import StageEksPodTrigger, StagePodTrigger


class StagePodOperator(StageMixin, KubernetesPodOperator):
    """Run a stage as a pod, with its lines in the task log, and leave no pod behind.

    A pod is found again by a later attempt when the worker died. A pod that succeeded is deleted by
    the provider; one that failed is kept by it, so that its events and its specification are there
    to be read and logged, and is deleted here after that.

    Parameters
    ----------
    stage : str
        Name of the stage.
    pipeline : Pipeline
        The pipeline as in its file.
    settings : Settings
        The installation's settings.
    **kwargs
        Passed to the provider's operator; goes before what the settings say.
    """

    trigger_class: type[StagePodTrigger] | type[StageEksPodTrigger] = StagePodTrigger

    def __init__(
        self, *, stage: str, pipeline: Pipeline, settings: Settings, **kwargs: Any
    ) -> None:
        cluster = settings.cluster
        arguments = {
            "name": pod_name(pipeline, stage),
            "namespace": cluster.namespace,
            "kubernetes_conn_id": cluster.kubernetes_conn_id,
            "in_cluster": cluster.in_cluster,
            "config_file": cluster.config_file,
            "cluster_context": cluster.cluster_context,
            "pod_template_file": cluster.pod_template_file or None,
            "base_container_name": CONTAINER,
            "container_name_log_prefix_enabled": False,
            "deferrable": cluster.deferrable,
            "logging_interval": cluster.log_seconds if cluster.deferrable else None,
            "poll_interval": cluster.poll_seconds,
            "startup_check_interval_seconds": cluster.poll_seconds,
            "schedule_timeout_seconds": cluster.schedule_timeout_seconds,
            "startup_timeout_seconds": cluster.startup_timeout_seconds,
            "termination_grace_period": cluster.termination_grace_seconds,
            "active_deadline_seconds": 60 * pipeline.stage_timeout_minutes,
            "automount_service_account_token": False,
            "termination_message_policy": "FallbackToLogsOnError",
            "durable": True,
            "on_finish_action": "delete_succeeded_pod",
            "on_kill_action": "delete_pod",
            # the manifest is the result: no sidecar
            "do_xcom_push": False,
            # logged here, once, however the pod came to its end
            "log_events_on_failure": False,
            "log_pod_spec_on_failure": False,
        }
        super().__init__(**arguments | kwargs)
        self.stage = stage
        self.pipeline = pipeline
        self.settings = settings
        self._context: Mapping[str, Any] = {}
        self._told: BaseException | None = None

    @property
    def log(self) -> Any:
        """Return the task's logger, which masks what looks like credentials."""
        return ScrubbedLog(super().log)

    @cached_property
    def pod_manager(self) -> StagePodManager:
        """Return what creates and reads pods."""
        return StagePodManager(
            kube_client=self.client, callbacks=self.callbacks, before_create=self._forgive
        )

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """Return the pod of the stage, on top of the pod template file if there is one."""
        pod = stage_pod(
            stage=self.stage,
            pipeline=self.tonight(context),
            settings=self.settings,
            run_id=context["run_id"],
            arguments=self.stage_arguments(context),
        )
        self.full_pod_spec = PodGenerator.deserialize_model_dict(pod)
        return super().build_pod_request_obj(context, dry_run=dry_run)

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Any) -> V1Pod:
        """Return the pod of an attempt that died, or a new one.

        One that is being deleted is left to its end: a task that was cleared while it ran would
        otherwise take up the very pod that clearing it ends.
        """
        selector = self._build_find_pod_label_selector(context)
        namespace = pod_request_obj.metadata.namespace
        pods = self.client.list_namespaced_pod(namespace, label_selector=selector).items
        for pod in pods:
            if pod.metadata.deletion_timestamp is not None:
                self.patch_already_checked(pod, reraise=False)
        try:
            return super().get_or_create_pod(pod_request_obj, context)
        except FoundMoreThanOnePodFailure as error:
            names = sorted(p.metadata.name for p in pods if p.metadata.deletion_timestamp is None)
            # nothing removes either by itself, so another attempt would end the same
            raise BadConfig(
                f"{len(names)} pods stand for this very task, {', '.join(names)}, and which of "
                "them is the stage cannot be known: delete all but one, or all of them, with "
                f"kubectl delete pod --namespace {namespace}, and clear the task"
            ) from error

    def _get_pod_from_task_state_store(self, context: Any) -> V1Pod | None:
        pod = super()._get_pod_from_task_state_store(context)
        return None if pod is not None and pod.metadata.deletion_timestamp is not None else pod

    def execute(self, context: Any) -> None:
        """Run the pod to its end, or hand it to the triggerer; the manifest becomes the XCom."""

        def run() -> None:
            self.begin(context)
            super(StagePodOperator, self).execute(context)

        self._attempt(context, run)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> None:
        """Go on after the triggerer has seen the pod's end."""
        # the EKS operator leaves the message out, and the provider's insists on one
        event = {"message": event["status"], **event}
        resume = super().trigger_reentry
        self._attempt(context, lambda: resume(context, event), event)

    def defer(self, *, trigger: Any, **kwargs: Any) -> NoReturn:
        """Hand the pod to the triggerer."""
        super().defer(trigger=self.trigger_class(**trigger.serialize()[1]), **kwargs)

    def _attempt(
        self, context: Any, run: Callable[[], Any], event: Mapping[str, Any] | None = None
    ) -> None:
        self._context = context
        try:
            run()
            if self._killed:
                # of a pod that it deleted itself the provider has no complaint
                raise AirflowException("ended on request")
        except (TaskDeferred, AirflowFailException):
            raise
        except BaseException as error:
            if error is not self._told:
                self._told = self._explain(error, event or {})
            raise self._told from None
        manifest = self.result(context)
        # not returned: the provider takes do_xcom_push for the wish to have a sidecar
        context["ti"].xcom_push(key="return_value", value=manifest)

    def _explain(self, error: BaseException, event: Mapping[str, Any]) -> AirflowException:
        """Say what became of the pod, log what the cluster knows of it, and remove it."""
        if self.pod is None and not event:
            return self._fail(refused(error), None)
        name = self.pod.metadata.name if self.pod else event["name"]
        namespace = self.pod.metadata.namespace if self.pod else event["namespace"]
        try:
            pod = self._read(name, namespace)
            events = self.client.list_namespaced_event(
                namespace, field_selector=f"involvedObject.name={name}"
            ).items
        except Exception as unreachable:
            reason = f"the cluster does not answer: {unreachable}; pod {name} may still run"
            # the next attempt finds it by what it is
            return self._fail(Diagnosis(kind="unknown", reason=reason, exit_code=1), None)
        timed_out = event.get("status") == "timeout" or _caused_by(
            error, (AirflowTaskTimeout, PodLaunchTimeoutException)
        )
        if self._killed:
            found = Diagnosis(kind="deleted", reason="ended on request", exit_code=143)
        elif pod is not None and pod.status.phase == "Succeeded":
            found = Diagnosis(kind="unknown", reason=scrub(str(error)), exit_code=1)
        else:
            found = diagnose(pod, events, name=name, timed_out=timed_out)
        self._tell(pod, events)
        failure = self._fail(found, pod)
        if pod is not None and not self.settings.cluster.keep_failed_pods:
            # a pod on a lost node stays for a while: the next attempt must not take it for its own
            self.patch_already_checked(pod, reraise=False)
            self.pod_manager.delete_pod(pod)
        return failure

    def _read(self, name: str, namespace: str) -> V1Pod | None:
        try:
            return self.client.read_namespaced_pod(name, namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _tell(self, pod: V1Pod | None, events: list[Any]) -> None:
        for event in events:
            log = self.log.warning if event.type == "Warning" else self.log.info
            log("event: %s: %s", event.reason, " ".join((event.message or "").split()))
        if pod is not None:
            document = self.client.api_client.sanitize_for_serialization(pod)
            told = scrub_pod(document, known=stage_variables(self.settings))
            self.log.info("the pod was:\n%s", yaml.safe_dump(told, sort_keys=False))

    def _fail(self, found: Diagnosis, pod: V1Pod | None) -> AirflowException:
        reason = scrub(found.reason)
        ended = terminated(pod) if pod is not None else None
        seconds = 0.0
        if ended is not None and ended.started_at and ended.finished_at:
            seconds = (ended.finished_at - ended.started_at).total_seconds()
        try:
            if found.kind == "exit":
                # what was recorded before was removed when the pod was created
                return self.fail(
                    self._context,
                    exit_code=found.exit_code,
                    before=None,
                    seconds=seconds,
                    reason=reason,
                )
            run = self.run_directory(self._context)
            self.record(run, exit_code=found.exit_code, reason=reason, seconds=seconds)
        except Exception as unwritten:
            self.log.warning("the failure could not be recorded in storage: %s", unwritten)
        self.log.error("%s: %s", self.stage, reason)
        kind = AirflowException if found.retry else AirflowFailException
        return kind(f"{self.stage}: {reason}")

    def _forgive(self) -> None:
        self.run_directory(self._context).forgive(self.stage)


class StageEksPodOperator(EksPodOperator, StagePodOperator):
    """Run a stage as a pod of an EKS cluster; its credentials come from the AWS connection.

    Parameters
    ----------
    stage : str
        Name of the stage.
    pipeline : Pipeline
        The pipeline as in its file.
    settings : Settings
        The installation's settings.
    **kwargs
        Passed to the provider's operator; goes before what the settings say.
    """

    trigger_class = StageEksPodTrigger

    def __init__(
        self, *, stage: str, pipeline: Pipeline, settings: Settings, **kwargs: Any
    ) -> None:
        cluster = settings.cluster
        super().__init__(
            cluster_name=cluster.eks_cluster_name,
            region=cluster.eks_region or None,
            aws_conn_id=cluster.aws_conn_id,
            namespace=cluster.namespace,
            pod_name=pod_name(pipeline, stage),
            on_finish_action="delete_succeeded_pod",
            # the provider writes a kubeconfig for the cluster by itself
            config_file=None,
            cluster_context=None,
            stage=stage,
            pipeline=pipeline,
            settings=settings,
            **kwargs,
        )


def pod_name(pipeline: Pipeline, stage: str) -> str:
    """Return the name of a stage's pod, to which the provider adds a random end."""
    return f"{pipeline.name}-{stage}".replace("_", "-")


def _caused_by(error: BaseException | None, kinds: tuple[type[BaseException], ...]) -> bool:
    """Tell whether an error came while one of some kinds was handled: the provider masks them."""
    while error is not None:
        if isinstance(error, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False
