"""Routes for other programs: is the server up, what is its model, detect, score, jobs.

One worker does the work, a job at a time; four wait, then 429 with Retry-After. A detection that
takes longer than WAIT_S is answered by its job.
"""

from __future__ import annotations

import dataclasses
import io
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from spherodetect.app.errors import TooLarge, WrongType
from spherodetect.app.jobs import DONE, Job, Work
from spherodetect.app.patients import finite
from spherodetect.app.project import Project
from spherodetect.app.state import State, reply
from spherodetect.app.store.outlines import polygon_xy
from spherodetect.cells import Cells
from spherodetect.detect.detector import error_rates_of, identity_of, name_of
from spherodetect.detect.model import Model
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.find import find_fields
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.patient import relative, score_patient
from spherodetect.rle import run_lengths
from spherodetect.safety import extract_zip, quoted

#: A request waits for its job for so long, then it gets the job instead.
WAIT_S = 60.0
#: A patient of more fields is answered by a job at once.
MAX_FIELDS_NOW = 4
MAX_PIXELS = 40_000_000
_MAX_ZIP_BYTES, _MAX_MEMBERS = 2**30, 500
_IMAGES = ("image/", "application/octet-stream")
_ZIPS = ("application/zip", "application/x-zip-compressed", "application/octet-stream")
UmPerPx = Annotated[float | None, Query(gt=0.001, lt=5, allow_inf_nan=False)]


def rest_routes(state: State) -> APIRouter:
    routes = APIRouter(tags=["rest"])

    @routes.get("/healthz", summary="Whether the server runs")
    async def health() -> Response:
        return reply({"status": "ok"})

    @routes.get("/readyz", summary="Whether the server can work: 503 until its model is loaded")
    async def ready() -> Response:
        waits = state.preload and not state.project.model_is_loaded
        is_ready = state.worker.alive and not waits
        return reply({"ready": is_ready}, 200 if is_ready else 503)

    @routes.get("/v1/models/spherodetect", summary="The model")
    def model() -> Response:
        return reply(_model_view(state.project))

    @routes.post("/v1/detect", summary="The cells of one image: its bytes are the body")
    async def detect(
        request: Request,
        um_per_px: UmPerPx = None,
        masks: Literal["polygon", "rle", "none"] = "polygon",
    ) -> Response:
        _require_type(request, _IMAGES, "an image")
        data = await request.body()
        return await run_in_threadpool(_detect, state, data, um_per_px, masks)

    @routes.post("/v1/score", summary="The score of one patient: a zip of the fields is the body")
    async def score(
        request: Request,
        patient: Annotated[str, Query(min_length=1, max_length=200)] = "patient",
        um_per_px: UmPerPx = None,
    ) -> Response:
        _require_type(request, _ZIPS, "a zip")
        data = await request.body()
        return await run_in_threadpool(_score, state, data, patient, um_per_px)

    @routes.get("/v1/jobs/{job_id}", summary="A job, with its result when it is done")
    def job(job_id: str) -> Response:
        return reply(state.worker.get(job_id).to_json(result=True))

    @routes.delete("/v1/jobs/{job_id}", summary="Cancel a job")
    def cancel(job_id: str) -> Response:
        return reply(state.worker.cancel(job_id).to_json())

    return routes


def _detect(state: State, data: bytes, um_per_px: float | None, masks: str) -> Response:
    _require_size(data)

    def work(job: Job) -> Generator[None]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.png"
            path.write_bytes(data)
            (one,) = examine(find_fields(path, um_per_px=um_per_px), state.project.detector())
        if one.problem:
            raise SpherodetectError(one.problem.replace("image.png", "image"))
        job.result = cells_view(one, masks)
        yield from ()

    return _answered(state, state.worker.submit("detect", "Detection", work))


def _score(state: State, data: bytes, patient: str, um_per_px: float | None) -> Response:
    folder = tempfile.TemporaryDirectory()
    try:
        root = Path(folder.name)
        (root / "fields.zip").write_bytes(data)
        try:
            extract_zip(
                root / "fields.zip",
                root / "fields",
                max_bytes=_MAX_ZIP_BYTES,
                max_members=_MAX_MEMBERS,
            )
            fields = find_fields(root / "fields", um_per_px=um_per_px)
        except SpherodetectError as error:
            raise SpherodetectError(str(error).replace(f"{root}/", "")) from error
        job = state.worker.submit(
            "score",
            f"Score of {len(fields)} fields",
            _scoring(state.project, folder, fields, patient),
        )
    except BaseException:
        folder.cleanup()
        raise
    if len(fields) > MAX_FIELDS_NOW:
        return _job_view(job)
    return _answered(state, job)


