"""Separate cells that touch: watershed of the distance to the background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spherodetect.segment.density import green_density
from spherodetect.segment.diameter import estimate_rbc_diameter_px
from spherodetect.segment.pallor import distance_to_background, foreground_with_pallor
from spherodetect.segment.threshold import foreground_threshold

#: Cells are outlined on a copy in which a red cell has this many pixels across. More pixels cost
#: time and do not move the outline.
_OUTLINE_PX = 60
#: Two basins are separate cells if the lower peak stands this many radii above the saddle between
#: them: where both basins are at least half a disc, and elsewhere.
_SADDLE_OF_HALVES, _SADDLE = 0.01, 0.06


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The cells of a field, found without any learning.

    Attributes:
        labels: (H, W) int32, one number for each cell.
        density: (H, W) float32 optical density of the green channel, where red cells absorb most.
        threshold: the density above which a pixel is foreground.
        rbc_diameter_px: median equivalent diameter of the cells, or NaN without any.
    """

    labels: np.ndarray
    density: np.ndarray
    threshold: float
    rbc_diameter_px: float

    @property
    def n_cells(self) -> int:
        """The number of cells."""
        return int(self.labels.max(initial=0))


def segment(image: np.ndarray, *, rbc_diameter_px: float | None = None) -> Segmentation:
    """The cells of a field, by watershed of the distance to the background.

    Args:
        image: (H, W, 3) uint8.
        rbc_diameter_px: diameter of a red cell. Without it, it is estimated from the field.

    >>> import numpy as np
    >>> segment(np.full((64, 64, 3), 230, np.uint8)).n_cells
    0
    """
    from scipy import ndimage
    from skimage.transform import rescale, resize

    density = green_density(image)
    diameter = rbc_diameter_px or estimate_rbc_diameter_px(density)
    if not np.isfinite(diameter):
        return Segmentation(np.zeros(density.shape, np.int32), density, float("nan"), float("nan"))
    shrink = min(1.0, _OUTLINE_PX / diameter)
    small = density
    if shrink < 1:
        small = rescale(density, shrink, anti_aliasing=True, preserve_range=True)
    smooth = ndimage.gaussian_filter(small, 0.025 * diameter * shrink)
    threshold = foreground_threshold(smooth)
    foreground = foreground_with_pallor(smooth, threshold, diameter * shrink)
    labels = _split(foreground, diameter * shrink)
    labels = _without_debris(labels, diameter * shrink)
    if shrink < 1:
        labels = resize(
            labels, density.shape, order=0, preserve_range=True, anti_aliasing=False
        ).astype(np.int32)
    areas = np.bincount(labels.ravel())[1:]
    # Platelets and fragments have less than a third of a red cell's area.
    large = areas[areas > 0.3 * np.pi / 4 * diameter**2]
    median = float(np.sqrt(4 / np.pi * np.median(large))) if len(large) else float("nan")
    return Segmentation(labels, density, threshold, median)


def _split(foreground: np.ndarray, diameter_px: float) -> np.ndarray:
    """(H, W) labels: watershed of the smoothed distance, without basins of a shallow saddle."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    radius = diameter_px / 2
    # The distance is capped a little above the radius of a red cell. A larger blob, such as a white
    # cell, is then flat inside and gets one peak.
    capped = np.minimum(distance_to_background(foreground), 1.15 * radius)
    depth = ndimage.gaussian_filter(capped, 0.06 * radius) * foreground
    peaks = (ndimage.maximum_filter(depth, 3) == depth) & foreground
    markers, _ = ndimage.label(peaks, np.ones((3, 3)))
    return _merge(watershed(-depth, markers, mask=foreground), depth / radius, np.pi * radius**2)


def _merge(basins: np.ndarray, depth: np.ndarray, disc: float) -> np.ndarray:
    """Basins of the watershed, merged where the lower peak hardly rises above the saddle.

    Two overlapping cells have a shallow saddle, and half a disc of area each. A spicule or an
    uneven rim gives a small basin. So the necessary height depends on the smaller area. Pairs are
    merged from the highest saddle downwards.

    Args:
        basins: (H, W) int, labels of the watershed.
        depth: (H, W) smoothed distance to the background, in radii.
        disc: area of a red cell.
    """
    pairs, saddles = [], []
    for here, there in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        a, b = basins[here], basins[there]
        border = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.sort(np.stack([a[border], b[border]], axis=1), axis=1))
        saddles.append(np.minimum(depth[here][border], depth[there][border]))
    order = np.argsort(-np.concatenate(saddles), kind="stable")
    pair, saddle = np.concatenate(pairs)[order], np.concatenate(saddles)[order]
    area = np.bincount(basins.ravel()).astype(float)
    peak = np.zeros(len(area))
    np.maximum.at(peak, basins.ravel(), depth.ravel())
    joined = np.arange(len(area))
    # Two basins share many border pixels. In this order the first of them is their saddle.
    for k in np.sort(np.unique(pair, axis=0, return_index=True)[1]):
        low, high = sorted(joined[pair[k]], key=peak.__getitem__)
        needed = _SADDLE_OF_HALVES if min(area[low], area[high]) > 0.5 * disc else _SADDLE
        if low != high and peak[low] - saddle[k] < needed:
            joined[joined == low] = high
            area[high] += area[low]
    return joined.astype(np.int32)[basins]


def _without_debris(labels: np.ndarray, diameter_px: float) -> np.ndarray:
    """Labels without specks and without blobs of more than nine cells, such as pointers."""
    areas = np.bincount(labels.ravel())
    disc = np.pi / 4 * diameter_px**2
    keep = (areas > 0.04 * disc) & (areas < 9 * disc)
    keep[0] = False
    renumber = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return renumber[labels]
