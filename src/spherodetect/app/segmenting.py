"""Find objects in fields by a method: a preview of one field, and runs over many."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from spherodetect.app.jobs import Job, Work
from spherodetect.app.methods import Found, Method
from spherodetect.app.patients import score_by_model
from spherodetect.app.predictions import predict_field
from spherodetect.app.project import Project
from spherodetect.app.store.attach import add_run, attach
from spherodetect.app.store.fields import CELLS, MEASURED, FieldRow
from spherodetect.app.store.outlines import outlines_of, polygon_xy
from spherodetect.errors import SpherodetectError


def preview(project: Project, field: FieldRow, method: Method, params: Mapping[str, Any]) -> Work:
    """A job that finds the objects of one field and stores nothing."""

    def work(job: Job) -> Generator[None]:
        job.progress(0, 1, field.name)
        began = time.perf_counter()
        outlines = outlines_of(method.find(project, field, params).cells)
        job.progress(1, 1)
        job.result = {
            "field": field.id,
            "n": len(outlines),
            "seconds": round(time.perf_counter() - began, 2),
            "objects": [
                {
                    "box_yxyx": list(one.box_yxyx),
                    "polygon_xy": polygon_xy(one.mask, one.box_yxyx[:2]),
                    "area_px": float(np.count_nonzero(one.mask)),
                }
                for one in outlines
            ],
        }
        yield from ()

    return work


def run_over(
    project: Project,
    field_ids: Sequence[int],
    method: Method,
    params: Mapping[str, Any],
    reviewer: str,
) -> Work:
    """A job that finds and stores the objects of fields, a field a step.

    A field that cannot be used is named, and the others go on.
    """

    def work(job: Job) -> Generator[None]:
        run_id = add_run(project.base, method.id, params, reviewer)
        problems: list[str] = []
        totals = np.zeros(3, int)
        patients: dict[str, None] = {}
        n_fields = 0
        for number, field_id in enumerate(field_ids):
            field = project.field(field_id)
            job.progress(number, len(field_ids), field.name)
            try:
                found = method.find(project, field, params)
            except SpherodetectError as error:
                problems.append(str(error))
            else:
                totals += _store(project, field, found, run_id)
                patients[field.patient] = None
                n_fields += 1
            yield
        if method.id == "model":
            for patient in patients:
                job.progress(len(field_ids), len(field_ids), patient)
                score_by_model(project, patient)
                yield
        job.progress(len(field_ids), len(field_ids))
        n_objects, n_attached, n_queued = totals.tolist()
        job.result = {
            "run": run_id,
            "n_fields": n_fields,
            "n_objects": n_objects,
            "n_attached": n_attached,
            "n_queued": n_queued,
            "problems": problems,
        }

    return work


def _store(project: Project, field: FieldRow, found: Found, run_id: int) -> np.ndarray:
    """Store what was found in a field; the numbers of objects, attached and queued ones."""
    base = project.base
    outlines = outlines_of(found.cells, named=found.named)
    with base.writing():
        attached = attach(base, field.id, outlines, size_hw=field.size_hw, run_id=run_id)
        diameters = found.cells.measurements["diameter_px"]
        if np.isfinite(diameters).any():
            base.execute(
                "UPDATE field SET rbc_diameter_px = ? WHERE id = ?",
                (round(float(np.nanmedian(diameters)), 2), field.id),
            )
        if found.accepted is not None:
            base.execute(
                "UPDATE field SET accepted = ?, reason = ?, model_run_id = ? WHERE id = ?",
                (found.accepted, found.reason, run_id, field.id),
            )
        if found.um_per_px and field.scale_source in (None, CELLS):
            base.execute(
                "UPDATE field SET um_per_px = ?, scale_source = ? WHERE id = ? "
                "AND scale_source IS NOT ?",
                (found.um_per_px, found.scale_source, field.id, MEASURED),
            )
            base.changed("scale")
        predict_field(base, field.id)
    return np.array([attached.n_objects, attached.n_attached, attached.n_queued])


__all__ = ["preview", "run_over"]