def _scoring(
    project: Project, folder: tempfile.TemporaryDirectory[str], fields: Any, patient: str
) -> Work:
    def work(job: Job) -> Generator[None]:
        try:
            detector = project.detector()
            read: list[Examined] = []
            for number, field in enumerate(fields):
                job.progress(number, len(fields), field.field_id)
                (one,) = examine(field, detector)
                read.append(dataclasses.replace(one, photograph=None))
                yield
            rates = detector if isinstance(detector, Model) else error_rates_of(detector)
            score = score_patient(relative(read), rates, patient_id=patient)
            if rates is None:
                score = score.called_by(name_of(detector))
            values = dataclasses.asdict(score)
            job.progress(len(fields), len(fields))
            job.result = {
                **{k: finite(v) if isinstance(v, float) else v for k, v in values.items()},
                "problems": [one.problem for one in read if one.problem],
            }
        finally:
            folder.cleanup()

    return work


def cells_view(one: Examined, masks: str) -> dict[str, Any]:
    """An examined field as JSON."""
    cells = one.cells
    return {
        "image": {"height": cells.image_size_hw[0], "width": cells.image_size_hw[1]},
        "um_per_px": finite(one.scale.um_per_px),
        "um_per_px_source": one.scale.source,
        "warning": one.scale.warning,
        "accepted": one.quality.accepted,
        "reason": one.quality.reason,
        "convention": cells.convention,
        "cells": [
            {
                "cell_id": int(cells.cell_id[k]),
                "class_name": str(cells.names[k]),
                "confidence": finite(cells.confidence[k]),
                "p_spherocyte": finite(cells.p_spherocyte[k]),
                "countable": bool(cells.countable[k]),
                "exclusion_reason": str(reason),
                "box_yxyx": [round(float(v), 2) for v in cells.box_yxyx[k]],
                "measurements": {
                    name: finite(values[k]) for name, values in cells.measurements.items()
                },
                **_shape(mask, corner, cells, masks),
            }
            for k, ((mask, corner), reason) in enumerate(
                zip(cells.pixel_masks(), cells.exclusion_reason, strict=True)
            )
        ],
    }


def _shape(mask: np.ndarray, corner: tuple[int, int], cells: Cells, masks: str) -> dict[str, Any]:
    if masks == "polygon":
        return {"polygon_xy": polygon_xy(mask, corner) if mask.any() else []}
    if masks == "rle":
        packed = run_lengths(mask, origin_yx=corner, size_hw=cells.image_size_hw)
        return {"rle": packed.to_coco()}
    return {}


def _answered(state: State, job: Job) -> Response:
    if not job.wait(WAIT_S):
        return _job_view(job)
    if job.state == DONE:
        return reply(job.result)
    raise SpherodetectError(job.error or "the job was cancelled")


def _job_view(job: Job) -> Response:
    return reply(job.to_json(), 202, headers={"Location": f"v1/jobs/{job.id}"})


def _require_type(request: Request, kinds: tuple[str, ...], expected: str) -> None:
    kind = request.headers.get("content-type", kinds[0]).lower()
    if not kind.startswith(kinds):
        raise WrongType(f"expected {expected} as the body, got {quoted(kind, max_chars=60)}")


def _require_size(data: bytes) -> None:
    """Refuse an image of too many pixels before it waits in the queue."""
    from PIL import Image

    from spherodetect.fields.image import FORMATS, quiet_pillow

    try:
        with quiet_pillow(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except Exception:  # the worker says what is wrong with it
        return
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"image: expected at most {MAX_PIXELS:,} pixels, got {width}x{height}; use "
            "`spherodetect score` for slides"
        )


def _model_view(project: Project) -> dict[str, Any]:
    if not project.model_is_loaded:
        return {"name": "spherodetect", "loaded": False}
    detector = project.detector()
    view: dict[str, Any] = {
        "name": name_of(detector),
        "loaded": True,
        "identity": identity_of(detector),
    }
    if isinstance(detector, Model):
        view["class_names"] = list(detector.class_names)
        view["conventions"] = list(detector.conventions)
    return view


__all__ = ["MAX_FIELDS_NOW", "MAX_PIXELS", "WAIT_S", "cells_view", "rest_routes"]
