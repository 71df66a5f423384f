"""Routes of label sets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from spherodetect.app.api.bodies import LabelBody, LabelChange, PathId, SetBody, SetChange
from spherodetect.app.state import State, reply
from spherodetect.app.store import labels
from spherodetect.app.store.database import Database


def label_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["labels"])
    base = state.base

    @routes.get("/label-sets", summary="The label sets with their labels")
    def sets() -> Response:
        found = [set_view(base, set_id) for set_id in labels.all_sets(base)]
        return reply({"active": labels.active_set(base), "sets": found})

    @routes.post("/label-sets", summary="Make a label set")
    def add_set(body: SetBody) -> Response:
        return reply({"set": set_view(base, labels.add_set(base, body.name))}, 201)

    @routes.patch("/label-sets/{set_id}", summary="Rename or activate a label set")
    def change_set(set_id: PathId, body: SetChange) -> Response:
        labels.require_set(base, set_id)
        if body.name is not None:
            labels.rename_set(base, set_id, body.name)
        if body.active:
            labels.activate(base, set_id)
        return reply({"set": set_view(base, set_id), "active": labels.active_set(base)})

    @routes.delete("/label-sets/{set_id}", summary="Delete a label set that was never used")
    def delete_set(set_id: PathId) -> Response:
        labels.delete_set(base, set_id)
        return Response(status_code=204)

    @routes.post("/label-sets/{set_id}/labels", summary="Add a label")
    def add_label(set_id: PathId, body: LabelBody) -> Response:
        added = labels.add_label(base, set_id, **body.model_dump())
        return reply({"label": label_view(base, added)}, 201)

    @routes.patch("/labels/{label_id}", summary="Change a label; its id stays")
    def change_label(label_id: PathId, body: LabelChange) -> Response:
        changes = body.model_dump(exclude_unset=True)
        # Only a key may be taken away by null.
        changes = {k: v for k, v in changes.items() if v is not None or k == "key"}
        labels.change_label(base, label_id, changes)
        return reply({"label": label_view(base, label_id)})

    @routes.delete("/labels/{label_id}", summary="Delete a label that was never used")
    def delete_label(label_id: PathId) -> Response:
        labels.delete_label(base, label_id)
        return Response(status_code=204)

    return routes


def set_view(base: Database, set_id: int) -> dict[str, Any]:
    used = labels.n_events(base, set_id)
    return {
        "id": set_id,
        "name": labels.require_set(base, set_id),
        "labels": [_view(one, used) for one in labels.labels_of(base, set_id)],
    }


def label_view(base: Database, label_id: int) -> dict[str, Any]:
    one = labels.one_label(base, label_id)
    return _view(one, labels.n_events(base, one.set_id))


def _view(one: labels.Label, used: dict[int, int]) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "colour": one.colour,
        "key": one.key,
        "meaning": one.meaning,
        "n_used": used.get(one.id, 0),
    }


__all__ = ["label_routes", "label_view", "set_view"]
