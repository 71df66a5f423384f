"""Draw cells of a patient for a person: the pages and tables of a review.

The photographs, the model and the settings are those of the run that the results are of (see
run_file.py). What was drawn and shown is kept with the results (see review_record.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from spherodetect.detect.detector import Detector, as_detector, with_convention
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.review_record import Draw, ReviewRecord, frozen_cells, has_changed
from spherodetect.pipeline.review_score import review_of
from spherodetect.pipeline.run import Progress, no_progress
from spherodetect.pipeline.run_file import RunSettings, load_run
from spherodetect.pipeline.store import FieldStore
from spherodetect.report.results import HIDDEN, MARKER
from spherodetect.report.review_page import (
    PICTURE_PX,
    WINDOW_DIAMETERS,
    PageCell,
    write_review_page,
    write_review_table,
)
from spherodetect.report.shown_cells import cell_pictures
from spherodetect.safety import quoted, safe_name
from spherodetect.score.review import BATCH_CELLS, FIRST_CELLS, MAX_CELLS, finished
from spherodetect.score.review_plan import more_cells_needed

PAGE, TABLE = "review.html", "review.csv"
#: A first page without --cells or --width: 8 to 12 points at 10 to 25 % of spherocytes.
DEFAULT_CELLS = 100
DEFAULT_SEED = 1


@dataclass(frozen=True)
class Drawn:
    """The page of one patient: its files, and which cells of the order it shows."""

    patient_id: str
    page: Path
    table: Path
    first: int
    n: int


@dataclass(frozen=True)
class DrawResult:
    """What was drawn, and a line for each patient of whom nothing was."""

    drawn: tuple[Drawn, ...]
    problems: tuple[str, ...]
    complete: tuple[str, ...] = ()


def draw_review(
    results: str | Path,
    out: str | Path,
    *,
    patients: Sequence[str] = (),
    cells: int | None = None,
    width: float | None = None,
    seed: int | None = None,
    model: Detector | None = None,
    progress: Progress = no_progress,
) -> DrawResult:
    """Write the pages on which a person names cells: OUT/PATIENT/review.html and review.csv.

    A second draw goes on where the first ended.

    Args:
        results: a folder that `score_patients` wrote.
        out: the folder for the pages.
        patients: ids; by default all patients.
        cells: how many cells a page shows.
        width: instead, as many as an interval of the cells of this many points is expected to need:
            50 at first, and after each `apply_review` the rest.
        seed: a whole number, by default 1; a review that was begun keeps its own.
        model: the object that found the cells, if that was somebody's own detector.
        progress: told of every field.

    Raises:
        SpherodetectError: no results, an unknown patient, a photograph that is gone, a page that
            would be overwritten, or an output that cannot be written.
    """
    results, out = Path(results), Path(out)
    settings, detector = reviewed_run(results, model)
    groups = settings.found.patients
    if unknown := [p for p in patients if p not in groups]:
        raise SpherodetectError(
            f"patient {quoted(unknown[0])}: expected a patient of {quoted(results)}, got none of "
            f"{', '.join(quoted(p) for p in list(groups)[:10])}"
        )
    chosen = list(dict.fromkeys(patients)) or list(groups)
    for patient_id in chosen:
        if (page := out / safe_name(patient_id) / PAGE).exists():
            raise SpherodetectError(
                f"{quoted(page)}: a page lies there already; name another folder with --draw"
            )
    store = FieldStore(results / HIDDEN / "fields")
    drawn: list[Drawn] = []
    problems: list[str] = []
    complete: list[str] = []
    total = sum(len(groups[patient_id]) for patient_id in chosen)
    done = 0
    for patient_id in chosen:
        fields: list[Examined] = []
        own = groups[patient_id]
        for one in examine(
            own,
            detector,
            store=store,
            scale_bar_um=settings.scale_bar_um,
            label_images=settings.label_images,
        ):
            progress(done, total, one.field_id)
            done += 1
            if one.problem:
                problems.append(one.problem)
            else:
                fields.append(replace(one, photograph=None))
        record = ReviewRecord.open(results, patient_id)
        try:
            shown = _draw_patient(
                patient_id, fields, record, out, cells=cells, width=width, seed=seed
            )
        except _NothingToDraw as reason:
            complete.append(str(reason))
        except ValueError as problem:
            problems.append(f"patient {quoted(patient_id)}: {problem}")
        else:
            drawn.append(shown)
    progress(total, total, "")
    return DrawResult(tuple(drawn), tuple(problems), tuple(complete))


class _NothingToDraw(Exception):
    """The review of a patient is complete."""


def reviewed_run(results: Path, model: Detector | None) -> tuple[RunSettings, Detector]:
    """What the run read, and the detector that it used."""
    if (results / MARKER).exists():
        raise SpherodetectError(
            f"{quoted(results)}: these results are not complete; run the same `spherodetect score` "
            "again first"
        )
    settings = load_run(results)
    if settings.own_detector and model is None:
        raise SpherodetectError(
            f"{quoted(results)}: the cells were found by a detector of another program; use "
            "spherodetect.pipeline.review there, and pass the detector as model"
        )
    if model is not None:
        return settings, model
    return settings, with_convention(as_detector(settings.model), settings.convention)


def _draw_patient(
    patient_id: str,
    fields: Sequence[Examined],
    record: ReviewRecord,
    out: Path,
    *,
    cells: int | None,
    width: float | None,
    seed: int | None,
) -> Drawn:
    """Write one patient's page.

    Raises:
        _NothingToDraw: the review needs no further cell.
        ValueError: no countable cell, or another seed than the review was begun with.
    """
    found = frozen_cells(fields)
    if not found:
        raise ValueError("no countable cell in a field that passed; there is nothing to review")
    draw = record.draw
    if draw is not None and seed not in (None, draw.seed):
        raise ValueError(
            f"its review was begun with seed {draw.seed}; go on without --seed, or name that one"
        )
    if draw is None or has_changed(draw, found):
        begun = DEFAULT_SEED if draw is None else draw.seed
        record.add_draw(Draw(patient_id, begun if seed is None else seed, found))
    draw = record.draw
    assert draw is not None
    end = _end(record, cells=cells, width=width)
    batches = [*record.batches, *batch_ends(record.shown, end)]
    known = set().union(*record.answers.values()) if record.answers else set()
    wanted = [key for key in shuffled_batches(draw, record.shown, batches) if key not in known]
    if not wanted:
        # All cells up to here were answered in an earlier draw of other cells.
        record.add_shown(batches)
        raise _NothingToDraw(f"patient {quoted(patient_id)}: {end} cells are answered already")
    pages = _page_cells(fields, draw, wanted)
    folder = out / safe_name(patient_id)
    first = record.shown + 1
    write_review_page(
        folder / PAGE, pages, patient_id=patient_id, draw=draw.name, seed=draw.seed, first=first
    )
    write_review_table(folder / TABLE, pages, patient_id=patient_id)
    record.add_shown(batches)
    return Drawn(patient_id, folder / PAGE, folder / TABLE, first, len(pages))


def _end(record: ReviewRecord, *, cells: int | None, width: float | None) -> int:
    """How many cells of the order are shown when this page is answered.

    Raises:
        _NothingToDraw: no further cell is needed.
        ValueError: fewer than 50 cells to begin with.
    """
    draw = record.draw
    assert draw is not None
    name, n_all = f"patient {quoted(draw.patient_id)}", len(draw.order)
    least = min(FIRST_CELLS, n_all)
    if record.shown >= n_all:
        raise _NothingToDraw(f"{name}: all {n_all} countable cells were drawn already")
    if width is None:
        n = DEFAULT_CELLS if cells is None else cells
        if record.shown + n < least:
            raise ValueError(f"expected {least} cells or more to begin a review, got {n}")
        return min(record.shown + n, n_all)
    if not record.shown:
        return least
    if not record.readers or record.complete(record.readers[0]) < record.shown:
        raise ValueError(
            f"expected answers for the {record.shown} cells drawn so far, got only some; apply "
            "them first"
        )
    looks = review_of(record).looks
    widths, ns = [look.cells_high - look.cells_low for look in looks], [look.n for look in looks]
    n_max = min(MAX_CELLS, n_all)
    if finished(widths, ns, width=width, n_max=n_max):
        raise _NothingToDraw(
            f"{name}: complete, the interval of the cells is {widths[-1]:.1f} points wide after "
            f"{ns[-1]} cells"
        )
    answers = record.first_answers(record.readers[0])
    more = more_cells_needed(
        draw.p, draw.ids, draw.groups, answers, draw.seed, width=width, of="cells"
    )
    # One batch beyond the first look that is narrow enough, as the rule of `finished` wants.
    return min(record.shown + (more or 0) + BATCH_CELLS, n_max)


def batch_ends(shown: int, end: int) -> list[int]:
    """Where batches of a page end: 50 cells first, then 25 each, and what is left."""
    ends = [] if shown else [FIRST_CELLS]
    start = ends[-1] if ends else shown
    ends += range(start + BATCH_CELLS, end, BATCH_CELLS)
    return [*(n for n in ends if n < end), end]


def shuffled_batches(draw: Draw, shown: int, batches: Sequence[int]) -> list[str]:
    """The cells beyond `shown`, shuffled inside each batch: the order itself tells of strata."""

    def chance(key: str) -> bytes:
        return blake2b(f"shuffle|{draw.seed}|{key}".encode(errors="backslashreplace")).digest()

    keys: list[str] = []
    start = shown
    for end in batches:
        if end > start:
            keys += sorted(draw.order[start:end], key=chance)
            start = end
    return keys


def _page_cells(fields: Sequence[Examined], draw: Draw, wanted: Sequence[str]) -> list[PageCell]:
    """The cells of a page with their pictures, all at one scale."""
    diameters = [one.cells.rbc_diameter_px for one in fields if one.cells.rbc_diameter_px]
    if not diameters:
        sides = [one.cells.box_yxyx[:, 2:] - one.cells.box_yxyx[:, :2] for one in fields]
        diameters = [float(np.median(np.concatenate(sides)))]
    pictures: dict[str, Image.Image] = {}
    for one in fields:
        own = {f"{one.field_id}#{cell_id}": k for k, cell_id in enumerate(one.cells.cell_id)}
        keys = [key for key in wanted if key in own]
        if keys:
            chosen = one.cells[np.array([own[key] for key in keys])]
            window = WINDOW_DIAMETERS * float(np.median(diameters))
            crops = cell_pictures(one, chosen, window_px=window, size_px=PICTURE_PX)
            pictures |= dict(zip(keys, crops, strict=True))
    cells = [(draw.by_key[key], pictures[key]) for key in wanted]
    return [PageCell(c.field_id, c.cell_id, c.x_px, c.y_px, picture) for c, picture in cells]


__all__ = [
    "DEFAULT_CELLS",
    "DEFAULT_SEED",
    "DrawResult",
    "Drawn",
    "batch_ends",
    "draw_review",
    "reviewed_run",
    "shuffled_batches",
]
