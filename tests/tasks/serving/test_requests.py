"""The model server takes requests as clients write them, and refuses the rest in a sentence."""

import base64
import gzip
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.serving.files import Pointer, tree_digest, write_pointer

V1, V2 = "/v1/models/demo:predict", "/v2/models/demo/infer"


@pytest.fixture(scope="module")
def url(
    start_server: Callable[..., AbstractContextManager[tuple["subprocess.Popen[bytes]", str]]],
    saved_models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    root = tmp_path_factory.mktemp("asked")
    shutil.copytree(saved_models["1"], root / "demo" / "1")
    digest = tree_digest(root / "demo" / "1")
    write_pointer(root / "demo", Pointer(version="1", digest=digest, path="1"))
    with start_server(root) as (_, address):
        yield address


@pytest.fixture(scope="module")
def text(images: list[bytes]) -> str:
    """Base64 of an image that is green, with bytes that the alphabets write differently."""
    found = base64.b64encode(images[1]).decode()
    assert "/" in found or "+" in found
    return found


def classes(url: str, path: str, content: Any, **headers: str) -> list[str]:
    """Return the classes that a request is answered with."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    response = httpx.post(url + path, content=body, headers=headers)
    assert response.status_code == 200, response.text
    document = response.json()
    if path == V2:
        return list(document["outputs"][1]["data"])
    if "predictions" in document:
        return [each["class_name"] for each in document["predictions"]]
    return list(document["outputs"]["class_name"])


FORM, BINARY = "application/x-www-form-urlencoded", "application/octet-stream"


@pytest.mark.parametrize("content_type", ["application/json", FORM, BINARY, "text/plain", ""])
def test_a_body_is_parsed_whatever_its_content_type(url: str, text: str, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert classes(url, V1, {"instances": [{"b64": text}]}, **headers) == ["green"]
    tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [text]}
    assert classes(url, V2, {"inputs": [tensor]}, **headers) == ["green"]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"image_bytes": {"b64": "TEXT"}}]},
        {"instances": [{"image_bytes": {"b64": "TEXT"}, "key": "1"}]},
        {"instances": [{"b64": "TEXT", "key": "1"}]},
        {"signature_name": "serving_default", "instances": [{"b64": "TEXT"}]},
        {"inputs": {"image_bytes": [{"b64": "TEXT"}]}},
        {"inputs": [{"b64": "TEXT"}]},
        {"inputs": {"images": [[[[10, 240, 90]] * 16] * 16]}},
        {"instances": [{"images": [[[10, 240, 90]] * 16] * 16}]},
        {"signature_name": "tensors", "instances": [[[[10, 240, 90]] * 16] * 16]},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_inputs_are_taken_as_tensorflow_serving_takes_them(
    url: str, text: str, body: dict[str, Any]
) -> None:
    content = json.dumps(body).replace("TEXT", text).encode()
    assert classes(url, V1, content) == ["green"]


def test_columns_are_answered_by_columns(url: str, text: str) -> None:
    body = {"inputs": {"image_bytes": [{"b64": text}] * 2}}
    answer = httpx.post(url + V1, json=body).json()
    assert answer["outputs"]["class_name"] == ["green", "green"]
    assert [len(row) for row in answer["outputs"]["probabilities"]] == [2, 2]
    assert "predictions" not in answer
    assert answer["model_version"] == "1"


@pytest.mark.parametrize(
    "written",
    [
        lambda text: base64.encodebytes(base64.b64decode(text)).decode(),
        lambda text: text.rstrip("="),
        lambda text: base64.urlsafe_b64encode(base64.b64decode(text)).decode(),
        lambda text: base64.urlsafe_b64encode(base64.b64decode(text)).decode().rstrip("="),
        lambda text: f"data:image/jpeg;base64,{text}",
        lambda text: f"data:;base64,{text}",
        lambda text: f"  {text}\r\n",
    ],
    ids=["line breaks", "no padding", "url-safe", "jwt-like", "data URI", "bare URI", "blanks"],
)
def test_base64_is_taken_in_every_spelling(
    url: str, text: str, written: Callable[[str], str]
) -> None:
    assert classes(url, V1, {"instances": [{"b64": written(text)}]}) == ["green"]
    tensor = {"name": "x", "datatype": "BYTES", "shape": [1], "data": [written(text)]}
    assert classes(url, V2, {"inputs": [tensor]}) == ["green"]


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress)],
)
def test_packed_bodies_are_unpacked(
    url: str, text: str, encoding: str, packed: Callable[[bytes], bytes]
) -> None:
    body = packed(json.dumps({"instances": [{"b64": text}]}).encode())
    assert classes(url, V1, body, **{"Content-Encoding": encoding}) == ["green"]


def binary(tensor: dict[str, Any], data: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a V2 request with binary data behind the JSON."""
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]})
    return head.encode() + data, {"Inference-Header-Content-Length": str(len(head))}


