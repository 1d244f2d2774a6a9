"""What Airflow may do with pods and models beyond what roles can say."""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.spec import Pipeline
from tests.kubernetes.admission import plural, refusals
from tests.kubernetes.kustomization import Object, render, with_component
from tests.kubernetes.test_airflow_values import CLUSTERS, values, variables
from trusted_retraining.dag_builder import PREPARATION
from trusted_retraining.extra_pods import extra_pod
from trusted_retraining.pods import stage_pod
from trusted_retraining.serving import deployment_manifests as plain
from trusted_retraining.serving import kserve_manifests as manifests
from trusted_retraining.serving.kserve import KServeRollout
from trusted_retraining.serving.plan import Plan, State
from trusted_retraining.settings import Settings

STAGES = (*PREPARATION, "fairness", "explain", "robustness", "bless", "publish", "reject", "report")
WORKER = "system:serviceaccount:airflow:airflow-worker"
TRIGGERER = "system:serviceaccount:airflow:airflow-triggerer"
OUTSIDE = "trusted-retraining:airflow"
ROLLOUTS = "system:serviceaccount:kube-system:deployment-controller"


@pytest.fixture(params=["kind", "eks"])
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Object]]:
    """The cluster files of an overlay, and the settings of its values."""
    for name, value in variables(values(*CLUSTERS[request.param])).items():
        monkeypatch.setenv(name, value)
    rendered: list[Object] = request.getfixturevalue(request.param)
    yield rendered


def pod_of(pipeline: Pipeline, stage: str = "train") -> Object:
    return stage_pod(
        stage=stage, pipeline=pipeline, settings=Settings.read(), run_id="night", arguments=[]
    )


def plan_of(pipeline: Pipeline, **deploy: Any) -> Plan:
    changed = pipeline.model_copy(update={"deploy": pipeline.deploy.model_copy(update=deploy)})
    return Plan(model="demo", version="3", digest="d" * 64, model_uri="s3://bucket/models/demo/3",
                run_uri="s3://bucket/demo/runs/night", pipeline=changed,
                settings=Settings.read())  # fmt: skip


def plain_objects(plan: Plan) -> list[Object]:
    return [
        plain.deployment(
            plan, plain.pod_spec(plan), role="serving", replicas=1, digest=plan.digest
        ),
        plain.service(plan, role="serving"),
        plain.disruption_budget(plan),
        plain.autoscaler(plan),
    ]


def services_of_kserve(plan: Plan) -> list[Object]:
    served = replace(KServeRollout(None, plan).wanted(), name="m1")  # type: ignore[arg-type]
    canary = State(serving=served, candidate=replace(served, name="m2"))
    states = (State(candidate=served), canary)
    service = manifests.champion_service(plan, served, {"uid": "1"})
    return [*(manifests.inference_service(plan, state) for state in states), service]


def variable_of(objects: list[Object], policy: str, name: str) -> Object:
    """Return a variable of an admission policy, as it is in the objects."""
    (found,) = [
        variable
        for one in objects
        if one["kind"] == "ValidatingAdmissionPolicy" and one["metadata"]["name"] == policy
        for variable in one["spec"]["variables"]
        if variable["name"] == name
    ]
    result: Object = found
    return result


def changed(one: Object, path: str, value: Any) -> Object:
    """Return an object with another value at a path of names and numbers."""
    new = copy.deepcopy(one)
    *way, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    there: Any = new
    for part in way:
        there = there.setdefault(part, {}) if isinstance(there, dict) else there[part]
    there[last] = value
    return new


def test_every_pod_of_ours_is_admitted(site: list[Object], pipelines: dict[str, Pipeline]) -> None:
    for pipeline in pipelines.values():
        for stage in STAGES:
            assert refusals(site, pod_of(pipeline, stage)) == []


def test_the_pod_of_an_extra_stage_is_admitted_with_listed_secrets(
    site: list[Object],
) -> None:
    def build(**more: Any) -> Object:
        stage = {"name": "kappa", "image": "kappa:1", "after": ["evaluate"], **more}
        pipeline = Pipeline.model_validate(
            {
                "name": "films",
                "source": {"kind": "synthetic"},
                "label": {"column": "finding"},
                "extra_stages": [stage],
            }
        )
        return extra_pod(extra=pipeline.extra_stages[0], pipeline=pipeline,
                         settings=Settings.read(), run_id="night", arguments=[])  # fmt: skip

    assert refusals(site, build(credentials=["storage", "mlflow"])) == []
    asked = build(secret="of-kappa")  # noqa: S106
    assert refusals(site, asked) == [
        "a secret in envFrom is not listed in the policy trusted-retraining-stage-pods"
    ]
    listed = copy.deepcopy(site)
    variable = variable_of(listed, "trusted-retraining-stage-pods", "secrets")
    variable["expression"] = variable["expression"].replace("]", ", 'of-kappa']")
    assert refusals(listed, asked) == []


