"""What a person can do: label, draw, cut, join and delete objects, settle the queue, answer.

Each function stores one step (see steps.py).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from spherodetect.app.errors import Conflict, NotThere
from spherodetect.app.store.database import Database
from spherodetect.app.store.labels import active_set, one_label
from spherodetect.app.store.objects import ObjectRow, add_object, objects_by_id, objects_in
from spherodetect.app.store.outlines import Outline, cells_of, cut_masks, joined_mask
from spherodetect.app.store.steps import Done, Events, Who, append
from spherodetect.detect.identity import mask_overlaps, sure_pairs

#: Field id and outline to the same outline, measured.
Measured = Callable[[int, Outline], Outline]


def label_objects(base: Database, who: Who, items: Sequence[tuple[int, int | None]]) -> Done:
    """Give objects labels, or take them away with None.

    Raises:
        NotThere: an unknown object or label.
    """

    def act(events: Events) -> None:
        sets = {k: one_label(base, k).set_id for k in {k for _, k in items if k is not None}}
        _require(base, (object_id for object_id, _ in items))
        for object_id, label_id in items:
            set_id = active_set(base) if label_id is None else sets[label_id]
            events.label(object_id, label_id, set_id)

    return append(base, who, "label", act)


def draw_object(
    base: Database, who: Who, field_id: int, outline: Outline, label_id: int | None
) -> Done:
    """Add an object that a person outlined."""

    def act(events: Events) -> None:
        added = add_object(base, field_id, outline, drawn=True)
        events.add("show", added)
        if label_id is not None:
            events.label(added, label_id, one_label(base, label_id).set_id)

    return append(base, who, "draw", act)


def delete_objects(base: Database, who: Who, ids: Sequence[int]) -> Done:
    """Hide objects; they and their events are kept."""

    def act(events: Events) -> None:
        for one in _visible(base, ids):
            events.add("hide", one.id)

    return append(base, who, "delete", act)


def cut_object(
    base: Database, who: Who, object_id: int, line_xy: Sequence[float], measured: Measured
) -> Done:
    """Replace an object by the pieces into which a line cuts it; they inherit its labels.

    Args:
        measured: field id and outline to the measured outline.
    """

    def act(events: Events) -> None:
        (one,) = _visible(base, [object_id])
        events.add("hide", one.id)
        for box, mask in cut_masks(one.outline(), line_xy):
            piece = measured(one.field_id, Outline(box, mask))
            added = add_object(base, one.field_id, piece, drawn=True)
            events.add("show", added)
            _inherit(events, added, [one.id])

    return append(base, who, "cut", act)


def join_objects(base: Database, who: Who, ids: Sequence[int], measured: Measured) -> Done:
    """Replace objects of one field by one that covers them all; it inherits what they agree on."""

    def act(events: Events) -> None:
        parts = _visible(base, ids)
        if len(parts) < 2 or len({one.field_id for one in parts}) > 1:
            raise Conflict("join: expected two or more objects of one field, got others")
        box, mask = joined_mask([one.outline() for one in parts])
        whole = measured(parts[0].field_id, Outline(box, mask))
        added = add_object(base, parts[0].field_id, whole, drawn=True)
        for one in parts:
            events.add("hide", one.id)
        events.add("show", added)
        _inherit(events, added, [one.id for one in parts])

    return append(base, who, "join", act)


def import_objects(
    base: Database,
    who: Who,
    field_id: int,
    items: Sequence[tuple[Outline, int]],
    *,
    size_hw: tuple[int, int],
) -> tuple[Done, int]:
    """Label the objects that given outlines overlap, and add the others; how many were added."""
    added: list[int] = []

    def act(events: Events) -> None:
        there = objects_in(base, field_id)
        overlaps = mask_overlaps(
            cells_of([one.outline() for one in there], [one.id for one in there], size_hw),
            cells_of([outline for outline, _ in items], range(len(items)), size_hw),
        )
        matched: dict[int, int] = {}
        sure = sure_pairs(overlaps)
        for old, new, _, _ in sorted(overlaps, key=lambda pair: (-pair[2], pair[1], pair[0])):
            free = there[old].id not in matched.values() and new not in matched
            if (old, new) in sure and free:
                matched[new] = there[old].id
        for new, (outline, label_id) in enumerate(items):
            object_id = matched.get(new)
            if object_id is None:
                object_id = add_object(base, field_id, outline, drawn=True)
                events.add("show", object_id)
                added.append(object_id)
            events.label(object_id, label_id, one_label(base, label_id).set_id)

    return append(base, who, "import", act), len(added)


def settle(base: Database, who: Who, queue_id: int, action: str, label_id: int | None) -> Done:
    """Decide about an entry of the queue: keep the old outlines, or replace them by the new ones.

    Raises:
        NotThere: an unknown entry.
        Conflict: it was decided already, or the old labels differ and none was given.
    """

    def act(events: Events) -> None:
        row = base.row("SELECT * FROM queue WHERE id = ?", (queue_id,))
        if row is None:
            raise NotThere(f"queue {queue_id}: expected an entry of the queue, got none of this id")
        if row["settled_by_run"] is not None or queue_id in settled(base, row["field_id"]):
            raise Conflict(f"queue {queue_id}: this entry was decided already")
        old, new = json.loads(row["old"]), json.loads(row["new"])
        events.add("settle", queue_id=queue_id)
        # An object that is older than the run keeps its place and its label.
        made = _made_by(base, new, row["run_id"])
        for object_id in made if action == "keep" else old:
            events.add("hide", object_id)
        if action == "keep":
            return
        for object_id in new if label_id is not None else made:
            if label_id is not None:
                events.label(object_id, label_id, one_label(base, label_id).set_id)
            elif not _inherit(events, object_id, old):
                raise Conflict(
                    f"queue {queue_id}: the old labels differ; say which label the new outline gets"
                )

    return append(base, who, "queue", act)


def answer(
    base: Database, who: Who, review_id: int, answers: Sequence[tuple[int, int | None, str]]
) -> Done:
    """Store answers of a blind review: place in the review, object, answer."""

    def act(events: Events) -> None:
        for place, object_id, said in answers:
            events.add("answer", object_id, review_id=review_id, place=place, answer=said)

    return append(base, who, "answer", act)


def settled(base: Database, field_id: int | None = None) -> set[int]:
    """The entries of the queue that a step in force decided."""
    where, values = ("", ()) if field_id is None else (" AND q.field_id = ?", (field_id,))
    rows = base.rows(
        "SELECT e.queue_id FROM label_event e JOIN queue q ON q.id = e.queue_id "
        f"WHERE e.kind = 'settle' AND e.step_id NOT IN (SELECT * FROM undone){where}",
        values,
    )
    return {row["queue_id"] for row in rows}


def _made_by(base: Database, ids: Sequence[int], run_id: int) -> list[int]:
    """Those of some objects that a run was the first to find."""
    rows = base.rows_of(
        "SELECT o.id FROM object o WHERE o.drawn = 0 AND NOT EXISTS (SELECT 1 FROM outline t "
        f"WHERE t.object_id = o.id AND t.run_id < {int(run_id)}) AND o.id IN (?)",
        ids,
    )
    return [row["id"] for row in rows]


def _require(base: Database, ids: Iterable[int]) -> Mapping[int, ObjectRow]:
    wanted = list(dict.fromkeys(ids))
    found = objects_by_id(base, wanted)
    for object_id in wanted:
        if object_id not in found:
            raise NotThere(f"object {object_id}: expected an object of this project, got none")
    return found


def _visible(base: Database, ids: Iterable[int]) -> list[ObjectRow]:
    wanted = list(dict.fromkeys(ids))
    found = _require(base, wanted)
    for object_id in wanted:
        if not found[object_id].visible:
            raise Conflict(f"object {object_id}: it was deleted or replaced already")
    return [found[object_id] for object_id in wanted]


def _inherit(events: Events, new: int, old: Sequence[int]) -> bool:
    """Give a new object the labels that all old ones agree on; False where they differ."""
    rows: list[sqlite3.Row] = events.base.rows_of(
        "SELECT object_id, set_id, label_id FROM current_label WHERE object_id IN (?)", old
    )
    agreed = True
    for set_id in {row["set_id"] for row in rows}:
        labels = {row["label_id"] for row in rows if row["set_id"] == set_id}
        agreed = agreed and len(labels) == 1
        if len(labels) == 1:
            events.label(new, labels.pop(), set_id)
    return agreed


__all__ = [
    "Measured",
    "answer",
    "cut_object",
    "delete_objects",
    "draw_object",
    "import_objects",
    "join_objects",
    "label_objects",
    "settle",
    "settled",
]