def test_binary_tensors_are_taken(url: str, images: list[bytes]) -> None:
    data = b"".join(struct.pack("<I", len(each)) + each for each in images)
    body, headers = binary({"name": "image_bytes", "datatype": "BYTES", "shape": [3]}, data)
    assert classes(url, V2, body, **headers) == ["red", "green", "red"]
    shape = [1, 16, 16, 3]
    body, headers = binary(
        {"name": "images", "datatype": "UINT8", "shape": shape}, bytes([10, 240, 90]) * 256
    )
    assert classes(url, V2, body, **headers) == ["green"]
    pixels = struct.pack("<768f", *([10.0, 240.0, 90.0] * 256))
    body, headers = binary({"name": "images", "datatype": "FP32", "shape": shape}, pixels)
    assert classes(url, V2, body, **headers) == ["green"]


def v2(**tensor: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]} | tensor]}


LONG = "A" * 3_000_000

WRONG: list[tuple[str, Any, str]] = [
    (V1, b"", "empty"),
    (V1, b"a=b&c=d", "not JSON"),
    (V1, b"\xff\xfe", "not JSON"),
    (V1, b"null", "instances"),
    (V1, b'"x"', "instances"),
    (V1, b'{"instances": [[[[NaN]]]]}', "not JSON"),
    (V1, b'{"instances": ' + b"[" * 100_000, "not JSON"),
    (V1, b'{"instances": ' + b"[" * 500 + b"]" * 500 + b"}", "not equal lists"),
    (V1, b'{"instances": [[[[1e999]]]]}', ""),
    (V1, b'{"instances": [' + b"9" * 5_000 + b"]}", ""),
    (V1, b"[" + b"[]," * 5_000_000 + b"[]]", "values"),
    (V1, {"instances": [LONG]}, "bare text"),
    (V1, {"instances": [[LONG]]}, "not equal lists"),
    (V1, {"instances": [{"b64": LONG + "!"}]}, "not base64"),
    (V1, {"instances": [{LONG: 1}]}, "b64"),
    (V1, {"instances": [None]}, "not equal lists"),
    (V1, {"instances": [{"b64": None}]}, "b64"),
    (V1, {"instances": [{"b64": ["x"]}]}, "b64"),
    (V1, {"instances": [{"b64": "data:image/png,abc"}]}, ";base64"),
    (V1, {"instances": [{"b64": "é"}]}, "not base64"),
    (V1, {"instances": [{"image_bytes": "AAAA"}]}, "b64"),
    (V1, {"instances": [{"image_bytes": {"b64": "AAAA"}, "images": []}]}, "image_bytes"),
    (V1, {"instances": [{"other": 1}]}, "image_bytes"),
    (V1, {"instances": [{"b64": "AAAA"}], "inputs": []}, "one of them"),
    (V1, {"instances": [{"b64": "AAAA"}], "signature_name": LONG}, "signature_name"),
    (V1, {"instances": [{"b64": "AAAA"}], "signature_name": 3}, "signature_name"),
    (V1, {"inputs": {"image_bytes": {"b64": "AAAA"}}}, "must be a list"),
    (V1, {"inputs": {"b64": "AAAA"}}, "instances"),
    (V1, {"inputs": {}}, "image_bytes"),
    (V1, {"inputs": LONG}, "instances"),
    (V2, b"", "empty"),
    (V2, b"null", "inputs"),
    (V2, b"[]", "inputs"),
    (V2, {"inputs": LONG}, "inputs"),
    (V2, {"inputs": [LONG]}, "inputs"),
    (V2, {"inputs": [{}]}, "name"),
    (V2, v2(name=3), "name"),
    (V2, v2(datatype=LONG), "datatype"),
    (V2, v2(datatype="BOOL"), "BOOL"),
    (V2, v2(shape=LONG), "shape"),
    (V2, v2(shape=[-1]), "shape"),
    (V2, v2(shape=[1.5]), "shape"),
    (V2, v2(shape=[True]), "shape"),
    (V2, v2(shape=[2]), "do not fit"),
    (V2, v2(shape=[2**31 - 1] * 8), "do not fit"),
    (V2, v2(shape=[2**31 - 1] * 9), "at most 8"),
    (V2, v2(datatype="FP32", data=[], shape=[0, 2**31 - 1]), "holds no values"),
    (V1, {"instances": [[[LONG, *[""] * 1000]]]}, "not equal lists"),
    (V2, v2(data=None), "data must be a list"),
    (V2, v2(data=LONG), "data must be a list"),
    (V2, v2(data=[3]), "must be a text"),
    (V2, v2(data=[LONG + "!"]), "not base64"),
    (V2, v2(data=[["AAAA"], "AAAA"]), "flat list"),
    (V2, v2(data=["AAAA"] * 1025, shape=[1025]), "must be 1 .. 1024"),
    (V2, v2(datatype="FP32", data=[LONG]), "not equal lists"),
    (V2, v2(datatype="FP32", data=[1, 2], shape=[2]), "must be [N, 16, 16, 3]"),
    (V2, v2() | {"id": 3}, "id"),
    (V2, v2(parameters={"binary_data_size": 9}), "binary data"),
]


