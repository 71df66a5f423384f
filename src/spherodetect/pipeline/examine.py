"""Looking at fields one after the other: detected, measured, judged and drawn, each finished one
kept.

A field that cannot be used is named and the others go on. Only cells stay in memory; pixels are
read again where a picture of them is wanted.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.fields.find import Field, FieldList
from spherodetect.fields.image import MAX_IMAGE_BYTES, read_image
from spherodetect.fields.scan import is_scan
from spherodetect.photograph import Photograph
from spherodetect.pipeline.examine_scan import look_at_scan
from spherodetect.pipeline.store import FieldCache, FinishedField
from spherodetect.report.overlays import shrunk
from spherodetect.report.results import ResultsFolder
from spherodetect.report.scored_field import ReportField
from spherodetect.safety import atomic_write, file_sha256, quoted, read_bytes, sha256
from spherodetect.scale.find import unread_bars

if TYPE_CHECKING:
    from spherodetect.detect.model import Model

logger = logging.getLogger(__name__)

#: An image that has more is judged by its segmentation before the model looks at it by tiles.
_LARGE_PIXELS = 3_000_000
#: What is smaller in such an image is no red cell.
_LEAST_CELL_PX = 10.0

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LostField:
    """A field that could not be used, and why, in one line that begins with its name."""

    field: Field
    message: str


def look_at(
    found: FieldList,
    model: Model,
    results: ResultsFolder,
    progress: Progress,
    *,
    scale_bar_um: float | None = None,
    outlines: Mapping[Path, Path] | None = None,
) -> tuple[list[ReportField], list[LostField]]:
    """Look at fields, or take what an earlier run into the same folder made of the same bytes with
    the same settings.

    Args:
        found: the fields, in order.
        model: finds the cells.
        results: where overlays and finished fields go.
        progress: called with how many are done, how many there are, and the next one's name.
        scale_bar_um: the length of burnt-in scale bars, where the user states it.
        outlines: photograph to its label image, which then says where the cells are.

    Raises:
        SpherodetectError: a file cannot be written.
    """
    checksums = sha256(json.dumps(dict(model.card.checksums), sort_keys=True).encode())
    cache = FieldCache(results, {"model": checksums, "scale_bar_um": scale_bar_um})
    seen, lost = [], []
    for number, one in enumerate(found):
        progress(number, len(found), one.field_id)
        overlay = results.field_path("overlays", one.field_id, ".png")
        label_image = outlines[one.path] if outlines else None
        image = None
        try:
            data = None if is_scan(one.path) else _read(one.path, one.field_id)
            digest = file_sha256(one.path, error=BadImageError) if data is None else sha256(data)
            labels = [sha256(_read(label_image, str(label_image)))] if label_image else []
            key = cache.key(digest, *labels, um_per_px=one.um_per_px)
            finished = cache.load(key)
            if finished is None or not _is(overlay, finished.overlay_sha256):
                if data is None:
                    image, finished = look_at_scan(one, model, label_image, finished=finished)
                else:
                    image = read_image(data, name=one.field_id)
                    finished = finished or _looked(one, image, model, scale_bar_um, label_image)
        except SpherodetectError as error:
            lost.append(LostField(one, str(error)))
            continue
        if image is not None:
            finished = replace(finished, overlay_sha256=_draw(image, finished, overlay))
            cache.save(key, finished)
        cells = replace(finished.cells, field_id=one.field_id)
        seen.append(
            ReportField(
                one.patient_id,
                cells,
                finished.quality,
                one.path,
                overlay,
                finished.scale,
                digest,
                finished.parts,
            )
        )
    progress(len(found), len(found), "")
    _warn(seen)
    return seen, lost


def _warn(seen: Sequence[ReportField]) -> None:
    """Say what does not fit in the fields' scales; what differs in its figures only is one thing,
    and said once."""
    told: dict[str, list[ReportField]] = {}
    for one in seen:
        if one.scale.warning:
            told.setdefault(re.sub(r"\d", "", one.scale.warning), []).append(one)
    for first, *more in told.values():
        others = f" and {len(more)} more" if more else ""
        logger.warning("%s%s: %s", quoted(first.field_id), others, first.scale.warning)
    if unread := unread_bars(one.scale for one in seen):
        logger.warning("%s", unread)


def _looked(
    one: Field,
    image: np.ndarray,
    model: Model,
    scale_bar_um: float | None,
    label_image: Path | None,
) -> FinishedField:
    from spherodetect.measure import measure
    from spherodetect.pipeline.label_images import read_label_image, with_outlines
    from spherodetect.quality import MIN_CELLS, assess
    from spherodetect.scale.find import find_scale

    photograph = Photograph(image)
    scale = find_scale(photograph, one.um_per_px, scale_bar_um=scale_bar_um, field_id=one.field_id)
    early = assess(photograph) if image.shape[0] * image.shape[1] > _LARGE_PIXELS else None
    if (
        early
        and not early.accepted
        and (early.n_cells < MIN_CELLS or early.rbc_diameter_px < _LEAST_CELL_PX)
    ):
        # What is no smear, such as grain, would be enlarged and looked at by thousands of tiles.
        cells = Cells.empty(
            field_id=one.field_id, image_size_hw=image.shape[:2], um_per_px=scale.um_per_px
        )
        return FinishedField(measure(cells, photograph), early, scale, "")
    cells = model.detect(image, scale, field_id=one.field_id)
    if label_image is not None:
        cells = with_outlines(cells, read_label_image(label_image))
    cells = measure(cells, photograph)
    reference = cells.countable & np.isin(cells.names, list(RED_CELLS))
    scale = scale.or_cells(cells.measurements["diameter_px"][reference])
    return FinishedField(cells, assess(photograph, cells), scale, "")


def _read(path: Path, name: str) -> bytes:
    return read_bytes(path, max_bytes=MAX_IMAGE_BYTES, error=BadImageError, name=name)


def _is(path: Path, checksum: str) -> bool:
    return path.is_file() and sha256(path.read_bytes()) == checksum


def _draw(image: np.ndarray, finished: FinishedField, path: Path) -> str:
    """Write the field's overlay, for a scan on a smaller copy of it; returns its checksum."""
    from spherodetect.report.overlays import draw_overlay

    quality, out, cells = finished.quality, io.BytesIO(), finished.cells
    if finished.parts:
        rejected = ~np.array(finished.parts)[cells.measurements["part"]]
        cells = shrunk(replace(cells, countable=cells.countable & ~rejected), image.shape[:2])
    draw_overlay(image, cells, accepted=quality.accepted, note=quality.reason).save(out, "PNG")
    with atomic_write(path) as file:
        file.write(out.getvalue())
    return sha256(out.getvalue())


__all__ = ["LostField", "Progress", "look_at"]
