"""Finds the mask that a prompt (a box or a point) means, by optical density, with its quality.

Segmented cells under the prompt and the stained pixels within the prompt are the candidates; the
one with the best quality is taken. Quality is 0 to 1: the agreement of the mask with its prompt,
times the fraction of its outline that borders on empty slide. An outline that was cut through
stain, or that follows the prompt alone, is no evidence however well it fits. Masks are boolean and
cover a window of the field; lengths are in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spherodetect.geometry import box_iou, tight_box
from spherodetect.labels.repair.morphology import (
    convex_hull,
    distance_to,
    divide,
    filled,
    free_outline,
    tidy,
)
from spherodetect.segment import Segmentation

#: A point at a larger distance from a cell, in diameters, does not mean that cell.
BESIDE = 0.2

#: Squared distances from the prompt's centre, relative to its radii. Most of a mask is in the core.
_CORE = 0.8
#: How far a mask may extend from a box, which is rarely tight, and from a point: elliptocytes and
#: macrocytes are longer than a red cell.
_BEYOND_BOX, _BEYOND_POINT = 1.15, 1.8
#: A segmented cell that fills a smaller part of the core is a neighbour.
_IN_CORE = 0.1
#: Local stain begins at this part of the upper quartile of density in the prompt, but not below
#: this part of the field's threshold (noise), and not above the threshold (a nucleus is no cell).
_LOCAL, _FAINTEST = 0.5, 0.4
#: Plausible areas of a red cell's mask, and of any cell's, in discs of a red cell's diameter.
_RED_DISCS, _ANY_DISCS = (0.3, 2.0), (0.02, 6.0)
#: A point further from its mask than this part of a diameter lies in a pale centre, and the mask is
#: part of a rim.
_OPEN = 0.08
#: Below this quality of a segmented cell, the stained pixels around the point are tried too.
_SURE = 0.6


@dataclass(frozen=True, eq=False)
class Refined:
    """A mask over the window of the field that begins at origin_yx.

    The mask is empty and its quality 0 if none was found.
    """

    mask: np.ndarray
    origin_yx: np.ndarray
    quality: float = 0.0


class Refiner:
    """Finds the masks that the prompts of one field mean; diameter_px is that of a red cell."""

    def __init__(self, segmentation: Segmentation, diameter_px: float) -> None:
        from scipy import ndimage

        self.labels, self.diameter = segmentation.labels, diameter_px
        self.windows = ndimage.find_objects(self.labels)
        self.density = ndimage.gaussian_filter(segmentation.density, 0.025 * diameter_px)
        self.threshold = np.nan_to_num(segmentation.threshold, nan=np.inf)
        self.faintest = _FAINTEST * self.threshold

    def in_box(self, box_yxyx: np.ndarray) -> Refined:
        """The cell that a box encloses."""

        def agreement(mask: np.ndarray, origin: np.ndarray) -> float:
            box = tight_box(mask) + np.tile(origin, 2)
            return float(box_iou(box[None], box_yxyx[None])[0, 0])

        center = (box_yxyx[:2] + box_yxyx[2:]) / 2
        radii = (box_yxyx[2:] - box_yxyx[:2]) / 2
        return self._best(center, radii, _BEYOND_BOX, agreement)

    def at_points(
        self, cell: int, points_yx: Sequence[Sequence[float]], red: Sequence[bool]
    ) -> list[Refined]:
        """The cells that points mark.

        Args:
            cell: number of the segmented cell that all the points lie in, 0 for none.
            points_yx: the points.
            red: for each point, whether it marks a red cell.
        """
        points = [np.asarray(point, float) for point in points_yx]
        if cell:
            found = self._parts(cell, points, red)
        else:
            found = [self._around(p, r) for p, r in zip(points, red, strict=True)]
        if cell and len(found) == 1 and found[0].quality < _SURE:
            around = self._around(points[0], red[0])
            found = [max(found[0], around, key=lambda refined: refined.quality)]
        return [self._closed(*each) for each in zip(found, points, red, strict=True)]

    def _parts(
        self, cell: int, points_yx: Sequence[np.ndarray], red: Sequence[bool]
    ) -> list[Refined]:
        window, origin = self._window(self.windows[cell - 1])
        inside, stain = [point - origin for point in points_yx], self.labels[window] > 0
        masks = [tidy(part) for part in divide(self.labels[window] == cell, inside)]
        return [
            Refined(mask, origin, self._likeness(mask, point, is_red) * free_outline(mask, stain))
            for mask, point, is_red in zip(masks, inside, red, strict=True)
        ]

    def _around(self, point_yx: np.ndarray, red: bool) -> Refined:
        def agreement(mask: np.ndarray, origin: np.ndarray) -> float:
            return self._likeness(mask, point_yx - origin, red)

        return self._best(point_yx, np.full(2, self.diameter / 2), _BEYOND_POINT, agreement)

    def _closed(self, refined: Refined, point_yx: np.ndarray, red: bool) -> Refined:
        """Close the open rim of a pale cell around its point by the convex hull.

        The quality falls by the part of the hull that the rim lacks.
        """
        inside = point_yx - refined.origin_yx
        if not refined.quality or distance_to(refined.mask, inside) < _OPEN * self.diameter:
            return refined
        hull = convex_hull(refined.mask)
        if distance_to(hull, inside) > 0:
            return refined
        quality = self._likeness(hull, inside, red) * refined.mask.sum() / hull.sum()
        return Refined(hull, refined.origin_yx, quality)

    def _best(
        self,
        center: np.ndarray,
        radii: np.ndarray,
        beyond: float,
        agreement: Callable[[np.ndarray, np.ndarray], float],
    ) -> Refined:
        """The best candidate for an elliptic prompt.

        Args:
            center, radii: (2,) of the prompt, in pixels of the field.
            beyond: how far a mask may extend, as a squared relative distance.
            agreement: rates a mask, given the origin of its window.
        """
        low = np.maximum(np.floor(center - radii), 0).astype(int)
        high = np.maximum(np.ceil(center + radii), 0).astype(int)
        cells = np.unique(self.labels[low[0] : high[0], low[1] : high[1]])
        # The window must hold every candidate: what it cuts would count as cut by the image.
        low, high = low - np.ceil(radii).astype(int), high + np.ceil(radii).astype(int)
        for y, x in (self.windows[cell - 1] for cell in cells if cell):
            low, high = np.minimum(low, [y.start, x.start]), np.maximum(high, [y.stop, x.stop])
        window, origin = self._window([slice(max(0, a), b) for a, b in zip(low, high, strict=True)])
        labels, density = self.labels[window], self.density[window]
        y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
        (dy, dx), (ry, rx) = origin + 0.5 - center, radii
        distance = ((y + dy) / ry) ** 2 + ((x + dx) / rx) ** 2
        core, reach, segmented = distance <= _CORE, distance <= beyond, labels > 0
        best = Refined(np.zeros(labels.shape, bool), origin)
        if not core.any():
            return best
        level = np.clip(_LOCAL * np.percentile(density[core], 75), self.faintest, self.threshold)
        stain = filled(density > level)
        cells, n_pixels = np.unique(labels[core], return_counts=True)
        chosen = cells[(cells > 0) & (n_pixels > _IN_CORE * core.sum())]
        candidates = [(labels == cell, segmented) for cell in chosen]
        candidates += [(segmented & reach, segmented), (stain & reach, stain)]
        for candidate, stained in candidates:
            mask = tidy(candidate)
            if not mask.any():
                continue
            quality = agreement(mask, origin) * free_outline(mask, stained)
            if quality > best.quality:
                best = Refined(mask, origin, quality)
        return best

    def _likeness(self, mask: np.ndarray, point_yx: np.ndarray, red: bool) -> float:
        """How much a mask resembles a whole cell that holds the point, 0 to 1.

        This is its solidity, reduced for an implausible size and for a point outside.
        """
        if not mask.any():
            return 0.0
        hull, area = convex_hull(mask), mask.sum()
        discs = area / (np.pi / 4 * self.diameter**2)
        fragment, clump = _RED_DISCS if red else _ANY_DISCS
        size = min(1.0, discs / fragment, (clump / discs) ** 2)
        place = max(0.0, 1 - distance_to(hull, point_yx) / (BESIDE * self.diameter))
        return float(size * place * min(1.0, area / hull.sum()))

    def _window(self, sides: Sequence[slice]) -> tuple[tuple[slice, ...], np.ndarray]:
        """A window with one more pixel on each side, within the image, and its first pixel."""
        window = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in sides)
        return window, np.array([side.start for side in window])
