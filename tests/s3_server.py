"""An S3 API in a process of its own (SeaweedFS): logins, policies, conditional writes."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx

from tests.waiting import wait_for

BINARY = Path(sys.executable).with_name("weed")
REAPER = Path(__file__).parents[1] / "plugins/trusted_retraining/operators/reaper.py"
"""Ends what it has started when its input closes, as it does however the tests end."""
PARTS = ("master", "volume", "filer", "s3")
ATTEMPTS = 3
MASTER = "of-the-tests"
"""Who may do everything."""


def credentials(name: str = MASTER) -> dict[str, str]:
    """Return the variables of an identity; its access key is its name."""
    return {
        "AWS_ACCESS_KEY_ID": name,
        "AWS_SECRET_ACCESS_KEY": f"known-to-{name}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def client(address: str, name: str = MASTER, *, secret: str | None = None) -> Any:
    """Return boto3's client with the credentials of an identity, or with another secret key."""
    keys = credentials(name)
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name=keys["AWS_DEFAULT_REGION"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=secret or keys["AWS_SECRET_ACCESS_KEY"],
    )


@contextmanager
def serve(host: str = "127.0.0.1", policies: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Start it, yield its address, and end it with all that it holds.

    Parameters
    ----------
    host : str
        Address on which the S3 API listens. What is behind it, which asks for no login, is on
        loopback.
    policies : mapping or None
        Policy by identity, beside :data:`MASTER`.
    """
    for attempt in range(ATTEMPTS):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-")))
            _write_identities(folder / "identities.json", policies or {})
            ports = _free_ports(host)
            for name, port in ports.items():
                # these it makes itself, in this place alone
                socket_file = Path(f"/tmp/seaweedfs-{name.replace('.', '-')}-{port}.sock")  # noqa: S108
                stack.callback(socket_file.unlink, missing_ok=True)
            process = _start(stack, folder, host, ports)
            address = f"http://{host}:{ports['s3']}"
            if wait_for(lambda p=process, a=address: p.poll() is not None or _is_up(a), pause=0.1):
                if process.poll() is None:
                    yield address
                    return
            # another process may have taken a port meanwhile
            if attempt == ATTEMPTS - 1:
                raise RuntimeError(f"no S3 API: {(folder / 'log').read_text()[-2000:]}")


def _write_identities(path: Path, policies: Mapping[str, Any]) -> None:
    rights: dict[str, Any] = {MASTER: {"actions": ["Admin"]}}
    rights |= {name: {"policyNames": [name]} for name in policies}
    identities = [
        {
            "name": name,
            "credentials": [
                {
                    "accessKey": credentials(name)["AWS_ACCESS_KEY_ID"],
                    "secretKey": credentials(name)["AWS_SECRET_ACCESS_KEY"],
                }
            ],
            **rights_of_it,
        }
        for name, rights_of_it in rights.items()
    ]
    documents = [{"name": name, "content": json.dumps(each)} for name, each in policies.items()]
    path.write_text(json.dumps({"identities": identities, "policies": documents}))


def _start(
    stack: ExitStack, folder: Path, host: str, ports: Mapping[str, int]
) -> subprocess.Popen[bytes]:
    words = [
        # asked to end, the server would wait for others to notice; nothing of it is kept
        *(sys.executable, "-I", "-S", REAPER, "0"),
        *(BINARY, "-logtostderr=true", "server", f"-dir={folder}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.ip.bind={host}"),
        *("-filer", f"-filer.localSocket={folder}/filer.sock"),
        *("-s3", f"-s3.localSocket={folder}/s3.sock", f"-s3.config={folder}/identities.json"),
        # who may do what is in that file alone, and a bucket is made by who asks for it
        *("-s3.iam=false", "-s3.autoCreateBucket=false"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        # many small buckets
        *("-volume.max=1000", "-master.volumeSizeLimitMB=1024"),
        *(f"-{part}.port={ports[part]}" for part in PARTS),
        *(f"-{part}.port.grpc={ports[f'{part}.grpc']}" for part in PARTS),
    ]
    log = stack.enter_context((folder / "log").open("wb"))
    process = subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=os.environ | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
    )
    stack.callback(process.wait)
    assert process.stdin is not None
    stack.callback(process.stdin.close)
    return process


def _is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _free_ports(host: str) -> dict[str, int]:
    """Return two free ports for each of the parts."""
    with ExitStack() as stack:
        return {
            f"{part}{kind}": stack.enter_context(
                socket.create_server((host if part == "s3" else "127.0.0.1", 0))
            ).getsockname()[1]
            for part in PARTS
            for kind in ("", ".grpc")
        }
