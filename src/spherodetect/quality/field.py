"""Assess one field: find or take its cells, compute the statistics, apply the limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.fields.strip import block_mean
from spherodetect.measure import measure
from spherodetect.photograph import Photograph, as_photograph
from spherodetect.quality import limits
from spherodetect.quality.statistics import (
    GREEN,
    area_statistics,
    covered_area,
    focus,
    light_statistics,
    median,
    single_share,
)
from spherodetect.segment import segment

#: A field is assessed on a copy with at most this many pixels on its long side. More pixels would
#: show nothing that a cell needs.
_MAX_SIDE_PX = 1280


@dataclass(frozen=True)
class FieldQuality:
    """The assessment of one field. A value that needs cells is NaN without them.

    Attributes:
        accepted: whether the field's cells may be counted.
        reason: reason for a rejection, in one line, or empty. It starts with "out of domain" for an
            image that is not a stained smear.
        focus: diameter of a cell over the width of its edge.
        exposure: green level of the empty slide, 0 to 1.
        density: part of the field that is covered, 0 to 1.
        n_cells: number of red cells.
        rbc_diameter_px: median diameter of the countable red cells, in pixels of the image.
        median_od: median of their mean optical density.
        no_pallor: part of them that lacks central pallor, 0 to 1.
        burnt, grain, explained, red_to_green, brighter, single, washed, uneven: see the limits of
            these names in `limits`.
    """

    accepted: bool
    reason: str
    focus: float
    exposure: float
    density: float
    n_cells: int
    rbc_diameter_px: float
    median_od: float
    no_pallor: float
    burnt: float
    grain: float
    explained: float
    red_to_green: float
    brighter: float
    single: float = float("nan")
    washed: float = float("nan")
    uneven: float = float("nan")

    def __str__(self) -> str:
        return f"rejected, {self.reason}" if self.reason else "accepted"


def assess(image: np.ndarray | Photograph, cells: Cells | None = None) -> FieldQuality:
    """The quality of one field.

    Args:
        image: (H, W, 3) uint8.
        cells: the cells of a detector, measured or not. Without them the cells of the classical
            segmentation are used.

    >>> print(assess(np.zeros((64, 64, 3), np.uint8)))
    rejected, under-exposed: the empty slide is at 0 % of full scale, expected at least 14 %
    """
    photograph = as_photograph(image)
    image, rows, outside = photograph.picture, photograph.rows, photograph.outside
    # A strip of text below the picture is no part of the field.
    if rows < len(image):
        image = image[:rows]
        photograph = Photograph(image, whole=True)
        cells = replace(cells, image_size_hw=image.shape[:2]) if cells is not None else None
    step = min(-(-max(image.shape[:2]) // _MAX_SIDE_PX), *image.shape[:2])
    if step > 1:
        photograph = Photograph(block_mean(image, step), whole=True)
    small, density = photograph.picture, photograph.density
    seen = np.ones(small.shape[:2], bool)
    if outside is not None:
        seen = ~outside[:rows:step, ::step][: len(small), : small.shape[1]]
    covered = covered_area(density[..., GREEN])
    light = light_statistics(small, density, covered, seen)
    if cells is None:
        # In an image that is black or all grain, the segmentation would find thousands of specks,
        # which takes long. The field is rejected in any case.
        hopeless = (
            light["exposure"] < limits.MIN_EXPOSURE
            or light["grain"] > limits.MAX_GRAIN
            or light["uneven"] > limits.MAX_UNEVEN
        )
        if hopeless:
            cells = Cells.empty(field_id="", image_size_hw=small.shape[:2])
        else:
            cells = _segmented(small)
        frame, step, in_image_px = small, 1, float(step)
    else:
        frame, in_image_px = image, 1.0
    if "center_rim_ratio" not in cells.measurements:
        cells = measure(cells, photograph if frame is small else frame)
    red = cells[np.isin(cells.names, list(RED_CELLS))]
    known = red[red.countable].measurements
    flat = (known["center_rim_ratio"] > limits.NO_PALLOR_RATIO) & (
        known["pallor_fraction"] < limits.NO_PALLOR_FRACTION
    )
    diameter_px = median(known["diameter_px"])
    stats: dict[str, Any] = light | {
        "n_cells": len(red),
        "rbc_diameter_px": diameter_px * in_image_px,
        "median_od": median(known["mean_od"]),
        "no_pallor": float(flat.mean()) if len(flat) else float("nan"),
        **area_statistics(cells, frame, density, covered, seen, step=step),
        "focus": focus(density[..., GREEN], covered, diameter_px / step),
        "single": single_share(covered, diameter_px / step),
    }
    diameter_um = diameter_px * cells.um_per_px if cells.um_per_px else float("nan")
    reason = next(limits.faults(diameter_um=diameter_um, **stats), "")
    return FieldQuality(accepted=not reason, reason=reason, **stats)


def _segmented(image: np.ndarray) -> Cells:
    """The cells of the classical segmentation, all of class 1 (rbc)."""
    from scipy.ndimage import find_objects

    labels = segment(image).labels
    slices = find_objects(labels)
    box_yxyx = [(y.start, x.start, y.stop, x.stop) for y, x in slices]
    masks = [labels[where] == i for i, where in enumerate(slices, 1)]
    return Cells.from_labels(
        np.array(box_yxyx), np.ones(len(masks)), masks, image_size_hw=image.shape[:2]
    )
