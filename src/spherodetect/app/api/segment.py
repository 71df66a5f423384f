"""Routes of finding objects."""

from __future__ import annotations

from fastapi import APIRouter, Response

from spherodetect.app.api.bodies import PreviewBody, RunBody
from spherodetect.app.errors import Conflict
from spherodetect.app.methods import METHODS, Method, method_named
from spherodetect.app.methods.method import checked_params
from spherodetect.app.segmenting import preview, run_over
from spherodetect.app.state import State, reply
from spherodetect.app.store.fields import all_fields


def segment_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api/segment", tags=["segment"])
    project = state.project

    @routes.get("/methods", summary="The methods with their parameters")
    def methods() -> Response:
        return reply(
            {
                "methods": [
                    {
                        "id": one.id,
                        "name": one.name,
                        "available": not (why := one.missing(project)),
                        "why": why,
                        "cost": one.cost,
                        "params": [parameter.to_json() for parameter in one.parameters],
                    }
                    for one in METHODS
                ]
            }
        )

    @routes.post("/preview", summary="Find the objects of one field and store nothing")
    def try_one(body: PreviewBody) -> Response:
        method = _usable(state, body.method)
        params = checked_params(method, body.params)
        field = project.field(body.field)
        title = f"{method.name}, preview"
        job = state.worker.submit("preview", title, preview(project, field, method, params))
        return reply({"job": job.to_json()}, 202)

    @routes.post("/runs", summary="Find and store the objects of many fields")
    def run(body: RunBody) -> Response:
        method = _usable(state, body.method)
        params = checked_params(method, body.params)
        if body.fields == "all":
            ids = [field.id for field in all_fields(state.base)]
        else:
            ids = [project.field(k).id for k in dict.fromkeys(body.fields)]
        if not ids:
            raise Conflict("expected a field, got a project without any; add photographs first")
        title = f"{method.name} on {len(ids)} field{'s' * (len(ids) != 1)}"
        work = run_over(project, ids, method, params, body.reviewer)
        return reply({"job": state.worker.submit("segment", title, work).to_json()}, 202)

    return routes


def _usable(state: State, name: str) -> Method:
    method = method_named(name)
    if why := method.missing(state.project):
        raise Conflict(f"{method.name} cannot be used: {why}")
    return method


__all__ = ["segment_routes"]
