"""The table of who may do what, ``who_may.yaml``, against what the files grant."""

from pathlib import Path

import pytest

from tests.kubernetes.iam import POLICIES, may
from tests.kubernetes.kustomization import Object, documents

(TABLE,) = documents(Path(__file__).with_name("who_may.yaml"))
DEEDS = {
    "read": ("s3:GetObject", False),
    "create": ("s3:PutObject", True),
    "replace": ("s3:PutObject", False),
    "delete": ("s3:DeleteObject", False),
}


@pytest.mark.parametrize("key", TABLE["bucket"])
@pytest.mark.parametrize("deed", DEEDS)
def test_the_bucket(key: str, deed: str) -> None:
    action, only_if_absent = DEEDS[deed]
    who = [
        role.removeprefix("trusted-retraining-")
        for role in POLICIES
        if may(role, action, key, only_if_absent=only_if_absent)
    ]
    assert who == TABLE["bucket"][key][deed]


@pytest.mark.parametrize("prefix", TABLE["listing"])
def test_the_names_in_the_bucket(prefix: str) -> None:
    who = [
        role.removeprefix("trusted-retraining-")
        for role in POLICIES
        if may(role, "s3:ListBucket", None, prefix or None)
    ]
    assert who == TABLE["listing"][prefix]


def test_the_table_names_every_role_and_part(eks: list[Object]) -> None:
    rows = TABLE["bucket"].values()
    named = {who for row in rows for deed in DEEDS for who in row[deed]}
    assert {f"trusted-retraining-{who}" for who in named} == set(POLICIES)
    assert all(set(row) - {"enforced_by"} == set(DEEDS) for row in rows)
    marks = [mark for row in rows for mark in row.get("enforced_by", {}).items()]
    assert all(deed in DEEDS and by == "offline" for deed, by in marks)
