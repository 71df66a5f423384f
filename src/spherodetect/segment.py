"""Classical segmentation on optical density: foreground, and touching cells split.

Images are uint8 RGB (H, W, 3). Optical density is -log10(I / I_background), so that stain adds up (Beer-Lambert) and
uneven illumination divides out. Label images are int32 (H, W), 0 is background, labels run from 1 without gaps. Lengths
are in pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The long side of the copy on which slow, smooth things (background, cell size) are estimated.
_COARSE_PX = 320
_GREEN = 1


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Cells found without any learning.

    Attributes:
        labels: (H, W) int32, one number a cell.
        density: (H, W) float32 optical density of the green channel, where red cells absorb most.
        threshold: the density above which a pixel is foreground.
        rbc_diameter_px: median equivalent diameter of the separate cells, or NaN if there are none.
    """

    labels: np.ndarray
    density: np.ndarray
    threshold: float
    rbc_diameter_px: float

    @property
    def n_cells(self) -> int:
        return int(self.labels.max(initial=0))


def segment(image: np.ndarray, *, rbc_diameter_px: float | None = None) -> Segmentation:
    """Find the cells of a field by watershed of the distance to the background.

    Args:
        image: (H, W, 3) uint8.
        rbc_diameter_px: diameter of a red cell where it is known; otherwise the field's own cells tell.

    >>> import numpy as np
    >>> segment(np.full((64, 64, 3), 230, np.uint8)).n_cells
    0
    """
    from scipy import ndimage
    from skimage.transform import rescale, resize

    density = optical_density(image)[..., _GREEN]
    diameter = rbc_diameter_px or estimate_rbc_diameter_px(density)
    if not np.isfinite(diameter):
        return Segmentation(np.zeros(density.shape, np.int32), density, float("nan"), float("nan"))
    # Beyond 60 pixels a cell gains cost, not accuracy: the outline is found on a smaller copy.
    shrink = min(1.0, 60 / diameter)
    small = density if shrink == 1 else rescale(density, shrink, anti_aliasing=True, preserve_range=True)
    smooth = ndimage.gaussian_filter(small, 0.025 * diameter * shrink)
    threshold = foreground_threshold(smooth)
    foreground = _fill_pallor(smooth > threshold, diameter * shrink)
    labels = _split(foreground, diameter * shrink)
    labels = _drop_debris(labels, diameter * shrink)
    if shrink < 1:
        labels = resize(labels, density.shape, order=0, preserve_range=True, anti_aliasing=False).astype(np.int32)
    areas = np.bincount(labels.ravel())[1:]
    own = areas[areas > 0.3 * np.pi / 4 * diameter**2]
    median = float(np.sqrt(4 / np.pi * np.median(own))) if len(own) else float("nan")
    return Segmentation(labels, density, threshold, median)


