"""Routes of the session: who is here, what changed, jobs, patients."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from spherodetect.app.api.bodies import MAX_ITEMS, MAX_STEPS
from spherodetect.app.methods import METHODS
from spherodetect.app.patients import patient_rows
from spherodetect.app.security import MAX_IMAGE_BYTES
from spherodetect.app.state import State, reply
from spherodetect.app.store.database import now
from spherodetect.app.store.fields import all_fields
from spherodetect.app.store.labels import active_set
from spherodetect.app.store.objects import objects_by_id
from spherodetect.app.store.steps import may_turn
from spherodetect.app.views import object_views
from spherodetect.score.counts import RESEARCH_USE

#: More changed objects are not listed one by one.
_MAX_CHANGES = 2000
#: Ended jobs are shown for this long.
_SHOWN_S = 60.0
_MOST = 2**53


def session_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["session"])
    base = state.base

    @routes.get("/session", summary="The project, its methods and its limits")
    def session() -> Response:
        fields = all_fields(base)
        reviewers = base.rows("SELECT DISTINCT reviewer FROM step ORDER BY reviewer")
        methods = []
        for method in METHODS:
            why = method.missing(state.project)
            methods.append({"id": method.id, "name": method.name, "available": not why, "why": why})
        return reply(
            {
                "project": state.project.name,
                "project_id": state.project.id,
                "version": state.version,
                "set": active_set(base),
                "cursor": base.cursor,
                "reviewers": [row["reviewer"] for row in reviewers],
                "n_patients": len({field.patient for field in fields}),
                "n_fields": len(fields),
                "problems": state.project.problems,
                "is_results": state.project.is_results,
                "methods": methods,
                "limits": {
                    "steps": MAX_STEPS,
                    "items": MAX_ITEMS,
                    "image_bytes": MAX_IMAGE_BYTES,
                    "crops": 100,
                },
            }
        )

    @routes.get("/changes", summary="What changed since a cursor")
    def changes(since: Annotated[int, Query(ge=0, le=_MOST)]) -> Response:
        rows = base.rows(
            "SELECT id, kind, ref FROM change WHERE id > ? ORDER BY id LIMIT 20000", (since,)
        )
        ids = {row["ref"] for row in rows if row["kind"] == "object"}
        found = [] if len(ids) > _MAX_CHANGES else list(objects_by_id(base, ids).values())
        other = {row["kind"] for row in rows} - {"object", "field"}
        cursor = rows[-1]["id"] if rows else base.cursor
        return reply(
            {
                "cursor": cursor,
                "reset": len(ids) > _MAX_CHANGES,
                "objects": object_views(base, found),
                "fields": sorted({row["ref"] for row in rows if row["kind"] == "field"}),
                "kinds": sorted(other),
                "jobs": _jobs(state),
            }
        )

    @routes.get("/undo", summary="Whether a reviewer can undo and redo")
    def undo(reviewer: Annotated[str, Query(max_length=60)]) -> Response:
        can_undo, can_redo = may_turn(base, reviewer)
        return reply({"can_undo": can_undo, "can_redo": can_redo})

    @routes.get("/patients", summary="The patients with their scores")
    def patients() -> Response:
        return reply({"patients": patient_rows(base), "research_use": RESEARCH_USE})

    @routes.get("/jobs", summary="The jobs that run, wait or ended lately")
    def jobs() -> Response:
        return reply({"jobs": _jobs(state)})

    @routes.get("/jobs/{job_id}", summary="A job, with its result when it is done")
    def job(job_id: str) -> Response:
        return reply({"job": state.worker.get(job_id).to_json(result=True)})

    @routes.delete("/jobs/{job_id}", summary="Cancel a job; what it finished stays")
    def cancel(job_id: str) -> Response:
        return reply({"job": state.worker.cancel(job_id).to_json()})

    @routes.post("/backup", summary="Copy review.sqlite in the project's folder")
    def backup() -> Response:
        stamp = "".join(c for c in now() if c.isalnum())
        copy = base.backup(state.project.folder / f"review-{stamp}.sqlite")
        return reply({"file": copy.name}, 201)

    return routes


def _jobs(state: State) -> list[dict[str, Any]]:
    shown = time.monotonic() - _SHOWN_S
    return [
        job.to_json() for job in state.worker.jobs() if job.ended_at is None or job.ended_at > shown
    ]


__all__ = ["session_routes"]
