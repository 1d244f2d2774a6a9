"""Credentials in addresses are refused when a file is read, and masked wherever they are shown."""

import time
from typing import Any, get_args
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from tasks.spec import Pipeline, SpecError, load_pipeline
from tasks.spec.masking import (
    masked,
    masked_deep,
    secret_in,
    without_credentials,
    without_queries,
)
from tasks.spec.pipeline import stored_pipeline

PIPELINE: dict[str, Any] = {
    "name": "films",
    "source": {"kind": "csv_images", "uri": "/data"},
    "label": {"column": "finding"},
}

WITH_SECRETS = {
    "https://ghp_TOKEN@host/z.zip": "ghp_TOKEN",
    "https://me:hunter2@host/z.zip": "hunter2",
    "https://:hunter2@host/z.zip": "hunter2",
    "git+https://hunter2@host/z": "hunter2",
    "s3://AKID:hunter2@bucket/films": "hunter2",
    "s3://hunter2@bucket/films": "hunter2",
    "postgresql://films:hun/ter2@db/films": "ter2",
    "zip://films.zip::https://me:hunter2@host/z.zip": "hunter2",
    "https://h/z?token=hunter2": "hunter2",
    "https://h/z?a=1&TOKEN=hunter2": "hunter2",
    "https://h/z?%74oken=hunter2": "hunter2",
    "https://h/z?token%3Dhunter2": "hunter2",
    "https://h/z#access_token=hunter2": "hunter2",
    "https://h/z;jsessionid=hunter2": "hunter2",
    "https://h/z?X-Amz-Signature=hunter2": "hunter2",
    "https://h/z?x-amz-security-token=hunter2": "hunter2",
    "https://h/z?X-Goog-Signature=hunter2": "hunter2",
    "https://h/z?GoogleAccessId=hunter2": "hunter2",
    "https://h/z?AWSAccessKeyId=hunter2": "hunter2",
    "https://h/z?Signature=hunter2": "hunter2",
    "https://h/z?sv=2022-11-02&sp=r&se=2030&sig=hunter2": "hunter2",
    "https://h/z?key=hunter2": "hunter2",
    "https://h/z?api_key=hunter2": "hunter2",
    "https://h/z?api-key=hunter2": "hunter2",
    "https://h/z?x-api-key=hunter2": "hunter2",
    "https://h/z?apikey=hunter2": "hunter2",
    "https://h/z?auth=hunter2": "hunter2",
    "https://h/z?user=me&password=hunter2": "hunter2",
    "https://h/z?client_secret=hunter2": "hunter2",
    "https://h/z?x=AKIAIOSFODNN7EXAMPLE": "AKIAIOSFODNN7EXAMPLE",
    "https://h/z?x=eyJhbGciOiJI.eyJzdWIiOiIx.hunter2": "hunter2",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhunter2": "hunter2",
    "file:///films.zip?token=hunter2": "hunter2",
    # a password may hold whatever separates the parts of an address
    "http://films:p@hunter2@127.0.0.1:9": "hunter2",
    "http://films:p@hunter2/w0rd@host/x": "hunter2",
    "https://films:p@hunter2@host/x?mail=me@example.org": "hunter2",
    "postgresql://films:pa?hunter2@db/films": "hunter2",
    "postgresql+psycopg2://films:12345/hunter2@db/films": "hunter2",
    "s3://AKID:123/hunter2@bucket": "hunter2",
    "mysql://films:pa'hunter2@db/films": "hunter2",
    'mysql://films:pa"hunter2@db/films': "hunter2",
    "https://films:12345@host/hunter": "12345",
    "https://films:\u00a0hunter2@host/x": "hunter2",
    "http://films:hunter2@[::1]/x": "hunter2",
    "https:\\/\\/films:hunter2@host": "hunter2",
    "https://hunter2@a@host/x": "hunter2",
    "sftp://hunter2@host/x": "hunter2",
    "https://h/x?next=https%3A%2F%2Fu%3Ahunter2%40h2%2F": "hunter2",
    "https://h/x?next=https%3A%2F%2Fh2%3Ftoken%3Dhunter2": "hunter2",
    "https://h/x?next=https%253A%252F%252Fh2%253Ftoken%253Dhunter2": "hunter2",
    "https://h/x?code=hunter2": "hunter2",
    "https://h/x?tempauth=hunter2": "hunter2",
    "https://h/x?rlkey=hunter2&dl=1": "hunter2",
    "https://h/x?pw=hunter2": "hunter2",
    "https://h/x?passcode=hunter2": "hunter2",
    "https://h/x?password[]=hunter2": "hunter2",
    "https://h/x?token%5B%5D=hunter2": "hunter2",
    "https://h/x?sig%3Dhunter2": "hunter2",
    "https://h/x?sig='hunter2'": "hunter2",
    "https://h/x?auth_key=hunter2": "hunter2",
    "https://h/x?pat=hunter2": "hunter2",
    "https://h/x?psw=hunter2": "hunter2",
    "https://h/x?otp=hunter2": "hunter2",
    "https://h/x?ticket=hunter2": "hunter2",
    "https://h/x?hdnea=hunter2": "hunter2",
    "https://h/x?hdnts=hunter2": "hunter2",
}

