"""No request keeps the server from its others: what is costly is refused, or done elsewhere."""

import base64
import gzip
import io
import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tasks.serving.files import Pointer, tree_digest, write_pointer
from tasks.serving.limits import MI

V1, V2 = "/v1/models/demo:predict", "/v2/models/demo/infer"
GZIP = {"Content-Encoding": "gzip"}
EVENT = {"Content-Type": "application/cloudevents+json"}
BINARY_EVENT = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "here", "ce-type": "film"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., AbstractContextManager[tuple["subprocess.Popen[bytes]", str]]],
    saved_models: dict[str, Path],
    root: Path,
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    shutil.copytree(saved_models["1"], root / "demo" / "1")
    digest = tree_digest(root / "demo" / "1")
    write_pointer(root / "demo", Pointer(version="1", digest=digest, path="1"))
    with start_server(root) as found:
        yield found
        # after everything that the tests below have sent
        assert most_memory(found[0]) < 2048 * MI
    assert "Traceback" not in (root.parent / f"{root.name}.log").read_text()


def most_memory(process: "subprocess.Popen[bytes]") -> int:
    """Return the most bytes that a process ever had in memory."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (most,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return most * 1024


def v2(**tensor: Any) -> bytes:
    whole = {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]} | tensor
    return json.dumps({"inputs": [whole]}).encode()


def binary(tensor: dict[str, Any], data: bytes) -> tuple[bytes, dict[str, str]]:
    parameters = {"parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [{"name": "x"} | tensor | parameters]}).encode()
    return head + data, {"Inference-Header-Content-Length": str(len(head))}


def images(encoded: bytes, count: int = 1) -> bytes:
    row = b'{"b64":"' + base64.b64encode(encoded) + b'"}'
    return b'{"instances":[' + b",".join([row] * count) + b"]}"


def rows(row: bytes, count: int) -> bytes:
    return b'{"instances":[' + row * count + row.rstrip(b",") + b"]}"


def event(data: bytes) -> bytes:
    return b'{"specversion":"1.0","id":"1","source":"x","type":"y","data":' + data + b"}"


BIG, FULL = 20 * MI, 100 * MI
"""Bytes of a body: enough for its cost to show, and near the bound for what fills the memory."""

LONG = b"A" * (20 * MI)
WIDE = binary({"datatype": "UINT8", "shape": [FULL // 768, 16, 16, 3]}, bytes(FULL // 768 * 768))

HOSTILE: dict[str, Callable[[], tuple[str, bytes, dict[str, str]]]] = {
    "a shape of 90 000": lambda: (V2, v2(shape=[2**31 - 1] * 90_000), {}),
    "a shape of 600": lambda: (V2, v2(shape=[2**31 - 1] * 600), {}),
    "an empty shape of huge sides": lambda: (
        *(V2, v2(datatype="FP32", data=[], shape=[0, *[2**31 - 1] * 7]), {}),
    ),
    "spaced base64, packed": lambda: (
        *(V1, gzip.compress(b'{"instances":[{"b64":"' + b"aa " * (FULL // 3) + b'"}]}', 6), GZIP),
    ),
    "base64 of nothing but padding": lambda: (
        *(V1, b'{"instances":[{"b64":"' + b"=" * BIG + b'"}]}', {}),
    ),
    "a wide text": lambda: (
        *(V1, b'{"instances":[{"b64":"' + "😀".encode() + b"A" * FULL + b'"}]}', {}),
    ),
    "packed in 200 000 pieces": lambda: (V1, gzip.compress(b"") * 200_000, GZIP),
    "nothing, packed": lambda: (V1, gzip.compress(bytes(BIG), 6), GZIP),
    "an event of many objects": lambda: (*(V1, event(rows(b"{},", BIG // 3)), EVENT),),
    "a binary event of many objects": lambda: (V1, rows(b"{},", BIG // 3), BINARY_EVENT),
    "an event within events": lambda: (V1, b'{"data":' * 100_000, EVENT),
    "explained objects": lambda: ("/v1/models/demo:explain", rows(b"{},", BIG // 3), EVENT),
    "nothing but commas": lambda: (V1, b"," * BIG, {}),
    "lists within lists": lambda: (V1, rows(b"[" * 900 + b"]" * 900 + b",", 2000), {}),
    "many names": lambda: (
        V1,
        b"{" + b",".join(b'"%d":1' % at for at in range(3_000_000)) + b"}",
        {},
    ),
    "many rows": lambda: (V1, rows(b"0,", 3_900_000), {}),
    "a long text among numbers": lambda: (V1, rows(b'[1,"' + LONG + b'"],', 2), {}),
    "a long text among texts": lambda: (
        V1,
        rows(b'["' + b'",""' * 1000 + b',"' + LONG + b'"],', 0),
        {},
    ),
    "a long number": lambda: (V1, b'{"instances":[' + b"9" * BIG + b"]}", {}),
    "a long fraction": lambda: (V1, b'{"instances":[0.' + b"9" * BIG + b"]}", {}),
    "a long exponent": lambda: (V1, b'{"instances":[1e' + b"9" * BIG + b"]}", {}),
    "many inputs": lambda: (V2, b'{"inputs":[' + b"{}," * 100_000 + b"{}]}", {}),
    "a deep size": lambda: (
        V2,
        v2(parameters={"binary_data_size": 0}).replace(
            b": 0}", b": " + b"[" * 900 + b"]" * 900 + b"}"
        ),
        {},
    ),
    "bytes that become floats": lambda: (V2, *WIDE),
    "many empty texts": lambda: (V2, *binary({"datatype": "BYTES", "shape": [1]}, bytes(BIG))),
    "a picture of many parts": lambda: (V1, images(b"\xff\xd8\xff" + b"\xff\0" * (5 * MI)), {}),
    "an animation of many blocks": lambda: (
        *(V1, images(b"GIF89a\1\0\1\0\0\0\0\x21\xfe" + b"\1x" * (5 * MI)), {}),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_costly_request_is_refused_while_others_are_answered(
    server: tuple["subprocess.Popen[bytes]", str], name: str
) -> None:
    process, url = server
    path, content, headers = HOSTILE[name]()
    answered = 0
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, timeout=20) as client:
        # its connection is there before: what is measured is the answer
        assert client.get("/v2/health/live").status_code == 200
        started = time.monotonic()
        asked = pool.submit(httpx.post, url + path, content=content, headers=headers, timeout=300)
        while not asked.done():
            assert client.get("/v2/health/live").status_code == 200
            answered += not asked.done()
        response, took = asked.result(), time.monotonic() - started
    # one that is refused at once leaves no time to ask in
    assert answered or took < 1
    assert response.status_code in (400, 413, 501), response.text[:300]
    assert 0 < len(response.json()["error"]) <= 200
    assert most_memory(process) < 2048 * MI


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (1, 1), (10, 240, 90)).save(stream, "PNG")
    return stream.getvalue()


def test_binary_pixels_of_every_type_are_answered_alike(
    server: tuple["subprocess.Popen[bytes]", str],
) -> None:
    pixels = [10, 240, 90] * 256
    found = []
    for kind, letter in (("UINT8", "B"), ("INT64", "q"), ("FP16", "e"), ("FP64", "d")):
        data = struct.pack(f"<768{letter}", *pixels)
        body, headers = binary({"datatype": kind, "shape": [1, 16, 16, 3]}, data)
        response = httpx.post(server[1] + V2, content=body, headers=headers)
        found.append(response.json()["outputs"][0]["data"])
    assert found[0][1] > 0.9
    assert all(each == pytest.approx(found[0], abs=1e-6) for each in found)


def test_many_tiny_images_are_answered_whole(
    server: tuple["subprocess.Popen[bytes]", str],
) -> None:
    response = httpx.post(server[1] + V1, content=images(png(), 1024), timeout=120)
    assert len(response.json()["predictions"]) == 1024


@pytest.mark.parametrize("binary_event", [False, True])
def test_an_event_is_answered_by_an_event(
    server: tuple["subprocess.Popen[bytes]", str], binary_event: bool
) -> None:
    body = images(png()) if binary_event else event(images(png()))
    headers = BINARY_EVENT if binary_event else {"Content-Type": f"{EVENT['Content-Type']}; x=y"}
    response = httpx.post(server[1] + V1, content=body, headers=headers)
    document = response.json()
    if binary_event:
        found = {key: response.headers[f"ce-{key}"] for key in ("specversion", "type", "source")}
        assert response.headers["content-type"] == "application/json"
        assert response.headers["ce-id"] != BINARY_EVENT["ce-id"]
    else:
        found = {key: document[key] for key in ("specversion", "type", "source")}
        assert response.headers["content-type"] == EVENT["Content-Type"]
        document = document["data"]
    assert found["type"] == "io.kserve.inference.response"
    assert found["source"] == "io.kserve.inference.demo"
    assert document["predictions"][0]["class_name"] == "green"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"[1]", "must hold data"),
        (b'{"specversion":"1.0"}', "must hold data"),
        (event(b"null"), "instances"),
        (event(b'"text"'), "instances"),
        (b'{"data_base64":"AAAA"}', "must hold data"),
    ],
)
def test_what_is_no_event_is_refused(
    server: tuple["subprocess.Popen[bytes]", str], body: bytes, said: str
) -> None:
    response = httpx.post(server[1] + V1, content=body, headers=EVENT)
    assert (response.status_code, said in response.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    "endless",
    [b"0\r\nX-Behind: " + b"a" * 4000, b"0\r\n" + b"X: y\r\n" * 700, b"1;" + b"a" * 4000],
    ids=["a long trailer", "many trailers", "an extension of a chunk"],
)
def test_what_is_no_body_is_not_taken_without_end(
    server: tuple["subprocess.Popen[bytes]", str], endless: bytes
) -> None:
    host, port = server[1].removeprefix("http://").split(":")
    head = f"POST {V1} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    start, more = endless[:3], endless[3:]
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head + start)
        with pytest.raises(OSError, match=r"reset|Broken pipe|closed"):
            for _ in range(10_000):
                connection.sendall(more)
            raise OSError("still open" if connection.recv(1) else "closed")


def test_who_still_sends_after_the_answer_sees_it_but_does_not_send_without_end(
    server: tuple["subprocess.Popen[bytes]", str],
) -> None:
    host, port = server[1].removeprefix("http://").split(":")
    # of a GET the body is not waited for
    head = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head)
        for _ in range(4):
            time.sleep(0.1)
            connection.sendall(bytes(MI))
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            for _ in range(200):
                connection.sendall(bytes(MI))


def test_a_body_in_very_small_chunks_is_taken(
    server: tuple["subprocess.Popen[bytes]", str],
) -> None:
    def parts() -> Iterator[bytes]:
        for byte in images(png(), 100):
            yield bytes([byte])

    response = httpx.post(server[1] + V1, content=parts(), timeout=120)
    assert len(response.json()["predictions"]) == 100


def test_whoever_asks_for_a_look_at_the_pointers_shares_it(
    server: tuple["subprocess.Popen[bytes]", str],
) -> None:
    statuses: list[int] = []

    def look() -> None:
        path = "/v2/repository/models/demo/load"
        statuses.append(httpx.post(server[1] + path, timeout=60).status_code)

    threads = [threading.Thread(target=look) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40
