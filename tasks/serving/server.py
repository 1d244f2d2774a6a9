"""The model server: ``python -m tasks.serving.server --root DIR``, in the serving environment.

Serves every model that has a pointer below the root (see :mod:`tasks.serving.files`) over KServe's
V1 and V2 protocols, and follows the pointers: a new version is checked, loaded and warmed up beside
the old one, then takes over between two requests.

In a container, ``--model-uri`` names the one SavedModel to serve: a folder, or an address such as
``s3://bucket/models/demo/7`` that is fetched first. Its digest must be ``MODEL_DIGEST``.
"""

import argparse
import logging
import os
import socket
import sys
import threading
from pathlib import Path

# before TensorFlow is imported: its chatter would bury the lines that matter
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tasks.serving.container import Refused, fetch_model, say_why
from tasks.serving.follower import Options
from tasks.serving.limits import MAX_PIXELS, MEMORY, Limits, memory_bytes

log = logging.getLogger("tasks.serving")


def main(arguments: list[str] | None = None) -> int:
    """Serve until ended by a signal."""
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(_Line("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    try:
        options = _options(arguments)
    except Refused as error:
        say_why(str(error))
        return 1
    if options.ends_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        listener = socket.create_server((options.host, options.port), backlog=128)
    except OSError as error:
        log.error("%s:%d: cannot listen: %s", options.host, options.port, error.strerror)
        return 1
    # kserve reads the command line when it is imported, and would take ours for its own
    sys.argv = sys.argv[:1]
    from tasks.serving.kserve_server import serve

    problems = serve(options, listener)
    for problem in problems:
        say_why(problem)
    return 1 if problems else 0


class _Line(logging.Formatter):
    """Writes control characters of names out: a message is one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _end_with_stdin() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m tasks.serving.server", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--root", type=Path, help="folder of the served models")
    what.add_argument("--model-uri", help="folder or address of the one SavedModel to serve")
    parser.add_argument("--model-name", help="what it is served as, with --model-uri")
    parser.add_argument("--model-version", default="1", help="its version, with --model-uri")
    parser.add_argument("--only", default="", help="MODEL=FOLDER=VERSION=DIGEST, nothing else")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free port")
    parser.add_argument("--port-file", type=Path, help="JSON file that tells the address")
    parser.add_argument(
        "--poll-seconds", type=float, default=0.5, help="pointers are read so often"
    )
    parser.add_argument(
        "--memory",
        default=os.environ.get("SERVER_MEMORY", MEMORY),
        help=f"what it may take ({MEMORY}); bounds on requests follow from it",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=os.environ.get("MAX_PIXELS") or str(MAX_PIXELS),
        help=f"pixels of an image ({MAX_PIXELS})",
    )
    parser.add_argument(
        "--body-seconds", type=float, default=Limits.body_seconds, help="time for a request's body"
    )
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=os.environ.get("DRAIN_SECONDS") or "0",
        help="answer on for so long after SIGTERM (DRAIN_SECONDS)",
    )
    parser.add_argument("--ends-with-stdin", action="store_true", help="end with the starter")
    given = vars(parser.parse_args(arguments))
    try:
        given["limits"] = Limits(
            memory=memory_bytes(given.pop("memory")),
            pixels=given.pop("max_pixels"),
            body_seconds=given.pop("body_seconds"),
        )
    except ValueError as error:
        parser.error(f"--memory: {error}")
    uri, name, version = (given.pop(key) for key in ("model_uri", "model_name", "model_version"))
    if uri is None:
        return Options(**given)
    if not name:
        parser.error("--model-uri needs --model-name")
    digest = os.environ.get("MODEL_DIGEST", "")
    folder = fetch_model(uri, digest=digest)
    only = "=".join([name, str(folder), version, digest])
    return Options(**given | {"root": folder.parent, "only": only, "must_load": True})


if __name__ == "__main__":
    sys.exit(main())