WITH_NAMES = (
    "Endpoint=sb://x;SharedAccessKeyName=root;SharedAccessKey=hunter2",
    "MYSQL_PWD=hunter2",
    "_PASSWORD=hunter2",
    "--password=hunter2",
    "Authorization: Token hunter2",
    "authorization: hunter2, more",
    "'Authorization': 'Digest user, hunter2', 'Accept': 1",
    '{\\"Authorization\\": \\"Token hunter2\\"}',
    "Cookie: id=1; session=hunter2",
    "Set-Cookie: session=hunter2; Path=/",
    "password='x hunter2 y'",
    'passwd="a,hunter2"',
    """{'password': "x 'hunter2"}""",
    '{"password": "a\\"b hunter2"}',
    '"{\\"password\\": \\"x hunter2\\"}"',
    "password[]=hunter2",
    f"{'a' * 200}_password=hunter2",
    "secret_access_key     = hunter2",
    "see 'http://films:p@hunter2@h' and x@y",
    "see http://films:p@hunter2@h:1, and x@y",
)
"""Lines that hold a credential without an address of its own, or beside one."""

WITHOUT = (
    "s3://bucket/films",
    "/data/films.zip",
    "https://host:8443/films@2026.zip",
    "https://example.org/a@b",
    "https://host/z.zip?version=3&download=1&page=2",
    "https://host/z.zip?versionId=abc&keyword=x&monkey=2&path=a&tickets=3#top",
    "sqlite:////data/films.db",
    "postgresql+psycopg2://films@db/films",
    "abfss://films@account.dfs.core.windows.net/x",
    "https://sqs.eu-west-1.amazonaws.com/123456789012/films",
    "http://host:8080/a@b",
    "https://host:8443?mail=me@example.org",
    "http://[::1]:80/a@b",
    "https://h/x?next=https%3A%2F%2Fh2%2Ffilms%3Fpage%3D2",
)


