"""The demo: synthetic patients, drawn and scored, and one of them reviewed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.pipeline.review import Drawn, apply_review, draw_review
from spherodetect.pipeline.run import Progress, no_progress, score_patients
from spherodetect.report.results import Result
from spherodetect.safety import atomic_write

if TYPE_CHECKING:
    from spherodetect.synthetic import SyntheticField

#: Share of spherocytes of each patient.
SHARES = {"with_spherocytes": 0.95, "without_spherocytes": 0.0, "some_spherocytes": 0.2}
REVIEWED, REVIEWED_CELLS = "some_spherocytes", 125
#: A cell of the model that lies farther from every drawn cell, in its own diameters, is none.
_NEAR = 0.4


def _ignore(result: Result, patient_id: str, n_cells: int) -> None:
    pass


def demo(
    out: str | Path,
    *,
    n_fields: int = 12,
    progress: Progress = no_progress,
    by_model: Callable[[Result, str, int], None] = _ignore,
) -> Result:
    """Draw three synthetic patients, score them with the bundled model, and review one of them.

    At 5 to 50 % of spherocytes the error rates of the bundled model differ so much between slides
    that its interval is wider than the 10 points that status ok allows. So the third patient, at
    20 %, has the status low_confidence by the model alone. A review of 125 cells, in which the
    drawn truth answers in place of a person, makes it ok.

    Args:
        out: the folder to write to. The page of the review is in its sub-folder review.
        n_fields: fields of each patient.
        progress: told of every field.
        by_model: gets the result before the review, the patient whose cells are then reviewed, and
            their number.

    Raises:
        SpherodetectError: an output cannot be written.
    """
    from PIL import Image

    from spherodetect.synthetic import SmearStyle, draw_patient

    out = Path(out)
    smears = out / "smears"
    truth: dict[str, Cells] = {}
    for number, (patient, share) in enumerate(SHARES.items()):
        folder = smears / patient
        folder.mkdir(parents=True, exist_ok=True)
        fields: list[SyntheticField] = draw_patient(
            7 + number,
            n_fields=n_fields,
            spherocyte_fraction=share,
            style=SmearStyle(),
            patient_id=patient,
        )
        for drawn in fields:
            Image.fromarray(drawn.image).save(folder / drawn.cells.field_id)
            truth[f"{patient}/{drawn.cells.field_id}"] = drawn.cells
    alone = score_patients(smears, out=out, progress=progress)
    pages = out / "review"
    if (pages / REVIEWED).exists():  # the demo ran into this folder before
        return alone
    by_model(alone, REVIEWED, REVIEWED_CELLS)
    drawn_pages = draw_review(out, pages, patients=[REVIEWED], cells=REVIEWED_CELLS).drawn
    return apply_review(
        out, [answer_by_truth(one, truth) for one in drawn_pages], progress=progress
    )


def answer_by_truth(drawn: Drawn, truth: Mapping[str, Cells]) -> Path:
    """Fill in the table of a drawn review from what was drawn; returns answers.csv beside it.

    Args:
        drawn: what `draw_review` wrote.
        truth: field_id to the cells that were drawn there.
    """
    with drawn.table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        place = float(row["y_px"]), float(row["x_px"])
        row |= {"answer": _truth(truth[row["field_id"]], place), "reviewer": "drawn truth"}
    path = drawn.table.with_name("answers.csv")
    with atomic_write(path, text=True) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _truth(cells: Cells, place_yx: tuple[float, float]) -> str:
    """What the drawn cell at a place is."""
    low, high = cells.box_yxyx[:, :2].astype(float), cells.box_yxyx[:, 2:].astype(float)
    away = np.linalg.norm((low + high) / 2 - np.array(place_yx), axis=1)
    if not len(away):
        return "excluded"
    nearest = int(np.argmin(away))
    if away[nearest] > _NEAR * (high - low)[nearest].max():
        return "excluded"
    name = str(cells.names[nearest])
    if name not in RED_CELLS:
        return "excluded"
    return "spherocyte" if name == "spherocyte" else "other"


__all__ = ["answer_by_truth", "demo"]
