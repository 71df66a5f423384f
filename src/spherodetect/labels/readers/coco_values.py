"""Checks of single values in COCO: ids, sizes, boxes and outlines.

A COCO box is (x, y, width, height), a polygon the list x, y, x, y, ...; both become (y, x) order
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spherodetect.geometry import polygon_area
from spherodetect.rle import RunLengthMask, read_rle
from spherodetect.safety import quoted

#: Limits of ids and category names, and of file names, in characters.
ID_LIMIT, PATH_LIMIT = 200, 1000
MAX_SIDE_PX = 100_000
#: No label lies further than this from the image.
_FAR_PX = 1e6


def is_id(value: object) -> bool:
    """Whether a value can be an id: a whole number or a short text."""
    if isinstance(value, str):
        return 0 < len(value) <= ID_LIMIT
    return type(value) is int and abs(value) < 2**63


def size_hw(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """The height and width that an image entry states; None if they are no counts of pixels."""
    height, width = (entry.get(side, 0) for side in ("height", "width"))
    if _is_side(height) and _is_side(width):
        return int(height), int(width)
    return None


def _is_side(value: Any) -> bool:
    return type(value) in (int, float) and 1 <= value <= MAX_SIDE_PX and value == int(value)


def box_of(value: Any) -> tuple[float, float, float, float] | None:
    """(ymin, xmin, ymax, xmax) of a `bbox`; None if there is none or it has no area.

    Raises:
        ValueError: something else than four numbers x, y, width, height.
    """
    if value is None or value == []:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_coordinate, value)):
        raise ValueError("expected bbox as four finite numbers x, y, width, height")
    x, y, width, height = map(float, value)
    if width < 0 or height < 0:
        raise ValueError("expected a bbox of positive width and height")
    return (y, x, y + height, x + width) if width > 0 and height > 0 else None


def is_crowd(value: Any) -> bool:
    """Whether an `iscrowd` flag is set; tools also write it as text, or null.

    Raises:
        ValueError: something else than 0 or 1.
    """
    text = str(value).strip().lower()
    if text in {"0", "0.0", "false", "none", "null", ""}:
        return False
    if text in {"1", "1.0", "true"}:
        return True
    raise ValueError(f"expected iscrowd as 0 or 1, got {quoted(text)}")


def outline_of(
    value: Any, image_size_hw: tuple[int, int]
) -> tuple[list[np.ndarray], RunLengthMask | None, bool]:
    """Polygons or a mask of a `segmentation`, and whether some part of it has no area.

    Raises:
        ValueError: neither polygons nor run lengths of the image's size.
    """
    if value is None or value == []:
        return [], None, False
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]  # a run-length mask within a list
    if isinstance(value, dict):
        mask = read_rle(value, image_size_hw)
        return [], (mask if mask.area_px else None), not mask.area_px
    # A single polygon may come without the list of polygons around it.
    parts = [value] if isinstance(value, list) and not isinstance(value[0], list) else value
    if not isinstance(parts, list):
        raise ValueError("expected segmentation as polygons or a run-length mask")
    polygons = list(_polygons(parts))
    return polygons, None, len(polygons) < len(parts)


def _polygons(parts: list[Any]) -> Iterator[np.ndarray]:
    for part in parts:
        if isinstance(part, list) and all(isinstance(p, list) and len(p) == 2 for p in part):
            part = [coordinate for point in part for coordinate in point]  # points as pairs
        if not isinstance(part, list) or len(part) % 2 or not all(map(_is_coordinate, part)):
            raise ValueError("expected a polygon as finite numbers x, y, x, y, ...")
        polygon = np.array(part, np.float64).reshape(-1, 2)[:, ::-1]
        if polygon_area(polygon) > 0:
            yield polygon


def _is_coordinate(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_FAR_PX <= value <= _FAR_PX
