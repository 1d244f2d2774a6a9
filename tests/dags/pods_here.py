"""The part of Kubernetes' API that a pod operator and its trigger ask for, on a loopback port; its
pods are processes of this machine."""

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]


class PodsHere:
    """A namespace of pods.

    Parameters
    ----------
    folder : Path
        For the pods' volumes and lines.
    variables : dict of str to str
        What a node gives to its pods, and a pod's own does not take the place of.

    Attributes
    ----------
    names : list of str
        All pods that were created.
    events : list of str
        Status of each event with which a trigger ended its wait, as its task was told.
    url : str
        Address of the API.
    """

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder, self.variables = folder, variables
        self.names: list[str] = []
        self.events: list[str] = []
        self._pods: dict[str, tuple[Object, subprocess.Popen[bytes]]] = {}
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content = api._answer(self.command, self.path, raw)
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                kind = "text/plain" if isinstance(content, bytes) else "application/json"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End the API, and the pods that are left."""
        for _, process in self._pods.values():
            process.kill()
            process.wait()
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self) -> Path:
        """Write a file that leads here, and return its path."""
        path = self.folder / "kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "airflow", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "airflow"}}],
        }
        path.write_text(json.dumps(document))
        return path

    def _answer(self, method: str, target: str, raw: bytes) -> tuple[int, Any]:
        split = urlsplit(target)
        kind, *rest = split.path.split("/")[5:]
        if kind == "events":
            return 200, {"kind": "EventList", "items": []}
        if method == "POST":
            return 201, self._created(json.loads(raw))
        if not rest:
            (wanted,) = parse_qs(split.query).get("labelSelector", [""])
            found = [self._now(name) for name in self._pods]
            return 200, {"kind": "PodList", "items": [p for p in found if _matches(p, wanted)]}
        name = rest[0]
        if name not in self._pods:
            return 404, {"kind": "Status", "reason": "NotFound", "message": f"no pod {name}"}
        if rest[1:] == ["log"]:
            return 200, self._lines(name).read_bytes()
        if method == "PATCH":
            self._pods[name][0]["metadata"]["labels"] |= json.loads(raw)["metadata"]["labels"]
        found = self._now(name)
        if method == "DELETE":
            _, process = self._pods.pop(name)
            process.kill()
        return 200, found

    def _lines(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _created(self, pod: Object) -> Object:
        """Run the only container of a pod."""
        name = pod["metadata"]["name"]
        pod["metadata"] |= {"uid": name, "creationTimestamp": _time()}
        (container,) = pod["spec"]["containers"]
        volumes = {
            mount["mountPath"]: str(self.folder / name / mount["name"])
            for mount in container["volumeMounts"]
        }
        for place in volumes.values():
            Path(place).mkdir(parents=True)
        own = {each["name"]: _placed(each["value"], volumes) for each in container["env"]}
        program, *words = [*container["command"], *container["args"]]
        assert program == "python"
        with self._lines(name).open("wb") as lines:
            process = subprocess.Popen(
                [sys.executable, *(word.replace("$$", "$") for word in words)],
                env={"PATH": os.environ["PATH"], **own, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=subprocess.STDOUT,
            )
        self._pods[name] = pod, process
        self.names.append(name)
        return self._now(name)

    def _now(self, name: str) -> Object:
        pod, process = self._pods[name]
        exit_code, begun = process.poll(), pod["metadata"]["creationTimestamp"]
        if exit_code is None:
            phase, state = "Running", {"running": {"startedAt": begun}}
        else:
            phase = "Failed" if exit_code else "Succeeded"
            ended = {"exitCode": exit_code, "startedAt": begun, "finishedAt": _time()}
            state = {"terminated": ended}
        (container,) = pod["spec"]["containers"]
        status = {"name": container["name"], "ready": exit_code is None, "restartCount": 0}
        status |= {"image": container["image"], "imageID": "", "state": state}
        return pod | {"status": {"phase": phase, "containerStatuses": [status]}}


def _placed(value: str, volumes: dict[str, str]) -> str:
    """Return the value of a variable, with the path of a volume where this machine has it."""
    for mount, place in volumes.items():
        if value == mount or value.startswith(f"{mount}/"):
            return f"{place}{value.removeprefix(mount)}"
    return value


def _matches(pod: Object, selector: str) -> bool:
    labels = pod["metadata"]["labels"]
    for part in filter(None, selector.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            holds = name.removeprefix("!") not in labels
        elif name.endswith("!"):
            holds = labels.get(name[:-1]) != value
        else:
            holds = labels.get(name) == value
        if not holds:
            return False
    return True


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
