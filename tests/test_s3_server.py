"""The S3 API of the tests asks who is there, and writes on conditions."""

from typing import Any

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


def test_an_unknown_key_a_wrong_one_and_none_are_refused(
    s3: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(key: str, secret: str) -> str:
        keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
        monkeypatch.setattr(
            s3_server, "credentials", lambda _: keys | {"AWS_DEFAULT_REGION": "us-east-1"}
        )
        return refused(s3_server.client(s3).list_objects_v2, Bucket=bucket)

    assert read("of-nobody", "any") == "InvalidAccessKeyId"
    assert read(s3_server.MASTER, "any") == "SignatureDoesNotMatch"


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
