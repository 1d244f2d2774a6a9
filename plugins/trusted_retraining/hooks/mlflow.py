"""Talks to an MLflow server's REST API: the aliases and tags of registered versions."""

import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from tasks.contract import (
    CHAMPION,
    LAST_CHAMPION,
    BadConfig,
    Champion,
    History,
    Owner,
    RegistryEntry,
    StageError,
    format_champion,
    owner_by_tags,
    says_absent,
)
from tasks.spec.masking import masked
from trusted_retraining.hooks.http import http_client

ATTEMPTS, FIRST_WAIT_SECONDS = 6, 0.5
"""Times that a request is sent when the server is away, and the wait before the second, which
doubles."""

PAGE = 1000
"""Versions that are asked for at a time."""

_CERTIFICATES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE")


class MlflowHook(BaseHook):
    """A small client of the model registry. MLflow's own takes seconds to import.

    Parameters
    ----------
    address : str
        ``http://host:port`` of the server. User and password, or a token, come from
        ``MLFLOW_TRACKING_USERNAME``, ``MLFLOW_TRACKING_PASSWORD`` and ``MLFLOW_TRACKING_TOKEN``,
        certificates from ``MLFLOW_TRACKING_SERVER_CERT_PATH`` or ``REQUESTS_CA_BUNDLE``, as with
        MLflow's own client.

    Raises
    ------
    BadConfig
        The address is not that of a server, or the certificates cannot be read.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        if urlsplit(address).scheme not in ("http", "https"):
            raise BadConfig(
                f"[trusted_retraining] mlflow_uri: {masked(address)!r} is no server; a "
                "cluster's champion is kept by one, such as http://mlflow:5000"
            )
        self.address = address.rstrip("/")
        told = (os.environ.get(name, "") for name in _CERTIFICATES)
        trusted = next((path for path in told if path), "")
        self._http = http_client(certificates=trusted, timeout=30, **_credentials())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def champion(self, model: str) -> Champion | None:
        """Return the version with the alias ``champion``; None when there is no such alias or
        model. The digest is empty for a version that somebody registered by hand.

        Raises
        ------
        StageError
            MLflow cannot be reached, or refuses.
        """
        found = self._ask("GET", "registered-models/alias", {"name": model, "alias": CHAMPION})
        return None if found is None else _identity(found["model_version"])

    def entry(self, model: str) -> RegistryEntry:
        """Return what a registered model says of its champion; nothing for an unknown model.

        Raises
        ------
        StageError
            MLflow cannot be reached, or refuses.
        """
        found = self._ask("GET", "registered-models/get", {"name": model})
        if found is None:
            return RegistryEntry(alias=None, last=None)
        described = found["registered_model"]
        aliases = {each["alias"]: str(each["version"]) for each in described.get("aliases", [])}
        return RegistryEntry(alias=aliases.get(CHAMPION), last=_tags(described).get(LAST_CHAMPION))

    def history(self, model: str) -> History:
        """Return what the registry remembers of the champions of a model.

        Raises
        ------
        StageError
            MLflow cannot be reached, or refuses.
        """
        entry = self.entry(model)
        return History.of(entry.last, alias=entry.alias, blessed=lambda: self._blessed(model))

    def owner(self, model: str) -> Owner:
        """Return whose a model is: the pipeline's that made its champion or, where that does not
        say, the one's that made its oldest version.

        Raises
        ------
        StageError
            MLflow cannot be reached, or refuses.
        """
        fields = {"name": model, "alias": CHAMPION}
        found = self._ask("GET", "registered-models/alias", fields)
        versions = [found["model_version"]] if found is not None else []
        versions += sorted(
            self._versions(f"name = '{model}'"), key=lambda each: int(each["version"])
        )
        owners = (owner_by_tags(str(each["version"]), _tags(each)) for each in versions)
        return next((each for each in owners if each is not None), Owner())

    def _blessed(self, model: str) -> list[Champion]:
        wanted = f"name = '{model}' and tags.verdict = 'blessed'"
        return [_identity(each) for each in self._versions(wanted)]

    def _versions(self, wanted: str) -> list[Mapping[str, Any]]:
        # MLflow's own order is that of the last change: a version that is changed between two pages
        # could be on neither
        fields = {"filter": wanted, "max_results": PAGE, "order_by": "version_number ASC"}
        versions: list[Mapping[str, Any]] = []
        while True:
            found = self._ask("GET", "model-versions/search", fields) or {}
            versions += found.get("model_versions", [])
            if not found.get("next_page_token"):
                return versions
            fields["page_token"] = found["next_page_token"]

    def point_alias(self, model: str, version: str | None) -> None:
        """Point the alias ``champion`` at a version, in one step; None removes it.

        Raises
        ------
        StageError
            MLflow cannot be reached or refuses, or there is no such version.
        """
        body = {"name": model, "alias": CHAMPION}
        if version is None:
            self._ask("DELETE", "registered-models/alias", body)
        elif self._ask("POST", "registered-models/alias", body | {"version": version}) is None:
            raise StageError(f"MLflow at {self._shown} knows no {model} version {version}")

    def mark_champion(self, model: str, champion: Champion) -> None:
        """Note with the registered model who is champion: alias and version may be deleted.

        Raises
        ------
        StageError
            MLflow cannot be reached, or there is no such model.
        """
        self.write_last(model, format_champion(champion))

    def write_last(self, model: str, text: str | None) -> None:
        """Write the tag ``last_champion``; None removes it.

        Raises
        ------
        StageError
            MLflow cannot be reached, or there is no such model.
        """
        body = {"name": model, "key": LAST_CHAMPION}
        if text is None:
            self._ask("DELETE", "registered-models/delete-tag", body)
        elif self._ask("POST", "registered-models/set-tag", body | {"value": text}) is None:
            raise StageError(f"MLflow at {self._shown} knows no model {model}")

    def set_version_tags(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version.

        Raises
        ------
        StageError
            MLflow cannot be reached, or there is no such version.
        """
        for key, value in tags.items():
            body = {"name": model, "version": version, "key": key, "value": value}
            if self._ask("POST", "model-versions/set-tag", body) is None:
                raise StageError(f"MLflow at {self._shown} knows no {model} version {version}")

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log metrics into a run, all at once.

        Raises
        ------
        StageError
            MLflow cannot be reached, or there is no such run.
        """
        at = int(time.time() * 1000)
        rows = [{"key": k, "value": v, "timestamp": at, "step": 0} for k, v in metrics.items()]
        if self._ask("POST", "runs/log-batch", {"run_id": run_id, "metrics": rows}) is None:
            raise StageError(f"MLflow at {self._shown} knows no run {run_id}")

    def end_run(self, run_id: str, status: str) -> None:
        """Give a run that is still running its last status; one that has ended keeps its own.

        Parameters
        ----------
        run_id : str
            The run; one that MLflow does not know is left alone.
        status : {"FINISHED", "FAILED", "KILLED"}
            How it ended.

        Raises
        ------
        StageError
            MLflow cannot be reached, or refuses.
        """
        found = self._ask("GET", "runs/get", {"run_id": run_id})
        if found is not None and found["run"]["info"]["status"] == "RUNNING":
            at = int(time.time() * 1000)
            self._ask("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": at})

    @property
    def _shown(self) -> str:
        return masked(self.address)

    def _ask(self, method: str, path: str, fields: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer; None when MLflow knows no such thing. Each request may be repeated."""
        import httpx

        wait = FIRST_WAIT_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._http.request(
                    method,
                    f"{self.address}/api/2.0/mlflow/{path}",
                    params=fields if method == "GET" else None,
                    json=None if method == "GET" else fields,
                )
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == 200:
                    return dict(response.json())
                if _says_absent(response):
                    return None
                problem = f"status {response.status_code}: {' '.join(response.text.split())[:200]}"
                if response.status_code < 500 and response.status_code != 429:
                    raise StageError(f"MLflow at {self._shown} refuses {path}: {problem}")
            if attempt == ATTEMPTS:
                raise StageError(f"MLflow at {self._shown} failed: {path}: {problem}")
            self.log.warning("MLflow: %s: %s; again in %g s", path, problem, wait)
            time.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable")


def _credentials() -> dict[str, Any]:
    value = os.environ.get
    if value("MLFLOW_TRACKING_TOKEN"):
        return {"headers": {"Authorization": f"Bearer {value('MLFLOW_TRACKING_TOKEN')}"}}
    if value("MLFLOW_TRACKING_USERNAME"):
        user, password = value("MLFLOW_TRACKING_USERNAME"), value("MLFLOW_TRACKING_PASSWORD", "")
        return {"auth": (user, password)}
    return {}


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    return {each["key"]: each.get("value", "") for each in found.get("tags", [])}


def _identity(version: Mapping[str, Any]) -> Champion:
    return Champion(str(version["version"]), _tags(version).get("digest", ""))


def _says_absent(response: Any) -> bool:
    try:
        code = response.json().get("error_code")
    except (ValueError, AttributeError):
        return False
    return says_absent(code, response.text)
