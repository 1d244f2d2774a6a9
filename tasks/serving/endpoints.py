"""The addresses of both protocols, in place of KServe's own of the same paths.

KServe parses a V2 body by a model of its own and answers 422 with a list; it parses a V1 body by
its Content-Type, which curl gets wrong unless told. Names, metrics and other paths are KServe's.
"""

import logging
from collections.abc import Mapping
from typing import Any

import orjson  # type: ignore[import-not-found]
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from kserve import errors
from starlette.routing import Route

from tasks.serving import answers
from tasks.serving.events import event_of
from tasks.serving.guard import BODY, RETRY_AFTER
from tasks.serving.json_body import parse_json
from tasks.serving.limits import Busy
from tasks.serving.requests import parse_v1, parse_v2
from tasks.serving.values import BadRequest
from tasks.serving.worker import Work

log = logging.getLogger("tasks.serving")

LONGEST = 200
"""Characters of an error: whatever it quotes, it never repeats a request."""

_STATUS: dict[type[Exception], int] = {
    BadRequest: 400,
    errors.InvalidInput: 400,
    RequestValidationError: 400,
    errors.ModelNotFound: 404,
    NotImplementedError: 501,
    errors.UnsupportedProtocol: 501,
    errors.ModelNotReady: 503,
    errors.ServerNotReady: 503,
    errors.ServerNotLive: 503,
    Busy: 503,
}


def add_endpoints(app: FastAPI, dataplane: Any) -> None:
    """Add the addresses that answer; before KServe's own, which they take the place of."""

    async def predict(request: Request) -> Response:
        name = request.path_params["model_name"]
        box = request.scope[BODY]
        event = event_of(request.headers)
        if event is None:
            work = Work(size=len(box[0]), parse=lambda: parse_v1(parse_json(box.pop())))
            return await _infer(dataplane, name, work, request)
        headers: dict[str, str] = {}

        def answer(*given: Any) -> dict[str, Any]:
            document, more = event.closed(name, answers.v1(*given))
            headers.update(more)
            return document

        work = Work(
            size=len(box[0]),
            parse=lambda: parse_v1(event.opened(parse_json(box.pop()))),
            answer=answer,
        )
        response = await _infer(dataplane, name, work, request)
        response.headers.update(headers)
        return response

    async def explain(request: Request) -> Response:
        dataplane.get_model_from_registry(request.path_params["model_name"])
        raise NotImplementedError("explanations are in the run's report; the server has none")

    async def infer(request: Request) -> Response:
        name = request.path_params["model_name"]
        if "model_version" in request.path_params:
            raise NotImplementedError("versions are not asked for; the champion answers")
        box = request.scope[BODY]
        length = request.headers.get("inference-header-content-length")
        work = Work(size=len(box[0]), parse=lambda: parse_v2(box.pop(), length), answer=answers.v2)
        return await _infer(dataplane, name, work, request)

    routes = [
        Route("/v1/models/{model_name}:predict", predict, methods=["POST"]),
        Route("/v1/models/{model_name}:explain", explain, methods=["POST"]),
    ]
    for path in ("", "/versions/{model_version}"):
        routes.append(Route(f"/v2/models/{{model_name}}{path}/infer", infer, methods=["POST"]))
    app.router.routes.extend(routes)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with one sentence; after KServe's own handlers, whose place they take."""
    for kind in _STATUS:
        app.add_exception_handler(kind, _said)
    app.add_exception_handler(Exception, _unforeseen)


async def _infer(dataplane: Any, name: str, work: Work, request: Request) -> Response:
    if not await dataplane.model_ready(name, True):
        raise errors.ModelNotReady(name)
    headers = dict(request.headers)
    answer, _ = await dataplane.infer(model_name=name, request=work, headers=headers)
    return Response(answer, media_type="application/json")


async def _said(_: Request, error: Exception) -> Response:
    """Answer with what was wrong; nothing is logged, it is the sender's business."""
    kind = next(each for each in type(error).__mro__ if each in _STATUS)
    status = _STATUS[kind]
    if isinstance(error, Busy):
        text = "too many large images at a time; try again"
    elif isinstance(error, RequestValidationError):
        text = "request is not what this address takes"
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    name, seconds = (each.decode() for each in RETRY_AFTER)
    return _json(
        {"error": text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."},
        status,
        {name: seconds} if status == 503 else {},
    )


async def _unforeseen(_: Request, error: Exception) -> Response:
    log.error("a request failed: %s: %s", type(error).__name__, str(error)[:LONGEST])
    return _json({"error": "the request failed; see the server's log"}, 500)


def _json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), status, headers, "application/json")
