"""Operations on boolean masks of single cells: clean, close, divide, measure. Lengths in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spherodetect.geometry import tight_box

#: Threads of stain narrower than twice this part of a diameter do not belong to a cell.
_THREAD = 0.05
#: A mask that fills less of its box than this may be the rim of a pale cell.
_SLENDER = 0.64
#: Gaps in a rim are closed up to twice this part of its longer side ...
_GAP = 0.18
#: ... if that adds at least this part of the mask's area.
_PALE = 0.1


def tidy(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask, without holes and threads.

    The edge of the array counts as the edge of the image, beyond which cells continue.
    """
    tidied = np.zeros_like(mask)
    if mask.any():
        largest = _largest(mask)
        y0, x0, y1, x1 = tight_box(largest)
        window = np.s_[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1]
        cut_sides = [(y0 == 0, y1 == mask.shape[0]), (x0 == 0, x1 == mask.shape[1])]
        tidied[window] = _opened(_bridged(filled(largest[window]), cut_sides))
    return tidied


def _bridged(mask: np.ndarray, cut_sides: Sequence[tuple[bool, bool]]) -> np.ndarray:
    """Fill the pale centre of a cell whose rim has a narrow gap, or is cut by the image's edge.

    Args:
        mask: the rim.
        cut_sides: for rows and columns, whether the image cuts the mask at the first and last.
    """
    from scipy.ndimage import distance_transform_edt

    if mask.sum() > _SLENDER * mask.size:  # no room for a pale centre
        return mask
    gap = max(1, round(_GAP * max(mask.shape)))
    closed = np.pad(mask, gap + 1)
    for axis, sides in enumerate(cut_sides):
        for side, cut in enumerate(sides):
            rows = np.moveaxis(closed, axis, 0)
            rows[: gap + 1 if side == 0 else 0] |= cut
            rows[rows.shape[0] - (gap + 1) if side else rows.shape[0] :] |= cut
    # Closing (dilation, then erosion) by distances.
    closed |= distance_transform_edt(distance_transform_edt(~closed) <= gap) > gap
    bridged = mask | filled(closed)[gap + 1 : -gap - 1, gap + 1 : -gap - 1]
    return bridged if bridged.sum() > (1 + _PALE) * mask.sum() else mask


def _opened(mask: np.ndarray) -> np.ndarray:
    """Morphological opening, unless it removes most of the mask.

    Distances are faster than a structuring element.
    """
    from scipy.ndimage import distance_transform_edt

    radius = round(_THREAD * 2 * np.sqrt(mask.sum() / np.pi))
    core = distance_transform_edt(np.pad(mask, radius + 1, mode="edge")) > radius
    if radius < 1 or not core.any():
        return mask
    inner = np.s_[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
    opened = _largest(distance_transform_edt(~core)[inner] <= radius)
    return opened if 2 * opened.sum() > mask.sum() else mask


def divide(mask: np.ndarray, points_yx: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One mask for each point: the watershed of the distance transform, flooded from the points.

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


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull of a mask that is not empty."""
    from skimage.morphology import convex_hull_image

    return np.asarray(convex_hull_image(mask))


def distance_to(mask: np.ndarray, point_yx: np.ndarray) -> float:
    """The distance of a point to the nearest pixel of a mask that is not empty; 0 within it."""
    y, x = np.nonzero(mask)
    away = np.maximum(np.abs([y + 0.5 - point_yx[0], x + 0.5 - point_yx[1]]) - 0.5, 0)
    return float(np.hypot(*away).min())


def filled(mask: np.ndarray) -> np.ndarray:
    """The mask without its holes."""
    from scipy import ndimage

    gaps, count = ndimage.label(~mask)
    is_outside = np.zeros(count + 1, bool)
    is_outside[np.concatenate([gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]])] = True
    is_outside[0] = False
    return ~is_outside[gaps]


def free_outline(mask: np.ndarray, stain: np.ndarray) -> float:
    """The fraction of a mask's outline, 0 to 1, that borders on unstained pixels.

    Outline at the edge of the array is not counted.
    """
    grown = mask.copy()
    for here, there in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        grown[here] |= mask[there]
        grown[there] |= mask[here]
    around = grown & ~mask
    return 1.0 - float(stain[around].mean()) if around.any() else 1.0


def _largest(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    return mask if count < 2 else pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
