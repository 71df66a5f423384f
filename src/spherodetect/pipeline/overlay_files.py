"""Overlays of examined fields, drawn once: a later run into the same folder keeps what is current.

An overlay is current if the file has the checksum that was recorded when it was drawn, and was
drawn from the same photograph and cells.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from spherodetect.examined import Examined
from spherodetect.fields.image import read_image
from spherodetect.fields.scan import LARGE_PIXELS, is_scan
from spherodetect.fields.strip import block_mean
from spherodetect.photograph import Photograph
from spherodetect.pipeline.examine_scan import overview
from spherodetect.pipeline.look_ahead import is_large, mapped_ahead
from spherodetect.pipeline.store import FieldStore
from spherodetect.report import crops, legend, outlines, overlays
from spherodetect.report.files import HEMADETECT_RESULT
from spherodetect.report.results import HIDDEN, ResultsFolder
from spherodetect.safety import atomic_write, sha256

#: Longest side of the overlay of a large photograph.
_OVERLAY_PX = 2560
#: The modules that draw an overlay; an overlay is drawn again if one of them changes.
_DRAWING = (overlays, outlines, legend, crops)


class OverlayFiles:
    """The overlays of a folder of results.

    Args:
        results: the folder, while it is open.
        store: finished fields, which may have overlays that a worker drew.
        hemadetect_names: name the overlays as HemaDetect does.
    """

    def __init__(
        self,
        results: ResultsFolder,
        *,
        store: FieldStore | None = None,
        hemadetect_names: bool = False,
    ) -> None:
        self._results, self._store = results, store
        self._end = HEMADETECT_RESULT if hemadetect_names else ".png"
        self._path = results.path(HIDDEN, "overlays.jsonl")
        self._recorded = _read(self._path)
        self._journal: IO[str] | None = None

    def drawn(self, fields: Iterable[Examined]) -> Iterator[Examined]:
        """The fields with their overlays, as `draw` returns them.

        A thread draws the next field while one is used. A field with a problem has no overlay.

        Raises:
            SpherodetectError: as for `draw`.
        """

        def draw(one: Examined) -> Examined:
            return one if one.problem else self.draw(one)

        return mapped_ahead(draw, fields, alone=lambda one: is_large(one.cells.image_size_hw))

    def draw(self, field: Examined) -> Examined:
        """The field with its overlay on disk, and with what was drawn or decoded in memory.

        Raises:
            SpherodetectError: the photograph cannot be read again, or the file cannot be written.
        """
        path = self._results.field_path("overlays", field.field_id, self._end)
        name, content = path.relative_to(self._results.root).as_posix(), _content(field)
        recorded = self._recorded.get(name)
        if recorded and recorded[0] == content and _has(path, recorded[1]):
            return replace(field, overlay=path)
        drawn = self._store.overlay(content) if self._store else None
        if drawn is not None:
            self._write(path, name, content, drawn)
            return replace(field, overlay=path)
        photograph = field.photograph or _decoded(field)
        picture = _drawn(photograph, field)
        self._write(path, name, content, _png(picture))
        return replace(field, overlay=path, photograph=photograph, overlay_image=picture)

    def close(self) -> None:
        """Keep the records of the overlays that are still there, and end."""
        if self._journal:
            self._journal.close()
        kept = {name: value for name, value in self._recorded.items() if self._exists(name)}
        with atomic_write(self._path, text=True) as file:
            file.writelines(f"{json.dumps([name, *value])}\n" for name, value in kept.items())

    def _write(self, path: Path, name: str, content: str, png: bytes) -> None:
        with atomic_write(path, sync=False) as file:
            file.write(png)
        self._record(name, content, sha256(png))

    def _exists(self, name: str) -> bool:
        return (self._results.root / name).is_file()

    def _record(self, name: str, content: str, checksum: str) -> None:
        self._recorded[name] = content, checksum
        if self._journal is None:
            self._journal = self._path.open("a", encoding="utf-8")
        # Flushed at once, so that a run that is cut off does not draw again.
        self._journal.write(f"{json.dumps([name, content, checksum])}\n")
        self._journal.flush()


def drawn_overlay(field: Examined) -> tuple[str, bytes]:
    """The overlay of a field as PNG, and the key of what it follows from, for another process.

    Raises:
        SpherodetectError: the photograph cannot be read again.
    """
    return _content(field), _png(_drawn(field.photograph or _decoded(field), field))


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    # Runs of equal bytes alone, which the filters of PNG leave on outlines and flat slide, make a
    # file of the same size as level 6 in a quarter of the time.
    picture.save(data, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return data.getvalue()


def _read(path: Path) -> dict[str, tuple[str, str]]:
    """File name to content key and checksum; damaged lines are passed over."""
    recorded = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                name, content, checksum = json.loads(line)
            except (ValueError, TypeError):
                continue
            recorded[str(name)] = str(content), str(checksum)
    return recorded


def _content(field: Examined) -> str:
    """A checksum of everything that the picture follows from."""
    cells = field.cells
    masks = [np.ascontiguousarray(mask).tobytes() for mask in cells.masks]
    arrays = [cells.box_yxyx, cells.class_id, cells.countable, field.accepted, cells.confidence]
    text = [field.sha256, field.quality.reason, cells.um_per_px, cells.class_names, _drawing()]
    return sha256(b"".join([*(a.tobytes() for a in arrays), *masks, json.dumps(text).encode()]))


@cache
def _drawing() -> str:
    """A checksum of the code that draws."""
    return sha256(Path(str(module.__file__)).read_bytes() for module in _DRAWING)


def _has(path: Path, checksum: str) -> bool:
    return path.is_file() and sha256(path.read_bytes()) == checksum


def pixels_of(field: Examined) -> np.ndarray | None:
    """(H, W, 3) uint8, the pixels in which the cells lie, or None for a slide scan."""
    photograph = field.photograph
    if photograph is None and not (field.image is not None and is_scan(field.image)):
        photograph = _decoded(field)
    if photograph is None or photograph.image.shape[:2] != field.cells.image_size_hw:
        return None
    return photograph.image


def _decoded(field: Examined) -> Photograph:
    assert field.image is not None
    if is_scan(field.image):
        return overview(field.field_id, field.image)
    return Photograph(read_image(field.image, name=field.field_id))


def _drawn(photograph: Photograph, field: Examined) -> Image.Image:
    """The overlay; of a scan or a large photograph on a smaller copy of it."""
    quality, cells, image = field.quality, field.cells, photograph.image
    if field.parts:
        cells = replace(cells, countable=cells.countable & field.accepted)
    if image.shape[0] * image.shape[1] > LARGE_PIXELS:
        image = block_mean(image, -(-max(image.shape[:2]) // _OVERLAY_PX))
    if image.shape[:2] != cells.image_size_hw:
        cells = overlays.shrunk(cells, (image.shape[0], image.shape[1]))
    return overlays.draw_overlay(image, cells, accepted=quality.accepted, note=quality.reason)


__all__ = ["OverlayFiles", "drawn_overlay"]
