"""One prompt, one mask: the pixels of the cell that a box or a point means, by optical density, and
how sure that is.

What segmentation found under a prompt competes with what is stained inside the prompt, and the
better quality wins. Quality is 0 to 1: how well a mask agrees with its prompt, times the share of
its outline that lies against the empty slide. For an outline that was cut through stain, or that
the prompt alone drew, says nothing however well it fits. Masks are boolean and cover a window of
the field; lengths are in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spherodetect.geometry import box_iou, tight_box
from spherodetect.segment import Segmentation

#: Threads of stain narrower than twice this share of a diameter are no part of a cell.
_THREAD = 0.05
#: A mask that fills less of its box than this may be the rim of a pale cell; gaps of up to twice
#: this share of its box are bridged where that encloses at least this share of its area.
_SLENDER, _GAP, _PALE = 0.64, 0.18, 0.1
#: Squared radii relative to the prompt's own: where a mask lies mostly, how far it may reach from a
#: box (few are tight) and from a point (elliptocytes and macrocytes are longer than a red cell).
_CORE, _BEYOND_BOX, _BEYOND_POINT = 0.8, 1.15, 1.8
#: A segmented cell that fills less than this share of the core is a neighbour.
_IN_CORE = 0.1
#: Local stain begins at this share of the upper quartile of density in the prompt, but not below
#: this share of the field's threshold (noise) nor above the threshold itself (a nucleus is no
#: cell).
_LOCAL, _FAINTEST = 0.5, 0.4
#: Areas, in discs of a red cell, between which a red cell's mask, and any cell's, is of a plausible
#: size.
_RED_DISCS, _ANY_DISCS = (0.3, 2.0), (0.02, 6.0)
#: A point further than this share of a diameter from its mask lies in the open: the mask is part of
#: a rim.
_OPEN = 0.08
#: A point further than this from a cell does not mean it.
BESIDE = 0.2
#: Segmentation is believed from here; below, what is stained around the point competes.
_SURE = 0.6


@dataclass(frozen=True, eq=False)
class Refined:
    """A mask over the window of the field that begins at origin_yx; empty and of quality 0 where
    there is none."""

    mask: np.ndarray
    origin_yx: np.ndarray
    quality: float = 0.0


class Refiner:
    """Finds the masks that the prompts of one field mean; diameter_px is a red cell's."""

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

        return self._best(
            (box_yxyx[:2] + box_yxyx[2:]) / 2,
            (box_yxyx[2:] - box_yxyx[:2]) / 2,
            _BEYOND_BOX,
            agreement,
        )

    def at_points(
        self, cell: int, points_yx: Sequence[Sequence[float]], red: Sequence[bool]
    ) -> list[Refined]:
        """The cells that points mark, which all lie in one segmented cell, or in none (0); red:
        known as a red cell."""
        points = [np.asarray(point, float) for point in points_yx]
        found = (
            self._parts(cell, points, red)
            if cell
            else [self._around(p, r) for p, r in zip(points, red, strict=True)]
        )
        if cell and len(found) == 1 and found[0].quality < _SURE:
            found = [
                max(found[0], self._around(points[0], red[0]), key=lambda refined: refined.quality)
            ]
        return [self._closed(*each) for each in zip(found, points, red, strict=True)]

    def _parts(
        self, cell: int, points_yx: Sequence[np.ndarray], red: Sequence[bool]
    ) -> list[Refined]:
        window, origin = self._window(self.windows[cell - 1])
        inside, stain = [point - origin for point in points_yx], self.labels[window] > 0
        masks = [tidy(part) for part in divide(self.labels[window] == cell, inside)]
        return [
            Refined(mask, origin, self._likeness(mask, point, is_red) * _free(mask, stain))
            for mask, point, is_red in zip(masks, inside, red, strict=True)
        ]

    def _around(self, point_yx: np.ndarray, red: bool) -> Refined:
        def agreement(mask: np.ndarray, origin: np.ndarray) -> float:
            return self._likeness(mask, point_yx - origin, red)

        return self._best(point_yx, np.full(2, self.diameter / 2), _BEYOND_POINT, agreement)

    def _closed(self, refined: Refined, point_yx: np.ndarray, red: bool) -> Refined:
        """The rim that a pale cell leaves open around its point is closed straight, at the price of
        what is missing."""
        inside = point_yx - refined.origin_yx
        if not refined.quality or _distance(refined.mask, inside) < _OPEN * self.diameter:
            return refined
        hull = _hull(refined.mask)
        if _distance(hull, inside) > 0:
            return refined
        return Refined(
            hull,
            refined.origin_yx,
            self._likeness(hull, inside, red) * refined.mask.sum() / hull.sum(),
        )

    def _best(
        self,
        center: np.ndarray,
        radii: np.ndarray,
        beyond: float,
        agreement: Callable[[np.ndarray, np.ndarray], float],
    ) -> Refined:
        low, high = (
            np.maximum(side, 0).astype(int)
            for side in (np.floor(center - radii), np.ceil(center + radii))
        )
        cells = np.unique(self.labels[low[0] : high[0], low[1] : high[1]])
        # Wide enough for every proposal: what the window cuts would count as what the image cuts.
        low, high = low - np.ceil(radii).astype(int), high + np.ceil(radii).astype(int)
        for y, x in (self.windows[cell - 1] for cell in cells if cell):
            low, high = np.minimum(low, [y.start, x.start]), np.maximum(high, [y.stop, x.stop])
        window, origin = self._window([slice(max(0, a), b) for a, b in zip(low, high, strict=True)])
        labels, density = self.labels[window], self.density[window]
        y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
        (dy, dx), (ry, rx) = origin + 0.5 - center, radii
        distance = ((y + dy) / ry) ** 2 + ((x + dx) / rx) ** 2
        core, reach, found = distance <= _CORE, distance <= beyond, labels > 0
        best = Refined(np.zeros(labels.shape, bool), origin)
        if not core.any():
            return best
        level = np.clip(_LOCAL * np.percentile(density[core], 75), self.faintest, self.threshold)
        stain = _filled(density > level)
        cells, shares = np.unique(labels[core], return_counts=True)
        chosen = cells[(cells > 0) & (shares > _IN_CORE * core.sum())]
        proposals = [(labels == cell, found) for cell in chosen]
        for proposal, around in [*proposals, (found & reach, found), (stain & reach, stain)]:
            mask = tidy(proposal)
            if (
                mask.any()
                and (quality := agreement(mask, origin) * _free(mask, around)) > best.quality
            ):
                best = Refined(mask, origin, quality)
        return best

    def _likeness(self, mask: np.ndarray, point_yx: np.ndarray, red: bool) -> float:
        """How much a mask looks like a whole cell that holds the point: its solidity, less for an
        odd size or place."""
        if not mask.any():
            return 0.0
        hull, area = _hull(mask), mask.sum()
        discs = area / (np.pi / 4 * self.diameter**2)
        fragment, clump = _RED_DISCS if red else _ANY_DISCS
        size = min(1.0, discs / fragment, (clump / discs) ** 2)
        place = max(0.0, 1 - _distance(hull, point_yx) / (BESIDE * self.diameter))
        return float(size * place * min(1.0, area / hull.sum()))

    def _window(self, sides: Sequence[slice]) -> tuple[tuple[slice, ...], np.ndarray]:
        """A window with a pixel more all around, within the image, and its first pixel."""
        window = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in sides)
        return window, np.array([side.start for side in window])


