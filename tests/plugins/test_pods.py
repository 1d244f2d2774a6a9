"""Every stage's pod of every pipeline, built by the operator, is one that a cluster admits."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
from kubernetes.client import ApiClient
from kubernetes.utils.quantity import parse_quantity

from tasks.spec import MODEL_STAGES, Pipeline, apply_overrides, load_pipeline
from trusted_retraining.dag_builder import PREPARATION
from trusted_retraining.operators.pod import StageEksPodOperator, StagePodOperator
from trusted_retraining.pods import label_value
from trusted_retraining.settings import Settings

FOLDER = Path(__file__).parents[2] / "dags/pipelines"
PIPELINES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
STAGES = (*PREPARATION, "fairness", "explain", "robustness", "bless", "publish", "reject", "report")
RUN_ID = "scheduled__2026-07-04T02:00:00.123456+00:00"
SECRET_WORDS = re.compile(r"(?i)secret_access|password|token=|AKIA|://[^/\s]*:[^/\s]*@")

Object = dict[str, Any]


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "RUNTIME": "kubernetes",
        "STORAGE_ROOT": str(tmp_path),
        "MLFLOW_URI": "http://mlflow.mlflow:5000",
        "STORAGE_SECRET": "trusted-retraining-storage",
        "MLFLOW_SECRET": "trusted-retraining-mlflow",
        "EKS_CLUSTER_NAME": "hospital",
    }
    for name, value in options.items():
        setting(monkeypatch, name, value)
    # there is no cluster here to be asked
    monkeypatch.setattr("trusted_retraining.serving.serving_now.what_serves", lambda *_: None)


def setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"AIRFLOW__TRUSTED_RETRAINING__{name}", value)


def pipeline_named(name: str, **changes: Any) -> Pipeline:
    overrides = {field.replace("__", "."): value for field, value in changes.items()}
    return apply_overrides(load_pipeline(FOLDER / f"{name}.yaml"), overrides)


def build(
    stage: str,
    pipeline: Pipeline | None = None,
    *,
    kind: type[StagePodOperator] = StagePodOperator,
    params: Object | None = None,
) -> Object:
    pipeline = pipeline or pipeline_named("demo")
    operator = kind(task_id=stage, stage=stage, pipeline=pipeline, settings=Settings.read())
    ti = SimpleNamespace(
        dag_id=pipeline.name, task_id=stage, run_id=RUN_ID, map_index=-1, try_number=1
    )
    context = {
        "ti": ti,
        "run_id": RUN_ID,
        "params": params or {},
        "dag": SimpleNamespace(dag_id=pipeline.name),
    }
    pod = operator.build_pod_request_obj(context, dry_run=True)
    return dict(ApiClient().sanitize_for_serialization(pod))


def container(pod: Object) -> Object:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def test_a_stage_may_have_an_account_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, "SERVICE_ACCOUNT", "of-stages")
    setting(monkeypatch, "STAGES_SERVICE_ACCOUNTS", '{"bless": "of-bless"}')
    assert build("train")["spec"]["serviceAccountName"] == "of-stages"
    assert build("bless")["spec"]["serviceAccountName"] == "of-bless"
    setting(monkeypatch, "STAGES_SERVICE_ACCOUNTS", "of-bless")
    with pytest.raises(ValueError, match="stages_service_accounts: 'of-bless' is not JSON such as"):
        build("bless")


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", PIPELINES)
def test_every_pod_is_valid(name: str, version: str) -> None:
    for stage in STAGES:
        pod = build(stage, pipeline_named(name))
        kubernetes_validate.validate(pod, version, strict=True)
        check_names(pod)
        check_quantities(pod)
        check_references(pod)
        check_restricted(pod)
        check_gpu(pod, stage)
        assert not SECRET_WORDS.search(json.dumps(pod))


def check_names(pod: Object) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", pod["metadata"]["name"])
    for key, value in pod["metadata"]["labels"].items():
        assert re.fullmatch(r"([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", key)
        assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", value), value
    assert pod["metadata"]["labels"]["trusted-retraining/stage"]


def check_quantities(pod: Object) -> None:
    resources = container(pod)["resources"]
    for name, text in [*resources["requests"].items(), *resources["limits"].items()]:
        assert parse_quantity(text) > 0, (name, text)
    assert set(resources["requests"]) >= {"cpu", "memory", "ephemeral-storage"}
    assert "cpu" not in resources["limits"]
    for name, text in resources["limits"].items():
        assert resources["requests"][name] == text
    for volume in pod["spec"]["volumes"]:
        bound = "memory" if volume["emptyDir"].get("medium") == "Memory" else "ephemeral-storage"
        limit = parse_quantity(resources["limits"][bound])
        assert 0 < parse_quantity(volume["emptyDir"]["sizeLimit"]) <= limit


def check_references(pod: Object) -> None:
    volumes = [volume["name"] for volume in pod["spec"]["volumes"]]
    mounts = container(pod)["volumeMounts"]
    assert sorted(volumes) == sorted(mount["name"] for mount in mounts)
    places = {mount["mountPath"] for mount in mounts}
    assert {"/tmp", "/dev/shm"} <= places and len(places) == len(mounts)  # noqa: S108
    variables = {entry["name"]: entry["value"] for entry in container(pod)["env"]}
    assert len(variables) == len(container(pod)["env"])
    for name in ("HOME", "TMPDIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TRUSTED_RETRAINING_SCRATCH"):
        path = variables[name]
        assert any(path == place or path.startswith(f"{place}/") for place in places), name


def check_restricted(pod: Object) -> None:
    """Check what the Pod Security Standard ``restricted`` asks for, and a little more."""
    spec, own = pod["spec"], container(pod)["securityContext"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & {name for name in spec if spec[name]}
    assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"])
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0 and spec["securityContext"]["fsGroup"] > 0
    assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]} and not own["privileged"]
    assert not container(pod).get("ports")
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never"
    assert 0 < spec["terminationGracePeriodSeconds"] < spec["activeDeadlineSeconds"]


def check_gpu(pod: Object, stage: str) -> None:
    limits = container(pod)["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == ("1" if stage in MODEL_STAGES else None)
    # every stage is in the GPU pool, also those that hold no card
    assert pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    taints = [toleration["key"] for toleration in pod["spec"]["tolerations"]]
    assert "nvidia.com/gpu" in taints


def test_the_stages_of_the_model_are_those_with_gpu_in_the_resources() -> None:
    assert set(MODEL_STAGES) <= set(STAGES)


def test_credentials_come_by_reference_only() -> None:
    names = [entry["secretRef"]["name"] for entry in container(build("train"))["envFrom"]]
    assert names == ["trusted-retraining-storage", "trusted-retraining-mlflow"]


def test_with_workload_identity_there_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORAGE_SECRET", "MLFLOW_SECRET"):
        setting(monkeypatch, name, "")
    setting(monkeypatch, "SERVICE_ACCOUNT", "trusted-retraining-stage")
    pod = build("train")
    assert not container(pod).get("envFrom")
    assert pod["spec"]["serviceAccountName"] == "trusted-retraining-stage"


def test_the_command_is_that_of_every_runtime(tmp_path: Path) -> None:
    own = container(build("train", params={"train.epochs": 3, "force": True}))
    assert own["command"] == ["python", "-m", "tasks"]
    assert own["args"][:2] == ["train", "--run-uri"] and own["args"][-1] == "--no-cache"
    assert load_pipeline(own["args"][own["args"].index("--spec") + 1]).train.epochs == 3


def test_braces_in_a_pipeline_are_no_templates() -> None:
    assert "arguments" in StagePodOperator.template_fields
    text = "{{ var.value.key }}"
    own = container(build("train", pipeline_named("demo", description=text)))
    assert text in " ".join(own["args"])


def test_a_pipeline_cannot_ask_for_a_variable_from_a_secret() -> None:
    text = "$(AWS_SECRET_ACCESS_KEY) $$(HOME) costs $5$"
    spec = container(build("train", pipeline_named("demo", description=text)))["args"][4]
    assert "$" not in spec.replace("$$", "")
    assert json.loads(spec.replace("$$", "$"))["description"] == text


def test_a_night_can_ask_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = build("train", params={"resources.model.memory": "48Gi", "resources.model.gpu": 2})
    limits = container(pod)["resources"]["limits"]
    assert limits["memory"] == "48Gi" and limits["nvidia.com/gpu"] == "2"
    assert container(build("ingest"))["resources"]["limits"]["memory"] == "4Gi"


def test_a_stage_goes_before_the_pipeline_and_that_before_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting(monkeypatch, "PRIORITY_CLASS", "of-the-setting")
    setting(monkeypatch, "KUEUE_QUEUE", "nights")
    pipeline = pipeline_named(
        "demo",
        resources__priority_class="of-the-pipeline",
        resources__node_selector={"pool": "a100"},
        resources__cost_center="radiology",
        resources__stages={
            "train": {
                "priority_class": "of-the-stage",
                "node_selector": {"pool": "h100"},
                "tolerations": [{"key": "h100", "operator": "Exists"}],
                "shared_memory": "8Gi",
            }
        },
    )
    train, ingest = build("train", pipeline)["spec"], build("ingest", pipeline)["spec"]
    assert build("ingest")["spec"]["priorityClassName"] == "of-the-setting"
    assert ingest["priorityClassName"] == "of-the-pipeline"
    assert train["priorityClassName"] == "of-the-stage"
    assert (ingest["nodeSelector"], train["nodeSelector"]) == ({"pool": "a100"}, {"pool": "h100"})
    assert train["tolerations"][0] == {"key": "h100", "operator": "Exists"}
    memory = {v["name"]: v["emptyDir"] for v in train["volumes"]}["shm"]
    assert memory == {"medium": "Memory", "sizeLimit": "8Gi"}
    labels = build("train", pipeline)["metadata"]["labels"]
    assert labels["trusted-retraining/cost-center"] == "radiology"
    assert labels["kueue.x-k8s.io/queue-name"] == "nights"


def test_spot_capacity_is_tolerated_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, "SPOT_NODE_SELECTOR", '{"capacity": "spot"}')
    stages = {"train": {"spot": False}}
    pipeline = pipeline_named("demo", resources__spot=True, resources__stages=stages)
    spot, steady = build("ingest", pipeline)["spec"], build("train", pipeline)["spec"]
    assert spot["nodeSelector"]["capacity"] == "spot" and "capacity" not in steady["nodeSelector"]
    keys = {toleration["key"] for toleration in spot["tolerations"]}
    more = keys - {toleration["key"] for toleration in steady["tolerations"]}
    assert "karpenter.sh/capacity-type" in more and "eks.amazonaws.com/capacityType" in more


@pytest.mark.parametrize(
    ("spread", "key"),
    [("node", "kubernetes.io/hostname"), ("zone", "topology.kubernetes.io/zone"), ("none", None)],
)
def test_pods_are_spread_as_far_as_there_is_room(spread: str, key: str | None) -> None:
    pod = build("train", pipeline_named("demo", resources__spread=spread))
    rules = pod["spec"].get("topologySpreadConstraints") or []
    assert [rule["topologyKey"] for rule in rules] == ([key] if key else [])
    for rule in rules:
        assert rule["whenUnsatisfiable"] == "ScheduleAnyway"
        wanted = rule["labelSelector"]["matchLabels"].items()
        assert wanted <= pod["metadata"]["labels"].items()


def test_a_template_adds_and_what_is_decided_here_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(
        """
