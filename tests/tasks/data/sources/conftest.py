"""Takes a source in, and serves a folder over http."""

import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import TypeAdapter

from tasks.data.ingest import Summary, ingest
from tasks.data.sources import open_source
from tasks.spec import Source

TakeIn = Callable[..., tuple[Summary, pd.DataFrame]]


@pytest.fixture
def take_in(tmp_path: Path) -> TakeIn:
    """Return a function that takes in the source with the given fields, into ``out``."""

    def take(kind: str, uri: Path | str, **fields: Any) -> tuple[Summary, pd.DataFrame]:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        document = {"kind": kind, "uri": str(uri), **fields}
        spec = TypeAdapter(Source).validate_python(document)
        summary = ingest(open_source(spec), out, scratch=tmp_path / "scratch")
        return summary, pd.read_parquet(out / "metadata.parquet")

    return take


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Return the address at which ``tmp_path`` is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()
