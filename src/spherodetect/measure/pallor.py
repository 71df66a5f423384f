"""Central pallor of cells, computed for a batch of masks at once.

A batch is (B, S, S), square windows with a ring of zeros around each mask.
"""

from __future__ import annotations

import numpy as np

#: A larger cell is averaged in blocks before its radial profile is measured. More pixels cost time
#: and add no precision.
_PROFILE_PX = 64


def profiles(inside: np.ndarray, od: np.ndarray) -> dict[str, np.ndarray]:
    """Pallor fraction and centre over rim of each cell, as the package's text defines them.

    Args:
        inside: (B, S, S) bool masks.
        od: (B, S, S) float32 optical densities.

    Returns:
        (B,) float64 arrays by the name of the measurement; NaN for a cell without a stained rim.
    """
    distance = np.sqrt(_squared_depth(inside), dtype=float)
    depth = distance / distance.max(axis=(1, 2), keepdims=True)
    rim = _percentile(od, (depth > 0.2) & (depth < 0.5), 75)
    rim[rim <= 0] = np.nan  # an unstained outline has no rim to compare with
    inner, centre = depth > 0.15, depth > 0.75
    pale = np.count_nonzero(inner & (od < 0.7 * rim[:, None, None]), axis=(1, 2)) + 0 * rim
    return {
        "pallor_fraction": pale / np.count_nonzero(inner, axis=(1, 2)),
        "center_rim_ratio": (od * centre).sum(2).sum(1, dtype=float)
        / np.count_nonzero(centre, axis=(1, 2))
        / rim,
    }


def _squared_depth(inside: np.ndarray) -> np.ndarray:
    """(B, S, S) int16 squared distances to the outside of masks in rings of zeros, for S < 256.

    This is the exact Euclidean distance transform, first along columns and then along rows (after
    Felzenszwalb and Huttenlocher 2012, doi 10.4086/toc.2012.v008a019). The second pass compares all
    offsets up to the largest distance, which for small cells is faster on a whole batch than their
    lower envelope of parabolas, one row at a time.
    """
    mask = np.moveaxis(inside, 0, -1).astype(np.int16, order="C")
    # The number of mask pixels in a row above each pixel, and in the turned mask below it.
    away = np.stack([mask, mask[::-1]], axis=1)
    for row in range(1, len(away)):
        away[row] *= away[row - 1] + np.int16(1)
    vertical = np.minimum(away[:, 0], away[::-1, 1])
    squared, reach = vertical**2, vertical.max()
    vertical *= vertical
    # No pixel is nearer at an offset beyond the largest vertical distance.
    for step in range(1, reach):
        aside = vertical + np.int16(step**2)
        np.minimum(squared[:, step:], aside[:, :-step], out=squared[:, step:])
        np.minimum(squared[:, :-step], aside[:, step:], out=squared[:, :-step])
    return np.ascontiguousarray(np.moveaxis(squared, -1, 0))


def shrunk(mask: np.ndarray, od: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mask and optical density of a large cell, averaged in square blocks.

    The side of a block is odd, and the blocks are centred on the window. So they lie in the same
    way as seen from each side, and a quarter turn of the cell changes no measurement. A small cell
    is returned as it is.

    Args:
        mask: (h, w) bool.
        od: (h, w) float32.
    """
    block = 2 * (max(mask.shape, default=0) // (2 * _PROFILE_PX)) + 1
    if block == 1:
        return mask, od
    pads = []
    for length in mask.shape:
        n = -(-length // block)
        n += (n * block - length) % 2
        pads.append(((n * block - length) // 2,) * 2)
    weight, stain = (np.pad(a.astype(np.float32), pads) for a in (mask, od * mask))
    blocks = (weight.shape[0] // block, block, weight.shape[1] // block, block)
    covered, total = weight.reshape(blocks).sum((1, 3)), stain.reshape(blocks).sum((1, 3))
    return covered > block**2 / 2, total / np.maximum(covered, 1)


def _percentile(values: np.ndarray, chosen: np.ndarray, percent: float) -> np.ndarray:
    """(B,) linearly interpolated percentiles of the chosen values; NaN where none is chosen.

    Values that are not chosen are sorted to the end as infinity, so that the whole batch is sorted
    at once.

    Args:
        values: (B, S, S).
        chosen: (B, S, S) bool.
        percent: 0 to 100.
    """
    ordered = np.sort(np.where(chosen, values, np.inf).reshape(len(values), -1), axis=1)
    last = np.count_nonzero(chosen, axis=(1, 2)) - 1
    rank = last * percent / 100
    low = np.floor(rank).astype(int)
    cell = np.arange(len(values))
    below, above = (ordered[cell, k].astype(float) for k in (low, np.minimum(low + 1, last)))
    return np.where(last >= 0, below + (rank - low) * (above - below), np.nan)
