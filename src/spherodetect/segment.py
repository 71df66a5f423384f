"""Classical segmentation on optical density: foreground, and touching cells split.

Images are uint8 RGB (H, W, 3). Optical density is -log10(I / I_background), so that stain adds up
(Beer-Lambert) and uneven illumination divides out. Label images are int32 (H, W), 0 is background,
labels run from 1 without gaps. Lengths are in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

#: The long side of the copy on which slow, smooth things (background, cell size) are estimated.
_COARSE_PX = 320
_GREEN = 1
#: Nuclei cover less of a field than this.
_NUCLEI = 0.15
#: A cell whose rim is too pale on one side is closed at this share of the threshold.
_PALE_RIM = 0.6
#: A blob of fewer red cells encloses no slide: it takes four to leave a gap that is wide enough to
#: matter.
_CLUMP_DISCS = 3.0
#: How far below the lower peak a saddle divides, in radii: where both sides are at least half a
#: disc, and elsewhere.
_SADDLE_OF_HALVES, _SADDLE = 0.01, 0.06


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
        """How many cells were found."""
        return int(self.labels.max(initial=0))


def segment(image: np.ndarray, *, rbc_diameter_px: float | None = None) -> Segmentation:
    """Find the cells of a field by watershed of the distance to the background.

    Args:
        image: (H, W, 3) uint8.
        rbc_diameter_px: diameter of a red cell where it is known; otherwise the field's own cells
            tell.

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
    # Beyond 60 pixels a cell gains cost, not accuracy: the outline is found on a smaller copy.
    shrink = min(1.0, 60 / diameter)
    small = (
        density
        if shrink == 1
        else rescale(density, shrink, anti_aliasing=True, preserve_range=True)
    )
    smooth = ndimage.gaussian_filter(small, 0.025 * diameter * shrink)
    threshold = foreground_threshold(smooth)
    foreground = _foreground(smooth, threshold, diameter * shrink)
    labels = _split(foreground, diameter * shrink)
    labels = _drop_debris(labels, diameter * shrink)
    if shrink < 1:
        labels = resize(
            labels, density.shape, order=0, preserve_range=True, anti_aliasing=False
        ).astype(np.int32)
    areas = np.bincount(labels.ravel())[1:]
    own = areas[areas > 0.3 * np.pi / 4 * diameter**2]
    median = float(np.sqrt(4 / np.pi * np.median(own))) if len(own) else float("nan")
    return Segmentation(labels, density, threshold, median)


def background(image: np.ndarray) -> np.ndarray:
    """The empty slide's intensity at every pixel, (H, W, 3) float32: a quadratic surface a channel.

    The surface is fitted to the pixels that are not cells, which are found with the surface: four
    rounds suffice. In a field with next to no empty slide the brightest pixels stand in.
    """
    return np.stack([*_background_planes(image)], axis=-1)


def optical_density(image: np.ndarray) -> np.ndarray:
    """-log10(I / background) a channel, (H, W, 3) float32; about 0 on the empty slide, 0.1 to 0.4
    in a red cell."""
    surfaces = enumerate(_background_planes(image))
    return np.moveaxis(
        np.stack([_density(image[..., channel], surface) for channel, surface in surfaces]), 0, -1
    )


def green_density(image: np.ndarray) -> np.ndarray:
    """The green channel of `optical_density` alone, (H, W) float32, at less time and memory."""
    return _density(image[..., _GREEN], *_background_planes(image, channels=(_GREEN,)))


def _density(values: np.ndarray, surface: np.ndarray) -> np.ndarray:
    density = np.maximum(values, 1) / surface
    np.log(density, out=density)
    density *= -np.log10(np.e)
    return density


