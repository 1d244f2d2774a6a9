"""The commands of the guides: what changes files is run on a copy, the rest before stand-ins."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import jsonpatch
import kubernetes_validate
import pytest
import yaml

from tasks.spec import load_pipeline
from tests.kubernetes.kustomization import ROOT, Object, containers, documents, render
from tests.kubernetes.references import GUIDES, documented_secrets, secrets_in, secrets_in_values
from tests.kubernetes.test_airflow_values import CLUSTERS, shape, unknown, values
from trusted_retraining.cluster_settings import ClusterSettings

SITE = {
    "ACCOUNT": "444455556666",
    "AWS_REGION": "us-west-2",
    "BUCKET": "clinic-models",
    "VPC_CIDR": "10.20.0.0/16",
    "REGISTRY": "registry.example/team",
    "TAG": "7.7.7",
    "CLUSTER": "nights",
}
PLACEHOLDERS = (
    *("111122223333", "eu-central-1", "example-trusted-retraining", "10.0.0.0/16"),
    *("discovery: retraining", "NodeRole-retraining"),
)


ON_ONE_MACHINE, ON_EKS, OPERATIONS = GUIDES


def blocks(page: Path, language: str = "") -> list[str]:
    """Return the blocks of code of a page that are in a language, commands if none is named."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M)
    return [text for kind, text in found if kind == language]


def run(block: str, folder: Path, **more: str) -> None:
    """Run commands of a guide as they stand there."""
    subprocess.run(
        ["bash", "-euc", block], cwd=folder, env={"PATH": "/usr/bin:/bin"} | SITE | more, check=True
    )


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder of programs that only note how they were called, in the file `calls`."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    for name in ("aws", "kubectl", "kind", "helm", "eksctl", "docker"):
        script = folder / name
        noted = f'"{folder}/calls"'
        # what is not there yet cannot be got
        script.write_text(
            "#!/bin/bash\n"
            f'printf "%s\\x1f" {name} "$@" >> {noted}; printf "\\x1e" >> {noted}\n'
            '[[ " $* " != *" get secret "* ]] || [ -e "$(dirname "$0")/there" ]\n'
        )
        script.chmod(0o755)
    return folder


def calls(stubs: Path) -> list[list[str]]:
    """Return what was called, each with its arguments."""
    *called, _ = (stubs / "calls").read_text().split("\x1e")
    return [call.rstrip("\x1f").split("\x1f") for call in called]