def tidy(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask, without holes and threads; cells go on beyond the window."""
    tidied = np.zeros_like(mask)
    if mask.any():
        largest = _largest(mask)
        y0, x0, y1, x1 = tight_box(largest)
        window = np.s_[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1]
        sides = [(y0 == 0, y1 == mask.shape[0]), (x0 == 0, x1 == mask.shape[1])]
        tidied[window] = _opened(_bridged(_filled(largest[window]), sides))
    return tidied


def _bridged(mask: np.ndarray, at_edge: Sequence[tuple[bool, bool]]) -> np.ndarray:
    """Close a rim with a narrow gap, or one that the image cuts, around what it encloses: a pale
    centre."""
    from scipy.ndimage import distance_transform_edt

    if mask.sum() > _SLENDER * mask.size:  # no room for anything to be enclosed
        return mask
    gap = max(1, round(_GAP * max(mask.shape)))
    closed = np.pad(mask, gap + 1)
    for axis, sides in enumerate(at_edge):
        for side, cut in enumerate(sides):
            rows = np.moveaxis(closed, axis, 0)
            rows[: gap + 1 if side == 0 else 0] |= cut
            rows[rows.shape[0] - (gap + 1) if side else rows.shape[0] :] |= cut
    closed |= distance_transform_edt(distance_transform_edt(~closed) <= gap) > gap
    bridged = mask | _filled(closed)[gap + 1 : -gap - 1, gap + 1 : -gap - 1]
    return bridged if bridged.sum() > (1 + _PALE) * mask.sum() else mask


def _opened(mask: np.ndarray) -> np.ndarray:
    """Opening by distances, which is faster than by a structuring element; the mask as it is where
    little is left."""
    from scipy.ndimage import distance_transform_edt

    radius = round(_THREAD * 2 * np.sqrt(mask.sum() / np.pi))
    core = distance_transform_edt(np.pad(mask, radius + 1, mode="edge")) > radius
    if radius < 1 or not core.any():
        return mask
    opened = (
        distance_transform_edt(~core)[radius + 1 : -radius - 1, radius + 1 : -radius - 1] <= radius
    )
    opened = _largest(opened)
    return opened if 2 * opened.sum() > mask.sum() else mask


def divide(mask: np.ndarray, points_yx: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One mask a point: the watershed of the distance transform, flooded from the points.

    Compactness (Neubert and Protzel 2014) divides a clump without a waist half-way between the
    points.
    """
    if len(points_yx) == 1:
        return [mask]
    from scipy import ndimage
    from skimage.segmentation import watershed

    markers = np.zeros(mask.shape, np.int32)
    for i, (y, x) in enumerate(points_yx, 1):
        y, x = np.clip([int(y), int(x)], 0, np.array(mask.shape) - 1)
        markers[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = i
    flooded = watershed(-ndimage.distance_transform_edt(mask), markers, mask=mask, compactness=1)
    return [flooded == i for i in range(1, len(points_yx) + 1)]


def _hull(mask: np.ndarray) -> np.ndarray:
    from skimage.morphology import convex_hull_image

    return np.asarray(convex_hull_image(mask))


def _distance(mask: np.ndarray, point_yx: np.ndarray) -> float:
    """From a point to the nearest pixel of a mask that is not empty; 0 in the mask."""
    y, x = np.nonzero(mask)
    away = np.maximum(np.abs([y + 0.5 - point_yx[0], x + 0.5 - point_yx[1]]) - 0.5, 0)
    return float(np.hypot(*away).min())


def _largest(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    return mask if count < 2 else pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])


def _filled(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    holes, count = ndimage.label(~mask)
    outside = np.zeros(count + 1, bool)
    outside[np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])] = True
    outside[0] = False
    return ~outside[holes]


def _free(mask: np.ndarray, stain: np.ndarray) -> float:
    """Share of a mask's outline that lies against what is not stained; what the image cuts off does
    not count."""
    grown = mask.copy()
    for here, there in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        grown[here] |= mask[there]
        grown[there] |= mask[here]
    around = grown & ~mask
    return 1.0 - float(stain[around].mean()) if around.any() else 1.0
