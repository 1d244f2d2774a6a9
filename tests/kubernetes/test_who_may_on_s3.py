"""The table of who may do what, ``who_may.yaml``, on a real S3 API, by signed requests.

Its identities have the policies as they are shipped; what it cannot enforce, a row says.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests import s3_server
from tests.kubernetes.iam import BUCKET, POLICIES
from tests.kubernetes.test_who_may import TABLE

Ask = Callable[[Any, str], Any]
"""Asks one thing of a client, about a key."""


@pytest.fixture(scope="module")
def clients(s3_of_roles: str) -> Callable[..., Any]:
    """Return boto3's client by role; without one, of who may do everything."""
    return cache(lambda *role: s3_server.client(s3_of_roles, *role))


def read(client: Any, key: str) -> None:
    assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"old"


def put(client: Any, key: str, **more: Any) -> None:
    client.put_object(Bucket=BUCKET, Key=key, Body=b"new", **more)


def put_in_parts(client: Any, key: str, **more: Any) -> None:
    place = {"Bucket": BUCKET, "Key": key}
    upload = place | {"UploadId": client.create_multipart_upload(**place)["UploadId"]}
    part = client.upload_part(**upload, PartNumber=1, Body=b"new")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**upload, MultipartUpload=parts, **more)


def delete(client: Any, key: str) -> None:
    client.delete_object(Bucket=BUCKET, Key=key)


def delete_in_a_list(client: Any, key: str) -> None:
    answer = client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key}]})
    for error in answer.get("Errors", []):
        raise ClientError({"Error": error}, "DeleteObjects")


def only_if_absent(write: Callable[..., None]) -> Ask:
    return lambda client, key: write(client, key, IfNoneMatch="*")


ASKED: dict[tuple[str, str], tuple[Ask, bytes | None, bytes | None]] = {
    ("read", "get"): (read, b"old", b"old"),
    ("create", "put"): (only_if_absent(put), None, b"new"),
    ("create", "in parts"): (only_if_absent(put_in_parts), None, b"new"),
    ("replace", "put"): (put, b"old", b"new"),
    ("replace", "in parts"): (put_in_parts, b"old", b"new"),
    ("delete", "one"): (delete, b"old", None),
    ("delete", "in a list"): (delete_in_a_list, b"old", None),
}
"""By deed and way: what is asked, what is there before, and what is there when it may be done."""


def may(ask: Ask, client: Any, key: str) -> bool:
    """Return whether a request is let pass; an error other than a refusal is one of the test."""
    try:
        ask(client, key)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDenied", error
        return False
    return True


def content(client: Any, key: str) -> bytes | None:
    """Return what is there, None for nothing."""
    try:
        return bytes(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    except client.exceptions.NoSuchKey:
        return None


@pytest.mark.parametrize("key", TABLE["bucket"])
@pytest.mark.parametrize(("deed", "way"), ASKED)
def test_the_bucket(clients: Callable[..., Any], key: str, deed: str, way: str) -> None:
    ask, before, after = ASKED[deed, way]
    master, who = clients(), []
    for role in POLICIES:
        delete(master, key)
        if before is not None:
            master.put_object(Bucket=BUCKET, Key=key, Body=before)
        allowed = may(ask, clients(role), key)
        assert content(master, key) == (after if allowed else before)
        if allowed:
            who.append(role.removeprefix("trusted-retraining-"))
    row = TABLE["bucket"][key]
    if row.get("enforced_by", {}).get(deed) == "offline":
        assert who != row[deed], "this API enforces it now: take enforced_by out of the row"
    else:
        assert who == row[deed]


@pytest.mark.parametrize("write", [put, put_in_parts])
def test_a_published_model_is_kept_by_the_condition_of_the_write(
    clients: Callable[..., Any], write: Callable[..., None]
) -> None:
    key = "retraining/models/demo/3-0123/saved_model.pb"
    clients().put_object(Bucket=BUCKET, Key=key, Body=b"old")
    with pytest.raises(ClientError) as refused:
        write(clients("trusted-retraining-publish"), key, IfNoneMatch="*")
    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"
    assert content(clients(), key) == b"old"


@pytest.mark.parametrize("prefix", TABLE["listing"])
def test_the_names_in_the_bucket(clients: Callable[..., Any], prefix: str) -> None:
    def names(client: Any, prefix: str) -> None:
        found = client.list_objects_v2(Bucket=BUCKET, **({"Prefix": prefix} if prefix else {}))
        assert key in [each["Key"] for each in found["Contents"]]

    key = f"{prefix}object"
    clients().put_object(Bucket=BUCKET, Key=key, Body=b"")
    who = [
        role.removeprefix("trusted-retraining-")
        for role in POLICIES
        if may(names, clients(role), prefix)
    ]
    assert who == TABLE["listing"][prefix]


@pytest.mark.parametrize("role", POLICIES)
def test_a_role_without_its_secret_key_may_nothing(clients: Callable[..., Any], role: str) -> None:
    client = s3_server.client(clients().meta.endpoint_url, role, secret="guessed")  # noqa: S106
    with pytest.raises(ClientError) as refused:
        client.list_objects_v2(Bucket=BUCKET, Prefix="retraining/models/demo/")
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
