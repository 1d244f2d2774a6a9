"""The model server: ``python -m tasks.serving.server --root DIR``, in the serving environment.

Serves every model that has a pointer below the root (see :mod:`tasks.serving.files`) over KServe's
V1 and V2 protocols, and follows the pointers: a new version is checked, loaded and warmed up beside
the old one, then takes over between two requests.
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

from tasks.serving.follower import Options

log = logging.getLogger("tasks.serving")


def main(arguments: list[str] | None = None) -> int:
    """Serve until ended by a signal."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
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

    serve(options, listener)
    return 0


def _end_with_stdin() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m tasks.serving.server", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the served models")
    parser.add_argument("--only", default="", help="MODEL=FOLDER=VERSION=DIGEST, nothing else")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free port")
    parser.add_argument("--port-file", type=Path, help="JSON file that tells the address")
    parser.add_argument(
        "--poll-seconds", type=float, default=0.5, help="pointers are read so often"
    )
    parser.add_argument("--ends-with-stdin", action="store_true", help="end with the starter")
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