@pytest.mark.parametrize(("address", "secret"), WITH_SECRETS.items())
def test_an_address_with_a_credential_is_refused_and_masked(address: str, secret: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_pipeline(_json(source={"kind": "csv_images", "uri": address}))
    said = str(caught.value)
    assert "source.uri: holds " in said and "secret" in said
    assert secret not in said
    assert secret not in masked(f"GET {address}: 403") and "***" in masked(address)


@pytest.mark.parametrize("line", WITH_NAMES)
def test_a_value_is_masked_to_its_end_by_its_name(line: str) -> None:
    assert "hunter2" not in masked(line) and "***" in masked(line)
    assert masked(masked(line)) == masked(line)


def test_what_follows_a_credential_is_left() -> None:
    line = "{'password': 'a, b', 'uri': 'http://u:p@h/x', 'mail': 'me@example.org'}"
    shown = "{'password': '***', 'uri': 'http://***@h/x', 'mail': 'me@example.org'}"
    assert masked(line) == shown
    assert masked("http://h:80,me@example.org") == "http://h:80,me@example.org"


@pytest.mark.parametrize(
    "password", ["p@S3CRET/VALUE", "p%40S3CRETVALUE", "1234/S3CRETVALUE", "a'S3CRETVALUE"]
)
def test_the_password_of_an_address_in_the_environment_is_known_as_it_is(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://films:{password}@127.0.0.1:9/ml")
    told = without_credentials(f"no login for films with {password}, {unquote(password)}")
    assert told == "no login for films with ***, ***"


def test_variables_are_secret_by_the_same_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MYSQL_PWD", "API_TOKEN_2", "DB_PASSPHRASE", "AZURE_ACCOUNT_KEY"):
        monkeypatch.setenv(name, "S3CRETVALUE")
        assert without_credentials("a S3CRETVALUE") == "a ***"
        monkeypatch.delenv(name)
    for name in ("PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "SOME_TOKEN_FILE"):
        monkeypatch.setenv(name, "/data/films")
    assert without_credentials("in /data/films") == "in /data/films"


@pytest.mark.parametrize("address", WITHOUT)
def test_an_address_without_one_is_taken_and_shown_as_it_is(address: str) -> None:
    assert secret_in(address) is None
    assert masked(address) == address
    assert masked(masked(f"see {address}.")) == f"see {address}."


def test_every_field_of_the_pipeline_file_that_holds_an_address_refuses_a_credential() -> None:
    """Also when a section is made without a file: the fields themselves know."""
    fields = dict(_fields(Pipeline))
    places = {"uri", "images", "address", "weights", "browse", "sqs_queue"}
    addresses = {path: kind for path, kind in fields.items() if "without_secret" in kind}
    assert {path.rsplit(".", 1)[-1] for path in addresses} == places
    called_so = {path for path in fields if path.endswith(("uri", "url", "address", ".weights"))}
    assert called_so <= set(addresses)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("train.weights", {"train": {"weights": "s3://k:hunter2@b/w.keras"}}),
        ("trigger.uri", {"trigger": {"uri": "s3://k:hunter2@b/films"}}),
        ("trigger.sqs_queue", {"trigger": {"sqs_queue": "https://sqs/q?X-Amz-Date=hunter2"}}),
        ("publish.report.uri", {"publish": {"report": {"uri": "s3://k:hunter2@b/x"}}}),
        ("publish.report.browse", {"publish": {"report": {"browse": "https://h/?sig=hunter2"}}}),
        ("publish.dataset.uri", {"publish": {"dataset": {"uri": "s3://hunter2@b/x"}}}),
        ("source.options.proxy", {"source": {"options": {"proxy": "http://u:hunter2@p"}}}),
        ("source.options.at.1", {"source": {"options": {"at": ["/a", "https://h/?pwd=hunter2"]}}}),
        ("source.address", {"source": {"kind": "sql", "address": "postgresql://f:hunter2@db/f"}}),
        ("source.images", {"source": {"kind": "sql", "images": "https://h/?key=hunter2"}}),
        ("description", {"description": "from https://h/z.zip?token=hunter2"}),
        ("extra_stages.0.env.INDEX", {"extra_stages": [{"env": {"INDEX": "https://hunter2@h"}}]}),
        (
            "extra_stages.0.command.1",
            {"extra_stages": [{"command": ["x", "--u=s3://a:hunter2@h"]}]},
        ),
        ("no_such_section.deep", {"no_such_section": {"deep": "https://me:hunter2@pypi"}}),
    ],
)
def test_wherever_it_stands_it_is_refused_by_the_field_s_name(
    field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(SpecError) as caught:
        load_pipeline(_json(**changes))
    assert f": {field}: holds " in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_what_an_earlier_run_stored_is_read_and_masked_when_it_is_shown() -> None:
    uri = "https://h/z.zip?token=hunter2"
    document = PIPELINE | {"source": {"kind": "csv_images", "uri": uri}}
    with pytest.raises(ValidationError):
        Pipeline.model_validate(document)
    stored = stored_pipeline(document)
    assert stored.source.uri == uri  # type: ignore[union-attr]
    shown = masked_deep(stored.model_dump(mode="json"))
    assert shown["source"]["uri"] == "https://h/z.zip?token=***"


def test_a_value_is_masked_by_the_name_that_it_has_in_a_document() -> None:
    document = {"env": {"API_TOKEN": "hunter2", "EPOCHS": "3"}, "uri": ["s3://b", 1, None]}
    assert masked_deep(document) == document | {"env": {"API_TOKEN": "***", "EPOCHS": "3"}}


def test_a_page_for_everybody_shows_no_query_at_all() -> None:
    assert without_queries('"https://u:p@h/z?cursor=1", x') == '"https://***@h/z?***", x'


REPEATED = (
    *("a_", "a-", "://", "?", "a=", "eyJ-", "//:", "http://a", "a", " ", "\\", "%25", "a%3A%2F%2F"),
    *("://a:", "https://a@", "x://a:1/", "'x://", "https://a@b?", "x://#a@ ", "eyJaaaaaaaa."),
    *("password=", "password='", 'password=\\"', "cookie='", "?a%3D", "?token='", "token[", "a= "),
    *("-----BEGIN PRIVATE KEY-----", "bearer  ", "passwordpassword"),
)


@pytest.mark.parametrize("part", REPEATED)
def test_no_text_keeps_a_stage_busy(part: str) -> None:
    """Its time grows with its length, not with the square of it, however slow a machine is."""
    short = _seconds(part * (40_000 // len(part)))
    assert _seconds(part * (320_000 // len(part))) < 24 * short + 2


def test_no_text_is_too_deep() -> None:
    quoted = "%" + "25" * 3_000
    text = f"x{quoted}3a{quoted}2f{quoted}2fhost?token=hunter2"
    assert masked(text) == f"x{quoted}3a{quoted}2f{quoted}2f***"
    assert _seconds(text) < 5


def _seconds(text: str) -> float:
    started = time.process_time()
    masked(text)
    secret_in(text)
    without_queries(text)
    return time.process_time() - started


def _json(**changes: Any) -> str:
    import json

    return json.dumps(PIPELINE | changes)


def _fields(model: Any, path: str = "") -> Any:
    """Yield every field of a section and of those inside of it, with its type as text."""
    for name, field in model.model_fields.items():
        here = f"{path}.{name}".lstrip(".")
        yield here, repr((field.annotation, field.metadata))
        yield from _inside(field.annotation, here)


def _inside(annotation: Any, path: str) -> Any:
    if hasattr(annotation, "model_fields"):
        yield from _fields(annotation, path)
    for inner in get_args(annotation):
        yield from _inside(inner, path)
