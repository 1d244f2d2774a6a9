"""A real S3 API on loopback, and a proxy before it that throttles, hangs and counts."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from s3fs import S3FileSystem

from tests.s3_server import credentials

Answer = tuple[int, bytes]
BUCKET = "nights"
ANY_KEY = pytest.mark.parametrize("address", ["moto"], indirect=True)
"""For keys with the parts ``.`` and ``..``, which S3 takes and SeaweedFS refuses: on moto, which
takes them, and any credentials."""


@dataclass
class Store:
    """The proxy's address, what passed through it, and what it does to requests.

    ``fault`` gets method and target of each request, and returns an answer to give instead of
    passing it on, or None; it may also wait.
    """

    address: str
    direct: str
    seen: list[str] = field(default_factory=list)
    fault: Callable[[str, str], Answer | None] = lambda method, target: None

    def count(self, text: str) -> int:
        return sum(text in line for line in self.seen)

    def url(self, path: str) -> str:
        return f"s3://{BUCKET}/{path}"

    def files(self, path: str = "") -> list[str]:
        found = self.fs.find(f"{BUCKET}/{path}")
        return sorted(each.removeprefix(f"{BUCKET}/") for each in found)

    @property
    def fs(self) -> S3FileSystem:
        return S3FileSystem(endpoint_url=self.direct, use_listings_cache=False)


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    # a line a request would bury whatever a failing test has to say
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """Address of the S3 API."""
    return str(request.getfixturevalue(getattr(request, "param", "s3")))


@pytest.fixture
def store(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    proxy.daemon_threads = True
    host, port = proxy.server_address[:2]
    store = proxy.store = Store(address=f"http://{host}:{port}", direct=address)  # type: ignore[attr-defined]
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    for name, value in {
        **credentials(),
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": store.address,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    S3FileSystem.clear_instance_cache()
    if not store.fs.exists(BUCKET):
        store.fs.mkdir(BUCKET)
    yield store
    store.fs.rm(BUCKET, recursive=True)
    S3FileSystem.clear_instance_cache()
    proxy.shutdown()
    proxy.server_close()


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        store: Store = self.server.store  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        store.seen.append(f"{self.command} {self.path}")
        answer = store.fault(self.command, self.path)
        if answer is not None:
            self._reply(answer[0], {}, answer[1])
            return
        connection = HTTPConnection(store.direct.removeprefix("http://"), timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        found = connection.getresponse()
        self._reply(found.status, dict(found.getheaders()), found.read())
        connection.close()

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers.items():
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def log_message(self, *_: Any) -> None:
        return
