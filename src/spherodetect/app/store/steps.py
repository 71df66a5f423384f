"""Steps: everything that people change about objects, as events that are only ever appended.

A step is what one key or click did: labels of some objects, an outline that was drawn, cut, joined
or deleted, a settled entry of the queue, answers of a review. It is stored whole or not at all.
Each step has a key that the browser made, so a step that is sent twice is stored once. Undo and
redo are steps themselves, which name the step that they concern. The log keeps all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spherodetect.app.store.database import Database, now
from spherodetect.app.store.objects import refresh

OPEN, BLIND = "open", "blind"
STORED, KNOWN, NOTHING = "stored", "known", "nothing"


@dataclass(frozen=True)
class Who:
    """Who does a step, where, and what that person saw.

    Attributes:
        reviewer: name.
        key: made by the browser, unique.
        source: the page.
        seen: OPEN, or BLIND where labels and predictions were hidden.
    """

    reviewer: str
    key: str
    source: str = "field"
    seen: str = OPEN


@dataclass(frozen=True)
class Done:
    """What became of a step.

    Attributes:
        status: STORED, KNOWN or NOTHING.
        step: its id, or None.
        objects: the objects that it changed.
        undid: the step that was undone or done again, or None.
    """

    status: str
    step: int | None = None
    objects: tuple[int, ...] = ()
    undid: int | None = None


@dataclass
class Events:
    """The events of a step while it is stored."""

    base: Database
    step: int
    objects: list[int] = field(default_factory=list)

    def add(self, kind: str, object_id: int | None = None, **values: Any) -> None:
        self.base.insert("label_event", step_id=self.step, kind=kind, object_id=object_id, **values)
        # An answer of a review changes no object that people see.
        if object_id is not None and kind != "answer":
            self.objects.append(object_id)

    def label(self, object_id: int, label_id: int | None, set_id: int) -> None:
        self.add("label", object_id, set_id=set_id, label_id=label_id)


def undo(base: Database, who: Who) -> Done:
    """Undo the last step of a reviewer that is in force."""
    return _turn(base, who, "undo")


def redo(base: Database, who: Who) -> Done:
    """Do the last undone step of a reviewer again, unless another step came after it."""
    return _turn(base, who, "redo")


def may_turn(base: Database, reviewer: str) -> tuple[bool, bool]:
    """Whether a reviewer can undo and redo."""
    return _last(base, reviewer, "undo") is not None, _last(base, reviewer, "redo") is not None


def append(base: Database, who: Who, kind: str, act: Callable[[Events], None]) -> Done:
    with base.writing():
        if (done := known(base, who)) is not None:
            return done
        events = Events(base, _insert(base, who, kind))
        act(events)
        changed = list(dict.fromkeys(events.objects))
        refresh(base, changed)
        if kind in ("queue", "answer"):
            base.changed("queue" if kind == "queue" else "review")
        return Done(STORED, events.step, tuple(changed))


def _turn(base: Database, who: Who, kind: str) -> Done:
    with base.writing():
        if (done := known(base, who)) is not None:
            return done
        target = _last(base, who.reviewer, kind)
        if target is None:
            return Done(NOTHING)
        step = _insert(base, who, kind, target)
        if kind == "undo":
            base.insert("undone", step_id=target)
        else:
            base.execute("DELETE FROM undone WHERE step_id = ?", (target,))
        objects = _objects_of(base, target)
        refresh(base, objects)
        for changed in ("queue", "review"):
            base.changed(changed)
        return Done(STORED, step, tuple(objects), target)


def _last(base: Database, reviewer: str, kind: str) -> int | None:
    """The step that an undo or a redo of this reviewer concerns."""
    if kind == "undo":
        row = base.row(
            "SELECT max(id) AS found FROM step WHERE reviewer = ? AND kind NOT IN ('undo', 'redo') "
            "AND id NOT IN (SELECT * FROM undone)",
            (reviewer,),
        )
    else:
        row = base.row(
            "SELECT target AS found FROM step WHERE reviewer = ? AND kind = 'undo' "
            "AND target IN (SELECT * FROM undone) AND id > coalesce((SELECT max(id) FROM step "
            "WHERE reviewer = ? AND kind NOT IN ('undo', 'redo')), 0) ORDER BY id DESC LIMIT 1",
            (reviewer, reviewer),
        )
    return None if row is None else row["found"]


def known(base: Database, who: Who) -> Done | None:
    """What became of a step with this key, or None where there is none."""
    row = base.row("SELECT id, target FROM step WHERE client_key = ?", (who.key,))
    if row is None:
        return None
    about = row["id"] if row["target"] is None else row["target"]
    return Done(KNOWN, row["id"], tuple(_objects_of(base, about)), row["target"])


def _insert(base: Database, who: Who, kind: str, target: int | None = None) -> int:
    return base.insert(
        "step",
        client_key=who.key,
        reviewer=who.reviewer,
        kind=kind,
        at=now(),
        source=who.source,
        seen=who.seen,
        target=target,
    )


def _objects_of(base: Database, step: int) -> list[int]:
    rows = base.rows(
        "SELECT DISTINCT object_id FROM label_event WHERE step_id = ? AND object_id NOT NULL",
        (step,),
    )
    return [row["object_id"] for row in rows]


__all__ = [
    "BLIND",
    "KNOWN",
    "NOTHING",
    "OPEN",
    "STORED",
    "Done",
    "Events",
    "Who",
    "append",
    "known",
    "may_turn",
    "redo",
    "undo",
]