SECRET = {"secretKeyRef": {"name": "of-others", "key": "k"}}


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("serviceAccountName", "default", "service account"),
        ("automountServiceAccountToken", True, "token"),
        ("containers/0/envFrom", [{"secretRef": {"name": "of-others"}}], "envFrom"),
        ("containers/0/env", [{"name": "A", "valueFrom": SECRET}], "env"),
        ("initContainers", [{"name": "a", "env": [{"name": "A", "valueFrom": SECRET}]}], "env"),
        ("volumes", [{"name": "a", "secret": {"secretName": "of-others"}}], "volumes"),
        ("volumes", [{"name": "a", "csi": {"nodePublishSecretRef": {"name": "b"}}}], "volumes"),
        ("volumes", [{"name": "a", "projected": {"sources": [{"secret": {"name": "b"}}]}}],
         "projected"),
        ("containers/0/resources/limits", {"nvidia.com/mig-1g.10gb": "1"}, "resource"),
        ("resourceClaims", [{"name": "gpu"}], "resource"),
    ],
)  # fmt: skip
def test_a_pod_that_asks_for_more_is_refused(
    site: list[Object], pipelines: dict[str, Pipeline], path: str, value: Any, word: str
) -> None:
    wrong = changed(pod_of(pipelines["demo"]), f"spec/{path}", value)
    (message,) = refusals(site, wrong)
    assert word in message
    assert len(refusals(site, wrong, user="role", groups=(OUTSIDE,))) == 1
    # who administers the cluster is no worker
    assert refusals(site, wrong, user="admin", groups=("system:masters",)) == []


def test_all_that_is_served_is_admitted(site: list[Object], pipelines: dict[str, Pipeline]) -> None:
    demo = pipelines["demo"]
    ours = [
        *plain_objects(plan_of(demo, target="deployment", gpu=1)),
        *services_of_kserve(plan_of(demo, mode="knative")),
        *services_of_kserve(plan_of(demo, mode="standard", gpu=1)),
    ]
    for one in ours:
        assert refusals(site, one) == []
        for user in (WORKER, TRIGGERER):
            assert refusals(site, one, old=one, user=user) == []


@pytest.fixture
def models(pipelines: dict[str, Pipeline]) -> Callable[[], list[Object]]:
    """The objects of a model in service, one of each kind."""

    def build() -> list[Object]:
        demo = pipelines["demo"]
        services = services_of_kserve(plan_of(demo, mode="standard"))
        return [*plain_objects(plan_of(demo, target="deployment")), services[0]]

    return build


def test_objects_of_others_are_not_touched(
    site: list[Object], models: Callable[[], list[Object]]
) -> None:
    for one in models():
        for labels in ({}, {"app.kubernetes.io/managed-by": "Helm"}):
            theirs = changed(one, "metadata/labels", labels)
            unlabelled = copy.deepcopy(theirs)
            del unlabelled["metadata"]["labels"]
            for there in (theirs, unlabelled):
                (message,) = refusals(site, one, old=there)
                assert "made by somebody else" in message
                (message,) = refusals(site, None, old=there)
                assert "made by somebody else" in message
                (message,) = refusals(site, there)
                assert "has the label" in message
                (message,) = refusals(site, there, old=one, user=TRIGGERER)
                assert "has the label" in message
                # their own, and Kubernetes itself
                assert refusals(site, there, old=there, user="them") == []
                assert refusals(site, there, old=there, user=ROLLOUTS) == []


POD = {"Deployment": "spec/template/spec", "InferenceService": "spec/predictor"}


