"""Routes of blind reviews. Nothing that they say tells what the model thinks of a cell."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from spherodetect.app.api.bodies import PathId, ReviewBody
from spherodetect.app.errors import Conflict
from spherodetect.app.hand_over import answers_file
from spherodetect.app.patients import finite, model_score, score_of
from spherodetect.app.reviews import (
    PER_PAGE,
    Review,
    answers_of,
    begin_review,
    one_review,
    proven,
    repeated,
    reviews_of,
)
from spherodetect.app.state import State, reply
from spherodetect.app.store.database import Database
from spherodetect.app.store.fields import all_fields
from spherodetect.report.review_page import WINDOW_DIAMETERS
from spherodetect.safety import quoted, safe_name
from spherodetect.score.counts import PatientScore

Reviewer = Annotated[str, Query(max_length=60)]


def review_routes(state: State) -> APIRouter:
    routes = APIRouter(prefix="/api/reviews", tags=["reviews"])
    base = state.base

    @routes.get("", summary="The reviews of the project")
    def listed(reviewer: Reviewer = "") -> Response:
        return reply({"reviews": [_view(base, one, reviewer) for one in reviews_of(base)]})

    @routes.post("", summary="Draw cells of a patient, or further cells")
    def begin(body: ReviewBody) -> Response:
        review = begin_review(base, body.patient, cells=body.cells, seed=body.seed)
        return reply({"review": _view(base, review, body.reviewer)}, 201)

    @routes.get("/{review_id}", summary="A review and what a reviewer answered")
    def one(review_id: PathId, reviewer: Reviewer = "") -> Response:
        return reply({"review": _view(base, one_review(base, review_id), reviewer)})

    @routes.get("/{review_id}/pages/{number}", summary="A page: places and the reviewer's answers")
    def page(review_id: PathId, number: PathId, reviewer: Reviewer = "") -> Response:
        review = one_review(base, review_id)
        said = answers_of(base, review).get(reviewer, {})
        items = [{"n": n, "answer": said.get(place)} for n, place in enumerate(review.page(number))]
        return reply({"review": review.id, "page": number, "items": items})

    @routes.get("/{review_id}/pages/{number}/crops", summary="The crops of a page, as JPEG")
    def crops(
        review_id: PathId, number: PathId, size: Annotated[int, Query(ge=24, le=256)] = 128
    ) -> Response:
        review = one_review(base, review_id)
        field_ids = {field.name: field.id for field in all_fields(base, review.patient)}
        places = []
        for place in review.page(number):
            cell = review.draw.by_key[review.items[place].key]
            if cell.field_id not in field_ids:
                raise Conflict(
                    "a photograph of this review is gone; put it back and look for new files"
                )
            places.append((field_ids[cell.field_id], (cell.y_px, cell.x_px)))
        window_px = WINDOW_DIAMETERS * review.diameter_px
        sheet = state.pictures.places(places, size_px=size, window_px=window_px)
        return Response(sheet, media_type="image/jpeg")

    @routes.get("/{review_id}/result", summary="What the answers prove")
    def result(review_id: PathId, reviewer: Reviewer = "") -> Response:
        return reply(_result(base, one_review(base, review_id), reviewer))

    @routes.get("/{review_id}/answers.json", summary="The answers, for `spherodetect review`")
    def answers(review_id: PathId, reviewer: Reviewer = "") -> Response:
        review = one_review(base, review_id)
        said = answers_of(base, review).get(reviewer)
        if not said:
            raise Conflict(f"{quoted(reviewer)} answered nothing in this review")
        name = f"answers-{safe_name(review.patient)}-{safe_name(reviewer)}.json"
        header = {"Content-Disposition": f'attachment; filename="{_ascii(name)}"'}
        return reply(answers_file(review, reviewer, said), headers=header)

    return routes


def _ascii(name: str) -> str:
    """A file name that a header can hold."""
    return name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")


def _view(base: Database, review: Review, reviewer: str) -> dict[str, Any]:
    said = answers_of(base, review).get(reviewer, {})
    pages = [review.page(n) for n in range(1, review.n_pages + 1)]
    answered = [sum(place in said for place in page) for page in pages]
    return {
        "id": review.id,
        "patient": review.patient,
        "n_cells": len(review.items),
        "n_pages": review.n_pages,
        "per_page": PER_PAGE,
        "answered": answered,
        "done": sum(answered) == len(review.items),
    }


def _result(base: Database, review: Review, reviewer: str) -> dict[str, Any]:
    found = proven(base, review)
    before, after = model_score(base, review.patient), score_of(base, review.patient)
    if found is None or before is None or after is None:
        raise Conflict("the first batch of 50 cells is not answered completely yet")
    n, same = repeated(review, answers_of(base, review).get(reviewer, {}))
    return {
        "before": _interval(before),
        "after": _interval(after)
        | {"cells_low": finite(found.cells_low), "cells_high": finite(found.cells_high)},
        "n_reviewed": found.score.n_reviewed,
        "n_spherocytes": found.score.n_spherocytes,
        "n_excluded": found.score.n_excluded,
        "n_unsure": found.score.n_unsure,
        "repeats": {"n": n, "same": same},
        "more_cells": found.more_cells,
        "readers": [{"reviewer": name, "n": n_cells} for name, n_cells in found.readers],
        "text": str(found.score),
    }


def _interval(score: PatientScore) -> dict[str, Any]:
    return {
        "hs_score": finite(score.hs_score),
        "low": finite(score.hs_score_low),
        "high": finite(score.hs_score_high),
        "basis": score.basis,
        "status": score.status,
        "grade": score.grade,
    }


__all__ = ["review_routes"]
