"""Size and outline of cells, computed for a batch of masks at once.

A batch is (B, S, S), square windows with a ring of at least RING_PX zeros around each mask.
"""

from __future__ import annotations

import numpy as np

#: Empty pixels around each mask in a batch: the knight's move of Crofton's formula reaches two
#: pixels away.
RING_PX = 2
#: Number of directions in which the convex hull is touched. The hull of a disc is 0.08 % too large.
_HULL_DIRECTIONS = 64


def shapes(stack: np.ndarray) -> dict[str, np.ndarray]:
    """Size and outline of each mask; positions are relative to the corner of the mask.

    Args:
        stack: (B, S, S) float32 of 0 and 1.

    Returns:
        (B,) float64 arrays by the name of the measurement; all are NaN for an empty mask.
    """
    at = np.arange(stack.shape[1]) + 0.5 - RING_PX
    rows, columns = stack.sum(2, dtype=float), stack.sum(1, dtype=float)
    area = rows.sum(1)
    area[area == 0] = np.nan  # so that all measurements of an empty mask become NaN
    y, x = rows @ at / area, columns @ at / area
    # Central second moments. The eigenvalues of their matrix are the mean plus or minus the spread.
    # An ellipse has the second moment a^2 / 4 along its semi-axis a, so an axis is 4 sqrt(moment).
    yy, xx = rows @ at**2 / area - y**2, columns @ at**2 / area - x**2
    xy = ((stack @ at.astype(np.float32)).astype(float) @ at) / area - x * y
    spread = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    major, minor = (4 * np.sqrt(np.maximum((yy + xx) / 2 + sign * spread, 0)) for sign in (1, -1))
    perimeter = _crofton_perimeter(stack) + 0 * area
    return {
        "x_px": x,
        "y_px": y,
        "area_px": area,
        "diameter_px": 2 * np.sqrt(area / np.pi),
        "perimeter_px": perimeter,
        "circularity": 4 * np.pi * area / perimeter**2,
        "solidity": np.minimum(area / _hull_area(stack > 0), 1),
        "major_axis_px": major,
        "minor_axis_px": minor,
        "aspect_ratio": minor / major,
    }


def _crofton_perimeter(stack: np.ndarray) -> np.ndarray:
    """(B,) perimeters of masks of 0 and 1, by Crofton's formula.

    The perimeter is pi / 2 times the mean, over all directions, of the number of crossings of the
    outline with parallel lines times the spacing of the lines. Eight directions are used: those of
    the queen and of the knight in chess. Each has the weight of the angles that are nearest to it.
    After Legland, Kiêu and Devaux (2007), Computation of Minkowski measures on 2D and 3D binary
    images, doi 10.5566/ias.v26.p83-92. A count of edge pixels would depend on the direction of the
    outline by up to 40 %.
    """
    size = stack.shape[1]
    flat = stack.reshape(-1, size**2)
    area = flat.sum(1)

    def crossings(down: int, right: int) -> np.ndarray:
        """The number of crossings on all lines with this step.

        A line crosses the outline twice for each pixel whose next pixel on the line is outside. In
        the flattened image the step is one number: the ring of zeros separates the end of a row
        from the start of the next.
        """
        step = down * size + right
        return 2 * (area - np.einsum("bi,bi->b", flat[:, :-step], flat[:, step:])).astype(float)

    # The spacing of the lines is 1 over the length of the step: 1, 1 / sqrt(2), 1 / sqrt(5). The
    # knight's directions are arctan(1/2) from the axes and pi / 4 - arctan(1/2) from the diagonals.
    # Half of the angle to each neighbour belongs to a direction, which gives the three weights.
    knight = np.arctan(0.5)
    total = knight * (crossings(0, 1) + crossings(1, 0))
    total += (np.pi / 4 - knight) * (crossings(1, 1) + crossings(1, -1)) / np.sqrt(2)
    leaps = crossings(1, 2) + crossings(1, -2) + crossings(2, 1) + crossings(2, -1)
    return (total + np.pi / 8 * leaps / np.sqrt(5)) / 2


def _hull_area(stack: np.ndarray) -> np.ndarray:
    """(B,) areas of the convex hulls of the masks, from their support functions.

    The support function h(angle) is the largest extent of the mask in a direction. The polygon
    whose sides touch the hull in evenly spaced directions d apart has sides of the length
    (h[k-1] + h[k+1] - 2 h[k] cos d) / sin d. Its area is the sum of h times side length, halved.
    """
    size = stack.shape[1]
    step = 2 * np.pi / _HULL_DIRECTIONS
    # From -pi/2 to 3 pi/2: the first half of the directions points to the right, where the last
    # pixel of each row decides; the second half points to the left, where the first one does.
    angle = (np.arange(_HULL_DIRECTIONS) - _HULL_DIRECTIONS // 4) * step
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    at = np.arange(size, dtype=np.float32) - (size - 1) / 2
    outside = np.where(stack.any(axis=2), 0, -np.inf).astype(np.float32)[..., None]
    ends = at[size - 1 - stack[:, :, ::-1].argmax(axis=2)], at[stack.argmax(axis=2)]
    support = np.empty((len(stack), _HULL_DIRECTIONS))
    for side, end in zip(np.split(np.arange(_HULL_DIRECTIONS), 2), ends, strict=True):
        reach = end[..., None] * cos[side]
        reach += at[:, None] * sin[side] + outside
        support[:, side] = reach.max(axis=1)
    # The hull of the pixels' edge midpoints: their centres alone would give a hull that is half a
    # pixel too small on all sides, and their corners one that is too large on slanted sides.
    support += 0.5 * np.maximum(np.abs(cos), np.abs(sin))
    length = np.roll(support, 1, 1) + np.roll(support, -1, 1) - 2 * support * np.cos(step)
    return 0.5 * (support * length).sum(axis=1) / np.sin(step)
