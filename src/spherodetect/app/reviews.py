"""Blind reviews: cells drawn by design, named by people, and what their answers prove.

The cells, their probabilities and the seed are frozen when a review begins, so labels, another
detection or a reload change nothing of it (see score/review.py). The order of display is shuffled
inside a batch. About one cell in ten is shown a second time, which tells how steady a reviewer is;
the first answer counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np

from spherodetect.app.errors import Conflict, NotThere
from spherodetect.app.store.database import Database, now
from spherodetect.app.store.fields import all_fields
from spherodetect.errors import SpherodetectError
from spherodetect.pipeline.review_draw import DEFAULT_SEED, batch_ends, shuffled_batches
from spherodetect.pipeline.review_record import Draw, ReviewCell
from spherodetect.safety import quoted
from spherodetect.score.patient_review import PatientReview, patient_review
from spherodetect.score.review import ANSWERS, FIRST_CELLS

PER_PAGE = 30
#: One cell in so many is shown again.
_ONE_IN = 10


@dataclass(frozen=True, eq=False)
class Item:
    """One place of a review: the cell that is shown there, and whether it was shown before."""

    key: str
    again: bool


@dataclass(frozen=True, eq=False)
class Review:
    """The review of one patient.

    Attributes:
        id: of the review.
        draw: the frozen cells.
        object_ids: cell name to the object that it was.
        diameter_px: of a usual cell of the draw, for the zoom of its pictures.
        batches: numbers of cells at which batches end.
        items: what is shown, in order.
    """

    id: int
    draw: Draw
    object_ids: dict[str, int]
    diameter_px: float
    batches: list[int]
    items: list[Item]

    @property
    def patient(self) -> str:
        return self.draw.patient_id

    @property
    def shown(self) -> int:
        """Cells of the order that are among the items."""
        return self.batches[-1] if self.batches else 0

    @property
    def n_pages(self) -> int:
        return -(-len(self.items) // PER_PAGE)

    @cached_property
    def place_of(self) -> dict[str, int]:
        """Cell name to the place where it is shown first."""
        return {item.key: k for k, item in enumerate(self.items) if not item.again}

    def page(self, number: int) -> range:
        """The places of a page, from 1.

        Raises:
            NotThere: there is no such page.
        """
        if not 1 <= number <= self.n_pages:
            raise NotThere(
                f"page {number}: expected a page from 1 to {self.n_pages} of this review"
            )
        return range((number - 1) * PER_PAGE, min(number * PER_PAGE, len(self.items)))


def begin_review(base: Database, patient: str, *, cells: int, seed: int | None = None) -> Review:
    """Draw cells of a patient, or further cells of the review that was begun.

    Raises:
        Conflict: no countable cell, or all were drawn.
        SpherodetectError: fewer cells than a review begins with.
    """
    with base.writing():
        known = reviews_of(base, patient)
        review = known[-1] if known else _frozen(base, patient, seed)
        n_all = len(review.draw.order)
        end = min(review.shown + cells, n_all)
        if end < min(FIRST_CELLS, n_all):
            raise SpherodetectError(
                f"expected {FIRST_CELLS} cells or more to begin a review, got {cells}"
            )
        if end == review.shown:
            raise Conflict(
                f"patient {quoted(patient)}: all {n_all} countable cells were drawn already"
            )
        batches = [*review.batches, *batch_ends(review.shown, end)]
        keys = shuffled_batches(review.draw, review.shown, batches)
        items = _with_repeats(keys, review.draw.seed)
        base.insert(
            "review_part",
            review_id=review.id,
            shown=end,
            batches=json.dumps(batches),
            items=json.dumps([[item.key, item.again] for item in items]),
        )
        base.changed("review")
        return one_review(base, review.id)


def one_review(base: Database, review_id: int) -> Review:
    """A review by its id.

    Raises:
        NotThere: there is none.
    """
    row = base.row("SELECT * FROM review WHERE id = ?", (review_id,))
    if row is None:
        raise NotThere(f"review {review_id}: expected a review of this project, got none")
    return _review(base, row)


def reviews_of(base: Database, patient: str | None = None) -> list[Review]:
    """The reviews of a patient, or of all."""
    rows = base.rows("SELECT * FROM review ORDER BY id")
    return [_review(base, row) for row in rows if patient in (None, row["patient"])]


def answers_of(base: Database, review: Review) -> dict[str, dict[int, str]]:
    """Reviewer to place to the answer in force."""
    rows = base.rows(
        "SELECT s.reviewer, e.place, e.answer FROM label_event e JOIN step s ON s.id = e.step_id "
        "WHERE e.review_id = ? AND e.kind = 'answer' AND e.step_id NOT IN (SELECT * FROM undone) "
        "ORDER BY e.id",
        (review.id,),
    )
    found: dict[str, dict[int, str]] = {}
    for row in rows:
        found.setdefault(row["reviewer"], {})[row["place"]] = row["answer"]
    return found


def complete_answers(review: Review, said: dict[int, str]) -> dict[str, str]:
    """A reviewer's answers that count, in the order of the draw: those of complete batches."""
    n = 0
    for end in review.batches:
        if not all(review.place_of[key] in said for key in review.draw.order[n:end]):
            break
        n = end
    if n < min(FIRST_CELLS, len(review.draw.order)):
        return {}
    return {key: said[review.place_of[key]] for key in review.draw.order[:n]}


