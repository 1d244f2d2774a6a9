"""Every pod is admitted under the ``restricted`` Pod Security Standard."""

import pytest

from tests.kubernetes.kustomization import Object, containers, identity, pod_spec

VOLUMES = {"configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
           "projected", "secret"}  # fmt: skip


def restricted(spec: Object, every: list[Object]) -> list[str]:
    """Return in what a pod misses the ``restricted`` standard, and ours beyond it.

    Parameters
    ----------
    spec : dict
        Specification of the pod.
    every : list of dict
        Its containers, the first ones included.
    """
    missed = []
    security = spec.get("securityContext", {})
    if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        missed.append("seccompProfile")
    if security.get("runAsNonRoot") is not True or security.get("runAsUser", 1) == 0:
        missed.append("runAsNonRoot")
    missed += [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    for volume in spec.get("volumes", []):
        missed += [f"volume {kind}" for kind in set(volume) - VOLUMES - {"name"}]
    for container in every:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            missed.append("privilege")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            missed.append("capabilities")
        if own.get("runAsUser", 1) == 0 or own.get("runAsNonRoot") is False:
            missed.append("root")
        missed += ["hostPort" for port in container.get("ports", []) if "hostPort" in port]
    return missed


def test_every_namespace_enforces_restricted(overlay: list[Object]) -> None:
    namespaces = [one for one in overlay if one["kind"] == "Namespace"]
    assert {one["metadata"]["name"] for one in namespaces} >= {
        "airflow", "trusted-retraining", "trusted-retraining-serving", "mlflow"
    }  # fmt: skip
    for one in namespaces:
        for mode in ("enforce", "audit", "warn"):
            assert one["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_every_pod_is_restricted_and_read_only(overlay: list[Object]) -> None:
    pods = [one for one in overlay if pod_spec(one)]
    assert pods
    for one in pods:
        spec = pod_spec(one)
        assert spec is not None
        assert restricted(spec, containers(one)) == [], identity(one)
        # no pod of these talks to the Kubernetes API
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in containers(one):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            volumes = {volume["name"] for volume in spec.get("volumes", [])}
            claims = one["spec"].get("volumeClaimTemplates", [])
            assert mounted <= volumes | {claim["metadata"]["name"] for claim in claims}


def test_no_image_names_a_registry_and_each_has_a_tag(overlay: list[Object]) -> None:
    for one in overlay:
        for container in containers(one):
            image, _, tag = container["image"].rpartition(":")
            assert tag and tag != "latest" and "." not in image.split("/")[0], container["image"]


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"securityContext": {"runAsNonRoot": True}}, "seccompProfile"),
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "volume hostPath"),
    ],
)
def test_a_pod_that_is_not_restricted_is_seen(
    kind: list[Object], change: Object, missed: str
) -> None:
    (mlflow,) = [one for one in kind if one["kind"] == "Deployment"]
    spec = pod_spec(mlflow)
    assert spec is not None
    assert missed in restricted(spec | change, containers(mlflow))
