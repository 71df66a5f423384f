"""Measure the cells of a field, and relate them to the red cells of the field or the patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.errors import BadImageError
from spherodetect.measure.pallor import profiles, shrunk
from spherodetect.measure.shape import RING_PX, shapes
from spherodetect.photograph import Photograph, as_photograph

#: The measurements, in the order of cells.csv.
MEASUREMENTS = (
    "x_px", "y_px", "area_px", "diameter_px", "diameter_um", "relative_diameter",
    "circularity", "solidity", "aspect_ratio",
    "perimeter_px", "major_axis_px", "minor_axis_px", "integrated_od", "nearest_px",
    "pallor_fraction", "center_rim_ratio", "mean_od", "relative_od",
)  # fmt: skip

#: Number of pixels in one batch of masks: about 30 MB of temporary arrays.
_BATCH_PX = 1 << 20


def measure(cells: Cells, image: np.ndarray | Photograph) -> Cells:
    """The same cells with all `MEASUREMENTS`, each an (N,) float32 array.

    Args:
        cells: the cells of one field, with masks.
        image: (H, W, 3) uint8, the field itself, in the size that cells.image_size_hw states.

    Raises:
        BadImageError: the image is not uint8 RGB of that size.

    >>> no_cells = Cells.empty(field_id="a", image_size_hw=(8, 8))
    >>> measure(no_cells, np.zeros((8, 8, 3), np.uint8)).measurements["area_px"]
    array([], dtype=float32)
    """
    photograph = as_photograph(image)
    pixels = photograph.image
    if pixels.dtype != np.uint8 or pixels.shape != (*cells.image_size_hw, 3):
        raise BadImageError(
            f"{cells.field_id!r}: expected a uint8 image of shape {(*cells.image_size_hw, 3)}, "
            f"got {pixels.dtype} of shape {pixels.shape}; "
            "pass the image in which the cells were found"
        )
    columns = {name: np.full(len(cells), np.nan) for name in MEASUREMENTS}
    if len(cells):
        windows = list(cells.pixel_masks())
        masks = [mask for mask, _ in windows]
        corners = np.array([corner for _, corner in windows], float)
        green = photograph.green
        ods = [green[y : y + m.shape[0], x : x + m.shape[1]] for m, (y, x) in windows]
        # An empty mask divides by zero, which gives the NaN that it should have.
        with np.errstate(divide="ignore", invalid="ignore"):
            for rows, stack, od in _batches(masks, ods):
                for name, values in shapes(stack).items():
                    columns[name][rows] = values
                columns["integrated_od"][rows] = (stack * od).sum(2).sum(1, dtype=float)
            columns["mean_od"] = columns["integrated_od"] / columns["area_px"]
            columns["integrated_od"] += 0 * columns["area_px"]  # NaN for an empty mask
            small = [shrunk(mask, od) for mask, od in zip(masks, ods, strict=True)]
            for rows, stack, od in _batches(*zip(*small, strict=True)):
                for name, values in profiles(stack > 0, od).items():
                    columns[name][rows] = values
            columns["y_px"] += corners[:, 0]
            columns["x_px"] += corners[:, 1]
        columns["nearest_px"] = _nearest(columns["y_px"], columns["x_px"])
    if cells.um_per_px:
        columns["diameter_um"] = columns["diameter_px"] * cells.um_per_px
    measured = {name: values.astype(np.float32) for name, values in columns.items()}
    measurements = {**cells.measurements, **measured}
    return relative_to_patient([replace(cells, measurements=measurements)])[0]


def relative_to_patient(fields: Sequence[Cells]) -> list[Cells]:
    """The measured fields of a patient with relative_diameter and relative_od of the whole patient.

    Size and density are evidence for a spherocyte only in relation to the patient's own red cells.
    A single field has too few of these if spherocytes are frequent. The reference is the median
    over the countable red cells of all fields. Diameters are compared in µm if each field has a
    pixel size, else in pixels.

    Args:
        fields: measured cells, one item a field.
    """
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
    """The median over the countable red cells of all fields, or NaN if there are none."""
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
    """Batches of windows of similar size; empty masks are left out.

    Yields:
        rows: (B,) indices of the masks.
        stack: (B, S, S) float32 masks with a ring of zeros.
        od: (B, S, S) float32 optical densities in the same windows.
    """
    sides = np.array([max(mask.shape) if mask.size else 0 for mask in masks])
    order = np.argsort(sides, kind="stable")
    order = order[sides[order] > 0]
    while len(order):
        # Windows up to 1.5 times the smallest one are padded to the largest of them.
        smallest = sides[order[0]]
        largest = sides[order[np.searchsorted(sides[order], 1.5 * smallest + 4, "right") - 1]]
        size = largest + 2 * RING_PX
        take = min(
            np.searchsorted(sides[order], size - 2 * RING_PX, "right"), max(1, _BATCH_PX // size**2)
        )
        rows, order = order[:take], order[take:]
        stack, od = np.zeros((2, take, size, size), np.float32)
        for i, row in enumerate(rows):
            height, width = masks[row].shape
            window = i, slice(RING_PX, RING_PX + height), slice(RING_PX, RING_PX + width)
            stack[window], od[window] = masks[row], ods[row]
        yield rows, stack, od


def _nearest(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N,) distances to the nearest other centroid; NaN for a cell without centroid or alone."""
    from scipy.spatial import KDTree

    nearest = np.full(len(y), np.nan)
    known = np.flatnonzero(np.isfinite(y + x))
    if len(known) > 1:
        points = np.stack([y[known], x[known]], axis=1)
        nearest[known] = KDTree(points).query(points, k=2)[0][:, 1]
    return nearest
