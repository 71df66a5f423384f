"""What can be measured on every cell of a field: size, outline, central pallor and stain density.

Images are uint8 RGB (H, W, 3); masks are box-local and stay so. Lengths are in pixels of the image
and areas in square pixels, unless a name ends in _um. Positions are in the frame of the boxes: the
centre of pixel (0, 0) is (0.5, 0.5). Optical density (OD) is that of the green channel, where
haemoglobin and eosin absorb most. Whatever cannot be measured is NaN, never an error. Measurements
explain cells; they do not decide what a cell is.

    x_px, y_px          centroid of the mask
    area_px             pixels in the mask
    diameter_px, _um    diameter of the disc of equal area, 2 sqrt(A / pi); _um only where the pixel size is known
    relative_diameter   diameter_px over the median of the reference red cells
    perimeter_px        Crofton's formula in eight directions; within 1 % on discs, unlike counted edge pixels
    circularity         4 pi A / P^2, 1 for a disc
    solidity            area over the area of the convex hull
    major_px, minor_px  axes of the ellipse with the mask's second moments
    aspect_ratio        minor_px / major_px, at most 1
    pallor_fraction     of the inner cell (D > 0.15 r), the part with OD below 0.7 of the rim's
    center_rim_ratio    mean OD of the centre (D > 0.75 r) over the rim's; normal cells 0.46, spherocytes 0.90 (medians)
    mean_od             mean OD over the mask
    integrated_od       sum of OD over the mask, in OD times square pixels: the cell's amount of stain
    relative_od         mean_od over the median of the reference red cells
    nearest_px          distance to the nearest other cell's centroid

D is the distance to the outside of the mask, r the largest D, and the rim's OD is the 75th
percentile at 0.2 r < D <
0.5 r. These are the definitions under which the reference values above were found on 14,549
separate cells of Chula RBC-12 (arXiv 2012.01321). The reference red cells are the countable ones of
the field, or of the patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.errors import BadImageError
from spherodetect.photograph import Photograph, as_photograph

#: The measurements, in the order of cells.csv; the last five are extras.
MEASUREMENTS = (
    "x_px", "y_px", "area_px", "diameter_px", "diameter_um", "relative_diameter", "circularity", "solidity",
    "aspect_ratio", "pallor_fraction", "center_rim_ratio", "mean_od", "relative_od",
    "perimeter_px", "major_px", "minor_px", "integrated_od", "nearest_px",
)  # fmt: skip

_GREEN = 1
#: Beyond this size a cell gains cost but no precision in its radial profile: it is averaged in
#: blocks first.
_PROFILE_PX = 64
#: Directions in which the convex hull is touched; a disc's hull comes out 0.08 % too large.
_HULL_DIRECTIONS = 64
#: Empty pixels round each cell in a batch: the outline's steepest direction looks two pixels away.
_RING_PX = 2
#: Pixels in one batch of masks, about 30 MB of temporary arrays.
_BATCH_PX = 1 << 20


def measure(cells: Cells, image: np.ndarray | Photograph) -> Cells:
    """The same cells with everything in `MEASUREMENTS` filled in, each an (N,) float32 array.

    Args:
        cells: the cells of one field, with masks.
        image: (H, W, 3) uint8, the field itself, at the size that cells.image_size_hw states.

    Raises:
        BadImageError: the image is not uint8 RGB of that size.

    >>> measure(Cells.empty(field_id="a", image_size_hw=(8, 8)), np.zeros((8, 8, 3), np.uint8)).measurements["area_px"]
    array([], dtype=float32)
    """
    photograph = as_photograph(image)
    pixels = photograph.image
    if pixels.dtype != np.uint8 or pixels.shape != (*cells.image_size_hw, 3):
        raise BadImageError(
            f"{cells.field_id!r}: expected a uint8 image of shape {(*cells.image_size_hw, 3)}, "
            f"got {pixels.dtype} of shape {pixels.shape}; pass the image in which the cells were found"
        )
    columns = {name: np.full(len(cells), np.nan) for name in MEASUREMENTS}
    if len(cells):
        windows = list(cells.pixel_masks())
        masks = [mask for mask, _ in windows]
        corners = np.array([corner for _, corner in windows], float)
        green = photograph.green
        ods = [green[y : y + m.shape[0], x : x + m.shape[1]] for m, (y, x) in windows]
        with np.errstate(divide="ignore", invalid="ignore"):
            for rows, stack, od in _batches(masks, ods):
                for name, values in _shapes(stack).items():
                    columns[name][rows] = values
                columns["integrated_od"][rows] = (stack * od).sum(2).sum(1, dtype=float)
            columns["mean_od"] = columns["integrated_od"] / columns["area_px"]
            columns["integrated_od"] += 0 * columns["area_px"]
            small = [_shrink(mask, od) for mask, od in zip(masks, ods, strict=True)]
            for rows, stack, od in _batches(*zip(*small, strict=True)):
                for name, values in _profiles(stack > 0, od).items():
                    columns[name][rows] = values
            columns["y_px"] += corners[:, 0]
            columns["x_px"] += corners[:, 1]
        columns["nearest_px"] = _nearest(columns["y_px"], columns["x_px"])
    if cells.um_per_px:
        columns["diameter_um"] = columns["diameter_px"] * cells.um_per_px
    measured = {name: values.astype(np.float32) for name, values in columns.items()}
    return _relative([replace(cells, measurements={**cells.measurements, **measured})])[0]


def relative_to_patient(fields: Sequence[Cells]) -> list[Cells]:
    """The measured fields of one patient with relative_diameter and relative_od taken against the
    whole patient.

    Size and density are evidence for a spherocyte only against the patient's own red cells, and a
    single field has too few of them where spherocytes abound. The reference is the median over the
    countable red cells of all fields; diameters are compared in µm where every field has a pixel
    size, otherwise in pixels.
    """
    return _relative(fields)


def _relative(fields: Sequence[Cells]) -> list[Cells]:
    known = all(field.um_per_px for field in fields)
    diameters = [
        f.measurements["diameter_px"] * ((f.um_per_px or 1) if known else 1) for f in fields
    ]
    columns = {
        "relative_diameter": diameters,
        "relative_od": [f.measurements["mean_od"] for f in fields],
    }
    medians = {name: _reference(fields, values) for name, values in columns.items()}
    related = []
    for i, field in enumerate(fields):
        ratios = {
            name: (values[i] / medians[name]).astype(np.float32) for name, values in columns.items()
        }
        related.append(replace(field, measurements={**field.measurements, **ratios}))
    return related


def _reference(fields: Sequence[Cells], values: Sequence[np.ndarray]) -> float:
    """Median over the countable red cells of all fields, NaN if there are none."""
    red = list(RED_CELLS)
    chosen = [
        column[f.countable & np.isin(f.names, red)]
        for f, column in zip(fields, values, strict=True)
    ]
    known = np.concatenate(
        [column[np.isfinite(column) & (column > 0)] for column in chosen] or [np.zeros(0)]
    )
    return float(np.median(known)) if len(known) else float("nan")


def _batches(
    masks: Sequence[np.ndarray], ods: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Windows of like size: their rows, and masks and OD in (B, S, S) float32, rings of zeros
    round; no empty ones."""
    sides = np.array([max(mask.shape) if mask.size else 0 for mask in masks])
    order = np.argsort(sides, kind="stable")
    order = order[sides[order] > 0]
    while len(order):
        smallest = sides[order[0]]
        size = (
            sides[order[np.searchsorted(sides[order], 1.5 * smallest + 4, "right") - 1]]
            + 2 * _RING_PX
        )
        take = min(
            np.searchsorted(sides[order], size - 2 * _RING_PX, "right"),
            max(1, _BATCH_PX // size**2),
        )
        rows, order = order[:take], order[take:]
        stack, od = np.zeros((2, take, size, size), np.float32)
        for i, row in enumerate(rows):
            height, width = masks[row].shape
            window = i, slice(_RING_PX, _RING_PX + height), slice(_RING_PX, _RING_PX + width)
            stack[window], od[window] = masks[row], ods[row]
        yield rows, stack, od


def _shapes(stack: np.ndarray) -> dict[str, np.ndarray]:
    """Size and outline of (B, S, S) masks of 0 and 1, positions from the window's corner."""
    at = np.arange(stack.shape[1]) + 0.5 - _RING_PX
    rows, columns = stack.sum(2, dtype=float), stack.sum(1, dtype=float)
    area = rows.sum(1)
    area[area == 0] = np.nan  # and with it all that follows
    y, x = rows @ at / area, columns @ at / area
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
        "major_px": major,
        "minor_px": minor,
        "aspect_ratio": minor / major,
    }


