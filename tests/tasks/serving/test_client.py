"""Known answers are asked in requests that a server takes."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from tasks.serving import client
from tasks.serving.client import KnownAnswer, ServerClient
from tasks.serving.limits import LIGHT_PIXELS


class _Answers(BaseHTTPRequestHandler):
    """Answers every image alike, and is busy at first."""

    busy = 0
    sizes: list[int]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.busy:  # type: ignore[attr-defined]
            self.server.busy -= 1  # type: ignore[attr-defined]
            self._send(503, {}, {"Retry-After": "1"})
            return
        rows = len(body["instances"]) if "instances" in body else body["inputs"][0]["shape"][0]
        if "instances" in body:
            self.server.sizes.append(rows)  # type: ignore[attr-defined]
            answer = {
                "predictions": [{"probabilities": [0.25, 0.75]}] * rows,
                "model_digest": "d",
            }
        else:
            answer = {
                "outputs": [
                    {"name": "probabilities", "shape": [rows, 2], "data": [0.25, 0.75] * rows}
                ],
                "parameters": {"model_digest": "d"},
            }
        self._send(200, answer, {})

    def _send(self, status: int, document: object, headers: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    found.busy, found.sizes = 0, []  # type: ignore[attr-defined]
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def answer(width: int, height: int) -> KnownAnswer:
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return KnownAnswer(
        image_id=f"{width}x{height}", image=stream.getvalue(), probabilities=(0.25, 0.75)
    )


def check(server: ThreadingHTTPServer, answers: list[KnownAnswer]) -> float:
    with ServerClient(f"http://127.0.0.1:{server.server_address[1]}") as asking:
        return asking.check_known_answers("demo", "d", answers, tolerance=1e-6)


def test_small_images_go_together_and_large_ones_alone(server: ThreadingHTTPServer) -> None:
    assert LIGHT_PIXELS == 4_000_000
    small, large = answer(1000, 1000), answer(5000, 4000)
    assert check(server, [small, small, small, small, small, large, large, small]) == 0
    assert server.sizes == [4, 1, 1, 1, 1]  # type: ignore[attr-defined]


def test_a_busy_server_is_asked_again(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BUSY_SECONDS", 0.01)
    server.busy = 3  # type: ignore[attr-defined]
    assert check(server, [answer(9, 9)]) == 0
