"""The page on which a person reviews cells of one patient, and the table of the same cells.

The page is one file that works without a network: pictures, style and script are in it. It is
blind: no label, probability or stratum of a cell is in it, and the cells are shuffled. Its only
script is the one of this package, named by its hash in the page's content security policy.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from spherodetect.report.page import data_uri, write_page
from spherodetect.safety import atomic_write, csv_cell

#: Side of a picture in diameters of the patient's median red cell, and in pixels.
WINDOW_DIAMETERS, PICTURE_PX = 3.2, 192
CSV_COLUMNS = ("patient_id", "field_id", "cell_id", "x_px", "y_px", "answer", "reviewer")
#: Value, key, name, name where there is little room, and what it means.
_ANSWERS = (
    ("spherocyte", "S", "Spherocyte", "Spherocyte", "round and dense, no central pallor"),
    ("other", "O", "Other red cell", "Other", "any other whole, single red cell"),
    ("excluded", "X", "Not a single cell", "Not a cell",
     "cut, overlapping, blurred or no red cell: left out of the share"),
    ("unsure", "U", "Unsure", "Unsure", "left out of the share, and counted"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PageCell:
    """One cell of a review page.

    Attributes:
        field_id, cell_id: as in cells.csv.
        x_px, y_px: the middle of the cell in its field.
        picture: the cell in the middle of its surroundings, all of a patient at one scale.
    """

    field_id: str
    cell_id: int
    x_px: float
    y_px: float
    picture: Image.Image


def write_review_page(
    path: Path, cells: Sequence[PageCell], *, patient_id: str, draw: str, seed: int, first: int = 1
) -> None:
    """Write the page of some cells of one patient, in the order of `cells`.

    Args:
        path: the HTML file.
        cells: in the shuffled order of display.
        patient_id: shown, and written to the file of answers.
        draw: names the frozen cells that the order was drawn from.
        seed: of the draw.
        first: the number of the first cell, 1 where the review begins.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    from markupsafe import Markup

    names = ("value", "key", "name", "short", "meaning")
    answers = [dict(zip(names, answer, strict=True)) for answer in _ANSWERS]
    data = {
        "patient_id": patient_id,
        "draw": draw,
        "seed": seed,
        "first": first,
        "file": path.stem,
        "answers": answers,
        "cells": [[cell.field_id, cell.cell_id] for cell in cells],
    }
    script = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    write_page(
        path,
        "review_page.html.j2",
        patient_id=patient_id,
        first=first,
        answers=answers,
        cells=[{"uri": data_uri(cell.picture, "JPEG")} for cell in cells],
        data=Markup(_script_json(data)),
        script=Markup(script),
        script_sha256=base64.b64encode(digest).decode(),
    )


def _script_json(data: Any) -> str:
    """JSON that may stand inside a script element: no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def write_review_table(path: Path, cells: Sequence[PageCell], *, patient_id: str) -> None:
    """Write review.csv: a row a cell in the order of the page, `answer` and `reviewer` empty.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    with atomic_write(path, text=True) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for cell in cells:
            row = (patient_id, cell.field_id, cell.cell_id, f"{cell.x_px:.1f}", f"{cell.y_px:.1f}")
            writer.writerow([*map(csv_cell, map(str, row)), "", ""])