def _background_planes(
    image: np.ndarray, *, channels: Sequence[int] = (0, 1, 2)
) -> Iterator[np.ndarray]:
    """Planes of `background`, (H, W) float32 each."""
    height, width = image.shape[:2]
    step = max(1, max(height, width) // _COARSE_PX)
    y, x = (_powers(size) for size in (height, width))
    coarse = np.ascontiguousarray(np.moveaxis(np.maximum(image[::step, ::step], 1), -1, 0))
    values = coarse.astype(np.float32)
    coefficients = np.zeros((3, 3, 3), np.float32)
    coefficients[:, 0, 0] = _bright(coarse)
    for _ in range(4):
        surfaces = np.maximum(_surface(coefficients, y[::step], x[::step]), 1)
        density = _density(values[_GREEN], surfaces[_GREEN])
        cut = foreground_threshold(density)
        empty = density < 0.5 * cut
        # Saturated marks (scale bars, arrows) are far from the slide's colour in some channel.
        far = np.float32(10 ** max(cut, 0.06))
        empty &= ((values < far * surfaces) & (far * values > surfaces)).all(axis=0)
        if empty.mean() < 0.02:
            break
        coefficients = _fit(values, empty, y[::step], x[::step])
    for channel in channels:
        yield np.clip(_surface(coefficients[channel], y, x), 1, 400)


def _bright(planes: np.ndarray) -> np.ndarray:
    """(C,) 95th percentiles of (C, h, w) uint8 planes, by sorting, which NumPy does by counting for
    bytes."""
    ordered = np.sort(planes.reshape(len(planes), -1), axis=1, kind="stable").T
    rank = 0.95 * (len(ordered) - 1)
    low, high = ordered[int(rank)], ordered[int(np.ceil(rank))]
    return low + (rank - int(rank)) * (high - low)


def _powers(size: int) -> np.ndarray:
    """(size, 5) float32: powers 0 to 4 of the position, which runs from -0.5 to 0.5 over the
    image."""
    return np.vander(np.arange(size) / max(size - 1, 1) - 0.5, 5, increasing=True).astype(
        np.float32
    )


def _surface(coefficients: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(..., H, W) float32 of quadratic surfaces, whose coefficients (..., 3, 3) belong to the
    powers of y and x."""
    across = coefficients @ x[:, :3].T
    surface = y[:, 2:3] * across[..., 2:, :]
    surface += y[:, 1:2] * across[..., 1:2, :]
    surface += across[..., :1, :]
    return surface


def _fit(values: np.ndarray, where: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(3, 3, 3) coefficients a channel of the quadratic surfaces through (3, h, w) values, by least
    squares.

    All that the normal equations need are the moments of the chosen pixels and of their values.
    """
    power_y, power_x = np.array([0, 1, 0, 2, 1, 0]), np.array([0, 0, 1, 0, 1, 2])
    moments = (y.T @ (where.astype(np.float32) @ x)).astype(float)
    # A ridge keeps the corners from flying off where only part of the field is empty.
    ridge = np.diag([0, 1, 1, 1, 1, 1]) * 0.002 * where.sum()
    right = (y[:, :3].T @ ((values * where) @ x[:, :3]))[:, power_y, power_x]
    coefficients = np.zeros((3, 3, 3), np.float32)
    normal = moments[power_y[:, None] + power_y, power_x[:, None] + power_x] + ridge
    coefficients[:, power_y, power_x] = np.linalg.solve(normal, right.T).T
    return coefficients


def foreground_threshold(density: np.ndarray) -> float:
    """The density that separates cells from slide: Otsu (1979), kept clear of the slide's own
    noise.

    Otsu maximises the between-class variance of two classes; dark nuclei and pointers would pull it
    up, so density is clipped at twice the median of what lies above a first cut. Where that is
    little, it may be nuclei alone beside pale red cells: then what lies below falls into two
    classes far apart, and the upper of them counts too.
    """
    known = np.isfinite(density)
    values = density.ravel() if known.all() else density[known]
    if values.size == 0 or np.ptp(values) < 1e-6:
        return float("inf")
    first = _otsu(np.clip(values, -0.05, 0.8))
    cells = values[values > first]
    if 0 < cells.size < _NUCLEI * values.size:
        rest = values[values <= first]
        second = _otsu(np.maximum(rest, -0.05))
        paler, slide = rest[rest > second], rest[rest <= second]
        apart = _median(paler) - _median(slide) if paler.size and slide.size else 0.0
        if paler.size > 1.5 * cells.size and apart > 5 * 1.4826 * _median(
            np.abs(slide - _median(slide))
        ):
            cells = values[values > second]
    values = np.clip(values, -0.05, 2 * _median(cells)) if cells.size else values
    cut = _otsu(values) if np.ptp(values) > 1e-6 else first
    slide = values[values < cut]
    if not slide.size:
        return max(0.85 * cut, 0.012)
    # An empty field has no two classes: whatever Otsu finds there is noise.
    middle = _median(slide)
    return max(0.85 * cut, middle + 3.5 * 1.4826 * _median(np.abs(slide - middle)), 0.012)


def _median(values: np.ndarray) -> float:
    """The median of (N,) finite values, in two thirds of NumPy's time."""
    half = len(values) // 2
    parted = np.partition(values, half)
    return (
        float(parted[half])
        if len(values) % 2
        else (float(parted[half]) + float(parted[:half].max())) / 2
    )


def _otsu(values: np.ndarray, *, bins: int = 256) -> float:
    """The centre of the bin that divides the values best; scikit-image's threshold_otsu at a third
    of its time."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    counts = np.bincount(
        np.minimum((values - low) * (bins / (high - low)), bins - 1).astype(np.intp), minlength=bins
    )
    centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
    below, moment = np.cumsum(counts)[:-1], np.cumsum(counts * centres)
    above = values.size - below
    between = below * above * (moment[:-1] / below - (moment[-1] - moment[:-1]) / above) ** 2
    return float(centres[np.argmax(between)])


def estimate_rbc_diameter_px(density: np.ndarray) -> float:
    """Median diameter of the field's cells in pixels from the widths of its foreground, or NaN if
    there is none.

    Each blob's largest inscribed circle is as wide as its widest cell, also where cells touch in
    chains. Circles count by their area, so that platelets and dirt do not.
    """
    from scipy import ndimage
    from skimage.transform import rescale

    shrink = min(1.0, 2 * _COARSE_PX / max(density.shape))
    small = (
        density
        if shrink == 1
        else rescale(density, shrink, anti_aliasing=True, preserve_range=True)
    )
    smooth = ndimage.gaussian_filter(small, 0.8)
    foreground = smooth > foreground_threshold(smooth)
    if not foreground.any():
        return float("nan")
    # Pale centres first, whatever the cells' size turns out to be: no cell is wider than a quarter
    # of its field.
    filled = _fill_pallor(foreground, min(density.shape) * shrink / 4)
    distance = ndimage.distance_transform_edt(filled)
    peaks = (ndimage.maximum_filter(distance, 7) == distance) & (distance > 1.5)
    radii = np.sort(distance[peaks])
    if radii.size == 0:
        return float("nan")
    weight = np.cumsum(radii**2)
    diameter = 2 * float(radii[np.searchsorted(weight, weight[-1] / 2)])
    return diameter / shrink


def _foreground(density: np.ndarray, threshold: float, diameter_px: float) -> np.ndarray:
    """Cells with their pale centres, also where the rim around the centre is too pale on one
    side."""
    from scipy import ndimage

    # At a lower threshold such rims are closed. Outlines are kept: only what lies well inside of a
    # blob is taken from there, and only where most of the blob is foreground anyway.
    certain = density > threshold
    whole = _fill_pallor(density > _PALE_RIM * threshold, diameter_px, clump_discs=_CLUMP_DISCS)
    blobs, count = ndimage.label(whole)
    hits = np.bincount(blobs.ravel(), certain.ravel(), count + 1)
    known = hits > 0.5 * np.bincount(blobs.ravel(), minlength=count + 1)
    known[0] = False
    inner = known[blobs] & (_depth(whole) > 0.15 * diameter_px)
    return _fill_pallor(certain | inner, diameter_px, clump_discs=_CLUMP_DISCS)


def _fill_pallor(
    foreground: np.ndarray, diameter_px: float, *, clump_discs: float = 0.0
) -> np.ndarray:
    """Close the pale centres of cells, but not the slide that a ring of touching cells encloses.

    What a blob of less than clump_discs red cells encloses is its own; elsewhere the shape of the
    hole decides.
    """
    from scipy import ndimage
    from skimage.measure import regionprops

    holes, count = ndimage.label(~foreground)
    if count == 0:
        return foreground
    disc = np.pi / 4 * diameter_px**2
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    at_edge = np.zeros(count + 1, bool)
    at_edge[np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])] = True
    blobs, _ = ndimage.label(foreground | ~at_edge[holes])
    in_small_blob = (np.bincount(blobs.ravel()) < clump_discs * disc)[blobs] & ~at_edge[holes]
    enclosed = np.zeros(count + 1, bool)
    enclosed[holes[in_small_blob]] = True
    fill = enclosed | (areas < np.where(at_edge, 0.25, 0.75) * disc)
    fill[0] = False
    # A pale centre is convex (a target cell's is a ring); the gap between three or four discs is a
    # star, its convex hull the polygon of the points of contact: solidity 0.37 for three discs,
    # 0.43 for four.
    unsure = fill & ~enclosed & (areas > 0.02 * disc)
    for region in regionprops(np.where(unsure[holes], holes, 0)):
        if region.area_filled < (0.8 if at_edge[region.label] else 0.65) * region.area_convex:
            fill[region.label] = False
    return foreground | fill[holes]


def _split(foreground: np.ndarray, diameter_px: float) -> np.ndarray:
    """Watershed of the smoothed distance to the background, without the basins that a shallow
    saddle divides."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    radius = diameter_px / 2
    depth = (
        ndimage.gaussian_filter(np.minimum(_depth(foreground), 1.15 * radius), 0.06 * radius)
        * foreground
    )
    peaks = (ndimage.maximum_filter(depth, 3) == depth) & foreground
    markers, _ = ndimage.label(peaks, np.ones((3, 3)))
    return _merge(watershed(-depth, markers, mask=foreground), depth / radius, np.pi * radius**2)


def _merge(basins: np.ndarray, depth: np.ndarray, disc: float) -> np.ndarray:
    """Join neighbouring basins, highest saddle first, where the lower peak stands too little above
    the saddle.

    Two cells in one outline have a shallow saddle and half a disc each; a spicule or an uneven rim
    has a small basin.
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
    # Of the many pixels that two basins share the first is the saddle.
    for k in np.sort(np.unique(pair, axis=0, return_index=True)[1]):
        low, high = sorted(joined[pair[k]], key=peak.__getitem__)
        needed = _SADDLE_OF_HALVES if min(area[low], area[high]) > 0.5 * disc else _SADDLE
        if low != high and peak[low] - saddle[k] < needed:
            joined[joined == low] = high
            area[high] += area[low]
    return joined.astype(np.int32)[basins]


def _depth(foreground: np.ndarray) -> np.ndarray:
    """Distance to the background in pixels; cells go on beyond the image."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(np.pad(foreground, 1, mode="edge"))[1:-1, 1:-1]


def _drop_debris(labels: np.ndarray, diameter_px: float) -> np.ndarray:
    """Leave out specks, and long pointers and smears far larger than a cell; renumber."""
    areas = np.bincount(labels.ravel())
    disc = np.pi / 4 * diameter_px**2
    keep = (areas > 0.04 * disc) & (areas < 9 * disc)
    keep[0] = False
    renumber = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return renumber[labels]
