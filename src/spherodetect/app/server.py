"""The server: routes, errors as one sentence each, and the guard in front of everything."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from spherodetect.app.api.exports import export_routes
from spherodetect.app.api.fields import field_routes
from spherodetect.app.api.labels import label_routes
from spherodetect.app.api.learning import learning_routes
from spherodetect.app.api.objects import object_routes
from spherodetect.app.api.reviews import review_routes
from spherodetect.app.api.segment import segment_routes
from spherodetect.app.api.session import session_routes
from spherodetect.app.api.steps import step_routes
from spherodetect.app.docs_page import docs_routes
from spherodetect.app.edit_fields import Measurer
from spherodetect.app.errors import Busy, Conflict, NotThere, StorageError, TooLarge, WrongType
from spherodetect.app.jobs import Worker
from spherodetect.app.pictures import Pictures
from spherodetect.app.project import Project
from spherodetect.app.rest import rest_routes
from spherodetect.app.security import Access, Guard, SlowBody
from spherodetect.app.state import State, reply
from spherodetect.app.web_files import web_routes
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

logger = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotThere, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (WrongType, 415),
    (Busy, 429),
    (StorageError, 507),
    (SpherodetectError, 422),
    (SlowBody, 408),
)
#: Smaller answers are not packed.
_PACKED_BYTES = 16_384
_SENTENCES = {
    404: "expected an address of this server, got another one; see docs",
    405: "expected another method for this address; see docs",
    408: "the body stopped; send it again",
}


def create_app(
    project: Project,
    access: Access,
    *,
    worker: Worker | None = None,
    reload_web: bool = False,
    preload: bool = False,
) -> FastAPI:
    """The ASGI application of a project.

    Args:
        project: is closed with the application.
        access: who may talk to it.
        worker: by default one of its own.
        reload_web: read the files of the browser anew at every request.
        preload: load the model at once; until then the server is not ready.
    """
    worker = worker or Worker()
    state = State(
        project, worker, access, Pictures(project), Measurer(project), reload_web, preload
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.submit("scan", "Looking for photographs", project.scan)
        if preload:
            worker.submit("load", "Loading the model", state.load_model)
        yield
        worker.stop()
        project.close()

    app = FastAPI(
        title="spherodetect",
        description="For Research Use Only. Not for use in diagnostic procedures.",
        version=state.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for routes in (
        session_routes,
        field_routes,
        object_routes,
        step_routes,
        label_routes,
        segment_routes,
        review_routes,
        learning_routes,
        export_routes,
        rest_routes,
        web_routes,
    ):
        app.include_router(routes(state))
    app.include_router(docs_routes(app))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind, _ in _STATUS:
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(_PackedJson)
    app.add_middleware(Guard, access=access)
    return app


class _PackedJson:
    """Packs the answers of api/ for browsers that take it; pictures are packed already."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.packing = GZipMiddleware(app, minimum_size=_PACKED_BYTES, compresslevel=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        packed = "/api/" in path and not path.endswith(("/image", "/crops"))
        await (self.packing if packed else self.app)(scope, receive, send)


async def _refused(request: Request, error: Exception) -> Response:
    status = next(code for kind, code in _STATUS if isinstance(error, kind))
    headers = {"Retry-After": str(error.retry_s)} if isinstance(error, Busy) else {}
    return reply({"error": str(error) or _SENTENCES[status]}, status, headers=headers)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # FastAPI wraps what reading a body raises.
    cause = error.__cause__
    if isinstance(cause, SpherodetectError | SlowBody):
        return await _refused(request, cause)
    sentence = _SENTENCES.get(error.status_code, f"expected another request: {error.detail}")
    return reply({"error": sentence}, error.status_code, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return reply({"error": _sentence(error.errors()[0])}, 422)


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s", request.method, request.url.path, exc_info=error)
    return reply({"error": "the server failed; its terminal says more"}, 500)


def _sentence(problem: Any) -> str:
    """One sentence for the first thing that is wrong with a request."""
    *place, name = [str(part) for part in problem.get("loc", ())] or ["request"]
    where = ".".join([*(part for part in place if part != "body"), name])
    message = str(problem.get("msg", "something else")).removeprefix("Value error, ")
    got = problem.get("input")
    shown = f", got {quoted(got, max_chars=60)}" if not isinstance(got, dict | list) else ""
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"


__all__ = ["create_app"]
