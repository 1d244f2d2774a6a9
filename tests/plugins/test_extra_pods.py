"""The pod of an extra stage: somebody else's container between two of ours, and kept poor."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
from kubernetes.client import (
    ApiClient,
    V1Container,
    V1ContainerState,
    V1ContainerStateRunning,
    V1ContainerStateTerminated,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1ObjectMeta,
    V1Pod,
    V1PodSpec,
    V1PodStatus,
    V1ResourceRequirements,
)

from tasks.contract import Manifest, RunDirectory, extra_fingerprint, run_uri
from tasks.spec import Pipeline
from trusted_retraining.extra_pods import present_step, step_of
from trusted_retraining.operators.diagnosis import diagnose
from trusted_retraining.operators.extra_pod import ExtraEksPodOperator, ExtraPodOperator
from trusted_retraining.settings import Settings

RUN_ID = "scheduled__2026-07-04T02:00:00.123456+00:00"

Object = dict[str, Any]


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "RUNTIME": "kubernetes",
        "STORAGE_ROOT": str(tmp_path),
        "MLFLOW_URI": "http://mlflow.mlflow:5000",
        "STORAGE_SECRET": "of-the-storage",
        "MLFLOW_SECRET": "of-mlflow",
        "EKS_CLUSTER_NAME": "hospital",
    }
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)


def pipeline(**more: Any) -> Pipeline:
    extra = {
        "name": "second_opinion",
        "image": "registry.example:5000/judge/xray:1.2@sha256:" + "0" * 64,
        "command": ["/judge", "--from={inputs}", "{outputs}", "$(AWS_SECRET_ACCESS_KEY)"],
        "after": ["train", "evaluate"],
        **more,
    }
    return Pipeline.model_validate(
        {
            "name": "films",
            "source": {"kind": "synthetic"},
            "label": {"column": "finding"},
            "extra_stages": [extra],
        }
    )


def operator_of(
    given: Pipeline, kind: type[ExtraPodOperator] = ExtraPodOperator
) -> ExtraPodOperator:
    return kind(
        task_id="second_opinion",
        stage="second_opinion",
        pipeline=given,
        settings=Settings.read(),
    )


def build(
    kind: type[ExtraPodOperator] = ExtraPodOperator, *, force: bool = False, **more: Any
) -> Object:
    ti = SimpleNamespace(
        dag_id="films", task_id="second_opinion", run_id=RUN_ID, map_index=-1, try_number=1
    )
    context = {
        "ti": ti,
        "run_id": RUN_ID,
        "params": {"force": force},
        "dag": SimpleNamespace(dag_id="films"),
    }
    pod = operator_of(pipeline(**more), kind).build_pod_request_obj(context, dry_run=True)
    return dict(ApiClient().sanitize_for_serialization(pod))


def containers(pod: Object) -> dict[str, Object]:
    spec = pod["spec"]
    return {each["name"]: each for each in [*spec.get("initContainers", []), *spec["containers"]]}


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize(
    "more", [{}, {"user": 1000, "read_only_root": True, "resources": {"gpu": 1}, "command": []}]
)
def test_the_pod_is_valid_and_every_container_is_restricted(version: str, more: Object) -> None:
    pod = build(**more)
    kubernetes_validate.validate(pod, version, strict=True)
    spec = pod["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["fetch", "foreign"]
    assert [each["name"] for each in spec["containers"]] == ["stage"]
    assert spec["restartPolicy"] == "Never" and spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"])
    for name, container in containers(pod).items():
        security = container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]} and security["runAsNonRoot"]
        assert security["allowPrivilegeEscalation"] is False and security["privileged"] is False
        assert security["readOnlyRootFilesystem"] is (name != "foreign" or bool(more))
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        places = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(set(places)) == len(places) and {"/tmp", "/dev/shm"} <= set(places)  # noqa: S108
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["requests"])
    gpus = {n: c["resources"]["limits"].get("nvidia.com/gpu") for n, c in containers(pod).items()}
    assert gpus == {"fetch": None, "stage": None, "foreign": "1" if more else None}
    assert containers(pod)["foreign"]["securityContext"].get("runAsUser") == more.get("user")


def test_our_two_steps_share_the_volume_of_which_theirs_sees_two_folders() -> None:
    found = containers(build(timeout_minutes=7))
    for name, phase in (("fetch", "fetch"), ("stage", "commit")):
        arguments = found[name]["args"]
        assert arguments[:2] == ["extra", "second_opinion"]
        assert arguments[-4:] == ["--exchange", "/exchange", "--phase", phase]
        assert found[name]["image"] == "trusted-retraining/tasks:latest"
        assert {"name": "exchange", "mountPath": "/exchange"} in found[name]["volumeMounts"]
    seen = [each for each in found["foreign"]["volumeMounts"] if each["name"] == "exchange"]
    assert seen == [
        {
            "name": "exchange",
            "mountPath": "/trusted-retraining/inputs",
            "subPath": "inputs",
            "readOnly": True,
        },
        {
            "name": "exchange",
            "mountPath": "/trusted-retraining/outputs",
            "subPath": "outputs",
        },
    ]
    scratch = {e["name"]: e["value"] for e in found["fetch"]["env"]}["TRUSTED_RETRAINING_SCRATCH"]
    assert scratch.startswith("/exchange/")
    assert build(timeout_minutes=7)["spec"]["activeDeadlineSeconds"] == 7 * 60


def test_nothing_of_ours_is_in_the_foreign_container_unless_asked_for() -> None:
    pod = build(env={"THRESHOLD": "$(HOME)"})
    foreign = containers(pod)["foreign"]
    names = {entry["name"] for entry in foreign["env"]}
    assert names == {
        *("HOME", "TMPDIR", "THRESHOLD", "TRUSTED_RETRAINING_INPUTS", "TRUSTED_RETRAINING_OUTPUTS"),
        *("TRUSTED_RETRAINING_PIPELINE", "TRUSTED_RETRAINING_RUN_ID", "TRUSTED_RETRAINING_STAGE"),
    }
    assert not foreign.get("envFrom")
    assert foreign["command"] == [
        "/judge",
        "--from=/trusted-retraining/inputs",
        "/trusted-retraining/outputs",
        "$$(AWS_SECRET_ACCESS_KEY)",
    ]
    assert {e["name"]: e["value"] for e in foreign["env"]}["THRESHOLD"] == "$$(HOME)"
    # nor the role of the pod, which EKS would give to every container of it
    assert pod["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == "foreign"
    assert not re.search("mlflow", json.dumps(foreign))


def test_what_it_asks_for_it_is_given_by_reference() -> None:
    pod = build(secret="token-of-the-judge", credentials=["storage"])  # noqa: S106
    given = [each["secretRef"]["name"] for each in containers(pod)["foreign"]["envFrom"]]
    assert given == ["of-the-storage", "token-of-the-judge"]
    assert "eks.amazonaws.com/skip-containers" not in pod["metadata"]["annotations"]
    ours = [each["secretRef"]["name"] for each in containers(pod)["stage"]["envFrom"]]
    assert ours == ["of-the-storage", "of-mlflow"]


def test_its_resources_are_its_own_and_ours_those_of_a_data_stage() -> None:
    resources = {"memory": "32Gi", "shared_memory": "8Gi", "node_selector": {"pool": "big"}}
    pod = build(resources=resources)
    found = containers(pod)
    assert found["foreign"]["resources"]["limits"]["memory"] == "32Gi"
    assert found["stage"]["resources"]["limits"]["memory"] == "4Gi"
    assert pod["spec"]["nodeSelector"] == {"pool": "big"}
    volumes = {each["name"]: each["emptyDir"] for each in pod["spec"]["volumes"]}
    assert volumes["foreign-shm"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_without_a_command_the_image_says_what_runs() -> None:
    assert "command" not in containers(build(command=[]))["foreign"]


def test_the_operator_of_eks_builds_the_same_pod() -> None:
    pods = [build(kind) for kind in (ExtraPodOperator, ExtraEksPodOperator)]
    for pod in pods:
        del pod["metadata"]["name"]
    assert pods[0] == pods[1]
    assert operator_of(pipeline(), ExtraEksPodOperator).deferrable is False


def commit(run: RunDirectory, stage: str, fingerprint: str = "f") -> Manifest:
    manifest = Manifest(
        stage=stage,
        fingerprint=fingerprint,
        made_for=[fingerprint],
        location=run.stage_uri(stage),
    ).sealed()
    run.write_manifest(manifest)
    return manifest


def test_a_result_that_is_there_is_taken_over_without_the_foreign_container(tmp_path: Path) -> None:
    run = RunDirectory(run_uri(str(tmp_path), "films", RUN_ID))
    inputs = {name: commit(run, name).outputs_digest for name in ("train", "evaluate")}
    (extra,) = pipeline().extra_stages
    assert "foreign" in containers(build())
    earlier = RunDirectory(run_uri(str(tmp_path), "films", "earlier"))
    wanted = extra_fingerprint(extra, inputs)
    earlier.remember(wanted, commit(earlier, "second_opinion", wanted))
    own = containers(build())
    assert set(own) == {"stage"} and own["stage"]["args"][-2:] == ["--phase", "reuse"]
    for more in ({"force": True}, {"reuse": False}, {"env": {"THRESHOLD": "0.5"}}):
        assert "foreign" in containers(build(**more))


WAITING = V1ContainerState(waiting=V1ContainerStateWaiting(reason="PodInitializing"))
RUNNING = V1ContainerState(running=V1ContainerStateRunning())


def ended(code: int, *, reason: str = "Error", message: str = "") -> V1ContainerState:
    now = datetime.now(UTC)
    return V1ContainerState(
        terminated=V1ContainerStateTerminated(
            exit_code=code, reason=reason, message=message, started_at=now, finished_at=now
        )
    )


def pod_at(
    fetch: V1ContainerState, foreign: V1ContainerState, stage: V1ContainerState, phase: str
) -> V1Pod:
    def status(name: str, state: V1ContainerState) -> V1ContainerStatus:
        return V1ContainerStatus(
            name=name, image=name, image_id="", ready=False, restart_count=0, state=state
        )

    def container(name: str, memory: str) -> V1Container:
        limits = V1ResourceRequirements(limits={"memory": memory})
        return V1Container(name=name, image=f"image-of-{name}", resources=limits)

    labels = {"trusted-retraining/stage": "second_opinion"}
    return V1Pod(
        metadata=V1ObjectMeta(name="pod", labels=labels),
        spec=V1PodSpec(
            init_containers=[container("fetch", "1Gi"), container("foreign", "2Gi")],
            containers=[container("stage", "1Gi")],
        ),
        status=V1PodStatus(
            phase=phase,
            init_container_statuses=[status("fetch", fetch), status("foreign", foreign)],
            container_statuses=[status("stage", stage)],
        ),
    )


@pytest.mark.parametrize(
    ("pod", "step", "phase"),
    [
        (pod_at(WAITING, WAITING, WAITING, "Pending"), "fetch", "Pending"),
        (pod_at(RUNNING, WAITING, WAITING, "Pending"), "fetch", "Running"),
        (pod_at(ended(0), WAITING, WAITING, "Pending"), "foreign", "Running"),
        (pod_at(ended(0), RUNNING, WAITING, "Pending"), "foreign", "Running"),
        (pod_at(ended(0), ended(3), WAITING, "Failed"), "foreign", "Failed"),
        (pod_at(ended(0), ended(0), RUNNING, "Running"), "stage", "Running"),
        (pod_at(ended(0), ended(0), ended(0), "Succeeded"), "stage", "Succeeded"),
    ],
)
def test_a_pod_is_seen_as_the_step_that_it_has_come_to(pod: V1Pod, step: str, phase: str) -> None:
    seen = present_step(pod)
    assert step_of(pod) == step and seen.status.phase == phase
    (container,) = seen.spec.containers
    assert (container.name, container.image) == ("stage", f"image-of-{step}")
    (status,) = seen.status.container_statuses
    assert (status.name, status.image) == ("stage", step)
    # what was handed in is as it was
    assert [each.name for each in pod.status.container_statuses] == ["stage"]
    assert pod.spec.containers[0].image == "image-of-stage"


@pytest.mark.parametrize(
    ("foreign", "kind", "code", "words"),
    [
        (ended(3, message="one\nno such view\n"), "exit", 3, "its last line was: no such view"),
        (ended(65, message="bad films"), "exit", 65, "its container failed"),
        (
            ended(137, reason="OOMKilled"),
            "out of memory",
            137,
            "more than 2Gi; give it more with resources.memory of second_opinion in extra_stages",
        ),
        (
            V1ContainerState(waiting=V1ContainerStateWaiting(reason="ImagePullBackOff")),
            "image",
            125,
            "image image-of-foreign cannot be pulled",
        ),
    ],
)
def test_an_end_of_the_foreign_container_is_told_as_one(
    foreign: V1ContainerState, kind: str, code: int, words: str
) -> None:
    pod = pod_at(ended(0), foreign, WAITING, "Pending" if foreign.waiting else "Failed")
    operator = operator_of(pipeline())
    operator._as_it_is = pod
    found = diagnose(present_step(pod), name="pod")
    assert (found.kind, found.exit_code) == (kind, code)
    assert words in operator._in_words(found)
