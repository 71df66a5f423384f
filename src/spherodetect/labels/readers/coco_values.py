"""Checks of single values in COCO: ids, sizes, boxes and outlines.

A COCO box is (x, y, width, height), a polygon the list x, y, x, y, ...; both become (y, x) order
here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spherodetect.geometry import polygon_area
from spherodetect.rle import RunLengthMask, read_rle
from spherodetect.safety import quoted

#: Limits of ids and category names, and of file names, in characters.
ID_LIMIT, PATH_LIMIT = 200, 1000
MAX_SIDE_PX = 100_000
#: A stated box may be rounded to whole pixels on either side of its mask.
_ROUNDED_PX = 1.5
#: Parts of their boxes that a mask read in the wrong order, and one in the right order, fill.
_SCATTERED, _COMPACT = 0.3, 0.5
#: No label lies further than this from the image.
_FAR_PX = 1e6


def id_of(value: object) -> int | str | None:
    """An id in one form, or None for a value that can be no id.

    Tools write the same id as 1, 1.0 and "1"; all three are the number 1 here.

    >>> id_of(1.0), id_of("1"), id_of("01"), id_of(None)
    (1, 1, '01', None)
    """
    if isinstance(value, str) and 0 < len(value) <= ID_LIMIT:
        is_number = value.isascii() and value.isdecimal() and len(value) < 19
        return int(value) if is_number and str(int(value)) == value else value
    if type(value) is float and abs(value) < 2**53 and value == int(value):
        return int(value)
    return value if type(value) is int and abs(value) < 2**63 else None


def described(value: object) -> str:
    """The type of a value of JSON, for a message.

    >>> described(None), described([1]), described("a"), described(float("nan"))
    ('null', 'a list', 'text', 'NaN or infinity')
    """
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN or infinity"
    names = {bool: "true or false", str: "text", list: "a list", dict: "keys and values"}
    return names.get(type(value), "a number")


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


def by_rows(mask: RunLengthMask, stated: tuple[float, ...] | None) -> RunLengthMask | None:
    """The mask read along rows instead of columns, if only that makes sense; else None.

    The stated box tells. Without one that fits, the shape does: lengths that are read in the wrong
    order give lines that are scattered over the whole image.
    """
    box = mask.box_yxyx()
    if box is None or (stated is not None and is_near(box, stated)):
        return None
    # A cell fills at least half of its box.
    is_scattered = _fill(mask) < _SCATTERED
    if stated is None and not is_scattered:
        return None
    other = mask.read_by_rows()
    row_box = other.box_yxyx()
    if row_box is None:
        return None
    fits = stated is not None and is_near(row_box, stated)
    return other if fits or (is_scattered and _fill(other) > _COMPACT) else None


def is_near(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes are equal but for rounding to whole pixels."""
    return max(abs(a - b) for a, b in zip(box, other, strict=True)) <= _ROUNDED_PX


def _fill(mask: RunLengthMask) -> float:
    """The part of its box that a mask fills."""
    y0, x0, y1, x1 = mask.box_yxyx() or (0, 0, 1, 1)
    return mask.area_px / ((y1 - y0) * (x1 - x0))


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
