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


def test_the_table_names_every_role_and_part(eks: list[Object]) -> None:
    named = {who for deeds in TABLE["bucket"].values() for each in deeds.values() for who in each}
    assert {f"trusted-retraining-{who}" for who in named} == set(POLICIES)
    assert all(list(deeds) == list(DEEDS) for deeds in TABLE["bucket"].values())