def _crofton_perimeter(stack: np.ndarray) -> np.ndarray:
    """Perimeter of (B, S, S) masks of 0 and 1: pi / 2 times the mean over directions of crossings
    times line spacing.

    The eight directions of a chess queen and knight, each weighted by the angle nearest to it.
    After Legland, Kiêu and Devaux (2007), Computation of Minkowski measures on 2D and 3D binary
    images, doi:10.5566/ias.v26.p83-92.
    """

    size = stack.shape[1]
    flat = stack.reshape(-1, size**2)
    area = flat.sum(1)

    def crossings(down: int, right: int) -> np.ndarray:
        """Outline crossings on all lines that step so far: pixels of the mask whose next one on the
        line is outside."""
        step = (
            down * size + right
        )  # the ring of zeros parts the end of a row from the start of the next
        return 2 * (area - np.einsum("bi,bi->b", flat[:, :-step], flat[:, step:])).astype(float)

    knight = np.arctan(0.5)
    total = knight * (crossings(0, 1) + crossings(1, 0))
    total += (np.pi / 4 - knight) * (crossings(1, 1) + crossings(1, -1)) / np.sqrt(2)
    leaps = crossings(1, 2) + crossings(1, -2) + crossings(2, 1) + crossings(2, -1)
    return (total + np.pi / 8 * leaps / np.sqrt(5)) / 2