def patient_review_of(base: Database, patient: str) -> PatientReview | None:
    """What the latest review of a patient proves, or None before a batch is complete."""
    known = reviews_of(base, patient)
    return proven(base, known[-1]) if known else None


def proven(base: Database, review: Review) -> PatientReview | None:
    """What a review proves, or None before a batch is complete."""
    complete = {
        reviewer: answers
        for reviewer, said in answers_of(base, review).items()
        if (answers := complete_answers(review, said))
    }
    if not complete:
        return None
    draw = review.draw
    return patient_review(
        draw.p, draw.ids, draw.groups, complete, draw.seed, batches=review.batches
    )


def repeated(review: Review, said: dict[int, str]) -> tuple[int, int]:
    """Cells that a reviewer answered twice, and how many of them alike."""
    pairs = [
        (said[review.place_of[item.key]], said[k])
        for k, item in enumerate(review.items)
        if item.again and k in said and review.place_of[item.key] in said
    ]
    return len(pairs), sum(first == second for first, second in pairs)


def checked_answer(answer: str) -> str:
    """One of the four answers.

    Raises:
        SpherodetectError: another one.
    """
    if answer not in ANSWERS:
        raise SpherodetectError(
            f"expected an answer of {', '.join(ANSWERS)}, got {quoted(answer, max_chars=40)}"
        )
    return answer


def _frozen(base: Database, patient: str, seed: int | None) -> Review:
    """Freeze the countable cells of a patient as the model found them.

    Whether a person labelled or deleted one since does not matter.
    """
    cells: list[ReviewCell] = []
    objects: list[int] = []
    diameters: list[float] = []
    for field in all_fields(base, patient):
        if field.model_run_id is None or not field.accepted:
            continue
        rows = base.rows(
            "SELECT o.id, t.* FROM object o JOIN outline t ON t.object_id = o.id "
            "WHERE o.field_id = ? AND t.run_id = ? AND t.countable = 1 ORDER BY t.cell_id",
            (field.id, field.model_run_id),
        )
        for row in rows:
            at = json.loads(row["measurements"])
            x_px, y_px = (round(float(at[name]), 1) for name in ("x_px", "y_px"))
            cells.append(
                ReviewCell(field.name, row["cell_id"], field.name, row["p_spherocyte"], x_px, y_px)
            )
            objects.append(row["object_id"])
            diameters.append(float(at["diameter_px"]))
    if not cells:
        raise Conflict(
            f"patient {quoted(patient)}: there is no countable cell of the model in a field that "
            "passed; run Mask R-CNN on its fields first"
        )
    draw = Draw(patient, DEFAULT_SEED if seed is None else seed, tuple(cells))
    frozen = [
        [c.field_id, c.cell_id, c.group, c.p, c.x_px, c.y_px, object_id]
        for c, object_id in zip(cells, objects, strict=True)
    ]
    added = base.insert(
        "review",
        patient=patient,
        seed=draw.seed,
        at=now(),
        diameter_px=float(np.median(diameters)),
        cells=json.dumps(frozen),
    )
    return one_review(base, added)


def _review(base: Database, row: Any) -> Review:
    frozen = json.loads(row["cells"])
    cells = tuple(ReviewCell(*values[:-1]) for values in frozen)
    batches: list[int] = []
    items: list[Item] = []
    parts = "SELECT batches, items FROM review_part WHERE review_id = ? ORDER BY id"
    for part in base.rows(parts, (row["id"],)):
        batches = json.loads(part["batches"])
        items += [Item(key, bool(again)) for key, again in json.loads(part["items"])]
    return Review(
        row["id"],
        Draw(row["patient"], row["seed"], cells),
        {cell.key: values[-1] for cell, values in zip(cells, frozen, strict=True)},
        row["diameter_px"],
        batches,
        items,
    )


def _with_repeats(keys: Sequence[str], seed: int) -> list[Item]:
    """The cells in their order, one in ten of the first half once more in the second half."""

    def chance(text: str, key: str) -> int:
        return int.from_bytes(blake2b(f"{text}|{seed}|{key}".encode()).digest()[:8], "big")

    half = len(keys) // 2
    chosen = sorted(keys[:half], key=lambda key: chance("again", key))[: len(keys) // _ONE_IN]
    items = [Item(key, False) for key in keys]
    for key in sorted(chosen):
        place = half + 1 + chance("place", key) % (len(items) - half)
        items.insert(place, Item(key, True))
    return items


__all__ = [
    "PER_PAGE",
    "Item",
    "Review",
    "answers_of",
    "begin_review",
    "checked_answer",
    "complete_answers",
    "one_review",
    "patient_review_of",
    "proven",
    "repeated",
    "reviews_of",
]
