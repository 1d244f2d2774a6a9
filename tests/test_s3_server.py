"""The S3 API of the tests asks who is there, and writes on conditions."""

from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from tests import s3_server


@pytest.fixture(scope="module")
def bucket(s3: str) -> str:
    s3_server.client(s3).create_bucket(Bucket="conditions")
    return "conditions"


def refused(call: Any, **given: Any) -> str:
    """Return the code of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**given)
    return str(caught.value.response["Error"]["Code"])


def test_who_has_no_key_another_s_or_a_wrong_secret_is_refused(s3: str, bucket: str) -> None:
    wrong = s3_server.client(s3, secret="guessed")  # noqa: S106
    assert refused(wrong.list_objects_v2, Bucket=bucket) == "SignatureDoesNotMatch"
    unknown = s3_server.client(s3, "of-nobody")
    assert refused(unknown.list_objects_v2, Bucket=bucket) == "InvalidAccessKeyId"
    assert httpx.get(f"{s3}/{bucket}", trust_env=False).status_code == 403


def test_an_object_is_put_where_there_is_none_and_in_the_place_of_the_one_that_was_read(
    s3: str, bucket: str
) -> None:
    store = s3_server.client(s3)
    first = store.put_object(Bucket=bucket, Key="a/b", Body=b"1", IfNoneMatch="*")
    place = {"Bucket": bucket, "Key": "a/b"}
    assert refused(store.put_object, **place, Body=b"2", IfNoneMatch="*") == "PreconditionFailed"
    assert refused(store.put_object, **place, Body=b"2", IfMatch='"0"') == "PreconditionFailed"
    assert store.get_object(**place)["Body"].read() == b"1"
    store.put_object(**place, Body=b"2", IfMatch=first["ETag"])
    assert store.get_object(**place)["Body"].read() == b"2"
