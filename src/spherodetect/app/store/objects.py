"""Objects: what a detection or a person outlined in a field, with an id for life.

An object keeps every outline that it ever had; one of them is current. What a person does to it is
in the events (see steps.py), from which `visible` and the current labels follow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spherodetect.app.store.database import Database
from spherodetect.app.store.outlines import Outline, read_mask


@dataclass(frozen=True, eq=False)
class ObjectRow:
    """An object with its current outline; the mask is decoded when `outline` is called.

    Attributes:
        id, field_id: of the object.
        visible: whether people see it.
        drawn: whether a person drew its outline.
        found: whether the last detection of its field found it.
        base: whether people see it where no step says otherwise.
        box_yxyx: whole pixels.
        polygon_xy: to draw.
        area_px: pixels of the mask.
        cell_id, class_name, confidence, p_spherocyte, countable, measurements: see `Outline`.
        run_id: the run that made the outline, or None.
    """

    id: int
    field_id: int
    visible: bool
    drawn: bool
    found: bool
    base: bool
    box_yxyx: tuple[int, int, int, int]
    polygon_xy: list[float]
    area_px: float
    cell_id: int | None
    class_name: str | None
    confidence: float | None
    p_spherocyte: float | None
    countable: bool | None
    measurements: dict[str, float]
    run_id: int | None
    _mask: str

    def outline(self) -> Outline:
        """The outline with its mask."""
        y0, x0, y1, x1 = self.box_yxyx
        return Outline(
            self.box_yxyx,
            read_mask(self._mask, (y1 - y0, x1 - x0)),
            self.cell_id,
            self.class_name,
            self.confidence,
            self.p_spherocyte,
            self.countable,
            self.measurements,
        )


_SELECT = (
    "SELECT object.id, object.field_id, object.visible, object.drawn, object.found, object.base, "
    "outline.ymin, outline.xmin, outline.ymax, outline.xmax, outline.polygon, outline.area_px, "
    "outline.cell_id, outline.class_name, outline.confidence, outline.p_spherocyte, "
    "outline.countable, outline.measurements, outline.run_id, outline.mask FROM object "
    "JOIN outline ON outline.id = object.outline_id"
)


def objects_in(base: Database, field_id: int, *, hidden: bool = False) -> list[ObjectRow]:
    """The objects of a field in order of their ids; with hidden, those that nobody sees too."""
    where = "" if hidden else " AND object.visible = 1"
    rows = base.rows(f"{_SELECT} WHERE object.field_id = ?{where} ORDER BY object.id", (field_id,))
    return [_object(row) for row in rows]


def objects_by_id(base: Database, ids: Iterable[int]) -> dict[int, ObjectRow]:
    """The objects of these ids that there are."""
    return {
        row["id"]: _object(row) for row in base.rows_of(f"{_SELECT} WHERE object.id IN (?)", ids)
    }


def fields_of(base: Database, ids: Iterable[int]) -> dict[int, int]:
    """Object id to field id, of those that there are."""
    rows = base.rows_of("SELECT id, field_id FROM object WHERE id IN (?)", ids)
    return {row["id"]: row["field_id"] for row in rows}


def add_object(
    base: Database,
    field_id: int,
    outline: Outline,
    *,
    run_id: int | None = None,
    drawn: bool = False,
) -> int:
    """Add an object; one that a person draws becomes visible by its step."""
    shown = not drawn
    added = base.insert(
        "object", field_id=field_id, drawn=drawn, found=shown, base=shown, visible=shown
    )
    add_outline(base, added, outline, run_id=run_id)
    return added


def add_outline(
    base: Database, object_id: int, outline: Outline, *, run_id: int | None, current: bool = True
) -> None:
    """Give an object another outline."""
    added = base.insert("outline", object_id=object_id, run_id=run_id, **outline.columns)
    if current:
        base.execute("UPDATE object SET outline_id = ? WHERE id = ?", (added, object_id))


def refresh(base: Database, ids: Sequence[int]) -> None:
    """Make `visible` and the current labels of objects follow from the events again."""
    active = "FROM label_event e WHERE e.object_id = ? AND e.step_id NOT IN (SELECT * FROM undone)"
    for object_id in ids:
        base.execute(
            "UPDATE object SET visible = coalesce((SELECT e.kind = 'show' "
            f"{active} AND e.kind IN ('show', 'hide') ORDER BY e.id DESC LIMIT 1), base) "
            "WHERE id = ?",
            (object_id, object_id),
        )
        base.execute("DELETE FROM current_label WHERE object_id = ?", (object_id,))
        base.execute(
            "INSERT INTO current_label SELECT object_id, set_id, label_id, step_id "
            f"FROM label_event WHERE id IN (SELECT max(e.id) {active} AND e.kind = 'label' "
            "GROUP BY e.set_id) AND label_id IS NOT NULL",
            (object_id,),
        )
        base.changed("object", object_id)


def _object(row: Any) -> ObjectRow:
    return ObjectRow(
        id=row["id"],
        field_id=row["field_id"],
        visible=bool(row["visible"]),
        drawn=bool(row["drawn"]),
        found=bool(row["found"]),
        base=bool(row["base"]),
        box_yxyx=(row["ymin"], row["xmin"], row["ymax"], row["xmax"]),
        polygon_xy=json.loads(row["polygon"]),
        area_px=row["area_px"],
        cell_id=row["cell_id"],
        class_name=row["class_name"],
        confidence=row["confidence"],
        p_spherocyte=row["p_spherocyte"],
        countable=None if row["countable"] is None else bool(row["countable"]),
        measurements=json.loads(row["measurements"]),
        run_id=row["run_id"],
        _mask=row["mask"],
    )


__all__ = [
    "ObjectRow",
    "add_object",
    "add_outline",
    "fields_of",
    "objects_by_id",
    "objects_in",
    "refresh",
]
