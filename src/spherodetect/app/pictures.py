"""The pictures that browsers get: fields and crops, as JPEG without any metadata."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from PIL import Image

from spherodetect.app.project import Project
from spherodetect.app.store.fields import FieldRow
from spherodetect.app.store.objects import ObjectRow, objects_by_id
from spherodetect.cells import Cells
from spherodetect.report.crops import crop_gallery
from spherodetect.report.outlines import Style, draw_outline

COLUMNS = 10
_QUALITY = 92
_GREY = (235, 235, 235)
_KEPT_BYTES = 48 * 2**20
#: A usual object where nothing was found yet, in pixels.
_FALLBACK_PX = 40.0
_SAMPLE = 2000
_STYLE = Style("", (0, 0, 0), 1.0, halo=True)


class Pictures:
    """Pictures of a project; the last ones of fields are kept in memory."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def field(self, field: FieldRow, width: int | None = None) -> bytes:
        """A field, or a smaller picture of it.

        Raises:
            BadImageError: the photograph cannot be read.
        """
        full = field.size_hw[1]
        width = min(width or full, full)
        with self._lock:
            if (kept := self._kept.get((field.id, width))) is not None:
                self._kept.move_to_end((field.id, width))
                return kept
        picture = Image.fromarray(self._project.photograph(field).image)
        if width < full:
            height = max(1, round(field.size_hw[0] * width / full))
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        data = _jpeg(picture)
        with self._lock:
            self._kept[field.id, width] = data
            held = sum(map(len, self._kept.values()))
            while held > _KEPT_BYTES and len(self._kept) > 1:
                held -= len(self._kept.popitem(last=False)[1])
        return data

    def objects(
        self, ids: Sequence[int], *, size_px: int, diameters: float, outlined: bool = False
    ) -> bytes:
        """A sheet of crops of objects, in this order; a grey tile for an id that names nothing."""
        known = objects_by_id(self._project.base, ids)
        places = [
            (one.field_id, _centre(one), one if outlined else None)
            if (one := known.get(k))
            else None
            for k in ids
        ]
        return self._sheet(places, size_px, diameters * self.usual_diameter_px())

    def places(
        self, places: Sequence[tuple[int, tuple[float, float]]], *, size_px: int, window_px: float
    ) -> bytes:
        """A sheet of crops around places: field id and (y, x)."""
        return self._sheet([(field_id, at, None) for field_id, at in places], size_px, window_px)

    def usual_diameter_px(self) -> float:
        """The diameter of a usual object of the project, so that all crops have one zoom."""
        rows = self._project.base.rows(
            "SELECT area_px FROM object JOIN outline ON outline.id = object.outline_id "
            f"WHERE visible = 1 ORDER BY object.id LIMIT {_SAMPLE}"
        )
        if not rows:
            return _FALLBACK_PX
        return float(np.sqrt(4 / np.pi * np.median([row["area_px"] for row in rows])))

    def _sheet(
        self,
        places: Sequence[tuple[int, tuple[float, float], ObjectRow | None] | None],
        size_px: int,
        window_px: float,
    ) -> bytes:
        rows = max(1, -(-len(places) // COLUMNS))
        columns = min(COLUMNS, max(1, len(places)))
        sheet = Image.new("RGB", (columns * size_px, rows * size_px), _GREY)
        of_field: dict[int, list[int]] = {}
        for k, place in enumerate(places):
            if place is not None:
                of_field.setdefault(place[0], []).append(k)
        for field_id, own in of_field.items():
            field = self._project.field(field_id)
            image = self._project.photograph(field).image
            chosen = [place for k in own if (place := places[k]) is not None]
            if any(one is not None for _, _, one in chosen):
                image = image.copy()
                for _, _, one in chosen:
                    if one is not None:
                        _draw(image, one)
            cells = _around([at for _, at, _ in chosen], field.size_hw)
            crops = crop_gallery(image, cells, window_px=window_px, size_px=size_px)
            for k, crop in zip(own, crops, strict=True):
                row, column = divmod(k, COLUMNS)
                sheet.paste(crop, (column * size_px, row * size_px))
        return _jpeg(sheet)


def _centre(one: ObjectRow) -> tuple[float, float]:
    ymin, xmin, ymax, xmax = one.box_yxyx
    return (ymin + ymax) / 2, (xmin + xmax) / 2


def _around(places: Sequence[tuple[float, float]], size_hw: tuple[int, int]) -> Cells:
    boxes = [(y - 1, x - 1, y + 1, x + 1) for y, x in places]
    masks = [np.ones((2, 2), bool)] * len(boxes)
    return Cells.from_labels(
        np.array(boxes, np.float32), np.ones(len(boxes)), masks, image_size_hw=size_hw
    )


def _draw(image: np.ndarray, one: ObjectRow) -> None:
    outline = one.outline()
    line_px = max(1.0, np.sqrt(one.area_px) / 40)
    draw_outline(
        image, outline.mask, outline.box_yxyx[:2], scale=1.0, style=_STYLE, line_px=line_px
    )


def _jpeg(picture: Image.Image) -> bytes:
    # A new image has no EXIF, whatever the file had.
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=_QUALITY, subsampling=0)
    return data.getvalue()


__all__ = ["COLUMNS", "Pictures"]
