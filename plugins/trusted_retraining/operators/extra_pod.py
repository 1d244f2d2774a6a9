"""Stages that somebody else wrote, as pods of a cluster."""

import dataclasses
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.providers.cncf.kubernetes.utils.pod_manager import detect_pod_terminate_early_issues
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import V1Pod

from tasks.contract import StageError, extra_fingerprint
from tasks.spec import ExtraStage, Pipeline
from trusted_retraining.extra_pods import FETCH, FOREIGN, extra_pod, own_pod, present_step, step_of
from trusted_retraining.operators.diagnosis import Diagnosis
from trusted_retraining.operators.extra import ExtraStageMixin
from trusted_retraining.operators.pod import StageEksPodOperator, StagePodOperator
from trusted_retraining.operators.pod_manager import StagePodManager
from trusted_retraining.params import FORCE
from trusted_retraining.pods import CONTAINER
from trusted_retraining.settings import Settings
from trusted_retraining.triggers.pod import given_hope

_ENDED = ("Succeeded", "Failed")


class StepPodManager(StagePodManager):
    """Sees of a pod the step that it has come to."""

    def read_pod(self, pod: V1Pod) -> V1Pod:
        """Return the pod as it is now."""
        return given_hope(present_step(super().read_pod(pod)))


class ExtraPodOperator(ExtraStageMixin, StagePodOperator):
    """Run somebody else's container between two of ours, all in one pod.

    A result that is there already is taken over by a pod of our image alone. The worker waits: the
    lines of three containers in a row are not followed by a trigger.

    Parameters
    ----------
    stage : str
        Name of the extra stage.
    pipeline : Pipeline
        The pipeline as in its file.
    settings : Settings
        The installation's settings.
    **kwargs
        Passed to the provider's operator; goes before what the settings say.
    """

    def __init__(
        self, *, stage: str, pipeline: Pipeline, settings: Settings, **kwargs: Any
    ) -> None:
        extra = pipeline.extra_stage(stage)
        minutes = (extra and extra.timeout_minutes) or pipeline.stage_timeout_minutes
        arguments = {"deferrable": False, "active_deadline_seconds": 60 * minutes}
        super().__init__(stage=stage, pipeline=pipeline, settings=settings, **arguments | kwargs)
        self._as_it_is: V1Pod | None = None

    @cached_property
    def pod_manager(self) -> StagePodManager:
        """Return what creates and reads pods."""
        return StepPodManager(
            kube_client=self.client, callbacks=self.callbacks, before_create=self._forgive
        )

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """Return the pod of the stage, on top of the pod template file if there is one."""
        tonight = self.tonight(context)
        extra = tonight.extra_stage(self.stage)
        if extra is None:
            raise AirflowException(f"{self.stage}: is no extra stage of {tonight.name}")
        arguments, build = self.stage_arguments(context), extra_pod
        if self._is_there(context, extra):
            arguments, build = [*arguments, "--phase", "reuse"], own_pod
        pod = build(
            extra=extra,
            pipeline=tonight,
            settings=self.settings,
            run_id=context["run_id"],
            arguments=arguments,
        )
        self.full_pod_spec = PodGenerator.deserialize_model_dict(pod)
        # past the class that would put the pod of one of our own stages there
        return super(StagePodOperator, self).build_pod_request_obj(context, dry_run=dry_run)

    def await_init_containers_completion(self, pod: V1Pod) -> None:  # type: ignore[override]
        """Follow the steps before the last one, with their lines in the task log."""
        if FOREIGN not in {each.name for each in pod.spec.init_containers or ()}:
            return
        for name in (FETCH, FOREIGN):
            self._await_step(pod, name)
            self.pod_manager.fetch_container_logs(
                pod, name, follow=True, container_name_log_prefix_enabled=False
            )
            ended = self._await_step(pod, name, to_its_end=True)
            if ended.exit_code:
                raise AirflowException(f"{name} ended with exit code {ended.exit_code}")
        # the lines of a container that has not begun cannot be asked for
        self._await_step(pod, CONTAINER)

    def _await_step(self, pod: V1Pod, name: str, *, to_its_end: bool = False) -> Any:
        """Wait until a step has begun, or ended; return how it ended if it has."""
        while True:
            found = self.pod_manager.read_pod(pod)
            statuses = [
                *(found.status.init_container_statuses or ()),
                *(found.status.container_statuses or ()),
            ]
            state = next((each.state for each in statuses if each.name == name), None)
            if state is not None and (state.terminated or (state.running and not to_its_end)):
                return state.terminated
            if found.status.phase in _ENDED or found.metadata.deletion_timestamp:
                raise AirflowException(f"the pod came to its end before {name} did")
            problem = detect_pod_terminate_early_issues(found)
            if problem:
                raise AirflowException(problem)
            time.sleep(self.startup_check_interval_seconds)

    def _is_there(self, context: Mapping[str, Any], extra: ExtraStage) -> bool:
        """Tell whether an earlier result will do, so that no foreign container is needed."""
        if not extra.reuse or context["params"].get(FORCE):
            return False
        run = self.run_directory(context)
        try:
            manifests = {name: run.read_manifest(name) for name in extra.after}
            inputs = {name: found.outputs_digest for name, found in manifests.items() if found}
            if len(inputs) < len(manifests):
                return False
            wanted = extra_fingerprint(extra, inputs)
            own = run.read_manifest(self.stage)
            if own and own.is_evidence and wanted in own.made_for and run.stands(own):
                return True
            return run.cached(wanted) is not None
        except StageError as error:
            self.log.warning("no earlier result is looked for: %s", error)
            return False

    def _read(self, name: str, namespace: str) -> V1Pod | None:
        self._as_it_is = pod = super()._read(name, namespace)
        return None if pod is None else present_step(pod)

    def _tell(self, pod: V1Pod | None, events: list[Any]) -> None:
        super()._tell(self._as_it_is if pod is not None else None, events)

    def _fail(self, found: Diagnosis, pod: V1Pod | None) -> AirflowException:
        return super()._fail(dataclasses.replace(found, reason=self._in_words(found)), pod)

    def _in_words(self, found: Diagnosis) -> str:
        """Put a diagnosis into words that fit a container which is not ours."""
        pod = self._as_it_is
        steps = {each.name for each in pod.spec.init_containers or ()} if pod is not None else set()
        if pod is None or FOREIGN not in steps or step_of(pod) != FOREIGN:
            return found.reason
        if found.kind == "exit":
            return f"its container failed; its last line was: {found.reason}"
        return found.reason.replace(
            f"resources.stages.{self.stage}.memory",
            f"resources.memory of {self.stage} in extra_stages",
        ).replace(
            "settings tasks_image and image_pull_secrets",
            f"image of {self.stage} in extra_stages and the setting image_pull_secrets",
        )


class ExtraEksPodOperator(ExtraPodOperator, StageEksPodOperator):
    """Run an extra stage as a pod of an EKS cluster."""
