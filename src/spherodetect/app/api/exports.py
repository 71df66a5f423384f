"""Routes of what leaves and enters the project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from spherodetect.app.api.bodies import Reviewed
from spherodetect.app.exports import cells_rows, coco_pieces, recipe_zip, statistics_rows
from spherodetect.app.hand_over import hand_over
from spherodetect.app.imports import import_coco
from spherodetect.app.reports import write_reports
from spherodetect.app.state import State, reply
from spherodetect.app.store.database import Database
from spherodetect.app.store.labels import checked_name

_JSON, _CSV, _ZIP = "application/json", "text/csv; charset=utf-8", "application/zip"


def export_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["exports"])
    base, project = state.base, state.project

    @routes.get("/exports/coco.json", summary="The labelled objects as COCO")
    def coco() -> Response:
        return _file("coco.json", _JSON, coco_pieces, base)

    @routes.get("/exports/cells.csv", summary="One object a line")
    def cells() -> Response:
        return _file("cells.csv", _CSV, cells_rows, base)

    @routes.get("/exports/statistics.csv", summary="Count, share and size")
    def figures() -> Response:
        return _file("statistics.csv", _CSV, statistics_rows, base)

    @routes.get("/exports/recipe.zip", summary="The labels of people, and a recipe for training")
    def recipe() -> Response:
        return Response(recipe_zip(project), headers=_named("recipe.zip"), media_type=_ZIP)

    @routes.post("/exports/reports", summary="Write the reports with corrections")
    def reports(body: Reviewed) -> Response:
        job = state.worker.submit("reports", "Writing the reports", write_reports(project))
        return reply({"job": job.to_json()}, 202)

    @routes.post("/exports/reviews", summary="Take the answers of reviews into the results")
    def reviews(body: Reviewed) -> Response:
        job = state.worker.submit("reviews", "Taking in the reviews", hand_over(project))
        return reply({"job": job.to_json()}, 202)

    @routes.post("/imports/coco", summary="Take in labels: a COCO file is the body")
    async def take_in(
        request: Request, reviewer: Annotated[str, Query(min_length=1, max_length=60)]
    ) -> Response:
        data = await request.body()
        return await run_in_threadpool(
            lambda: reply(import_coco(project, state.measurer, data, checked_name(reviewer)))
        )

    return routes


def _file(
    name: str, kind: str, pieces: Callable[[Database], Iterator[str]], base: Database
) -> Response:
    encoded = (piece.encode(errors="backslashreplace") for piece in pieces(base))
    return StreamingResponse(encoded, headers=_named(name), media_type=kind)


def _named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


__all__ = ["export_routes"]