def _hull_area(stack: np.ndarray) -> np.ndarray:
    """Area of the convex hull of the pixels' edge midpoints, from the hull's support function
    h(angle).

    The polygon whose sides touch the hull in evenly spaced directions d apart has sides of length
    (h[k-1] + h[k+1] - 2 h[k] cos d) / sin d.
    """
    size = stack.shape[1]
    step = 2 * np.pi / _HULL_DIRECTIONS
    angle = (
        np.arange(_HULL_DIRECTIONS) - _HULL_DIRECTIONS // 4
    ) * step  # to the right first, then to the left
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    at = np.arange(size, dtype=np.float32) - (size - 1) / 2
    outside = np.where(stack.any(axis=2), 0, -np.inf).astype(np.float32)[..., None]
    ends = at[size - 1 - stack[:, :, ::-1].argmax(axis=2)], at[stack.argmax(axis=2)]
    support = np.empty((len(stack), _HULL_DIRECTIONS))
    for side, end in zip(np.split(np.arange(_HULL_DIRECTIONS), 2), ends, strict=True):
        reach = end[..., None] * cos[side]
        reach += at[:, None] * sin[side] + outside
        support[:, side] = reach.max(axis=1)
    support += 0.5 * np.maximum(np.abs(cos), np.abs(sin))
    length = np.roll(support, 1, 1) + np.roll(support, -1, 1) - 2 * support * np.cos(step)
    return 0.5 * (support * length).sum(axis=1) / np.sin(step)


def _profiles(inside: np.ndarray, od: np.ndarray) -> dict[str, np.ndarray]:
    """Pallor of (B, S, S) masks with their OD."""
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
    """Squared distance to the outside of (B, S, S) masks in rings of zeros, int16, S < 256; the
    whole batch at once.

    Exact, by rows and then by columns, after Felzenszwalb and Huttenlocher (2012),
    doi:10.4086/toc.2012.v008a019.
    """
    mask = np.moveaxis(inside, 0, -1).astype(np.int16, order="C")
    away = np.stack(
        [mask, mask[::-1]], axis=1
    )  # from the outside above, and turned over from that below
    for row in range(1, len(away)):
        away[row] *= away[row - 1] + np.int16(1)
    vertical = np.minimum(away[:, 0], away[::-1, 1])
    squared, reach = vertical**2, vertical.max()
    vertical *= vertical
    for step in range(1, reach):  # farther than that, nothing is nearer
        aside = vertical + np.int16(step**2)
        np.minimum(squared[:, step:], aside[:, :-step], out=squared[:, step:])
        np.minimum(squared[:, :-step], aside[:, step:], out=squared[:, :-step])
    return np.ascontiguousarray(np.moveaxis(squared, -1, 0))


def _shrink(mask: np.ndarray, od: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A large cell averaged in odd blocks that lie alike from all sides, so that a quarter turn
    changes nothing."""
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
    """(B,) linearly interpolated percentile of the chosen (B, S, S) values of each cell, NaN where
    none is chosen."""
    ordered = np.sort(np.where(chosen, values, np.inf).reshape(len(values), -1), axis=1)
    last = np.count_nonzero(chosen, axis=(1, 2)) - 1
    rank = last * percent / 100
    low = np.floor(rank).astype(int)
    cell = np.arange(len(values))
    below, above = (ordered[cell, k].astype(float) for k in (low, np.minimum(low + 1, last)))
    return np.where(last >= 0, below + (rank - low) * (above - below), np.nan)


def _nearest(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N,) distance to the nearest other centroid, NaN for a cell that has none or is alone."""
    from scipy.spatial import KDTree

    nearest = np.full(len(y), np.nan)
    known = np.flatnonzero(np.isfinite(y + x))
    if len(known) > 1:
        points = np.stack([y[known], x[known]], axis=1)
        nearest[known] = KDTree(points).query(points, k=2)[0][:, 1]
    return nearest
