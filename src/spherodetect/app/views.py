"""Fields and objects as JSON for the browser.

Labels are those of the active set. What is not known is null. Probabilities are 0 to 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spherodetect.app.patients import queued_per_field
from spherodetect.app.store.database import Database
from spherodetect.app.store.edits import settled
from spherodetect.app.store.fields import FieldRow
from spherodetect.app.store.labels import active_set, label_named, labels_of
from spherodetect.app.store.objects import ObjectRow
from spherodetect.cells import RED_CELLS


@dataclass(frozen=True)
class Names:
    """The active set, and which of its labels a method's class names mean."""

    set_id: int
    label_of: Mapping[str, int | None]

    @classmethod
    def of(cls, base: Database, class_names: Iterable[str]) -> Names:
        set_id = active_set(base)
        labels = labels_of(base, set_id)
        found = {name: label_named(labels, name) for name in set(class_names)}
        return cls(set_id, {name: one.id if one else None for name, one in found.items()})


def object_views(
    base: Database, objects: Sequence[ObjectRow], *, polygons: bool = True
) -> list[dict[str, Any]]:
    """The objects in their order."""
    names = Names.of(base, (one.class_name for one in objects if one.class_name))
    ids = [one.id for one in objects]
    now = _current(base, ids, names.set_id)
    people = _by_reviewer(base, ids, names.set_id)
    predicted = {
        row["object_id"]: row
        for row in base.rows_of(
            f"SELECT * FROM prediction WHERE set_id = {int(names.set_id)} AND object_id IN (?)", ids
        )
    }
    queued = _queued(base, {one.field_id for one in objects})
    um_per_px = _pixel_sizes(base, {one.field_id for one in objects})
    views = []
    for one in objects:
        row, guess = now.get(one.id), predicted.get(one.id)
        diameter, size = one.measurements.get("diameter_px"), um_per_px.get(one.field_id)
        view = {
            "id": one.id,
            "field": one.field_id,
            "visible": one.visible,
            "box_yxyx": list(one.box_yxyx),
            "polygon_xy": one.polygon_xy,
            "area_px": one.area_px,
            "diameter_um": round(diameter * size, 3) if diameter and size else None,
            "countable": one.countable,
            "label": row["label_id"] if row is not None else None,
            "by": row["reviewer"] if row is not None else None,
            "at": row["at"] if row is not None else None,
            "seen": row["seen"] if row is not None else None,
            "labels": people.get(one.id, {}),
            "model": _model_view(one, names),
            "classifier": {"label": guess["label_id"], "p": guess["p"]} if guess else None,
            "doubt": guess["doubt"] if guess else model_doubt(one.class_name, one.p_spherocyte),
            "method": base_method(one),
            "flags": _flags(one, queued),
        }
        if not polygons:
            del view["polygon_xy"]
        views.append(view)
    return views


def field_views(base: Database, fields: Sequence[FieldRow]) -> list[dict[str, Any]]:
    """The fields in their order."""
    queued = queued_per_field(base)
    counts = {
        row["field_id"]: row
        for row in base.rows(
            "SELECT field_id, count(*) AS n, count(c.object_id) AS labelled FROM object o "
            "LEFT JOIN current_label c ON c.object_id = o.id AND c.set_id = ? "
            "WHERE o.visible = 1 GROUP BY field_id",
            (active_set(base),),
        )
    }
    views = []
    for one in fields:
        row = counts.get(one.id)
        views.append(
            {
                "id": one.id,
                "patient": one.patient,
                "name": one.name,
                "width": one.size_hw[1],
                "height": one.size_hw[0],
                "um_per_px": one.um_per_px,
                "scale_source": one.scale_source,
                "scale_confirmed": one.scale_confirmed,
                "n_objects": row["n"] if row else 0,
                "n_labelled": row["labelled"] if row else 0,
                "n_queued": queued.get(one.id, 0),
                "method": one.method,
                "accepted": one.accepted,
                "reason": one.reason,
            }
        )
    return views


def model_doubt(class_name: str | None, p_spherocyte: float | None) -> float | None:
    """How unsure the model is whether a red cell is a spherocyte, 0 to 1; None without a model."""
    if class_name is None or p_spherocyte is None:
        return None
    return round(1 - abs(2 * p_spherocyte - 1), 4) if class_name in RED_CELLS else 0.0


def history(base: Database, object_id: int) -> list[dict[str, Any]]:
    """What people did to an object, undone or not, in order."""
    rows = base.rows(
        "SELECT e.step_id AS step, e.kind, e.label_id AS label, s.reviewer, s.at, s.source, "
        "s.seen, e.step_id IN (SELECT * FROM undone) AS undone FROM label_event e "
        "JOIN step s ON s.id = e.step_id WHERE e.object_id = ? AND e.kind != 'answer' "
        "ORDER BY e.id",
        (object_id,),
    )
    return [dict(row) | {"undone": bool(row["undone"])} for row in rows]


def base_method(one: ObjectRow) -> str:
    """Where the present outline comes from: drawn, model, or another method."""
    if one.drawn:
        return "drawn"
    return "model" if one.class_name is not None else "outline"


def _current(base: Database, ids: Sequence[int], set_id: int) -> dict[int, Any]:
    rows = base.rows_of(
        "SELECT c.object_id, c.label_id, s.reviewer, s.at, s.seen FROM current_label c "
        f"JOIN step s ON s.id = c.step_id WHERE c.set_id = {int(set_id)} AND c.object_id IN (?)",
        ids,
    )
    return {row["object_id"]: row for row in rows}


def _by_reviewer(base: Database, ids: Sequence[int], set_id: int) -> dict[int, dict[str, int]]:
    """Object to reviewer to the newest label in force that this reviewer gave."""
    rows = base.rows_of(
        "SELECT e.id, e.object_id, e.label_id, s.reviewer FROM label_event e "
        "JOIN step s ON s.id = e.step_id "
        f"WHERE e.kind = 'label' AND e.set_id = {int(set_id)} "
        "AND e.step_id NOT IN (SELECT * FROM undone) AND e.object_id IN (?)",
        ids,
    )
    found: dict[int, dict[str, int]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        own = found.setdefault(row["object_id"], {})
        if row["label_id"] is None:
            own.pop(row["reviewer"], None)
        else:
            own[row["reviewer"]] = row["label_id"]
    return found


def _queued(base: Database, fields: Iterable[int]) -> set[int]:
    rows = base.rows_of(
        "SELECT id, old, new FROM queue WHERE settled_by_run IS NULL AND field_id IN (?)", fields
    )
    done = settled(base) if rows else set()
    waiting = [row for row in rows if row["id"] not in done]
    return {k for row in waiting for k in (*json.loads(row["old"]), *json.loads(row["new"]))}


def _pixel_sizes(base: Database, fields: Iterable[int]) -> dict[int, float | None]:
    rows = base.rows_of("SELECT id, um_per_px FROM field WHERE id IN (?)", fields)
    return {row["id"]: row["um_per_px"] for row in rows}


def _model_view(one: ObjectRow, names: Names) -> dict[str, Any] | None:
    if one.class_name is None:
        return None
    return {
        "name": one.class_name,
        "label": names.label_of[one.class_name],
        "p": one.confidence,
        "p_spherocyte": one.p_spherocyte,
    }


def _flags(one: ObjectRow, queued: set[int]) -> list[str]:
    flags = {
        "drawn": one.drawn,
        "queued": one.id in queued,
        "gone": not one.found and not one.drawn,
    }
    return [name for name, holds in flags.items() if holds]


__all__ = ["Names", "base_method", "field_views", "history", "model_doubt", "object_views"]
