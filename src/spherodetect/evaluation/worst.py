"""The worst errors of an evaluation, with pictures.

There are three kinds: confident false spherocytes, missed spherocytes and missed cells. Pictures
are PIL RGB with the cell in the middle; all pictures of one field have one scale. Only the errors
that are shown in the end are kept, so that memory does not grow with the number of fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from spherodetect.cells import Cells
from spherodetect.measure import measure
from spherodetect.report.crops import crop_gallery
from spherodetect.report.overlays import draw_overlay

FALSE_SPHEROCYTES, MISSED_SPHEROCYTES, MISSED_CELLS = (
    "false spherocytes",
    "missed spherocytes",
    "missed cells",
)
KINDS = (FALSE_SPHEROCYTES, MISSED_SPHEROCYTES, MISSED_CELLS)
#: Most errors of one kind, and most of them from one field.
MAX_ERRORS, MAX_ERRORS_A_FIELD = 20, 3
_CROP_PX = 160
#: Side of a crop in red cell diameters.
_WINDOW = 2.2
EVIDENCE = (
    "diameter_px",
    "relative_diameter",
    "pallor_fraction",
    "center_rim_ratio",
    "relative_od",
)


@dataclass(frozen=True, eq=False)
class Error:
    """One error.

    Attributes:
        row: of labelled_cells.csv.
        badness: order of the errors; a higher value is worse.
        picture: of the cell.
        evidence: measurements of the detection; empty for a missed cell.
    """

    row: Mapping[str, Any]
    badness: tuple[float, ...]
    picture: Image.Image
    evidence: Mapping[str, float]


@dataclass
class Gallery:
    """Collects the worst errors of each kind, field by field.

    Attributes:
        errors: by kind, the worst first.
        n_seen: errors of each kind in all fields.
    """

    errors: dict[str, list[Error]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    n_seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    def offer(
        self,
        image: np.ndarray,
        cells: Cells,
        rows: Sequence[Mapping[str, Any]],
        detection: np.ndarray,
    ) -> None:
        """Add the errors of a field.

        Args:
            image: (H, W, 3) uint8.
            cells: its detections.
            rows: its labels, see rows.py.
            detection: (M,) detection of each row, -1 for a missed cell.
        """
        chosen: dict[str, list[tuple[tuple[float, ...], int]]] = {kind: [] for kind in KINDS}
        for k, row in enumerate(rows):
            if (kind := _kind(row)) is not None:
                self.n_seen[kind] += 1
                chosen[kind].append((_badness(kind, row, cells.image_size_hw), k))
        better = {kind: self._better(kind, candidates) for kind, candidates in chosen.items()}
        if not any(better.values()):
            return
        measured = measure(cells, image)
        for kind, candidates in better.items():
            pictures = _crops(
                image, measured, [rows[k] for _, k in candidates], outlined=kind == MISSED_CELLS
            )
            for (badness, k), picture in zip(candidates, pictures, strict=True):
                evidence = {
                    n: float(measured.measurements[n][detection[k]])
                    for n in EVIDENCE
                    if detection[k] >= 0
                }
                self.errors[kind].append(Error(rows[k], badness, picture, evidence))
            self.errors[kind] = sorted(self.errors[kind], key=lambda e: e.badness, reverse=True)[
                :MAX_ERRORS
            ]

    def _better(
        self, kind: str, candidates: list[tuple[tuple[float, ...], int]]
    ) -> list[tuple[tuple[float, ...], int]]:
        """The worst candidates of a field that are worse than the least bad kept error."""
        kept = self.errors[kind]
        least = kept[-1].badness if len(kept) == MAX_ERRORS else (-math.inf,)
        return [c for c in sorted(candidates, reverse=True)[:MAX_ERRORS_A_FIELD] if c[0] > least]


def _kind(row: Mapping[str, Any]) -> str | None:
    if row["label"] not in ("rbc", "spherocyte", "red cell"):
        return None
    if not row["found"]:
        return MISSED_CELLS
    wrong = row["label"] != "red cell" and (row["label"] == "spherocyte") != (
        row["called"] == "spherocyte"
    )
    return (
        (MISSED_SPHEROCYTES if row["label"] == "spherocyte" else FALSE_SPHEROCYTES)
        if wrong
        else None
    )


def _badness(kind: str, row: Mapping[str, Any], size_hw: tuple[int, int]) -> tuple[float, ...]:
    """The order of errors of one kind: a wrong call is worse the more confident it is.

    A missed cell is worse if it is a spherocyte, and the farther it is from the border.
    """
    if kind == MISSED_CELLS:
        y, x = row["y_px"], row["x_px"]
        return float(row["label"] == "spherocyte"), float(min(y, x, size_hw[0] - y, size_hw[1] - x))
    return (row["p_spherocyte"] if kind == FALSE_SPHEROCYTES else 1 - row["p_spherocyte"],)


def _crops(
    image: np.ndarray, cells: Cells, rows: Sequence[Mapping[str, Any]], *, outlined: bool
) -> list[Image.Image]:
    """A picture for each row, with the labelled point in the middle.

    With `outlined` the detections of the field are drawn, and a cross marks the point.
    """
    if not rows:
        return []
    diameter = cells.rbc_diameter_px or 40.0
    scale = 1.0
    if outlined:
        scale = 2.0
        drawn = draw_overlay(image, cells, scale=scale)
        image = np.asarray(drawn)[: round(image.shape[0] * scale), : round(image.shape[1] * scale)]
    centre = np.array([[row["y_px"], row["x_px"]] for row in rows], float) * scale
    half = diameter * scale / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    at = Cells.from_labels(
        boxes,
        np.ones(len(rows)),
        [np.ones((1, 1), bool)] * len(rows),
        image_size_hw=image.shape[:2],
    )
    crops = crop_gallery(image, at, window_px=_WINDOW * diameter * scale, size_px=_CROP_PX)
    return [_marked(crop) for crop in crops] if outlined else crops


def _marked(crop: Image.Image) -> Image.Image:
    """The crop with a cross in the middle."""
    draw, middle, arm = ImageDraw.Draw(crop), crop.width // 2, 7
    for color, width in (((255, 255, 255), 5), ((213, 94, 0), 2)):
        draw.line((middle - arm, middle, middle + arm, middle), color, width)
        draw.line((middle, middle - arm, middle, middle + arm), color, width)
    return crop
