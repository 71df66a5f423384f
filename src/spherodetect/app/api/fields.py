"""Routes of fields: list, add, pictures, pixel size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from spherodetect.app.api.bodies import ConfirmBody, PathId, ScaleBody
from spherodetect.app.edit_fields import measure_scale, scale_view
from spherodetect.app.errors import Conflict, WrongType
from spherodetect.app.pictures import COLUMNS
from spherodetect.app.state import State, reply
from spherodetect.app.store.fields import all_fields, confirm_scale
from spherodetect.app.store.objects import objects_in
from spherodetect.app.views import field_views, object_views
from spherodetect.errors import SpherodetectError
from spherodetect.fields.field import Field
from spherodetect.fields.image import read_image
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.safety import atomic_write, quoted, safe_name, sha256

_TYPES = ("image/", "application/octet-stream")
_MAX_CROPS = 100


def field_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["fields"])
    base, project = state.base, state.project

    @routes.get("/fields", summary="The fields, in order")
    def fields(patient: Annotated[str | None, Query(max_length=1000)] = None) -> Response:
        return reply({"fields": field_views(base, all_fields(base, patient))})

    @routes.post("/fields", summary="Add a photograph: its bytes are the body")
    async def add(
        request: Request,
        patient: Annotated[str, Query(min_length=1, max_length=200)],
        name: Annotated[str, Query(min_length=1, max_length=200)],
    ) -> Response:
        kind = request.headers.get("content-type", "application/octet-stream").lower()
        if not kind.startswith(_TYPES):
            raise WrongType(f"expected an image as the body, got {quoted(kind, max_chars=60)}")
        data = await request.body()
        return await run_in_threadpool(_add, state, patient, name, data)

    @routes.post("/fields/scan", summary="Look for new photographs in the folder")
    def scan() -> Response:
        job = state.worker.submit("scan", "Looking for photographs", project.scan)
        return reply({"job": job.to_json()}, 202)

    @routes.get("/fields/{field_id}/image", summary="The photograph, as JPEG without metadata")
    def image(
        request: Request,
        field_id: PathId,
        width: Annotated[int | None, Query(ge=16, le=4096)] = None,
    ) -> Response:
        field = project.field(field_id)
        tag = f'"{field.sha256[:20]}-{width or 0}"'
        headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(
            state.pictures.field(field, width), headers=headers, media_type="image/jpeg"
        )

    @routes.get("/fields/{field_id}/objects", summary="The objects of a field")
    def objects(field_id: PathId, hidden: bool = False) -> Response:
        field, cursor = project.field(field_id), base.cursor
        found = objects_in(base, field_id, hidden=hidden)
        (view,) = field_views(base, [field])
        return reply({"field": view, "objects": object_views(base, found), "cursor": cursor})

    @routes.get("/fields/{field_id}/scale", summary="The pixel size of a field")
    def scale(field_id: PathId) -> Response:
        return reply(scale_view(project, project.field(field_id)))

    @routes.put("/fields/{field_id}/scale", summary="Measure the pixel size of a field")
    def set_scale(field_id: PathId, body: ScaleBody) -> Response:
        ends = [body.x0, body.y0, body.x1, body.y1]
        line = [end for end in ends if end is not None]
        if line and (len(line) < 4 or body.um_per_px is not None):
            raise SpherodetectError(
                "expected x0, y0, x1, y1 and length_um, or um_per_px alone, got a mixture"
            )
        changed = measure_scale(
            project,
            project.field(field_id),
            um_per_px=body.um_per_px,
            line_xy=line or None,
            length_um=body.length_um,
            apply_to=body.apply_to,
        )
        view = scale_view(project, project.field(field_id))
        return reply({"scale": view, "fields": changed})

    @routes.post("/scale/confirm", summary="Confirm pixel sizes that were copied")
    def confirm(body: ConfirmBody) -> Response:
        for field_id in body.fields:
            project.field(field_id)
        confirm_scale(base, body.fields)
        return reply({"fields": body.fields})

    @routes.get("/crops", summary="A sheet of crops of objects, as JPEG")
    def crops(
        objects: Annotated[str, Query(max_length=2000, pattern=r"^\d{1,15}(,\d{1,15})*$")],
        size: Annotated[int, Query(ge=24, le=256)] = 96,
        diameters: Annotated[float, Query(ge=1, le=8)] = 2.5,
        outline: bool = False,
    ) -> Response:
        ids = [int(k) for k in objects.split(",")]
        if len(ids) > _MAX_CROPS:
            raise SpherodetectError(f"expected at most {_MAX_CROPS} objects, got {len(ids)}")
        sheet = state.pictures.objects(ids, size_px=size, diameters=diameters, outlined=outline)
        return Response(sheet, media_type="image/jpeg", headers={"X-Columns": str(COLUMNS)})

    return routes


def _add(state: State, patient: str, name: str, data: bytes) -> Response:
    """Write an uploaded photograph into the project's folder and read it."""
    suffix = Path(name).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise WrongType(
            f"{quoted(name, max_chars=80)}: expected the name of a JPEG, PNG, TIFF, BMP or WebP "
            "image; save it as one"
        )
    read_image(data, name=name)  # before anything is written
    project, base = state.project, state.base
    digest = sha256(data)
    known = base.row("SELECT id FROM field WHERE sha256 = ? AND present = 1", (digest,))
    if known is None:
        place = Path(safe_name(patient), safe_name(Path(name).stem) + suffix)
        path = project.folder / place
        if path.exists():
            raise Conflict(
                f"{quoted(place.as_posix())}: another photograph of this name lies there already; "
                "give it another name"
            )
        with atomic_write(path) as file:
            file.write(data)
        field_id, _ = project.add(Field(patient, place.as_posix(), path))
    else:
        field_id = known["id"]
    (view,) = field_views(base, [project.field(field_id)])
    return reply({"field": view, "known": known is not None}, 201 if known is None else 200)


__all__ = ["field_routes"]
