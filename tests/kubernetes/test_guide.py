"""The commands of the guide that change files, run on a copy."""

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate

from tests.kubernetes.kustomization import ROOT, containers, documents, render
from tests.kubernetes.references import GUIDE

SITE = {
    "ACCOUNT": "444455556666",
    "AWS_REGION": "us-west-2",
    "BUCKET": "clinic-models",
    "VPC_CIDR": "10.20.0.0/16",
    "REGISTRY": "registry.example/team",
    "TAG": "7.7.7",
}
PLACEHOLDERS = ("111122223333", "eu-central-1", "example-trusted-retraining", "10.0.0.0/16")


def test_the_placeholders_are_replaced_by_the_commands_of_the_guide(tmp_path: Path) -> None:
    copied = tmp_path / "docker/kubernetes"
    shutil.copytree(ROOT, copied)
    blocks = [b for b in re.findall(r"```\n(.*?)```", GUIDE.read_text(), re.S) if "sed -i" in b]
    assert len(blocks) == 2
    for block in blocks:
        environment = {"PATH": "/usr/bin:/bin"} | SITE
        subprocess.run(["bash", "-euc", block], cwd=tmp_path, env=environment, check=True)
    left = [
        (path.name, placeholder, line)
        for path in [*copied.glob("overlays/eks/**/*"), copied / "airflow/values-eks.yaml"]
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