@pytest.mark.parametrize(
    ("path", "body", "said"), WRONG, ids=lambda value: str(value)[:40] if value else ""
)
def test_what_is_wrong_is_refused_in_one_sentence(
    url: str, path: str, body: Any, said: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(url + path, content=content)
    assert response.status_code == 400, response.text[:300]
    error = response.json()["error"]
    assert said in error
    assert isinstance(error, str) and len(error) <= 200 and "\n" not in error


@pytest.mark.parametrize(
    ("headers", "content", "status", "said"),
    [
        ({"Inference-Header-Content-Length": "many"}, b"{}", 400, "Content-Length"),
        ({"Inference-Header-Content-Length": "99"}, b"{}", 400, "Content-Length"),
        ({"Inference-Header-Content-Length": "-1"}, b"{}", 400, "Content-Length"),
        ({"Content-Encoding": "br"}, b"{}", 400, "Content-Encoding"),
        ({"Content-Encoding": "gzip"}, b"{}", 400, "Content-Encoding"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"{}", mtime=0)[:-9], 400, "ends before"),
        ({"Content-Encoding": "gzip"}, gzip.compress(bytes(300_000_000), mtime=0), 413, "128 MiB"),
        ({}, bytes(140_000_000), 413, "128 MiB"),
    ],
    ids=["no number", "too long", "negative", "br", "no gzip", "cut gzip", "gzip bomb", "140 MB"],
)
def test_what_is_around_a_body_is_checked_too(
    url: str, headers: dict[str, str], content: bytes, status: int, said: str
) -> None:
    response = httpx.post(url + V2, content=content, headers=headers)
    assert response.status_code == status
    assert said in response.json()["error"] and len(response.text) < 300


def test_broken_binary_data_are_refused(url: str) -> None:
    for data in (b"\x01", struct.pack("<I", 99) + b"xx", struct.pack("<I", 0) * 2):
        body, headers = binary({"name": "x", "datatype": "BYTES", "shape": [1]}, data)
        response = httpx.post(url + V2, content=body, headers=headers)
        assert (response.status_code, "input 'x'" in response.text) == (400, True)
    body, headers = binary({"name": "x", "datatype": "FP32", "shape": [1, 16, 16, 3]}, b"xxx")
    assert httpx.post(url + V2, content=body, headers=headers).status_code == 400


def test_other_errors_are_one_sentence_as_well(url: str) -> None:
    for method, path, status in (
        ("POST", f"/v1/models/{'x' * 5_000}:predict", 404),
        ("POST", f"/v2/models/{'x' * 5_000}/infer", 404),
        ("POST", "/v1/models/demo:explain", 501),
        ("POST", "/v2/models/demo/versions/1/infer", 501),
        ("POST", "/v2/repository/models/demo/unload", 501),
        ("GET", f"/v1/models/{'x' * 5_000}", 404),
    ):
        response = httpx.request(method, url + path, content=b'{"instances": [[1]]}')
        assert (response.status_code, len(response.text) < 300) == (status, True), path