def background(image: np.ndarray) -> np.ndarray:
    """The empty slide's intensity at every pixel, (H, W, 3) float32: a quadratic surface a channel.

    The surface is fitted to the pixels that are not cells, which are found with the surface: four rounds suffice. In a
    field with next to no empty slide the brightest pixels stand in.
    """
    height, width = image.shape[:2]
    step = max(1, max(height, width) // _COARSE_PX)
    coarse = image[::step, ::step].astype(np.float32)
    y, x = np.meshgrid(
        np.arange(0, height, step) / max(height - 1, 1) - 0.5,
        np.arange(0, width, step) / max(width - 1, 1) - 0.5,
        indexing="ij",
    )
    terms = _quadratic(y, x).reshape(-1, 6)
    values = coarse.reshape(-1, 3)
    level = np.percentile(values, 95, axis=0)
    surface = np.broadcast_to(np.maximum(level, 1), values.shape)
    for _ in range(4):
        density = -np.log10(np.maximum(values, 1) / np.maximum(surface, 1))
        cut = foreground_threshold(density[:, _GREEN])
        # Saturated marks (scale bars, arrows) are far from the slide's colour in some channel.
        empty = (density[:, _GREEN] < 0.5 * cut) & (np.abs(density) < max(cut, 0.06)).all(axis=1)
        if empty.mean() < 0.02:
            break
        # A ridge keeps the corners from flying off where only part of the field is empty.
        weighted = terms[empty]
        ridge = np.diag([0, 1, 1, 1, 1, 1]) * 0.002 * empty.sum()
        coefficients = np.linalg.solve(weighted.T @ weighted + ridge, weighted.T @ values[empty])
        surface = np.maximum(terms @ coefficients, 1)
    else:
        full_y, full_x = np.arange(height) / max(height - 1, 1) - 0.5, np.arange(width) / max(width - 1, 1) - 0.5
        full = _quadratic(*np.meshgrid(full_y, full_x, indexing="ij"))
        return np.clip(full @ coefficients, 1, 400).astype(np.float32)
    return np.broadcast_to(np.maximum(level, 1).astype(np.float32), image.shape)


def optical_density(image: np.ndarray) -> np.ndarray:
    """-log10(I / background) a channel, (H, W, 3) float32; about 0 on the empty slide, 0.1 to 0.4 in a red cell."""
    return -np.log10(np.maximum(image, 1) / background(image)).astype(np.float32)


def foreground_threshold(density: np.ndarray) -> float:
    """The density that separates cells from slide: Otsu (1979), kept clear of the slide's own noise.

    Otsu maximises the between-class variance of two classes; dark nuclei and pointers would pull it up, so density is
    clipped at three times the median of what lies above a first cut.
    """
    from skimage.filters import threshold_otsu

    values = density[np.isfinite(density)]
    if values.size == 0 or np.ptp(values) < 1e-6:
        return float("inf")
    first = threshold_otsu(np.clip(values, -0.05, 0.8))
    cells = values[values > first]
    values = np.clip(values, -0.05, 2 * np.median(cells)) if cells.size else values
    cut = threshold_otsu(values) if np.ptp(values) > 1e-6 else first
    slide = values[values < cut]
    noise = 1.4826 * np.median(np.abs(slide - np.median(slide))) if slide.size else 0.0
    # An empty field has no two classes: whatever Otsu finds there is noise.
    return float(max(0.85 * cut, np.median(slide) + 3.5 * noise if slide.size else 0.0, 0.012))


def estimate_rbc_diameter_px(density: np.ndarray) -> float:
    """Median diameter of the field's cells in pixels from the widths of its foreground, or NaN if there is none.

    Each blob's largest inscribed circle is as wide as its widest cell, also where cells touch in chains. Circles count
    by their area, so that platelets and dirt do not.
    """
    from scipy import ndimage
    from skimage.transform import rescale

    shrink = min(1.0, 2 * _COARSE_PX / max(density.shape))
    small = density if shrink == 1 else rescale(density, shrink, anti_aliasing=True, preserve_range=True)
    smooth = ndimage.gaussian_filter(small, 0.8)
    foreground = smooth > foreground_threshold(smooth)
    if not foreground.any():
        return float("nan")
    # Pale centres first, whatever the cells' size turns out to be: no cell is wider than a quarter of its field.
    filled = _fill_pallor(foreground, min(density.shape) * shrink / 4)
    distance = ndimage.distance_transform_edt(filled)
    peaks = (ndimage.maximum_filter(distance, 7) == distance) & (distance > 1.5)
    radii = np.sort(distance[peaks])
    if radii.size == 0:
        return float("nan")
    weight = np.cumsum(radii**2)
    diameter = 2 * float(radii[np.searchsorted(weight, weight[-1] / 2)])
    return diameter / shrink


def _quadratic(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(y), y, x, y * y, x * y, x * x], axis=-1)


def _fill_pallor(foreground: np.ndarray, diameter_px: float) -> np.ndarray:
    """Close the pale centres of cells, but not the slide that a ring of touching cells encloses."""
    from scipy import ndimage
    from skimage.measure import regionprops

    holes, count = ndimage.label(~foreground)
    if count == 0:
        return foreground
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    disc = np.pi / 4 * diameter_px**2
    fill = areas < 0.75 * disc
    fill[0] = False
    at_edge = np.zeros(count + 1, bool)
    at_edge[np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])] = True
    fill[at_edge & (areas > 0.25 * disc)] = False
    # A pale centre is convex (a target cell's is a ring); the gap between three or four discs is a star, its convex
    # hull the polygon of the points of contact: solidity 0.37 for three discs, 0.43 for four.
    for region in regionprops(np.where(fill[holes] & (areas[holes] > 0.02 * disc), holes, 0)):
        if region.area_filled < (0.8 if at_edge[region.label] else 0.65) * region.area_convex:
            fill[region.label] = False
    return foreground | fill[holes]


def _split(foreground: np.ndarray, diameter_px: float) -> np.ndarray:
    """Watershed of the smoothed distance transform; a saddle shallower than a fiftieth of a radius does not divide."""
    from scipy import ndimage
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    radius = diameter_px / 2
    distance = ndimage.distance_transform_edt(np.pad(foreground, 1, mode="edge"))[1:-1, 1:-1]
    distance = ndimage.gaussian_filter(np.minimum(distance, 1.15 * radius), 0.06 * radius) * foreground
    markers, _ = ndimage.label(h_maxima(distance, 0.02 * radius) & foreground, np.ones((3, 3)))
    return watershed(-distance, markers, mask=foreground).astype(np.int32)


def _drop_debris(labels: np.ndarray, diameter_px: float) -> np.ndarray:
    """Leave out specks, and long pointers and smears far larger than a cell; renumber."""
    areas = np.bincount(labels.ravel())
    disc = np.pi / 4 * diameter_px**2
    keep = (areas > 0.04 * disc) & (areas < 9 * disc)
    keep[0] = False
    renumber = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return renumber[labels]
