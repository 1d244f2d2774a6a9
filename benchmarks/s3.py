"""Requests and bytes to S3 of a small night, against one object a file.

Ours is a real night on a real S3 API (moto on loopback), manifests and looks for earlier results
included. Plain: the very same outputs, each stage's folder put as it is and each of its inputs got
as a whole, by s3fs' own recursive put and get, without manifests and without a second night that
reuses anything. Training is too short here for a copy of its checkpoint, which would go up about
every half minute: three times the size of the weights with Adam.

    python benchmarks/s3.py --out s3.json
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.nights import REPOSITORY, SMALL, environment, timed  # noqa: E402
from benchmarks.rows import Row, arguments, finish, row  # noqa: E402

STAGES = (
    *("ingest", "transform", "filter", "arrange", "validate", "train", "evaluate"),
    *("fairness", "explain", "robustness", "bless", "reject", "report"),
)
NIGHT = """
import sys
from tasks.contract import RunDirectory
from tasks.environment import Environment
from tasks.runner import run_stage
from tasks.spec import apply_overrides, load_pipeline, parse_overrides
from tasks.stages import load_stage
pipeline = apply_overrides(load_pipeline(sys.argv[1]), parse_overrides(sys.argv[4:]))
run = RunDirectory(sys.argv[2])
for name in sys.argv[3].split(","):
    run_stage(load_stage(name), pipeline=pipeline, run=run, environment=Environment.read())
"""
ROWS = "source.rows=300"
BUCKET = "nights"


class Counting:
    """A WSGI application that counts what passes through it."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        answer = list(self.application(environ, start))
        method = environ["REQUEST_METHOD"]
        kind = "list" if method == "GET" and "list-type" in environ["QUERY_STRING"] else method
        with self._lock:
            self.requests[kind] += 1
            self.bytes["up"] += int(environ.get("CONTENT_LENGTH") or 0)
            self.bytes["down"] += sum(map(len, answer)) if method == "GET" else 0
        return answer

    def taken(self) -> dict[str, Any]:
        """Return the counts since the last time, and begin anew."""
        counts = {
            "requests": self.requests.total(),
            "by_method": dict(self.requests),
            "megabytes": round(self.bytes.total() / 1e6, 2),
            "megabytes_up": round(self.bytes["up"] / 1e6, 2),
        }
        self.requests.clear()
        self.bytes.clear()
        return counts


def main() -> int:
    """Measure; exit code 1 when a target is missed."""
    options = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder, store() as (address, counting):
        here, there = Path(folder) / "here", Path(folder) / "there"
        night(here, f"{here}/runs/demo/runs/one", {})
        plain = replayed(here / "runs/demo/runs/one", counting)
        files = sum(each.is_file() for each in (here / "runs/demo/runs/one").rglob("*"))
        variables = {"AWS_ENDPOINT_URL_S3": address, "TRUSTED_RETRAINING_SCRATCH": folder}
        night(there, f"s3://{BUCKET}/runs/demo/runs/one", variables)
        ours = counting.taken()
        night(there, f"s3://{BUCKET}/runs/demo/runs/two", variables)
        again = counting.taken()
        reused = json.loads(
            filesystem().cat_file(f"{BUCKET}/runs/demo/runs/two/train/manifest.json")
        )
    if not reused["reused_from"]:
        raise RuntimeError("the second night reused nothing: did the code change meanwhile?")
    detail = {"files": files, "ours": ours, "plain": plain, "next_night_without_new_data": again}
    rows = [
        counted("requests to S3 of a night", ours, plain, "requests", 0.2, detail),
        counted("bytes to and from S3 of a night", ours, plain, "megabytes", 1),
        counted("requests of a night without new data", again, plain, "requests", 0.2),
        counted("bytes of a night without new data", again, plain, "megabytes", 0.5),
    ]
    return finish(rows, options.out)


@contextmanager
def store() -> Iterator[tuple[str, Counting]]:
    """Serve an S3 API on loopback, and count."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    WSGIRequestHandler.log = lambda *_: None  # type: ignore[method-assign,assignment]
    credentials = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    os.environ |= credentials | {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    counting = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, counting, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    os.environ["AWS_ENDPOINT_URL_S3"] = address
    filesystem().mkdir(BUCKET)
    counting.taken()
    yield address, counting
    server.shutdown()


def night(state: Path, run: str, variables: dict[str, str]) -> float:
    """Run the stages one after the other, and return the seconds."""
    state.mkdir(exist_ok=True)
    spec = f"{REPOSITORY}/dags/pipelines/demo.yaml"
    words = [sys.executable, "-c", NIGHT, spec, run, ",".join(STAGES), *SMALL, ROWS]
    return timed(words, environment(state) | variables)


def replayed(run: Path, counting: Counting) -> dict[str, Any]:
    """Move the outputs of a night through the store, one object a file; return the counts."""
    from tasks.stages import load_stage

    fs, started = filesystem(), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for name in STAGES:
            stage = load_stage(name)
            for source in (*stage.reads, *stage.optional_reads):
                if fs.exists(f"{BUCKET}/plain/{source}"):
                    fs.get(f"{BUCKET}/plain/{source}", f"{scratch}/{name}/{source}", recursive=True)
            fs.put(f"{run}/{name}", f"{BUCKET}/plain/{name}", recursive=True)
    return counting.taken() | {"seconds": round(time.perf_counter() - started, 1)}


def filesystem() -> Any:
    """Return s3fs as it comes."""
    from s3fs import S3FileSystem

    return S3FileSystem(use_listings_cache=False)


def counted(
    name: str,
    ours: dict[str, Any],
    plain: dict[str, Any],
    unit: str,
    most: float,
    detail: dict[str, Any] | None = None,
) -> Row:
    """Return the row of one of the counts; `most` is the ratio allowed."""
    passed = ours[unit] / plain[unit] <= most
    target = f"<= {most:g}"
    return row(name, ours[unit], plain[unit], unit, target=target, passed=passed, detail=detail)


if __name__ == "__main__":
    sys.exit(main())
