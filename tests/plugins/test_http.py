"""Talking HTTPS to servers whose certificates a company makes itself."""

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks.contract import BadConfig, StageError
from trusted_retraining.hooks.http import http_client
from trusted_retraining.hooks.mlflow import MlflowHook


class _NoAlias(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody but its owner knows, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a hospital")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server(authority: Path) -> Iterator[str]:
    """Address of a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    server = HTTPServer(("127.0.0.1", 0), _NoAlias)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"])
def test_mlflow_behind_a_companys_own_certificate_is_reached(
    server: str, authority: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(authority))
    assert MlflowHook(server).champion("demo") is None


def test_a_certificate_that_nobody_trusts_is_refused(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trusted_retraining.hooks.mlflow.FIRST_WAIT_SECONDS", 0.001)
    for name in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StageError, match="CERTIFICATE_VERIFY_FAILED"):
        MlflowHook(server).champion("demo")


def test_the_environments_certificates_count_but_its_proxy_does_not(
    server: str, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with http_client(timeout=5) as client:
        assert client.get(server).status_code == 404
    monkeypatch.delenv("SSL_CERT_FILE")
    with http_client(timeout=5) as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
        client.get(server)


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("")
    with pytest.raises(BadConfig, match=r"none\.pem: certificates cannot be read"):
        http_client(certificates=str(tmp_path / "none.pem"))


@pytest.mark.parametrize(
    ("message", "absent"),
    [
        ("Registered model alias champion not found.", True),
        ("Invalid value for parameter 'alias'", False),
    ],
)
def test_only_an_alias_that_is_not_there_is_absent(message: str, absent: bool) -> None:
    from trusted_retraining.hooks.mlflow import _says_absent

    document = {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
    assert _says_absent(httpx.Response(400, json=document)) is absent