apiVersion: v1
kind: Pod
metadata: {labels: {team: imaging}}
spec:
  runtimeClassName: nvidia
  restartPolicy: Always
  containers:
    - name: stage
      image: another
      env: [{name: HTTPS_PROXY, value: "http://proxy:3128"}]
      securityContext: {privileged: true}
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: films}}]
"""
    )
    setting(monkeypatch, "POD_TEMPLATE_FILE", str(template))
    pod = build("train")
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    assert pod["spec"]["runtimeClassName"] == "nvidia" and pod["spec"]["restartPolicy"] == "Never"
    assert pod["metadata"]["labels"]["team"] == "imaging"
    own = container(pod)
    assert own["image"] == "trusted-retraining/tasks:latest"
    assert not own["securityContext"]["privileged"]
    names = [volume["name"] for volume in pod["spec"]["volumes"]]
    assert sorted(names) == ["data", "home", "scratch", "shm", "tmp"]
    assert {"HTTPS_PROXY", "HOME"} <= {entry["name"] for entry in own["env"]}


def test_without_gpus_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    setting(monkeypatch, "GPU_RESOURCE", "none")
    assert set(container(build("train"))["resources"]["limits"]) == {"memory", "ephemeral-storage"}


def test_the_operator_of_eks_builds_the_same_pod() -> None:
    def same(kind: type[StagePodOperator]) -> Object:
        pod = build("train", kind=kind)
        del pod["metadata"]["name"]
        return pod

    assert same(StageEksPodOperator) == same(StagePodOperator)


@pytest.mark.parametrize("kind", [StagePodOperator, StageEksPodOperator])
def test_the_operator_leaves_and_loses_no_pod(
    kind: type[StagePodOperator], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting(monkeypatch, "DEFERRABLE", "True")
    setting(monkeypatch, "SCHEDULE_TIMEOUT_SECONDS", "77")
    operator = kind(
        task_id="train",
        stage="train",
        pipeline=pipeline_named("demo"),
        settings=Settings.read(),
    )
    assert operator.durable and operator.deferrable and operator.do_xcom_push is False
    assert operator.on_finish_action.value == "delete_succeeded_pod"
    assert operator.on_kill_action.value == "delete_pod"
    assert operator.schedule_timeout_seconds == 77 and operator.startup_timeout_seconds == 1200
    assert operator.active_deadline_seconds == 60 * 240


@pytest.mark.parametrize(
    "text",
    [
        RUN_ID,
        "x" * 64,
        "-leading",
        "trailing_",
        "größe",
        "manual__2026-07-04T02:00:00+00:00",
        ":::",
    ],
)
def test_any_text_becomes_a_label_of_its_own(text: str) -> None:
    value = label_value(text)
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", value)
    assert value != label_value(text + "x") and label_value(value) == value


def test_what_is_a_label_already_stays_as_it_is() -> None:
    assert label_value("demo_biased") == "demo_biased"