def test_the_placeholders_are_replaced_by_the_commands_of_the_guide(tmp_path: Path) -> None:
    copied = tmp_path / "docker/kubernetes"
    shutil.copytree(ROOT, copied)
    changes = [
        line
        for block in blocks(ON_EKS)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("sed -i")
    ]
    assert len(changes) == 4
    for change in changes:
        run(change, tmp_path)
    left = [
        (path.name, placeholder, line)
        for path in [
            *copied.glob("overlays/eks/**/*"),
            *copied.glob("karpenter/*"),
            copied / "airflow/values-eks.yaml",
        ]
        if path.is_file()
        for line in path.read_text().splitlines()
        for placeholder in PLACEHOLDERS
        if placeholder in line
    ]
    assert left == []
    objects = render(copied / "overlays/eks")
    for one in objects:
        kubernetes_validate.validate(one, "1.31", strict=True)
    images = {container["image"] for one in objects for container in containers(one)}
    assert images == {"registry.example/team/trusted-retraining/tasks:7.7.7-cpu"}
    roles = [
        one["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        for one in objects
        if "annotations" in one["metadata"]
    ]
    assert roles and all(role.startswith("arn:aws:iam::444455556666:role/") for role in roles)
    for name in ("values.yaml", "values-eks.yaml"):
        (values,) = documents(copied / "airflow" / name)
        assert values["images"]["airflow"]["tag"] == "7.7.7"
    assert (
        "value: registry.example/team/trusted-retraining/tasks:7.7.7\n" in values["extraEnv"]
        and "s3://clinic-models/retraining" in values["extraEnv"]
    )
    assert (
        values["config"]["logging"]["remote_base_log_folder"] == "s3://clinic-models/airflow-logs"
    )


def test_one_machine_takes_ten_lines(tmp_path: Path, stubs: Path) -> None:
    first = blocks(ON_ONE_MACHINE)[0]
    assert len(first.splitlines()) == 10
    shutil.copytree(ROOT.parents[1] / "docker", tmp_path / "docker")
    shutil.copytree(ROOT.parents[1] / "dags/pipelines", tmp_path / "dags/pipelines")
    (tmp_path / "docker/build").write_text('#!/bin/sh\necho "$TAG $*" > built\n')
    run(first, tmp_path, PATH=f"{stubs}:/usr/bin:/bin")
    assert load_pipeline(tmp_path / "dags/pipelines/demo.yaml").deploy.target == "deployment"
    assert (tmp_path / "built").read_text() == "kind airflow tasks-cpu serving-cpu\n"
    called = calls(stubs)
    loaded = [call[-1] for call in called if call[:2] == ["kind", "load"]]
    (chart,) = documents(ROOT / "airflow/values-kind.yaml")
    needed = {c["image"] for one in render(ROOT / "overlays/kind") for c in containers(one)}
    needed |= set(re.findall(r"trusted-retraining/\S+:kind\S*", chart["extraEnv"]))
    needed |= {f"trusted-retraining/airflow:{chart['images']['airflow']['tag']}"}
    assert {image for image in needed if image.startswith("trusted-")} == set(loaded)
    programs = [call[0] for call in called]
    assert programs.index("helm") > programs.index("kubectl") > programs.index("kind")


def test_the_secrets_of_one_machine_are_made_once(
    tmp_path: Path, stubs: Path, kind: list[Object]
) -> None:
    def make() -> list[list[str]]:
        path = f"{stubs}:/usr/bin:/bin"
        (stubs / "calls").unlink(missing_ok=True)
        subprocess.run([ROOT / "overlays/kind/secrets"], env={"PATH": path}, check=True)
        return [call for call in calls(stubs) if "create" in call]

    made = {
        (call[call.index("-n") + 1], call[call.index("generic") + 1]): {
            word.split("=")[1] for word in call if word.startswith("--from-literal=")
        }
        for call in make()
    }
    wanted = secrets_in_values(values(*CLUSTERS["kind"])).union(*map(secrets_in, kind))
    for namespace, name, key in wanted:
        assert (namespace, name) in made and (key is None or key in made[namespace, name])
    assert made.items() <= documented_secrets().items()
    (stubs / "there").touch()
    assert make() == []


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_the_bucket_is_made_in_every_region(tmp_path: Path, stubs: Path, region: str) -> None:
    (block,) = [block for block in blocks(ON_EKS) if "create-bucket" in block]
    run(block, tmp_path, PATH=f"{stubs}:/usr/bin:/bin", AWS_REGION=region)
    create, *_, lifecycle = calls(stubs)
    # the one region that S3 refuses to be told
    named = [f"LocationConstraint={region}"] if region != "us-east-1" else []
    assert [word for word in create if word.startswith("LocationConstraint")] == named
    rules = json.loads(lifecycle[-1])["Rules"]
    assert all(rule["Status"] == "Enabled" for rule in rules)
    assert len({rule["ID"] for rule in rules}) == len(rules)


def test_the_cluster_fits_what_the_stages_look_for() -> None:
    (block,) = [block for block in blocks(ON_EKS) if "kind: ClusterConfig" in block]
    text = re.search(r"<<EOF\n(.*?)^EOF", block, re.S | re.M)
    assert text
    config = yaml.safe_load(re.sub(r"\$\w+", "x", text[1]))
    # EKS charges for what is older than this
    assert tuple(map(int, config["metadata"]["version"].split("."))) >= (1, 35)
    (gpu,) = [group for group in config["managedNodeGroups"] if group["name"] == "gpu"]
    pools = [one for one in render(ROOT / "karpenter") if one["kind"] == "NodePool"]
    ways = [(gpu["labels"], gpu["taints"])]
    for pool in pools:
        template = pool["spec"]["template"]
        ways.append((template["metadata"]["labels"], template["spec"]["taints"]))
    cluster = ClusterSettings.read(lambda name, default: default)
    for labels, taints in ways:
        assert cluster.node_selector.items() <= labels.items()
        tolerated = {
            (each.key, each.value) for each in (*cluster.tolerations, *cluster.spot_tolerations)
        }
        for taint in taints:
            assert {(taint["key"], taint["value"]), (taint["key"], None)} & tolerated
    # nothing starts a node of a pool that is empty, unless something is installed that does
    assert gpu["minSize"] == 0 and gpu["propagateASGTags"]
    assert "cluster-autoscaler" in ON_EKS.read_text()
    assert "nvdp" not in ON_EKS.read_text()


def test_values_and_objects_of_the_operations_are_valid() -> None:
    chart, ingress = (yaml.safe_load(block) for block in blocks(OPERATIONS, "yaml"))
    assert unknown(chart, shape()) == []
    kubernetes_validate.validate(ingress, "1.31", strict=True)
    (service,) = [
        one
        for one in render(ROOT / "overlays/eks")
        if one["kind"] == "Service" and one["metadata"]["name"] == "mlflow"
    ]
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert ingress["metadata"]["namespace"] == service["metadata"]["namespace"]
    json.loads(ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/auth-idp-oidc"])


def test_the_patch_of_the_policy_meets_the_list_of_secrets(eks: list[Object]) -> None:
    (block,) = blocks(ON_ONE_MACHINE, "yaml")
    (patch,) = yaml.safe_load(block)["patches"]
    (operation,) = yaml.safe_load(patch["patch"])
    (policy,) = [one for one in eks if one["metadata"]["name"] == patch["target"]["name"]
                 and one["kind"] == patch["target"]["kind"]]  # fmt: skip
    changed = jsonpatch.apply_patch(policy, [operation])
    before, after = (one["spec"]["variables"][1] for one in (policy, changed))
    assert before["name"] == "secrets"
    assert after["expression"].startswith(before["expression"].rstrip("]"))


def test_the_housekeeping_commands_are_known() -> None:
    from airflow.cli.cli_parser import get_parser
    from mlflow.cli import gc

    (text,) = [block for block in blocks(OPERATIONS) if "airflow db clean" in block]
    words = shlex.split(
        text.split("-- airflow ")[1].replace("\"$(date -d '180 days ago' +%F)\"", "2026-01-01")
    )
    assert get_parser().parse_args(words).yes is True
    (text,) = [block for block in blocks(OPERATIONS) if "mlflow gc" in block]
    options = {option for parameter in gc.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", text.split("mlflow gc")[1])) <= options
