"""Talks to the Kubernetes API about what serves a model."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

from tasks.contract import BadConfig, StageError
from trusted_retraining.hooks.resources import INFERENCE_SERVICE, POD, Resource
from trusted_retraining.settings import Runtime, Settings

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

FIELD_MANAGER = "trusted-retraining"
"""Under this name Kubernetes keeps which fields are ours."""

ATTEMPTS, FIRST_WAIT_SECONDS = 6, 0.5
"""Times that a request is sent when the API server is away, and the wait before the second, which
doubles."""

REQUEST_SECONDS = 30
"""Time for one request."""

NO_KIND = "install KServe, or set deploy.target: deployment"

UNDECLARED = "field not declared in schema"
"""What an API server says, with status 500, of a field that a kind does not have."""

T = TypeVar("T")


class FieldConflict(StageError):
    """Someone else owns a field that was to be applied."""


class StaleObject(StageError):
    """The object was changed since it was read."""


class KServeHook(KubernetesHook):
    """Reads and applies InferenceServices, and what a plain Deployment needs.

    Every request may be repeated without harm: applying is declarative. So a lost connection and an
    overloaded API server are met with patience here, and nowhere else.
    """

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object; None when there is none.

        Raises
        ------
        StageError
            The API server refuses, or cannot be reached.
        """
        return self._ask("GET", self._path(resource, namespace, name), absent_is_none=True)

    def read(self, path: str) -> dict[str, Any] | None:
        """Return what the API server has at a path; None when there is nothing.

        Raises
        ------
        StageError
            The API server refuses, or cannot be reached.
        """
        return self._ask("GET", path, absent_is_none=True)

    def list_pods(self, namespace: str, *, labels: str) -> list[dict[str, Any]]:
        """Return the pods with these labels."""
        query = [("labelSelector", labels)]
        found = self._ask("GET", self._path(POD, namespace), query=query)
        return list((found or {}).get("items", []))

    def apply(
        self,
        resource: Resource,
        namespace: str,
        body: dict[str, Any],
        *,
        force: bool,
    ) -> dict[str, Any]:
        """Apply an object on the server's side; what it does not name stays as it is.

        Parameters
        ----------
        resource : Resource
            Its kind.
        namespace : str
            Where it is.
        body : dict
            Every field that is to be ours; one that was and is no more is removed. With a
            ``metadata.resourceVersion`` it is applied only to that very state of the object.
        force : bool
            Whether to take over fields in ``body`` that somebody else has set.

        Raises
        ------
        FieldConflict
            Someone else owns a field of the body; names who and which.
        StaleObject
            The object has another ``resourceVersion``.
        StageError
            The API server refuses, or cannot be reached.
        """
        query = [("fieldManager", FIELD_MANAGER), ("force", "true" if force else "false")]
        path = self._path(resource, namespace, body["metadata"]["name"])
        return self._ask("PATCH", path, query=query, body=body) or {}

    def serves(self, resource: Resource) -> bool:
        """Tell whether the cluster knows a kind at all."""
        path = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
        found = self._ask("GET", path, absent_is_none=True) or {}
        return any(each["name"] == resource.plural for each in found.get("resources", []))

    def undeclared(self, resource: Resource, body: dict[str, Any]) -> list[str]:
        """Return the fields of a specification that the cluster's release of a kind does not have.

        Parameters
        ----------
        resource : Resource
            The kind.
        body : dict
            An object as it is to be applied.

        Raises
        ------
        StageError
            The cluster knows no such kind, or cannot be reached.
        """
        path = f"/openapi/v3/apis/{resource.api_version}"
        found = self._ask("GET", path, absent_is_none=True) or {}
        wanted = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        for schema in ((found.get("components") or {}).get("schemas") or {}).values():
            if wanted in (schema.get("x-kubernetes-group-version-kind") or []):
                spec = (schema.get("properties") or {}).get("spec") or {}
                return list(_undeclared(body["spec"], spec, "spec"))
        raise BadConfig(f"the cluster knows no {resource.kind}: {NO_KIND}")

    def status(self, namespace: str, name: str) -> dict[str, Any]:
        """Return what KServe says about an InferenceService; empty when there is none."""
        found = self.get(INFERENCE_SERVICE, namespace, name)
        return dict((found or {}).get("status") or {})

    def revisions(self, namespace: str, name: str) -> dict[str, str]:
        """Return the revisions of an InferenceService's predictor: ``latestReadyRevision``,
        ``latestCreatedRevision``, ``latestRolledoutRevision``, ``previousRolledoutRevision``."""
        predictor = (self.status(namespace, name).get("components") or {}).get("predictor") or {}
        return {key: text for key, text in predictor.items() if key.endswith("Revision")}

    def _path(self, resource: Resource, namespace: str, name: str = "") -> str:
        root = f"/apis/{resource.group}" if resource.group else "/api"
        path = f"{root}/{resource.version}/namespaces/{namespace}/{resource.plural}"
        return f"{path}/{name}" if name else path

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: "list[tuple[str, str]] | None" = None,
        body: dict[str, Any] | None = None,
        absent_is_none: bool = False,
    ) -> dict[str, Any] | None:
        from kubernetes.client.exceptions import ApiException

        client: ApiClient = self.api_client
        headers = {"Accept": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/apply-patch+yaml"
        elif body is not None:
            headers["Content-Type"] = "application/json"

        def send() -> dict[str, Any]:
            # not deserialized by the client, whose arguments for that differ between its releases
            response = client.call_api(
                path,
                method,
                query_params=query or [],
                header_params=dict(headers),
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=REQUEST_SECONDS,
            )
            answer: dict[str, Any] = json.loads(response.data)
            return answer

        try:
            return _patiently(send, f"{method} {path}", self.log)
        except ApiException as error:
            if error.status == 404 and absent_is_none:
                return None
            raise _refusal(error, method, path) from error


def _patiently(send: Callable[[], T], what: str, log: Any) -> T:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    wait = FIRST_WAIT_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return send()
        except (HTTPError, OSError, json.JSONDecodeError) as error:
            if attempt == ATTEMPTS:
                raise StageError(
                    f"the Kubernetes API cannot be reached: {what}: {type(error).__name__}: "
                    f"{' '.join(str(error).split())[:300]}"
                ) from error
            log.warning("%s: %s; again in %g s", what, type(error).__name__, wait)
        except ApiException as error:
            passing = (error.status or 0) in (429, 500, 502, 503, 504)
            if not passing or UNDECLARED in str(error.body) or attempt == ATTEMPTS:
                raise
            log.warning("%s: status %s; again in %g s", what, error.status, wait)
        time.sleep(wait)
        wait *= 2
    raise AssertionError("unreachable")


def _refusal(error: Any, method: str, path: str) -> StageError:
    try:
        document = json.loads(error.body)
    except (TypeError, ValueError):
        document = None
    document = document if isinstance(document, dict) else {}
    message = " ".join(str(document.get("message") or error.reason).split())[:500]
    if error.status == 409:
        causes = (document.get("details") or {}).get("causes") or []
        if any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
            told = ", ".join(f"{c.get('field')} ({c.get('message')})" for c in causes[:5])
            return FieldConflict(f"{path}: is set by someone else: {told}")
        return StaleObject(f"{path}: {message}")
    text = f"the Kubernetes API refuses {method} {path}: status {error.status}: {message}"
    if error.status == 404 and not document:
        # an object that is missing is told in JSON, a kind that is missing is not
        text += f"; the cluster knows no such kind: {NO_KIND}"
    if error.status in (400, 401, 403, 404, 405, 415, 422) or UNDECLARED in message:
        return BadConfig(text)
    return StageError(text)


def _undeclared(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the paths of a value's fields that a structural schema has no room for."""
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _undeclared(each, schema.get("items") or {}, f"{path}[{number}]")
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    properties, others = schema.get("properties"), schema.get("additionalProperties")
    for key, each in value.items():
        if properties is not None and key in properties:
            yield from _undeclared(each, properties[key], f"{path}.{key}")
        elif isinstance(others, dict):
            yield from _undeclared(each, others, f"{path}.{key}")
        elif properties is not None and not others:
            yield f"{path}.{key}"


@contextmanager
def kserve_hook(settings: Settings, runtime: Runtime) -> Iterator[KServeHook]:
    """Yield a hook for the cluster that serves, which is the one that the stages run on.

    Parameters
    ----------
    settings : Settings
        The installation's settings.
    runtime : Runtime
        ``eks`` takes the cluster's address and a token from AWS, any other the connection.
    """
    cluster = settings.cluster
    if runtime != "eks":
        yield KServeHook(
            conn_id=cluster.kubernetes_conn_id,
            in_cluster=cluster.in_cluster,
            config_file=cluster.config_file,
            cluster_context=cluster.cluster_context,
        )
        return
    from airflow.providers.amazon.aws.hooks.eks import EksHook

    eks = EksHook(aws_conn_id=cluster.aws_conn_id, region_name=cluster.eks_region or None)
    with eks.generate_config_file_with_credentials(
        eks_cluster_name=cluster.eks_cluster_name, pod_namespace=settings.serving.namespace
    ) as (config_file, _):
        yield KServeHook(conn_id=None, config_file=config_file, in_cluster=False)
