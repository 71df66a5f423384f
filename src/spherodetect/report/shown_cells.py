"""The cells that a report shows, with their pictures.

Flagged cells, which the model called spherocytes, are shown in pairs: next to each is the most
similar cell that was not flagged. The reader can thus see what the model distinguishes. Only
counted cells are shown: countable cells of fields that passed quality control.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from spherodetect.cells import Cells
from spherodetect.examined import Examined
from spherodetect.fields.image import read_image
from spherodetect.fields.scan import LARGE_PIXELS, Pixels, Region, Scan, is_scan
from spherodetect.report.crops import crop_gallery

#: Measurements that define the distance between two cells. Each is divided by its standard
#: deviation among the patient's counted cells.
_COMPARED = ("relative_diameter", "center_rim_ratio", "pallor_fraction", "relative_od")
_CROP_PX = 128


class Place(NamedTuple):
    """A cell, as the index of its field and its index in the field, both from 0."""

    field: int
    cell: int


@dataclass(frozen=True, eq=False)
class ShownCell:
    """A cell with its picture and measurements, as a page shows it; NaN where not measured.

    Attributes:
        field_id, cell_id: as in cells.csv.
        picture: the cell in the middle; all pictures of a patient have one scale. None if there is
            no photograph.
        p: p_spherocyte.
        diameter_um: NaN if the pixel size is not known.
        diameter_px, relative_diameter, pallor_fraction, center_rim_ratio, relative_od: see
        `measure`.
    """

    field_id: str
    cell_id: int
    picture: Image.Image | None
    p: float
    diameter_um: float
    diameter_px: float
    relative_diameter: float
    pallor_fraction: float
    center_rim_ratio: float
    relative_od: float


class Gallery(NamedTuple):
    """The cells that a report shows.

    Attributes:
        flagged: the flagged cells of highest p_spherocyte, each with the most similar cell that
            was not flagged, or None.
        unflagged: the cells of highest p_spherocyte that were not flagged, the highest first.
        every_flagged: all flagged cells, that of lowest p_spherocyte first; of more than
            `n_every`, those of lowest p_spherocyte.
        n_left_out: number of flagged cells that are not in every_flagged.
        cut: the lowest p_spherocyte of a flagged cell and the highest of another one, or None.
    """

    flagged: Sequence[tuple[ShownCell, ShownCell | None]]
    unflagged: Sequence[ShownCell]
    every_flagged: Sequence[ShownCell]
    n_left_out: int
    cut: tuple[float | None, float | None]

    def every(self) -> list[ShownCell]:
        """Return all cells that are shown; a cell may come more than once."""
        pairs = [one for pair in self.flagged for one in pair if one is not None]
        return [*pairs, *self.unflagged, *self.every_flagged]


def gallery(
    fields: Sequence[Examined], *, n_flagged: int, n_unflagged: int, n_every: int
) -> Gallery:
    """Choose the cells of a patient and cut out their pictures; each photograph is read once.

    Args:
        fields: all fields of the patient.
        n_flagged: how many flagged cells to show at most beside a similar one.
        n_unflagged: how many other cells to show at most, besides those of the pairs.
        n_every: how many flagged cells to show at most in all.
    """
    places = [
        Place(i, int(k)) for i, field in enumerate(fields) for k in np.flatnonzero(field.counted)
    ]
    flagged = np.concatenate(
        [np.zeros(0, bool), *(field.flagged[field.counted] for field in fields)]
    )
    p = np.concatenate(
        [np.zeros(0), *(field.cells.p_spherocyte[field.counted] for field in fields)]
    )
    descending = np.argsort(-np.nan_to_num(p), kind="stable")
    by_p = [int(i) for i in descending if flagged[i]]
    shown, every = by_p[:n_flagged], by_p[::-1][:n_every]
    others = np.flatnonzero(~flagged)
    similar = _most_similar(_features(fields, places), shown, others)
    nearest = [int(i) for i in descending if not flagged[i]][:n_unflagged]
    chosen = {i for i in [*shown, *every, *nearest, *similar] if i is not None}
    cells = dict(zip(chosen, _shown(fields, [places[i] for i in chosen]), strict=True))
    return Gallery(
        [(cells[i], None if k is None else cells[k]) for i, k in zip(shown, similar, strict=True)],
        [cells[i] for i in nearest],
        [cells[i] for i in every],
        len(by_p) - len(every),
        (float(p[by_p[-1]]) if by_p else None, float(p[nearest[0]]) if nearest else None),
    )


def _features(fields: Sequence[Examined], places: Sequence[Place]) -> np.ndarray:
    """Return (M, 4) the compared measurements over their standard deviation, with NaN."""
    values = np.array([[_measured(fields, place, name) for name in _COMPARED] for place in places])
    values = values.reshape(-1, len(_COMPARED))
    if not len(values):
        return values
    # A column without any value gets zeros, because NumPy warns of the deviation of nothing.
    spread = np.nanstd(np.where(np.isfinite(values).any(axis=0), values, 0.0), axis=0)
    return values / np.where(spread > 0, spread, 1)


def _most_similar(
    features: np.ndarray, shown: Sequence[int], others: np.ndarray
) -> list[int | None]:
    """Return the nearest of the other cells for each shown cell; None if none is left.

    No cell is chosen twice. The shown cells choose in order, so the first has the widest choice.
    """
    left = [int(i) for i in others if np.isfinite(features[i]).all()]
    chosen: list[int | None] = []
    for i in shown:
        distance = np.linalg.norm(features[left] - features[i], axis=1) if left else np.zeros(0)
        if not left or np.isnan(distance).all():
            chosen.append(None)
        else:
            chosen.append(left.pop(int(np.nanargmin(distance))))
    return chosen


def _measured(fields: Sequence[Examined], place: Place, name: str) -> float:
    """Return a measurement of a cell, or NaN."""
    values: Mapping[str, np.ndarray] = fields[place.field].cells.measurements
    return float(values[name][place.cell]) if name in values else math.nan


def _shown(fields: Sequence[Examined], places: Sequence[Place]) -> Iterable[ShownCell]:
    """Yield the cells at these places, in order."""
    pictures = _pictures(fields, places)
    for place in places:
        cells = fields[place.field].cells
        diameter_px = _measured(fields, place, "diameter_px")
        yield ShownCell(
            cells.field_id,
            int(cells.cell_id[place.cell]),
            pictures.get(place),
            float(cells.p_spherocyte[place.cell]),
            diameter_px * (cells.um_per_px or math.nan),
            diameter_px,
            *(
                _measured(fields, place, n)
                for n in ("relative_diameter", "pallor_fraction", "center_rim_ratio", "relative_od")
            ),
        )


def _pictures(fields: Sequence[Examined], places: Iterable[Place]) -> dict[Place, Image.Image]:
    """Return the pictures, all at one scale, of the cells whose photograph is known."""
    diameters = [field.cells.rbc_diameter_px for field in fields if field.cells.rbc_diameter_px]
    window = 2 * float(np.median(diameters)) if diameters else None
    rows: dict[int, list[int]] = {}
    for place in places:
        rows.setdefault(place.field, []).append(place.cell)
    pictures: dict[Place, Image.Image] = {}
    for i, mine in rows.items():
        if fields[i].image is not None:
            chosen = fields[i].cells[np.array(mine)]
            crops = cell_pictures(fields[i], chosen, window_px=window, size_px=_CROP_PX)
            pictures |= {Place(i, k): crop for k, crop in zip(mine, crops, strict=True)}
    return pictures


def cell_pictures(
    field: Examined, cells: Cells, *, window_px: float | None, size_px: int
) -> list[Image.Image]:
    """One square picture of each cell of a field that has a photograph.

    Args:
        field: its photograph is read unless it is in memory.
        cells: some of its cells.
        window_px: side of the square in pixels of the photograph; None for twice a cell's size.
        size_px: side of the pictures.

    Raises:
        SpherodetectError: the photograph cannot be read.
    """
    path = field.image
    assert path is not None
    usual = 2 * float(np.median(cells.box_yxyx[:, 2:] - cells.box_yxyx[:, :2]))
    if is_scan(path):
        with Scan(path) as scan:
            return _cut_out(scan, cells, window_px or usual, size_px)
    photograph = field.photograph
    image = read_image(path) if photograph is None else photograph.image
    if image.shape[0] * image.shape[1] > LARGE_PIXELS:
        return _cut_out(Pixels(image), cells, window_px or usual, size_px)
    return crop_gallery(image, cells, window_px=window_px, size_px=size_px)


def _cut_out(region: Region, cells: Cells, window_px: float, size_px: int) -> list[Image.Image]:
    """The pictures of cells of a large image, of which only their surroundings are read."""
    low, high = cells.box_yxyx[:, :2], cells.box_yxyx[:, 2:]
    crops, reach = [], int(window_px) + 2
    for k, center in enumerate(((low + high) / 2).astype(int)):
        y0, x0 = np.maximum(center - reach, 0).tolist()
        y1, x1 = np.minimum(center + reach, region.size_hw).tolist()
        here = cells[k : k + 1].moved((-y0, -x0), (y1 - y0, x1 - x0))
        window = region.read((y0, x0, y1, x1))
        crops += crop_gallery(window, here, window_px=window_px, size_px=size_px)
    return crops
