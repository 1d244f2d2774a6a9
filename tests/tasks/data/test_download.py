"""Downloads against a real server on loopback that breaks off, stumbles and refuses."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tasks.contract import NoInput, StageError
from tasks.data import download as module
from tasks.data.download import download, remote_state

CONTENT = bytes(range(256)) * 2000


class _Server(ThreadingHTTPServer):
    """Serves ``files``; ``script`` says what to do with each GET in turn: ok, break, 503, 404."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {"/data.bin": CONTENT}
        self.etag = '"v1"'
        self.script: list[str] = []
        self.ranges: list[str | None] = []
        self.head_allowed = True
        self.accounts: list[str | None] = []

    def address(self, path: str = "/data.bin") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self.server.accounts.append(self.headers.get("Authorization"))
        if not self.server.head_allowed:
            self.send_error(405)
        else:
            self._answer(send_body=False)

    def do_GET(self) -> None:
        self.server.accounts.append(self.headers.get("Authorization"))
        action = self.server.script.pop(0) if self.server.script else "ok"
        self.server.ranges.append(self.headers.get("Range"))
        if action.isdigit():
            self.send_error(int(action))
            return
        self._answer(send_body=True, break_off=action == "break")

    def _answer(self, *, send_body: bool, break_off: bool = False) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == self.server.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if send_body:
            self.wfile.write(content[start : start + 100_000] if break_off else content[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.01)
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_is_fetched_whole(server: _Server, tmp_path: Path) -> None:
    download(server.address(), tmp_path / "sub" / "data")
    assert (tmp_path / "sub" / "data").read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_stopped(server: _Server, tmp_path: Path) -> None:
    server.script = ["break", "503", "ok"]
    download(server.address(), tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert server.ranges[0] is None
    assert str(server.ranges[-1]).startswith("bytes=")


def test_a_part_of_another_version_is_thrown_away(server: _Server, tmp_path: Path) -> None:
    (tmp_path / "data.part").write_bytes(b"old" * 100)
    (tmp_path / "data.etag").write_text('"v0"')
    download(server.address(), tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_a_complete_file_is_not_fetched_again_until_it_changes(
    server: _Server, tmp_path: Path
) -> None:
    download(server.address(), tmp_path / "data")
    download(server.address(), tmp_path / "data")
    assert len(server.ranges) == 1
    server.etag, server.files["/data.bin"] = '"v2"', b"new"
    download(server.address(), tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"new"


def test_what_is_not_there_is_not_worth_a_retry(server: _Server, tmp_path: Path) -> None:
    with pytest.raises(NoInput, match="404"):
        download(server.address("/absent"), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_server_that_keeps_failing_is_worth_a_retry(server: _Server, tmp_path: Path) -> None:
    server.script = ["503"] * 10
    with pytest.raises(StageError, match=r"503.*source\.uri to a path") as failure:
        download(server.address(), tmp_path / "data")
    assert failure.value.exit_code == 1


def test_nobody_listening_is_worth_a_retry_and_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.01)
    with pytest.raises(StageError, match=r"in a closed network set source\.uri to a path"):
        remote_state("http://127.0.0.1:9/data")


def test_the_state_changes_with_the_file_and_only_then(server: _Server) -> None:
    first = remote_state(server.address())
    assert remote_state(server.address()) == first
    server.etag = '"v2"'
    assert remote_state(server.address()) != first


def test_the_state_is_asked_for_by_get_where_head_is_refused(server: _Server) -> None:
    first = remote_state(server.address())
    server.head_allowed = False
    assert remote_state(server.address()) == first


def test_a_server_without_versions_never_passes_for_unchanged(server: _Server) -> None:
    server.etag = ""
    assert remote_state(server.address()) != remote_state(server.address())


def test_neither_token_nor_account_reaches_a_message(
    server: _Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = ["503", "404"]
    address = server.address().replace("//", "//me@") + "?token=s3cret"
    server.files["/data.bin?token=s3cret"] = CONTENT
    with pytest.raises(NoInput) as caught:
        download(address, tmp_path / "data.bin")
    told = str(caught.value) + caplog.text
    assert "/data.bin" in told
    assert "s3cret" not in told and "me@" not in told


def test_the_account_comes_from_the_netrc_file(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login me password s3cret\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    download(server.address(), tmp_path / "data.bin")
    expected = "Basic " + base64.b64encode(b"me:s3cret").decode()
    assert set(server.accounts) == {expected}


def _sent_on(start: str, to: str) -> None:
    """Follow a redirect as a download does."""

    def answer(request: httpx.Request) -> httpx.Response:
        if str(request.url) != start:
            return httpx.Response(200, request=request)
        return httpx.Response(302, headers={"location": to}, request=request)

    with httpx.Client(
        transport=httpx.MockTransport(answer),
        follow_redirects=True,
        event_hooks={"response": [module._check_redirect]},
    ) as client:
        client.get(start)


def test_a_way_from_https_to_http_is_not_taken() -> None:
    with pytest.raises(NoInput, match="sends on to http://elsewhere"):
        _sent_on("https://source.example/data.zip", "http://elsewhere.example/data.zip")


INSIDE = [
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.7/data.zip",
    "http://127.0.0.1:8080/data.zip",
    "http://localhost/data.zip",
    "http://[::1]/data.zip",
    "http://[fe80::1]/data.zip",
    "http://[::ffff:169.254.169.254]/data.zip",
    "http://2852039166/data.zip",
    "http://0x7f.1/data.zip",
]


@pytest.mark.parametrize("to", INSIDE)
def test_a_way_from_the_given_address_into_this_network_is_not_taken(to: str) -> None:
    with pytest.raises(NoInput, match=r"no public address.*allowed_addresses"):
        _sent_on("http://source.example/data.zip", to)


def test_a_way_into_this_network_is_taken_where_the_installation_allows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUSTED_RETRAINING_ALLOWED_ADDRESSES", "s3://films,http://10.0.0.7/")
    _sent_on("http://source.example/data.zip", "http://10.0.0.7/data.zip")
    with pytest.raises(NoInput, match="no public address"):
        _sent_on("http://source.example/data.zip", "http://10.0.0.70/data.zip")


def test_a_server_may_send_on_to_itself_and_to_a_public_address() -> None:
    _sent_on("http://127.0.0.1/data.zip", "http://127.0.0.1:8080/data.zip")
    _sent_on("http://source.example/data.zip", "http://93.184.216.34/data.zip")
