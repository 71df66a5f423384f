"""Draw one field and its truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spherodetect.cells import CLASS_NAMES, Cells
from spherodetect.synthetic.bodies import Body, platelet, red_cell, white_cell
from spherodetect.synthetic.camera import photograph
from spherodetect.synthetic.checks import require
from spherodetect.synthetic.painting import paint
from spherodetect.synthetic.placement import settle
from spherodetect.synthetic.style import SmearStyle

#: Largest part of a countable cell's mask that other cells may share.
_COUNTABLE_OVERLAP = 0.05


@dataclass(frozen=True, eq=False)
class SyntheticField:
    """One drawn field and its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        cells: outlines and classes of all cells. The measurements are "diameter_um" (of the circle
            with the area of the whole cell, even if the border cuts it), "pallor" (depth of the
            central dip relative to the rim, 0 for none), "rim_od" (green OD without the dip),
            "overlap_fraction" (part of the mask's area that is shared with other cells) and "shape"
            (name of the shape). A cell is countable if it is a whole red cell with an
            overlap_fraction of at most 0.05.
        um_per_px: pixel size.
    """

    image: np.ndarray
    cells: Cells
    um_per_px: float


def draw_field(
    rng: np.random.Generator,
    *,
    size_hw: tuple[int, int] = (480, 640),
    n_cells: int = 90,
    spherocyte_fraction: float = 0.1,
    um_per_px: float | None = None,
    style: SmearStyle | None = None,
    n_platelets: int = 5,
    n_white: int = 1,
    overlap_fraction: float = 0.08,
    touching_fraction: float = 0.12,
    field_id: str = "synthetic",
) -> SyntheticField:
    """One field of `n_cells` red cells, round(spherocyte_fraction * n_cells) of them spherocytes.

    Args:
        rng: source of all random numbers.
        size_hw: height and width in pixels.
        n_cells: number of red cells.
        spherocyte_fraction: share of spherocytes among them.
        um_per_px: pixel size in µm; by default that of the style.
        style: the smear and the microscope.
        n_platelets: number of platelets.
        n_white: number of white cells.
        overlap_fraction: share of the red cells that overlap another one.
        touching_fraction: share of the red cells that touch another one. All other cells keep a
            gap, as long as there is room.
        field_id: name of the field.

    Raises:
        ValueError: an argument is out of range.

    >>> drawn = draw_field(np.random.default_rng(7), n_cells=40, spherocyte_fraction=0.25)
    >>> int((drawn.cells.names == "spherocyte").sum())
    10
    """
    style = style or SmearStyle()
    if um_per_px is not None:
        style = replace(style, um_per_px=um_per_px)
    for name, count in (("n_cells", n_cells), ("n_platelets", n_platelets), ("n_white", n_white)):
        require(name, count, 0, 20_000, whole=True)
    for side in size_hw:
        require("size_hw", side, 16, 20_000, whole=True)
    for name, share in (
        ("spherocyte_fraction", spherocyte_fraction),
        ("overlap_fraction", overlap_fraction),
        ("touching_fraction", touching_fraction),
    ):
        require(name, share, 0, 1)

    n_spherocytes = round(spherocyte_fraction * n_cells)
    names, shares = list(style.shape_shares), np.array(list(style.shape_shares.values()), float)
    others = rng.choice(names, n_cells - n_spherocytes, p=shares / shares.sum()).tolist()
    bodies = [
        red_cell(rng, str(shape), style)
        for shape in rng.permutation(["spherocyte"] * n_spherocytes + others)
    ]
    bodies += [white_cell(rng, style) for _ in range(n_white)] + [
        platelet(rng, style) for _ in range(n_platelets)
    ]
    centres = settle(rng, bodies, n_cells, size_hw, style, overlap_fraction, touching_fraction)

    density, halo = np.zeros((*size_hw, 3), np.float32), np.zeros(size_hw, np.float32)
    masks_and_boxes = [
        paint(rng, density, halo, body, at, style) for body, at in zip(bodies, centres, strict=True)
    ]
    image = photograph(rng, density ** (1 / style.overlap_power) - halo[..., None], style)
    return SyntheticField(
        image, _truth(bodies, masks_and_boxes, size_hw, style, field_id), style.um_per_px
    )


def _truth(
    bodies: list[Body],
    masks_and_boxes: list[tuple[np.ndarray, np.ndarray]],
    size_hw: tuple[int, int],
    style: SmearStyle,
    field_id: str,
) -> Cells:
    """The cells of a field with the measurements that `SyntheticField` describes."""
    layers = np.zeros(size_hw, np.int32)
    for mask, (y0, x0, y1, x1) in masks_and_boxes:
        layers[y0:y1, x0:x1] += mask
    shared = np.array(
        [(layers[y0:y1, x0:x1][m] > 1).mean() for m, (y0, x0, y1, x1) in masks_and_boxes],
        np.float32,
    )
    cells = Cells.from_labels(
        np.array([box for _, box in masks_and_boxes]),
        np.array([CLASS_NAMES.index(b.class_name) + 1 for b in bodies]),
        [mask for mask, _ in masks_and_boxes],
        image_size_hw=(int(size_hw[0]), int(size_hw[1])),
        field_id=field_id,
        um_per_px=style.um_per_px,
    )
    measurements = {
        "diameter_um": np.array([b.diameter_um for b in bodies], np.float32),
        "pallor": np.array([b.pallor for b in bodies], np.float32),
        "rim_od": np.array([b.rim_od for b in bodies], np.float32),
        "overlap_fraction": shared,
        "shape": np.array([b.shape for b in bodies], object),
    }
    return replace(
        cells, countable=cells.countable & (shared <= _COUNTABLE_OVERLAP), measurements=measurements
    )
