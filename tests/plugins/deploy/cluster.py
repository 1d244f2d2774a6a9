"""A Kubernetes API, model servers and MLflow's registry on one loopback port."""

import copy
import json
import math
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]
OBJECT = re.compile(r"^/(?:api|apis)/(.+)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?$")


class Cluster:
    """Objects, and what serves them.

    Attributes
    ----------
    objects : dict
        ``(plural, name)`` to object.
    behaviour : dict of str to str
        Digest to ``wrong``, ``errors``, ``slow`` or ``mute``; any other digest answers well.
    before, after : callable or None
        Called with the number of a request and its method and path; ``before`` may return a status
        and a body instead of an answer, or ``drop`` to close the connection.
    blessed : list of str
        Versions whose tag ``verdict`` says so.
    owner : str
        Pipeline of the registered model.
    """

    def __init__(self, kserve: Any, deployments: Any) -> None:
        self.kserve, self.deployments = kserve, deployments
        self.objects: dict[tuple[str, str], Object] = {}
        self.applied: dict[tuple[str, str], dict[str, Object]] = {}
        self.behaviour: dict[str, str] = {}
        self.answers: dict[str, dict[str, list[float]]] = {}
        self.aliases: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.tags: list[Object] = []
        self.model_tags: dict[str, str] = {}
        self.blessed: list[str] = []
        self.owner = "demo_night"
        self.pods: list[Object] = []
        self.metrics: Object = {}
        self.known: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.requests: list[str] = []
        self.before: Callable[[int, str, str], Any] | None = None
        self.after: Callable[[int, str, str], None] | None = None
        self._lock = threading.RLock()
        self.server = _server(self)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, method: str, target: str, raw: bytes) -> tuple[int, Any] | None:
        """Return status and body; None closes the connection without a word."""
        split = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        with self._lock:
            self.requests.append(f"{method} {split.path}")
            number = len(self.requests)
            if self.before is not None:
                instead = self.before(number, method, split.path)
                if instead == "drop":
                    return None
                if instead is not None:
                    return tuple(instead)
        result = self._route(method, split.path, query, raw)
        if self.after is not None:
            self.after(number, method, split.path)
        return result

    def _route(self, method: str, path: str, query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        if path.endswith(":predict"):
            return self._predict(path.split("/")[1], json.loads(raw))
        with self._lock:
            body = json.loads(raw) if raw else {}
            if path.startswith("/api/2.0/mlflow/"):
                return self._mlflow(method, path.removeprefix("/api/2.0/mlflow/"), query, body)
            if path == "/openapi/v3/apis/serving.kserve.io/v1beta1":
                return 200, self.kserve.schema()
            match = OBJECT.match(path)
            if match is None:
                group = path.removeprefix("/apis/")
                names = self.known.get(group)
                if names is None:
                    return _status(404, "NotFound", path)
                return 200, {"resources": [{"name": name} for name in names]}
            plural, name = match[3], match[4]
            if name is None:
                wanted = query["labelSelector"]
                made = [each for each in self.kserve.pods() if _selects(wanted, each)]
                return 200, {"items": [*self.pods, *made]}
            if method == "PATCH":
                return self._apply((plural, name), body, query)
            return self._get((plural, name))

    def _get(self, key: tuple[str, str]) -> tuple[int, Any]:
        found = self.objects.get(key)
        if found is None and key[0] == "deployments":
            made = self.kserve.deployment(key[1])
            if made is not None:
                return 200, made
        if found is None:
            return _status(404, "NotFound", f"{key} not found")
        controller = {"inferenceservices": self.kserve, "deployments": self.deployments}.get(key[0])
        if controller is not None:
            status = controller.reconcile(found)
            if status != found.get("status"):
                found["status"] = status
                self._touch(found)
        return 200, found

    def _apply(self, key: tuple[str, str], body: Object, query: dict[str, str]) -> tuple[int, Any]:
        manager, force = query["fieldManager"], query.get("force") == "true"
        found = self.objects.get(key)
        new = copy.deepcopy(found) if found else {"metadata": {"generation": 0}}
        wanted = body["metadata"].pop("resourceVersion", None)
        if wanted is not None and (found is None or found["metadata"]["resourceVersion"] != wanted):
            return _status(409, "Conflict", "the object has been modified; apply your changes")
        owners = self.applied.get(key, {})
        mine = _leaves(body)
        for other, config in owners.items():
            theirs = {} if other == manager else _leaves(config)
            fought = [p for p in mine if p in theirs and theirs[p] != mine[p]]
            if fought and not force:
                causes = [
                    {
                        "reason": "FieldManagerConflict",
                        "message": f'conflict with "{other}"',
                        "field": ".".join(path),
                    }
                    for path in fought
                ]
                return _status(409, "Conflict", "Apply failed", causes=causes)
        before = copy.deepcopy(new.get("spec"))
        for path in _leaves(owners.get(manager, {})):
            if path not in mine:
                _remove(new, path)
        for path, value in mine.items():
            _set(new, path, value)
        if key[0] == "inferenceservices" and "spec" in new:
            refusal = self.kserve.admit(found, new)
            if refusal:
                return _status(403, "Forbidden", f"admission webhook denied the request: {refusal}")
        if new.get("spec") != before:
            new["metadata"]["generation"] += 1
        self._touch(new)
        new["metadata"].setdefault("uid", f"uid-{key[1]}-{time.time_ns()}")
        self.objects[key] = new
        self.applied.setdefault(key, {})[manager] = copy.deepcopy(body)
        for other, config in self.applied[key].items():
            if other != manager:
                for path in [p for p in _leaves(config) if p in mine]:
                    _remove(config, path)
        return 200, new

    def _touch(self, found: Object) -> None:
        found["metadata"]["resourceVersion"] = str(time.monotonic_ns())

    def _predict(self, service: str, body: Object) -> tuple[int, Any]:
        with self._lock:
            digest = self._served().get(service)
            self.asked.append(f"{service} {digest}")
        behaviour = self.behaviour.get(digest or "", "")
        if digest is None or behaviour == "errors":
            return 503, {"error": "no server"}
        if behaviour == "slow":
            time.sleep(0.3)
        rows = [list(self.answers[digest][each["b64"]]) for each in body["instances"]]
        if behaviour == "wrong":
            rows = [row[::-1] for row in rows]
        if behaviour == "nan":
            rows = [[math.nan for _ in row] for row in rows]
        predictions = [{"probabilities": row} for row in rows]
        return 200, {"predictions": predictions, "model_digest": digest}

    def _served(self) -> dict[str, str]:
        served: dict[str, str] = {}
        for (plural, name), found in self.objects.items():
            if plural == "inferenceservices":
                served |= self.kserve.serving(found)
            if plural == "services" and "app" in found.get("spec", {}).get("selector", {}):
                digest = self.kserve.selected(found["spec"]["selector"])
                served |= {name: digest} if digest else {}
            if plural == "deployments" and found["spec"].get("replicas", 1) > 0:
                containers = found["spec"]["template"]["spec"]["containers"]
                served[name] = next(
                    e["value"] for e in containers[0]["env"] if e["name"] == "MODEL_DIGEST"
                )
        return served

    def _mlflow(
        self, method: str, path: str, query: dict[str, str], body: Object
    ) -> tuple[int, Any]:
        if path == "registered-models/alias" and method == "GET":
            version = self.aliases.get(query["alias"])
            if version is None:
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no alias"}
            return 200, {"model_version": self._version(version)}
        if path == "registered-models/alias" and method == "DELETE":
            self.aliases.pop(body["alias"], None)
        elif path == "registered-models/alias":
            self.aliases[body["alias"]] = body["version"]
        if path == "registered-models/get":
            tags = [{"key": key, "value": text} for key, text in self.model_tags.items()]
            aliases = [{"alias": key, "version": text} for key, text in self.aliases.items()]
            return 200, {"registered_model": {"tags": tags, "aliases": aliases}}
        if path == "model-versions/search":
            only = "tags.verdict = 'blessed'" in query["filter"]
            found = [each for each in self.versions if not only or each in self.blessed]
            return 200, {"model_versions": [self._version(each) for each in found]}
        if path == "registered-models/delete-tag":
            self.model_tags.pop(body["key"], None)
        if path == "registered-models/set-tag":
            self.model_tags[body["key"]] = body["value"]
        if path == "model-versions/set-tag":
            self.tags.append(body)
        if path == "runs/log-batch":
            self.metrics |= {each["key"]: each["value"] for each in body["metrics"]}
        return 200, {}

    def _version(self, version: str) -> Object:
        tags = {"digest": self.versions[version], "pipeline": self.owner}
        return {
            "version": version,
            "tags": [{"key": key, "value": text} for key, text in tags.items()],
        }


def _server(cluster: Cluster) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # an answer goes out in two writes, the second of which must not wait for the first
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            answer = cluster.answer(self.command, self.path, self.rfile.read(length))
            if answer is None:
                self.close_connection = True
                self.connection.close()
                return
            status, document = answer
            raw = json.dumps(document).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)
            except OSError:
                # whoever asked has been killed
                self.close_connection = True

        do_POST = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing of connections that a killed process has left."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def _selects(selector: str, pod: Object) -> bool:
    """Tell whether labels such as ``a=1,b!=2`` select a pod."""
    labels = pod["metadata"]["labels"]
    for each in selector.split(","):
        key, _, value = each.partition("=")
        if (labels.get(key.removesuffix("!")) == value) == key.endswith("!"):
            return False
    return True


def _leaves(document: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(document, dict) or not document:
        return {path: document} if path else {}
    found: dict[tuple[str, ...], Any] = {}
    for key, value in document.items():
        found |= _leaves(value, (*path, key))
    return found


def _set(document: Object, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document.setdefault(key, {})
    document[path[-1]] = copy.deepcopy(value)


def _remove(document: Object, path: tuple[str, ...]) -> None:
    for key in path[:-1]:
        document = document.get(key)
        if not isinstance(document, dict):
            return
    document.pop(path[-1], None)


def _status(code: int, reason: str, message: str, **details: Any) -> tuple[int, Any]:
    return code, {"kind": "Status", "reason": reason, "message": message, "details": details}
