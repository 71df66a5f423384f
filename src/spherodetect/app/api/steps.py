"""The route of steps: everything that people change about objects, in order, each once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response

from spherodetect.app.api import bodies
from spherodetect.app.api.bodies import Steps
from spherodetect.app.errors import StorageError
from spherodetect.app.reviews import one_review
from spherodetect.app.state import State, reply
from spherodetect.app.store import edits, steps
from spherodetect.app.store.objects import fields_of, objects_by_id
from spherodetect.app.store.steps import BLIND, Done, Who, may_turn
from spherodetect.app.views import object_views
from spherodetect.errors import SpherodetectError

REFUSED = "refused"


def step_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["steps"])
    base = state.base

    @routes.post(
        "/steps", summary="Store steps, in order; each is stored once, whole or not at all"
    )
    def store(body: Steps) -> Response:
        results, changed = [], dict[int, None]()
        for step in body.steps:
            result: dict[str, Any] = {
                "key": step.key,
                "status": REFUSED,
                "step": None,
                "error": None,
                "fields": [],
                "undid": None,
            }
            try:
                done = _done(state, body.reviewer, step)
            except StorageError:
                raise
            except SpherodetectError as error:
                result["error"] = str(error)
            else:
                changed |= dict.fromkeys(done.objects)
                result["status"], result["step"] = done.status, done.step
                result["undid"] = done.undid
                result["fields"] = sorted(set(fields_of(base, done.objects).values()))
            results.append(result)
        known = objects_by_id(base, changed)
        can_undo, can_redo = may_turn(base, body.reviewer)
        return reply(
            {
                "results": results,
                "objects": object_views(base, list(known.values())),
                "cursor": base.cursor,
                "can_undo": can_undo,
                "can_redo": can_redo,
            }
        )

    return routes


def _done(state: State, reviewer: str, step: Any) -> Done:
    who = Who(reviewer, step.key)
    return _ACTS[type(step)](state, who, step)


def _label(state: State, who: Who, step: bodies.LabelStep) -> Done:
    who = Who(who.reviewer, who.key, step.source, step.seen)
    return edits.label_objects(state.base, who, [(one.object, one.label) for one in step.items])


def _draw(state: State, who: Who, step: bodies.DrawStep) -> Done:
    # A step that is known already is not measured again.
    if (known := steps.known(state.base, who)) is not None:
        return known
    outline = state.measurer.drawn(step.field, step.polygon_xy)
    return edits.draw_object(state.base, who, step.field, outline, step.label)


def _cut(state: State, who: Who, step: bodies.CutStep) -> Done:
    return edits.cut_object(state.base, who, step.object, step.line_xy, state.measurer)


def _join(state: State, who: Who, step: bodies.JoinStep) -> Done:
    return edits.join_objects(state.base, who, step.objects, state.measurer)


def _delete(state: State, who: Who, step: bodies.DeleteStep) -> Done:
    return edits.delete_objects(state.base, who, step.objects)


def _queue(state: State, who: Who, step: bodies.QueueStep) -> Done:
    return edits.settle(state.base, who, step.item, step.action, step.label)


def _answer(state: State, who: Who, step: bodies.AnswerStep) -> Done:
    review = one_review(state.base, step.review)
    places = review.page(step.page)
    answers = []
    for one in step.answers:
        if one.n >= len(places):
            raise SpherodetectError(
                f"expected a place from 0 to {len(places) - 1} of the page, got {one.n}"
            )
        place = places[one.n]
        answers.append((place, review.object_ids[review.items[place].key], one.answer))
    who = Who(who.reviewer, who.key, "review", BLIND)
    return edits.answer(state.base, who, review.id, answers)


def _turn(state: State, who: Who, step: bodies.TurnStep) -> Done:
    act = steps.undo if step.kind == "undo" else steps.redo
    return act(state.base, who)


_ACTS: dict[type, Callable[[State, Who, Any], Done]] = {
    bodies.LabelStep: _label,
    bodies.DrawStep: _draw,
    bodies.CutStep: _cut,
    bodies.JoinStep: _join,
    bodies.DeleteStep: _delete,
    bodies.QueueStep: _queue,
    bodies.AnswerStep: _answer,
    bodies.TurnStep: _turn,
}

__all__ = ["step_routes"]
