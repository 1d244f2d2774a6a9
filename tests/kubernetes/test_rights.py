"""Who may do what: no more than is listed here, anywhere."""

from collections import defaultdict

import pytest

from tests.kubernetes.iam import BUCKET, POLICIES, listed
from tests.kubernetes.kustomization import Object

SCHEDULER = "airflow/airflow-scheduler"
WORKER = "airflow/airflow-worker"
TRIGGERER = "airflow/airflow-triggerer"
API_SERVER = "airflow/airflow-api-server"

READ = {"get", "list", "watch"}
RUN_PODS = {"pods": READ | {"create", "patch", "delete"}, "pods/log": {"get"}, "events": READ}
SEE_LOGS = {"pods": {"get", "list"}, "pods/log": {"get"}}
APPLY = {"create", "get", "patch"}
TAKE_BACK = {"get", "patch"}

RIGHTS: dict[tuple[str, str], dict[str, set[str]]] = {
    (SCHEDULER, "airflow"): RUN_PODS,
    (API_SERVER, "airflow"): SEE_LOGS,
    (WORKER, "trusted-retraining"): RUN_PODS,
    (TRIGGERER, "trusted-retraining"): RUN_PODS | {"pods": READ | {"patch", "delete"}},
    (WORKER, "trusted-retraining-serving"): {
        "inferenceservices": APPLY,
        "deployments": APPLY,
        "services": APPLY,
        "configmaps": APPLY,
        "poddisruptionbudgets": APPLY,
        "horizontalpodautoscalers": APPLY,
        "pods": {"list"},
    },
    (TRIGGERER, "trusted-retraining-serving"): {
        "inferenceservices": TAKE_BACK,
        "deployments": TAKE_BACK,
        "services": TAKE_BACK,
        "configmaps": TAKE_BACK,
        "poddisruptionbudgets": TAKE_BACK,
        "horizontalpodautoscalers": TAKE_BACK,
        "pods": {"list"},
    },
}
"""Account and namespace to resource to verbs."""


def granted(objects: list[Object]) -> dict[tuple[str, str], dict[str, set[str]]]:
    """Return what the roles and their bindings grant, in the shape of ``RIGHTS``."""
    roles = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["rules"]
        for one in objects
        if one["kind"] == "Role"
    }
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    for binding in (one for one in objects if one["kind"] == "RoleBinding"):
        namespace = binding["metadata"]["namespace"]
        assert binding["roleRef"]["kind"] == "Role"
        rules = roles[namespace, binding["roleRef"]["name"]]
        for subject in binding["subjects"]:
            who = (
                f"{subject['namespace']}/{subject['name']}"
                if subject["kind"] == "ServiceAccount"
                else subject["name"]
            )
            verbs = found.setdefault((who, namespace), defaultdict(set))
            for rule in rules:
                for resource in rule["resources"]:
                    verbs[resource] |= set(rule["verbs"])
    return found


def test_accounts_may_do_what_is_listed_and_nothing_else(kind: list[Object]) -> None:
    assert granted(kind) == RIGHTS


def test_an_airflow_outside_the_cluster_has_the_rights_of_a_worker(eks: list[Object]) -> None:
    outside = "trusted-retraining:airflow"
    assert granted(eks) == RIGHTS | {
        (outside, namespace): RIGHTS[WORKER, namespace]
        for namespace in ("trusted-retraining", "trusted-retraining-serving")
    }


def test_no_wildcards_no_cluster_roles_no_shells_no_secrets(overlay: list[Object]) -> None:
    assert not [one for one in overlay if one["kind"].startswith("ClusterRole")]
    for one in (one for one in overlay if one["kind"] == "Role"):
        for rule in one["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
            assert not {"pods/exec", "pods/attach", "secrets"} & set(rule["resources"])
            assert not {"escalate", "bind", "impersonate", "update"} & set(rule["verbs"])


def test_api_groups_are_those_of_the_resources(overlay: list[Object]) -> None:
    groups = {
        "inferenceservices": "serving.kserve.io",
        "deployments": "apps",
        "poddisruptionbudgets": "policy",
        "horizontalpodautoscalers": "autoscaling",
    }
    for one in (one for one in overlay if one["kind"] == "Role"):
        for rule in one["rules"]:
            for resource in rule["resources"]:
                assert rule["apiGroups"] == [groups.get(resource, "")], resource


def test_only_those_who_talk_to_kubernetes_have_a_token(overlay: list[Object]) -> None:
    with_token = {
        f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        for one in overlay
        if one["kind"] == "ServiceAccount" and one["automountServiceAccountToken"]
    }
    assert with_token == {SCHEDULER, WORKER, TRIGGERER, API_SERVER}


# --- AWS

ARN = f"arn:aws:s3:::{BUCKET}"


def test_a_policy_for_each_role_of_the_overlay(eks: list[Object]) -> None:
    roles = {
        one["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].rpartition("/")[2]
        for one in eks
        if "annotations" in one["metadata"] and one["kind"] == "ServiceAccount"
    }
    assert roles == set(POLICIES)


@pytest.mark.parametrize("role", POLICIES)
def test_policies_name_actions_and_the_bucket(role: str) -> None:
    for statement in POLICIES[role]["Statement"]:
        assert all(action.startswith("s3:") and "*" not in action for action in statement["Action"])
        for resource in listed(statement["Resource"]):
            assert resource == ARN or resource.startswith(f"{ARN}/")
        if any(action.startswith("s3:ListBucket") for action in statement["Action"]):
            assert statement["Resource"] == ARN and "Condition" in statement
