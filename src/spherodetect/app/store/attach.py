"""Attach what a method found in a field to the objects that the field has already.

Outlines are matched one to one by the overlap of their masks, so an object and its labels outlive
another detection. Nothing is deleted: an object that was not found keeps its outline. One that a
person labelled or drew stays visible, and what happened to it waits in the queue for a person.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from spherodetect.app.store.database import Database, now
from spherodetect.app.store.objects import ObjectRow, add_object, add_outline, objects_in, refresh
from spherodetect.app.store.outlines import Outline, cells_of
from spherodetect.detect.identity import mask_overlaps, sure_pairs

#: A new outline has to do with an old one if they share this part of the smaller of the two.
_RELATED = 0.3


@dataclass(frozen=True)
class Attached:
    """What a detection of one field gave: objects found, those known before, and queued ones."""

    n_objects: int
    n_attached: int
    n_queued: int


def add_run(base: Database, method: str, params: object, reviewer: str) -> int:
    """Note a run of a method; its id."""
    with base.writing():
        return base.insert(
            "run", method=method, params=json.dumps(params), reviewer=reviewer, at=now()
        )


def attach(
    base: Database,
    field_id: int,
    outlines: Sequence[Outline],
    *,
    size_hw: tuple[int, int],
    run_id: int,
) -> Attached:
    """Store what a run found in a field, in one transaction."""
    for outline in outlines:
        _ = outline.columns  # the polygons, before the file is locked
    with base.writing():
        before = [one for one in objects_in(base, field_id, hidden=True) if _may_match(one)]
        overlaps = mask_overlaps(
            cells_of([one.outline() for one in before], [one.id for one in before], size_hw),
            cells_of(outlines, range(len(outlines)), size_hw),
        )
        matched = _matches(before, overlaps)
        id_of = {
            new: _found_again(base, before[old], outlines[new], run_id)
            for old, new in matched.items()
        }
        for new, outline in enumerate(outlines):
            if new not in id_of:
                id_of[new] = add_object(base, field_id, outline, run_id=run_id)
        base.execute(
            "UPDATE queue SET settled_by_run = ? WHERE field_id = ? AND settled_by_run IS NULL",
            (run_id, field_id),
        )
        left = [k for k in range(len(before)) if k not in matched and before[k].visible]
        labelled = _labelled(base, [before[k].id for k in left])
        kept = [k for k in left if before[k].id in labelled or before[k].drawn]
        gone = [before[k].id for k in left if k not in kept]
        for object_id in [*gone, *(before[k].id for k in kept)]:
            base.execute("UPDATE object SET found = 0 WHERE id = ?", (object_id,))
        for object_id in gone:
            base.execute("UPDATE object SET base = 0 WHERE id = ?", (object_id,))
        refresh(base, gone)
        related = [(a, b) for a, b, _, share in overlaps if share >= _RELATED and a in set(kept)]
        n_queued = 0
        for olds, news in _groups(kept, related):
            if not news and not any(before[k].id in labelled for k in olds):
                continue  # a drawn outline where nothing was found stands as it is
            known = any(b in matched.values() for b in news)
            base.insert(
                "queue",
                field_id=field_id,
                run_id=run_id,
                kind=_kind(len(olds), len(news), known),
                old=json.dumps([before[k].id for k in olds]),
                new=json.dumps([id_of[b] for b in news]),
            )
            n_queued += len(olds)
        base.execute("UPDATE field SET run_id = ? WHERE id = ?", (run_id, field_id))
        base.changed("field", field_id)
        base.changed("queue")
        return Attached(len(outlines), len(matched), n_queued)


def _may_match(one: ObjectRow) -> bool:
    """Whether a later detection may be this object.

    An outline that a person drew and took back is none. One that a person deleted is: a later
    detection must not bring it back.
    """
    return one.visible or not one.drawn


def _matches(
    before: Sequence[ObjectRow], overlaps: Sequence[tuple[int, int, float, float]]
) -> dict[int, int]:
    """Row of an object to row of an outline; objects in use before those that were gone."""
    matched: dict[int, int] = {}
    taken: set[int] = set()

    def order(pair: tuple[int, int, float, float]) -> tuple[bool, float, int, int]:
        old, new, iou, _ = pair
        in_use = before[old].visible or before[old].base
        return not in_use, -iou, new, old

    sure = sure_pairs(overlaps)
    for old, new, _, _ in sorted(overlaps, key=order):
        if (old, new) in sure and old not in matched and new not in taken:
            matched[old] = new
            taken.add(new)
    return matched


def _found_again(base: Database, one: ObjectRow, outline: Outline, run_id: int) -> int:
    # What a person drew is not replaced by what a method found.
    add_outline(base, one.id, outline, run_id=run_id, current=not one.drawn)
    if not one.drawn and not (one.found and one.base):
        base.execute("UPDATE object SET found = 1, base = 1 WHERE id = ?", (one.id,))
        refresh(base, [one.id])
    elif not one.found:
        base.execute("UPDATE object SET found = 1 WHERE id = ?", (one.id,))
    return one.id


def _labelled(base: Database, ids: Sequence[int]) -> set[int]:
    rows = base.rows_of("SELECT object_id FROM current_label WHERE object_id IN (?)", ids)
    return {row["object_id"] for row in rows}


def _groups(
    kept: Sequence[int], related: Sequence[tuple[int, int]]
) -> list[tuple[list[int], list[int]]]:
    """Old and new outlines that have to do with each other, directly or through others."""
    groups: list[tuple[set[int], set[int]]] = []
    for old in kept:
        olds, news = {old}, {b for a, b in related if a == old}
        for group in [g for g in groups if g[1] & news]:
            groups.remove(group)
            olds |= group[0]
            news |= group[1]
        groups.append((olds, news))
    return [(sorted(olds), sorted(news)) for olds, news in groups]


def _kind(n_old: int, n_new: int, known: bool) -> str:
    if not n_new:
        return "gone"
    if n_old == 1 and n_new > 1:
        return "split"
    # One new outline that is another object already covers this one too.
    return "merge" if n_old > 1 or known else "changed"


__all__ = ["Attached", "add_run", "attach"]
