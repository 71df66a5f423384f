"""Routes of objects, cards, the queue and statistics."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from spherodetect.app.api.bodies import CardsBody, PathId
from spherodetect.app.errors import NotThere
from spherodetect.app.selection import by_doubt, of_class, seen_objects, statistics
from spherodetect.app.state import State, reply
from spherodetect.app.store.edits import settled
from spherodetect.app.store.labels import active_set, labels_of
from spherodetect.app.store.objects import objects_by_id
from spherodetect.app.views import history, object_views


def object_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["objects"])
    base = state.base

    @routes.get("/objects/{object_id}", summary="An object with measurements and history")
    def one(object_id: PathId) -> Response:
        found = objects_by_id(base, [object_id]).get(object_id)
        if found is None:
            raise NotThere(f"object {object_id}: expected an object of this project, got none")
        (view,) = object_views(base, [found])
        return reply(
            {
                "object": view,
                "measurements": found.measurements,
                "history": history(base, object_id),
            }
        )

    @routes.get("/cards", summary="Objects by class, by doubt, or by their ids")
    def cards(asked: Annotated[CardsBody, Query()]) -> Response:
        return reply(_cards(state, asked))

    @routes.post("/cards", summary="The same for long lists of ids")
    def listed(asked: CardsBody) -> Response:
        return reply(_cards(state, asked))

    @routes.get("/queue", summary="What a new detection split, merged or no longer found")
    def queue(field: Annotated[int | None, Query(ge=1, le=2**53)] = None) -> Response:
        where, values = ("", ()) if field is None else (" AND field_id = ?", (field,))
        rows = base.rows(
            f"SELECT * FROM queue WHERE settled_by_run IS NULL{where} ORDER BY id", values
        )
        done = settled(base)
        items = []
        for row in rows:
            old, new = json.loads(row["old"]), json.loads(row["new"])
            known = objects_by_id(base, [*old, *new])
            views = {view["id"]: view for view in object_views(base, list(known.values()))}
            items.append(
                {
                    "id": row["id"],
                    "field": row["field_id"],
                    "kind": row["kind"],
                    "old": [views[k] for k in old],
                    "new": [views[k] for k in new],
                    "open": row["id"] not in done,
                }
            )
        return reply({"items": items})

    @routes.get("/statistics", summary="Count, share and size")
    def figures(by: Literal["label", "field", "patient"] = "label") -> Response:
        labels = {label.id: label.name for label in labels_of(base, active_set(base))}
        return reply(statistics(seen_objects(base), labels, by))

    return routes


def _cards(state: State, asked: CardsBody) -> dict[str, Any]:
    base = state.base
    if asked.mode == "objects":
        ids = asked.objects
    else:
        seen = seen_objects(base, field_id=asked.field, patient=asked.patient)
        if asked.mode == "class":
            ids = of_class(seen, asked.label or None, asked.by)
        else:
            ids = by_doubt(seen, asked.limit, asked.seed)
    page = ids[asked.offset : asked.offset + asked.limit]
    known = objects_by_id(base, page)
    rows = [known[k] for k in page if k in known]
    return {"total": len(ids), "cards": object_views(base, rows, polygons=False)}


__all__ = ["object_routes"]
