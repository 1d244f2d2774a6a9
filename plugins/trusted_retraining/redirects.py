"""Where the buttons of a task lead: found out when somebody clicks.

Airflow asks an operator for its links once, when the task ends, and keeps the answer. The address
of MLflow may change after that, and the report may come after that.
"""

from collections.abc import Callable
from typing import Any

from tasks.spec.base import NAME
from trusted_retraining.links import mlflow_run_address, report_address

_TARGETS: dict[str, tuple[Callable[[str, str], str], str]] = {
    "mlflow": (mlflow_run_address, "no stage of this night has been logged in MLflow"),
    "report": (report_address, "this night has no report in MLflow yet"),
}


class Redirects:
    """The application that Airflow mounts; made when it is first asked for something.

    Every component of Airflow loads the plugin, and only the API server needs what FastAPI and
    Airflow's own security bring along, which takes seconds to import.
    """

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request (ASGI)."""
        if self._app is None:
            self._app = _application()
        await self._app(scope, receive, send)


def _application() -> Any:
    from typing import Annotated, Literal

    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException, Path
    from fastapi.responses import RedirectResponse

    app = FastAPI(title="trusted-retraining", docs_url=None, redoc_url=None, openapi_url=None)
    # an application of a plugin does not inherit the login
    may_read = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))

    @app.get("/{dag_id}/{run_id}/{target}", dependencies=[may_read])
    def redirect(
        dag_id: Annotated[str, Path(pattern=NAME)],
        run_id: str,
        target: Literal["mlflow", "report"],
    ) -> RedirectResponse:
        address, absent = _TARGETS[target]
        found = address(dag_id, run_id)
        if not found:
            raise HTTPException(404, absent)
        return RedirectResponse(found, status_code=302)

    return app
