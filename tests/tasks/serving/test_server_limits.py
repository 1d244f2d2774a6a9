"""The model server takes so much at a time: no request costs the others theirs."""

import base64
import io
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from tasks.serving.files import Pointer, tree_digest, write_pointer
from tasks.serving.limits import (
    BASE_BYTES,
    BYTES_PER_PIXEL,
    LIGHT_PIXELS,
    MI,
    Limits,
    memory_bytes,
    read_limits,
    write_limits,
)

V1 = "/v1/models/demo:predict"


@dataclass
class Server:
    url: str
    root: Path
    process: "subprocess.Popen[bytes]"

    def log(self) -> str:
        return (self.root.parent / f"{self.root.name}.log").read_text()

    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., AbstractContextManager[tuple["subprocess.Popen[bytes]", str]]],
    saved_models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("bounded")
    for name in ("demo", "small"):
        shutil.copytree(saved_models["1"], root / name / "1")
        digest = tree_digest(root / name / "1")
        write_pointer(root / name, Pointer(version="1", digest=digest, path="1"))
    write_limits(root / "small", max_pixels=400)
    with start_server(root, "--body-seconds", "2") as (process, url):
        yield Server(url, root, process)


def png(width: int, height: int, mode: str = "1") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, "PNG")
    return stream.getvalue()


def body(*images: bytes) -> bytes:
    rows = [{"b64": base64.b64encode(image).decode()} for image in images]
    return json.dumps({"instances": rows}).encode()


def ask(server: Server, *images: bytes, model: str = "demo") -> httpx.Response:
    path = f"/v1/models/{model}:predict"
    return httpx.post(server.url + path, content=body(*images), timeout=60)


def test_an_image_at_the_bound_is_answered_and_one_above_it_refused(server: Server) -> None:
    assert ask(server, png(5000, 5000)).status_code == 200
    before = server.memory()
    for image in (png(5001, 5000), png(20_000, 20_000)):
        response = ask(server, png(9, 9), image)
        assert response.status_code == 400
        assert "instance 1: has " in response.text and "at most 25000000 are taken" in response.text
    # nothing was decoded
    assert server.memory() - before < 50 * MI


def test_a_header_that_lies_is_caught_before_it_is_decoded(server: Server) -> None:
    # one row of the pixels that the header announces
    honest = png(30_000, 1)
    lying = honest[:20] + (30_000).to_bytes(4, "big") + honest[24:]
    assert "has 900000000 pixels" in ask(server, lying).text


def test_the_images_of_a_request_count_together(server: Server) -> None:
    response = ask(server, *[png(5000, 4000)] * 3)
    assert response.status_code == 400
    assert "60000000 pixels together" in response.text and "several requests" in response.text


def test_a_jpeg_of_a_thousand_scans_is_refused(server: Server) -> None:
    stream = io.BytesIO()
    Image.new("L", (100, 100)).save(stream, "JPEG", progressive=True)
    scans = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x00" * 1000
    response = ask(server, stream.getvalue()[:-2] + scans + b"\xff\xd9")
    assert (response.status_code, "scans" in response.text) == (400, True)


def test_a_model_has_a_bound_of_its_own(server: Server) -> None:
    assert ask(server, png(20, 20), model="small").status_code == 200
    assert "at most 400 are taken" in ask(server, png(21, 20), model="small").text
    assert ask(server, png(21, 20)).status_code == 200


def test_ordinary_requests_do_not_wait_for_large_ones_and_those_too_many_are_sent_away(
    server: Server,
) -> None:
    large, small = body(png(5000, 5000, "RGB")), body(png(20, 24, "RGB"))
    answers: list[httpx.Response] = []

    def insist() -> None:
        answers.append(httpx.post(server.url + V1, content=large, timeout=60))

    threads = [threading.Thread(target=insist) for _ in range(30)]
    for thread in threads:
        thread.start()
    ordinary = [httpx.post(server.url + V1, content=small, timeout=60) for _ in range(20)]
    for thread in threads:
        thread.join()
    assert [each.status_code for each in ordinary] == [200] * 20
    statuses = {each.status_code for each in answers}
    assert statuses <= {200, 503} and 200 in statuses
    assert all("retry-after" in each.headers for each in answers if each.status_code == 503)
    assert server.memory() < 2048 * MI
    assert server.process.poll() is None


def send(server: Server, data: bytes) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(data)
    return connection


def head(length: int) -> bytes:
    return f"POST {V1} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_slow_body_ends_with_an_answer_and_holds_nobody_up(server: Server) -> None:
    slow = [send(server, head(5000) + b'{"inst') for _ in range(200)]
    assert ask(server, png(20, 24, "RGB")).status_code == 200
    # head and body of an answer may come in two pieces
    answer = b"".join(iter(lambda: slow[0].recv(4096), b""))
    assert b" 408 " in answer and b"did not come within 2 s" in answer
    for connection in slow:
        connection.close()


def test_a_client_that_goes_away_leaves_no_line(server: Server) -> None:
    before = server.log()
    for data in (head(5000) + b'{"inst', b"POST /v1/mod", head(5000)):
        for _ in range(50):
            send(server, data).close()
    for _ in range(20):
        send(server, head(len(body(png(9, 9)))) + body(png(9, 9))).close()
    send(server, b"\x16\x03\x01 no http\r\n\r\n").close()
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    send(server, upgrade).close()
    assert ask(server, png(9, 9)).status_code == 200
    time.sleep(0.5)
    assert server.log() == before


def test_a_head_without_end_closes_its_connection(server: Server) -> None:
    connection = send(server, b"GET / HTTP/1.1\r\n")
    with pytest.raises(OSError, match=r"reset|Broken pipe|closed"):
        for _ in range(100):
            connection.sendall(b"X-Header: " + b"a" * 4000 + b"\r\n")
            time.sleep(0.01)
        raise OSError("still open" if connection.recv(1) else "closed")


def test_bounds_follow_from_memory() -> None:
    limits = Limits(memory=memory_bytes("2Gi"))
    assert limits.max_pixels == 25_000_000
    assert BASE_BYTES + limits.pixels_in_flight * BYTES_PER_PIXEL <= memory_bytes("2Gi")
    assert limits.body_bytes == 128 * MI
    assert Limits(memory=memory_bytes("1Gi")).max_pixels == LIGHT_PIXELS
    assert Limits(memory=memory_bytes("8Gi"), pixels=10**9).max_pixels < 250_000_000
    with pytest.raises(ValueError, match="no amount of memory"):
        memory_bytes("2G")


def test_a_model_s_own_bound_is_written_where_it_is_not_the_default(tmp_path: Path) -> None:
    write_limits(tmp_path, max_pixels=25_000_000)
    assert (list(tmp_path.iterdir()), read_limits(tmp_path)) == ([], None)
    write_limits(tmp_path, max_pixels=7)
    assert read_limits(tmp_path) == 7
    for broken in ("", "[]", '{"max_pixels": true}', '{"max_pixels": -1}'):
        (tmp_path / "limits.json").write_text(broken)
        assert read_limits(tmp_path) is None
    write_limits(tmp_path, max_pixels=25_000_000)
    assert list(tmp_path.iterdir()) == []


def test_an_unused_budget_is_whole_again(server: Server) -> None:
    """What was refused, went away or was answered gave back what it held."""
    for _ in range(3):
        assert ask(server, png(5000, 5000)).status_code == 200
    big: Any = json.dumps({"instances": [{"b64": "A" * 30_000_000}]}).encode()
    for _ in range(12):
        assert httpx.post(server.url + V1, content=big, timeout=60).status_code == 400