@pytest.mark.parametrize("server", POD)
@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("serviceAccountName", "of-others", "service account"),
        ("serviceAccount", "of-others", "service account"),
        ("automountServiceAccountToken", True, "token"),
        ("containers/0/envFrom", [{"secretRef": {"name": "of-others"}}], "envFrom"),
        ("containers/0/env", [{"name": "A", "valueFrom": SECRET}], "env"),
        ("volumes", [{"name": "a", "secret": {"secretName": "of-others"}}], "volumes"),
        ("volumes", [{"name": "a", "projected": {"sources": [{"secret": {"name": "b"}}]}}],
         "projected"),
        ("containers/0/resources/limits", {"nvidia.com/mig-1g.10gb": "1"}, "resource"),
    ],
)  # fmt: skip
def test_a_model_server_that_asks_for_more_is_refused(
    site: list[Object], models: Callable[[], list[Object]],
    server: str, path: str, value: Any, word: str,
) -> None:  # fmt: skip
    (one,) = [each for each in models() if each["kind"] == server]
    wrong = changed(one, f"{POD[server]}/{path}", value)
    (message,) = refusals(site, wrong, old=one)
    assert word in message
    if server == "InferenceService":
        hidden = changed(one, "spec/canary", [{"predictor": wrong["spec"]["predictor"]}])
        assert refusals(site, hidden) == [message]


@pytest.mark.parametrize(
    "path", ["transformer", "explainer", "predictor/model", "predictor/workerSpec"]
)
def test_an_inference_service_has_nothing_beside_its_containers(
    site: list[Object], models: Callable[[], list[Object]], path: str
) -> None:
    wrong = changed(models()[-1], f"spec/{path}", {})
    (message,) = refusals(site, wrong)
    assert "predictor of containers" in message


def test_services_and_autoscalers_reach_nothing_of_others(
    site: list[Object], models: Callable[[], list[Object]]
) -> None:
    by_kind = {one["kind"]: one for one in models()}
    stolen = changed(by_kind["Service"], "spec/externalIPs", ["198.51.100.7"])
    (message,) = refusals(site, stolen)
    assert "external addresses" in message
    scaled = changed(by_kind["HorizontalPodAutoscaler"], "spec/scaleTargetRef/name", "theirs")
    (message,) = refusals(site, scaled)
    assert "its own name" in message


def test_policies_cover_whatever_the_roles_let_airflow_write(overlay: list[Object]) -> None:
    def matched(policy: str) -> set[str]:
        (found,) = [
            one
            for one in overlay
            if one["kind"] == "ValidatingAdmissionPolicy" and one["metadata"]["name"] == policy
        ]
        rules = found["spec"]["matchConstraints"]["resourceRules"]
        return {resource for rule in rules for resource in rule["resources"]}

    def written(namespace: str, verbs: set[str]) -> set[str]:
        return {
            resource
            for one in overlay
            if one["kind"] == "Role" and one["metadata"]["namespace"] == namespace
            for rule in one["rules"]
            if verbs & set(rule["verbs"])
            for resource in rule["resources"]
        }

    assert matched("trusted-retraining-models") >= written(
        "trusted-retraining-serving", {"create", "patch", "delete"}
    )
    assert matched("trusted-retraining-stage-pods") == written("trusted-retraining", {"create"})


def test_what_may_be_used_is_what_the_settings_name(site: list[Object]) -> None:
    settings = Settings.read()

    def listed(policy: str, name: str) -> list[str]:
        return re.findall(r"'([^']+)'", variable_of(site, policy, name)["expression"])

    stages, models = "trusted-retraining-stage-pods", "trusted-retraining-model-pods"
    own = settings.cluster.stages_service_accounts
    assert listed(stages, "accounts") == [settings.cluster.service_account, *own.values()]
    assert own.keys() <= set(STAGES)
    assert listed(models, "accounts") == [settings.serving.service_account]
    for name, quota in {stages: "stages", models: "models"}.items():
        (hard,) = [
            one["spec"]["hard"]
            for one in site
            if one["kind"] == "ResourceQuota" and one["metadata"]["name"] == quota
        ]
        for resource in listed(name, "resources"):
            if resource != "ephemeral-storage" or quota == "stages":
                assert f"requests.{resource}" in hard, (name, resource)


def test_with_kueue_no_stage_goes_round_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipelines: dict[str, Pipeline]
) -> None:
    objects = render(with_component(tmp_path, "kueue", "overlays/eks"))
    for name, value in variables(values(*CLUSTERS["eks"])).items():
        monkeypatch.setenv(name, value)
    (message,) = refusals(objects, pod_of(pipelines["demo"]))
    assert "kueue_queue = stages" in message
    monkeypatch.setenv("AIRFLOW__TRUSTED_RETRAINING__KUEUE_QUEUE", "stages")
    assert refusals(objects, pod_of(pipelines["demo"])) == []


def test_resources_are_named_by_their_kind() -> None:
    assert plural("PodDisruptionBudget") == "poddisruptionbudgets"
