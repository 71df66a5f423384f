"""The overlays of a page: small JPEG pictures that stay within a size all together."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence

from PIL import Image

from spherodetect.examined import Examined
from spherodetect.report.page import encoded

#: Bytes of all overlays of a page together, before base64 adds a third.
MAX_OVERLAY_BYTES = 4_500_000
#: Widths that are tried, until all overlays together are small enough.
_WIDTHS_PX = (1280, 1000, 800, 640, 480, 360, 240)


def overlay_uris(fields: Sequence[Examined]) -> list[str | None]:
    """Return each field's overlay as a data URI, or None if the field has none.

    All have the largest width at which they stay within MAX_OVERLAY_BYTES together, or the smallest
    width.

    Raises:
        SpherodetectError: a picture cannot be read.
    """
    shown = [field for field in fields if field.overlay is not None]
    data: list[bytes] = []
    for width in _WIDTHS_PX:
        data = []
        for field in shown:  # one picture in memory at a time
            data.append(_overlay(field, width))
            if sum(map(len, data)) > MAX_OVERLAY_BYTES and width > _WIDTHS_PX[-1]:
                break
        else:
            break
    uris = iter([f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for one in data])
    return [None if field.overlay is None else next(uris) for field in fields]


def _overlay(field: Examined, width: int) -> bytes:
    """Return the overlay as JPEG without its legend, whose letters would be too small."""
    assert field.overlay is not None
    with contextlib.ExitStack() as opened:
        picture = field.overlay_image or opened.enter_context(
            Image.open(field.overlay, formats=("PNG",))
        )
        height_px, width_px = field.cells.image_size_hw
        box = (
            0,
            0,
            picture.width,
            min(picture.height, round(picture.width * height_px / width_px)),
        )
        return encoded(picture.crop(box), "JPEG", width=width)


__all__ = ["MAX_OVERLAY_BYTES", "overlay_uris"]
