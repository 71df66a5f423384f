"""Cells as GeoJSON, as QuPath reads it.

Coordinates are (x, y) in native pixels; pixel (0, 0) covers x and y from 0 to 1, as in QuPath.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.geometry import largest_part

#: RGB of each class, from the colour-blind safe palette of Okabe and Ito (Color Universal Design,
#: 2008).
CLASS_COLOURS = {
    "rbc": (0, 114, 178),
    "spherocyte": (213, 94, 0),
    "wbc": (0, 158, 115),
    "platelet": (204, 121, 167),
}
#: RGB of any other class.
OTHER_COLOUR = (240, 228, 66)


def class_colour(name: str) -> tuple[int, int, int]:
    """Return the RGB colour of a class."""
    return CLASS_COLOURS.get(name, OTHER_COLOUR)


def to_geojson(
    fields: Cells | Iterable[Cells], *, accepted: bool | np.ndarray = True
) -> dict[str, Any]:
    """Return a GeoJSON FeatureCollection as QuPath 0.4 and later reads it.

    Each cell is one detection with its class and its measurements. The measurement `countable` is 1
    for the cells that the score counts. The metadata are the field_id, and the exclusion_reason of
    a cell that does not count. An outline runs midway between the last pixel inside and the first
    pixel outside; the pixels whose centres lie within it are exactly the largest part of the mask.
    A cell without a pixel has its box as outline.

    Args:
        fields: the cells, one element a field.
        accepted: whether the cells of a field that passed quality control, or (N,) of a scan.

    >>> geojson = to_geojson(cells)  # doctest: +SKIP
    """
    fields = [fields] if isinstance(fields, Cells) else fields
    return {
        "type": "FeatureCollection",
        "features": [feature for cells in fields for feature in _features(cells, accepted)],
    }


def _features(cells: Cells, accepted: bool | np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the feature of each cell."""
    names, reasons = cells.names, cells.reason_in(accepted)
    for i, (whole, (y0, x0)) in enumerate(cells.pixel_masks()):
        name, mask = str(names[i]), largest_part(whole)
        numbers = {
            "confidence": cells.confidence[i],
            "p_spherocyte": cells.p_spherocyte[i],
            "countable": not reasons[i],
        }
        metadata = {"field_id": cells.field_id}
        metadata |= {"exclusion_reason": str(reasons[i])} if reasons[i] else {}
        numbers |= {key: values[i] for key, values in cells.measurements.items()}
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{cells.field_id}#{cells.cell_id[i]}")),
            "geometry": _geometry(mask, (y0, x0))
            if mask.any()
            else _box_geometry(cells.box_yxyx[i]),
            "properties": {
                "objectType": "detection",
                "name": str(cells.cell_id[i]),
                "classification": {"name": name, "color": list(class_colour(name))},
                "measurements": {
                    key: round(float(v), 6) for key, v in numbers.items() if np.isfinite(v)
                },
                "metadata": metadata,
            },
        }


def _geometry(mask: np.ndarray, origin_yx: tuple[int, int]) -> dict[str, Any]:
    """Return the outline of a mask of one part; origin_yx is the place of its first pixel."""
    from skimage.measure import find_contours

    # A 4-connected part has one outer ring and one ring a hole. GeoJSON wants the outer ring first;
    # it is the largest.
    rings = find_contours(np.pad(mask, 1), 0.5)
    rings.sort(key=lambda ring: np.prod(np.ptp(ring, axis=0)), reverse=True)
    shift = np.array(origin_yx[::-1]) - 0.5
    return {
        "type": "Polygon",
        "coordinates": [(_corners(ring)[:, ::-1] + shift).tolist() for ring in rings],
    }


def _corners(ring: np.ndarray) -> np.ndarray:
    """Return the points where a closed ring changes direction, and its first and last point."""
    steps = np.diff(ring, axis=0)
    turns = (steps[1:] != steps[:-1]).any(axis=1)
    return ring[np.concatenate([[True], turns, [True]])]


def _box_geometry(box_yxyx: np.ndarray) -> dict[str, Any]:
    """Return a box as a polygon."""
    ymin, xmin, ymax, xmax = (round(float(v), 2) for v in box_yxyx)
    # A ring without area is not a valid polygon.
    ymax, xmax = max(ymax, ymin + 0.1), max(xmax, xmin + 0.1)
    ring = [[xmin, ymin], [xmax, ymin], [xmax, ymax], [xmin, ymax], [xmin, ymin]]
    return {"type": "Polygon", "coordinates": [ring]}


__all__ = ["CLASS_COLOURS", "OTHER_COLOUR", "class_colour", "to_geojson"]
