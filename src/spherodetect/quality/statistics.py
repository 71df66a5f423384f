"""Statistics of a field, from its image, its optical density and the area of its cells.

Each value has the name and the definition of the attribute of `field.FieldQuality` that it becomes.
"""

from __future__ import annotations

import numpy as np

from spherodetect.cells import Cells
from spherodetect.quality.limits import MIN_CELLS
from spherodetect.segment import estimate_rbc_diameter_px, foreground_threshold

GREEN = 1
#: Variance of the blur of a camera's or a resized image's pixels, in square pixels.
_GRID_VARIANCE = 0.15
#: From this grey level on a pixel counts as saturated; JPEG changes 255 by one or two levels.
_BURNT = 253


def covered_area(green: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of the green OD that are not empty slide."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(green, 1)
    return smooth > foreground_threshold(smooth)


def light_statistics(
    image: np.ndarray, density: np.ndarray, covered: np.ndarray, seen: np.ndarray
) -> dict[str, float]:
    """The statistics of the empty slide and the light, for which no cells are needed.

    Args:
        image: (H, W, 3) uint8.
        density: (H, W, 3) optical density.
        covered: (H, W) bool, see `covered_area`.
        seen: (H, W) bool, the field of view.
    """
    from scipy.ndimage import gaussian_filter

    green, slide = density[..., GREEN], ~covered & seen
    return {
        "exposure": median(image[slide, GREEN]) / 255,
        "washed": _share(image[_inner(slide), GREEN] >= _BURNT),
        # Grain varies from pixel to pixel. Slower variation is removed with the smoothed copy.
        "grain": 1.4826 * median(np.abs(green - gaussian_filter(green, 2))[slide]),
        "uneven": 1.4826 * median(np.abs(green[slide] - median(green[slide]))),
        "brighter": float((green[seen] < -0.1).mean()),
    }


def _inner(slide: np.ndarray) -> np.ndarray:
    """The empty slide without the edges of cells, which scatter light."""
    from scipy.ndimage import binary_erosion

    return binary_erosion(slide, iterations=3, border_value=True)


def _share(chosen: np.ndarray) -> float:
    return float(chosen.mean()) if chosen.size else float("nan")


def area_statistics(
    cells: Cells,
    image: np.ndarray,
    density: np.ndarray,
    covered: np.ndarray,
    seen: np.ndarray,
    *,
    step: int,
) -> dict[str, float]:
    """The statistics that need the area of the cells.

    Args:
        cells: the cells, in the frame of image.
        image: (H, W, 3) uint8.
        density, covered, seen: optical density, covered area and field of view, at 1 / step of the
            size of image.
        step: a whole number.
    """
    painted = np.zeros(image.shape[:2], bool)
    for mask, (y, x) in cells.pixel_masks():
        painted[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    height, width = covered.shape
    small = painted[: height * step : step, : width * step : step]
    burnt = image[..., GREEN][painted if painted.any() else ...] >= _BURNT
    stained = density[small if len(cells) >= MIN_CELLS else covered]
    return {
        # A sheet of cells leaves no slide as a background, so that the covered area is too small.
        # Then the area of the cells shows the density.
        "density": float(max(covered.mean(), painted.mean()) / seen.mean()),
        "explained": float(small[covered].mean()) if covered.any() else float("nan"),
        "burnt": float(burnt.mean()),
        "red_to_green": median(stained[:, 0] / np.maximum(stained[:, GREEN], 0.01)),
    }


def single_share(covered: np.ndarray, diameter_px: float) -> float:
    """The part of the covered area that lies in blobs of about one cell.

    A blob of 0.3 discs may be a ring around a pale centre; one of more than 1.6 discs is a clump.

    Args:
        covered: (H, W) bool.
        diameter_px: median diameter of the red cells.
    """
    from scipy.ndimage import label

    blobs, count = label(covered)
    discs = np.bincount(blobs.ravel(), minlength=count + 1)[1:] / (np.pi / 4 * diameter_px**2)
    if not count:
        return float("nan")
    return float(discs[(discs > 0.3) & (discs < 1.6)].sum() / discs.sum())


def focus(green: np.ndarray, covered: np.ndarray, diameter_px: float) -> float:
    """Diameter of a cell over the width of its edge.

    The width of an edge is the density of the cells over the steepest gradients (95th percentile).

    Args:
        green: (H, W) optical density of the green channel.
        covered: (H, W) bool.
        diameter_px: median diameter of the red cells; it is estimated if it is NaN.
    """
    from scipy.ndimage import gaussian_gradient_magnitude

    diameter_px = diameter_px if np.isfinite(diameter_px) else estimate_rbc_diameter_px(green)
    if not covered.any() or not np.isfinite(diameter_px):
        return float("nan")
    # The gradient is taken at a scale that smooths grain but is narrower than an edge in focus.
    scale = max(0.7, 0.02 * diameter_px)
    gradient = gaussian_gradient_magnitude(green, scale)[covered]
    steepest, level = float(np.percentile(gradient, 95)), float(np.median(green[covered]))
    if not min(steepest, level) > 0:
        return float("nan")
    # An edge with a Gaussian blur s has the width sqrt(2 pi) s, since its steepest gradient is its
    # height over that. The scale and the pixel grid add to s^2. They are subtracted, because a
    # field in focus would otherwise seem blurred if its cells have few pixels. At least half of the
    # width is kept, so that noise cannot give a width of 0.
    width_sq = (level / steepest) ** 2
    width_sq = max(width_sq - 2 * np.pi * (scale**2 + _GRID_VARIANCE), width_sq / 4)
    return diameter_px / float(np.sqrt(width_sq))


def median(values: np.ndarray) -> float:
    """The median of the finite values, or NaN if there are none."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")
