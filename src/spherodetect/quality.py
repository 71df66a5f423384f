"""Is this field fit to count: focus, exposure, density, and whether it is a blood smear at all.

Images are uint8 RGB (H, W, 3). A field is judged against its own cells and its own empty slide, so
that magnification and stain matter little: lengths in cell diameters, optical density (OD, green
channel) against the slide. It is never refused for what its cells are: spherocytes are dense and
small, the cells of a smear's thin end flat, pale and wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.measure import measure
from spherodetect.photograph import Photograph, as_photograph
from spherodetect.scale.strip import block_mean
from spherodetect.segment import estimate_rbc_diameter_px, foreground_threshold, segment

# Each limit stands clear of what was measured on fields that people had chosen for counting (Chula
# RBC-12 and BCCD) and on the same fields spoilt. It is better to count a poor field than to lose a
# good one: the interval carries the rest.

#: Edge widths in a diameter of the bundled model's cells. Chula: 10 to 40, median 23; blurred by
#: sigma 1.5 px: 8 to 14, by 3 px: 5.4 to 8.6, by 4 px: 4.5 to 7.2. BCCD: 10 to 43, and one field of
#: 7.4.
MIN_FOCUS = 7.6
#: Green level of the empty slide, 1 is full scale; below it one grey step is a tenth of a pale
#: cell's density. Chula: 0.49 to 0.91, BCCD 0.72 to 0.79.
MIN_EXPOSURE = 0.14
#: Part of the cells that is burnt out in green. Chula and BCCD: 0; Chula 1.8 times as bright: 0.08
#: to 0.16 where the pallor burns out.
MAX_BURNT = 0.05
#: Part of the empty slide that is burnt out in green: beyond, nobody knows how much light a cell
#: took away. A camera that is set to white burns half of it. Chula and BCCD: 0.
MAX_WASHED = 0.95
#: Grain of the empty slide, in OD: robust standard deviation from pixel to pixel. Chula: up to
#: 0.009, BCCD 0.003; Chula with a noise of 30 grey levels 0.06 to 0.11, uniform noise 0.38.
MAX_GRAIN = 0.07
#: The same of all that varies on the empty slide. Chula: up to 0.022, BCCD 0.051; where what seems
#: empty is one layer of cells between their overlaps, 0.08 and more.
MAX_UNEVEN = 0.07
#: Part of the field that cells and dirt cover. Chula: 0.07 to 0.56, BCCD 0.29 to 0.64; discs that
#: do not overlap cover 0.55 when thrown at random, sheets of overlapping cells 0.8 and more. Five
#: cells in a field cover 0.02.
MAX_DENSITY, MIN_DENSITY = 0.68, 0.03
#: Part of the covered area that lies in single cells, not in clumps. Chula: 0.24 and more; BCCD,
#: taken for its white cells: down to 0.06 in rouleaux and sheets.
MIN_SINGLE = 0.1
#: Red cells in a field: with fewer, nothing can be said about their usual size and density. Chula:
#: 21 and more.
MIN_CELLS = 5
#: Part of the covered area that lies in the cells found. Chula: 0.59 and more, BCCD 0.44.
MIN_EXPLAINED = 0.4
#: A field covered by more than this has something in it; if that is no red cell, it is no smear.
COVERED = 0.05
#: OD of the cells in red light over that in green, or without cells of what is covered. Red cells
#: let red pass, grey things do not; a black pointer may be half of what lies in a sparse field.
#: Chula: up to 0.74, BCCD 0.48, a grey picture 1.0, a portrait 1.3.
MAX_RED_TO_GREEN = 0.9
#: Part of the field that is clearly brighter than the slide (OD below -0.1). Chula and BCCD: up to
#: 0.004.
MAX_BRIGHTER = 0.15
#: A red cell without pallor: centre over rim above, pallor fraction below (medians of spherocytes:
#: 0.90 and 0.00).
NO_PALLOR_RATIO, NO_PALLOR_FRACTION = 0.85, 0.03
#: The thin end: so many of the cells lack pallor, and yet their median is pale and, where known, as
#: wide as in normal cells. Chula's fields of mostly spherocytes have a median OD of 0.18 and more,
#: or 0.11 at 0.6 of their contrast, but then less than 0.8 of the cells lack pallor.
THIN_PART, THIN_MAX_OD, THIN_MIN_DIAMETER_UM = 0.8, 0.12, 7.0

#: A field is judged on a copy of at most so many pixels a side; a finer one would show nothing that
#: a cell needs.
_MAX_SIDE_PX = 1280
_GREEN = 1
#: Blur of a camera's or a resized image's pixels, in square pixels.
_GRID_VARIANCE = 0.15
#: From here on a grey level says no more than "bright"; JPEG leaves it ragged.
_BURNT = 253


@dataclass(frozen=True)
class FieldQuality:
    """The verdict on one field, and what it rests on. NaN where there is no cell to tell.

    Attributes:
        accepted: whether the field's cells may be counted.
        reason: why not, in one plain line, or empty; it starts with "out of domain" for what is not
            a stained smear.
        focus: how many widths of a cell's edge fit into the cell's diameter.
        exposure: green level of the empty slide, 0 to 1.
        density: part of the field that is covered, 0 to 1.
        n_cells: red cells found.
        rbc_diameter_px: median diameter of the countable red cells, in pixels of the image.
        median_od: their median optical density.
        no_pallor: the part of them that lacks central pallor, 0 to 1.
        burnt, grain, explained, red_to_green, brighter, single, washed, uneven: see the limits of
        these names above.
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
    """Judge one field.

    Args:
        image: (H, W, 3) uint8.
        cells: what a detector found in it, measured or not; without them the classical segmentation
            finds some.

    >>> print(assess(np.zeros((64, 64, 3), np.uint8)))
    rejected, under-exposed: the empty slide is at 0 % of full scale, expected at least 14 %
    """
    photograph = as_photograph(image)
    image, rows = photograph.image, photograph.rows
    if rows < len(image):  # a strip of text is no part of the field
        image = image[:rows]
        photograph = Photograph(image)
        cells = replace(cells, image_size_hw=image.shape[:2]) if cells is not None else None
    step = min(-(-max(image.shape[:2]) // _MAX_SIDE_PX), *image.shape[:2])
    if step > 1:
        photograph = Photograph(block_mean(image, step))
    small, density = photograph.image, photograph.density
    covered = _covered(density[..., _GREEN])
    light = _light(small, density, covered)
    if cells is None:
        # In what is black or all grain, segmentation would find thousands of specks and take its
        # time over them.
        hopeless = (
            light["exposure"] < MIN_EXPOSURE
            or light["grain"] > MAX_GRAIN
            or light["uneven"] > MAX_UNEVEN
        )
        cells = (
            Cells.empty(field_id="", image_size_hw=small.shape[:2])
            if hopeless
            else _segmented(small)
        )
        frame, step, in_image_px = small, 1, float(step)
    else:
        frame, in_image_px = image, 1.0
    if "center_rim_ratio" not in cells.measurements:
        cells = measure(cells, photograph if frame is small else frame)
    red = cells[np.isin(cells.names, list(RED_CELLS))]
    known = red[red.countable].measurements
    flat = (known["center_rim_ratio"] > NO_PALLOR_RATIO) & (
        known["pallor_fraction"] < NO_PALLOR_FRACTION
    )
    diameter_px = _median(known["diameter_px"])
    stats: dict[str, Any] = light | {
        "n_cells": len(red),
        "rbc_diameter_px": diameter_px * in_image_px,
        "median_od": _median(known["mean_od"]),
        "no_pallor": float(flat.mean()) if len(flat) else float("nan"),
        **_extent(cells, frame, density, covered, step=step),
        "focus": _focus(density[..., _GREEN], covered, diameter_px / step),
        "single": _single(covered, diameter_px / step),
    }
    diameter_um = diameter_px * cells.um_per_px if cells.um_per_px else float("nan")
    reason = next(_faults(diameter_um=diameter_um, **stats), "")
    return FieldQuality(accepted=not reason, reason=reason, **stats)


def _faults(
    *,
    focus: float,
    exposure: float,
    density: float,
    n_cells: int,
    rbc_diameter_px: float,
    median_od: float,
    no_pallor: float,
    burnt: float,
    grain: float,
    explained: float,
    red_to_green: float,
    brighter: float,
    single: float,
    washed: float,
    uneven: float,
    diameter_um: float,
) -> Iterator[str]:
    """What is wrong with a field, the cause before its consequences. A comparison with NaN finds no
    fault."""
    if exposure < MIN_EXPOSURE:
        yield f"under-exposed: the empty slide is at {_percent(exposure)} of full scale, {_least(MIN_EXPOSURE)}"
    if burnt > MAX_BURNT:
        what = "the cells' area" if n_cells else "the field"
        yield f"over-exposed: {_percent(burnt)} of {what} is burnt out, {_most(MAX_BURNT)}"
    if washed > MAX_WASHED:
        yield f"over-exposed: {_percent(washed)} of the empty slide is burnt out, {_most(MAX_WASHED)}"
    if density > MAX_DENSITY:
        yield f"too dense: {_percent(density)} of the field is covered, {_most(MAX_DENSITY)}"
    if grain > MAX_GRAIN:
        yield f"too grainy: the empty slide's density varies by {grain:.2f}, expected at most {MAX_GRAIN:.2f}"
    if uneven > MAX_UNEVEN:
        yield f"too dense: no empty slide, its density varies by {uneven:.2f}, expected at most {MAX_UNEVEN:.2f}"
    if density <= COVERED and n_cells < MIN_CELLS:
        yield f"too sparse: {n_cells or 'no'} red cell{'s' * (n_cells != 1)}, expected at least {MIN_CELLS}"
    if density < MIN_DENSITY:
        yield f"too sparse: {_percent(density)} of the field is covered, {_least(MIN_DENSITY)}"
    if brighter > MAX_BRIGHTER:
        yield f"out of domain: {_percent(brighter)} of the field is brighter than its background, {_most(MAX_BRIGHTER)}"
    if red_to_green > MAX_RED_TO_GREEN:
        yield f"out of domain: what is stained is not red (density in red light {red_to_green:.2f} of that in green)"
    if focus < MIN_FOCUS:
        yield f"out of focus: {focus:.1f} edge widths in a cell's diameter, expected at least {MIN_FOCUS:.1f}"
    if density > COVERED and n_cells == 0:
        yield f"out of domain: {_percent(density)} of the field is covered, but no red cell was found"
    if n_cells < MIN_CELLS:
        yield f"too few cells: {n_cells or 'no'} red cell{'s' * (n_cells != 1)}, expected at least {MIN_CELLS}"
    if single < MIN_SINGLE:
        yield f"too dense: {_percent(single)} of what is covered lies in single cells, {_least(MIN_SINGLE)}"
    if explained < MIN_EXPLAINED:
        yield f"badly segmented: {_percent(explained)} of what is covered lies in cells, {_least(MIN_EXPLAINED)}"
    if (
        no_pallor >= THIN_PART
        and median_od < THIN_MAX_OD
        and not diameter_um < THIN_MIN_DIAMETER_UM
    ):
        yield f"too thin: {_percent(no_pallor)} of the cells lie flat, without pallor and yet pale (OD {median_od:.2f})"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _least(part: float) -> str:
    return f"expected at least {_percent(part)}"


def _most(part: float) -> str:
    return f"expected at most {_percent(part)}"


def _covered(green: np.ndarray) -> np.ndarray:
    """(H, W) bool, where the field is not empty slide."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(green, 1)
    return smooth > foreground_threshold(smooth)


def _light(image: np.ndarray, density: np.ndarray, covered: np.ndarray) -> dict[str, float]:
    """What can be said without knowing the cells."""
    from scipy.ndimage import gaussian_filter

    green, slide = density[..., _GREEN], ~covered
    return {
        "exposure": _median(image[slide, _GREEN]) / 255,
        "washed": _share(image[_inner(slide), _GREEN] >= _BURNT),
        # Grain changes from pixel to pixel; what changes more slowly is no grain.
        "grain": 1.4826 * _median(np.abs(green - gaussian_filter(green, 2))[slide]),
        "uneven": 1.4826 * _median(np.abs(green[slide] - _median(green[slide]))),
        "brighter": float((green < -0.1).mean()),
    }


def _inner(slide: np.ndarray) -> np.ndarray:
    """The slide without the edges of cells."""
    from scipy.ndimage import binary_erosion

    return binary_erosion(slide, iterations=3, border_value=True)


def _share(chosen: np.ndarray) -> float:
    return float(chosen.mean()) if chosen.size else float("nan")


def _segmented(image: np.ndarray) -> Cells:
    from scipy.ndimage import find_objects

    labels = segment(image).labels
    slices = find_objects(labels)
    box_yxyx = [(y.start, x.start, y.stop, x.stop) for y, x in slices]
    masks = [labels[where] == i for i, where in enumerate(slices, 1)]
    return Cells.from_labels(
        np.array(box_yxyx), np.ones(len(masks)), masks, image_size_hw=image.shape[:2]
    )


def _extent(
    cells: Cells, image: np.ndarray, density: np.ndarray, covered: np.ndarray, *, step: int
) -> dict[str, float]:
    """What follows from the cells' area, painted into one frame; density and covered are step times
    smaller."""
    painted = np.zeros(image.shape[:2], bool)
    for mask, (y, x) in cells.pixel_masks():
        painted[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    height, width = covered.shape
    small = painted[: height * step : step, : width * step : step]
    burnt = image[..., _GREEN][painted if painted.any() else ...] >= _BURNT
    stained = density[small if len(cells) >= MIN_CELLS else covered]
    return {
        # A sheet of cells leaves no slide to tell it from: then only the cells themselves show how
        # dense it is.
        "density": float(max(covered.mean(), painted.mean())),
        "explained": float(small[covered].mean()) if covered.any() else float("nan"),
        "burnt": float(burnt.mean()),
        "red_to_green": _median(stained[:, 0] / np.maximum(stained[:, _GREEN], 0.01)),
    }


def _single(covered: np.ndarray, diameter_px: float) -> float:
    """The part of what is covered that lies in blobs of about one cell; pallor may be a hole in
    it."""
    from scipy.ndimage import label

    blobs, count = label(covered)
    discs = np.bincount(blobs.ravel(), minlength=count + 1)[1:] / (np.pi / 4 * diameter_px**2)
    return (
        float(discs[(discs > 0.3) & (discs < 1.6)].sum() / discs.sum()) if count else float("nan")
    )


def _focus(green: np.ndarray, covered: np.ndarray, diameter_px: float) -> float:
    """Cell diameter over edge width: the width is the cells' density over the steepest (95th
    percentile) gradients."""
    from scipy.ndimage import gaussian_gradient_magnitude

    diameter_px = diameter_px if np.isfinite(diameter_px) else estimate_rbc_diameter_px(green)
    if not covered.any() or not np.isfinite(diameter_px):
        return float("nan")
    # Grain is no edge: the gradient is taken at a scale that no edge in focus reaches.
    scale = max(0.7, 0.02 * diameter_px)
    gradient = gaussian_gradient_magnitude(green, scale)[covered]
    steepest, level = float(np.percentile(gradient, 95)), float(np.median(green[covered]))
    if not min(steepest, level) > 0:
        return float("nan")
    # An edge of Gaussian blur s is sqrt(2 pi) s wide; what that scale and the pixel grid add to s
    # is taken off again, or a field in focus would seem blurred where cells have few pixels. Half
    # the width is left in any case.
    width_sq = (level / steepest) ** 2
    width_sq = max(width_sq - 2 * np.pi * (scale**2 + _GRID_VARIANCE), width_sq / 4)
    return diameter_px / float(np.sqrt(width_sq))


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")
