"""What an ordinary request waits while others send slow, broken and very large ones.

One client asks for one image at a time; quiet turns and turns under load take turns, and the
middle of their 95th percentiles counts. Under load a second process keeps 200 slow and broken
clients, or six that send images of 25 megapixels of every kind as fast as they are answered. All
of it on loopback, ended by the turn's end.

    python benchmarks/serving.py --out serving.json
"""

import argparse
import asyncio
import base64
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# the repository instead of this folder, whose files are named after what they measure
sys.path[0] = str(Path(__file__).resolve().parents[1])

from PIL import Image  # noqa: E402

from benchmarks.rows import arguments, finish, row  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
SLOW_TARGET = 3.0
"""Times the quiet 95th percentile, with slow and broken clients."""
HOSTILE_TARGET = 1.0
"""Seconds, with images at the bound."""
SIDE, HOSTILE_CLIENTS, SLOW_CLIENTS = 5000, 6, 200
PATH = "/v1/models/demo:predict"


def main() -> int:
    """Measure; exit code 1 when a target is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100, help="a turn")
    parser.add_argument("--python", default=str(REPOSITORY / ".local/serving-venv/bin/python"))
    # what the second process is started with
    parser.add_argument("--load", choices=["slow", "hostile"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        return asyncio.run(_load(options.load, options.port))
    with tempfile.TemporaryDirectory() as folder:
        _export(Path(folder) / "served")
        with _server(Path(folder), options.python) as (process, port):
            return _measure(process, port, options)


def _measure(process: "subprocess.Popen[bytes]", port: int, options: argparse.Namespace) -> int:
    ordinary = _body(_film())
    _turn(port, ordinary, options.requests)
    found: dict[str, list[float]] = {"quiet": [], "slow": [], "hostile": []}
    for _ in range(options.turns):
        for load in ("slow", "hostile"):
            found["quiet"].append(_turn(port, ordinary, options.requests))
            with _second_process(load, port):
                found[load].append(_turn(port, ordinary, options.requests))
    quiet, slow, hostile = (statistics.median(found[name]) for name in found)
    peak = _peak(process.pid)
    alive = process.poll() is None
    detail = {"turns": found, "alive": alive}
    return finish(
        [
            row(
                f"p95 of a request, {SLOW_CLIENTS} slow and broken clients, against quiet",
                *(1000 * slow, 1000 * quiet, "ms"),
                target=SLOW_TARGET,
                passed=alive and slow <= SLOW_TARGET * quiet,
                detail=detail,
            ),
            row(
                f"p95 of a request, {HOSTILE_CLIENTS} clients with images of 25 MP, against quiet",
                *(1000 * hostile, 1000 * quiet, "ms"),
                target=f"{1000 * HOSTILE_TARGET:.0f} ms",
                passed=alive and hostile <= HOSTILE_TARGET,
                detail=detail,
            ),
            row(
                "largest memory of the server, against deploy.memory",
                *(peak, 2048.0, "MiB"),
                target=1.0,
                passed=alive and peak < 2048,
            ),
        ],
        options.out,
    )


def _turn(port: int, body: bytes, requests: int) -> float:
    """Return the 95th percentile of the seconds that requests take, one after the other."""
    taken = []
    for _ in range(requests):
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", PATH, body)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"an ordinary request was answered {answer.status}")
        taken.append(time.perf_counter() - started)
        # a client that thinks: the turn lasts a few seconds, and load has time to build up
        time.sleep(0.02)
    return sorted(taken)[int(0.95 * len(taken))]


@contextmanager
def _second_process(load: str, port: int) -> Iterator[None]:
    command = [sys.executable, __file__, "--load", load, "--port", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        # its first line says that every client is at work
        process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


async def _load(kind: str, port: int) -> int:
    """Be the clients of a turn, until standard input is closed, or for two minutes."""
    bodies = _hostile_bodies() if kind == "hostile" else []
    clients = (
        [_insistent(port, bodies[number:] + bodies[:number]) for number in range(HOSTILE_CLIENTS)]
        if kind == "hostile"
        else [(_slow, _gone, _broken)[number % 3](port) for number in range(SLOW_CLIENTS)]
    )
    tasks = [asyncio.ensure_future(client) for client in clients]
    await asyncio.sleep(1)
    print("at work", flush=True)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([ended], timeout=120)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return 0


def _head(length: int) -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


async def _slow(port: int) -> None:
    """Send a byte a second, for as long as the server listens."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_head(10_000))
            for _ in range(60):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(1)
            writer.close()


async def _gone(port: int) -> None:
    """Go away in mid-body, and come back."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_head(10_000) + b'{"instances": [')
            await writer.drain()
            await asyncio.sleep(0.5)
            writer.close()
        await asyncio.sleep(0.5)


async def _broken(port: int) -> None:
    """Send what is no request, a second apart."""
    for wrong in _endless((b"{", b'{"instances": [[1], "x"]}', b'{"instances": [{"b64": "!"}]}')):
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_head(len(wrong)) + wrong)
            await reader.read(100)
            writer.close()
        await asyncio.sleep(1)


async def _insistent(port: int, bodies: list[bytes]) -> None:
    """Send the next image when the last is answered; told to come back, after a moment."""
    for body in _endless(tuple(bodies)):
        busy = True
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_head(len(body)) + body)
            await writer.drain()
            busy = b" 200 " not in await reader.readline()
            writer.close()
        await asyncio.sleep(0.2 if busy else 0)


def _endless(values: tuple[bytes, ...]) -> Iterator[bytes]:
    while True:
        yield from values


def _hostile_bodies() -> list[bytes]:
    kinds = (
        *(("PNG", mode) for mode in ("1", "L", "RGB", "RGBA", "I;16")),
        *(("JPEG", "RGB"), ("JPEG", "CMYK"), ("GIF", "P"), ("WEBP", "RGB")),
    )
    bodies = []
    for kind, mode in kinds:
        stream = io.BytesIO()
        Image.new(mode, (SIDE, SIDE)).save(stream, kind)
        bodies.append(_body(stream.getvalue()))
    return bodies


def _film() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((96, 96), 60).save(stream, "PNG")
    return stream.getvalue()


def _body(image: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode()}]}).encode()


def _export(root: Path) -> None:
    from benchmarks.models import mobilenet_v2
    from tasks.serving.files import Pointer, tree_digest, write_pointer
    from tasks.training.export import export_model

    folder = root / "demo" / "1"
    export_model(mobilenet_v2(96), folder, name="demo", classes=["a", "b", "c"], positive=None)
    digest = tree_digest(folder)
    write_pointer(root / "demo", Pointer(version="1", digest=digest, path="1"))


@contextmanager
def _server(folder: Path, python: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    port_file = folder / "port.json"
    process = subprocess.Popen(
        [
            *(python, "-m", "tasks.serving.server", "--root", str(folder / "served")),
            *("--port", "0", "--port-file", str(port_file), "--ends-with-stdin"),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    try:
        for _ in range(1200):
            if port_file.exists():
                break
            time.sleep(0.1)
        url = json.loads(port_file.read_text())["url"]
        yield process, int(url.rsplit(":", 1)[1])
    finally:
        process.stdin.close()
        process.wait(20)


def _peak(pid: int) -> float:
    """Return the most memory that a process ever had, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the server has ended")


if __name__ == "__main__":
    sys.exit(main())
