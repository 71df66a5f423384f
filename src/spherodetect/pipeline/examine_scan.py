"""Examine a large image part by part: a slide scan, or a photograph of very many pixels.

The cells are in pixels of the whole image. In memory are one tile, the cells with their masks, and
a small overview; of a photograph also its pixels. A scan is many fields: the measurement `part` is
the number of the tile that owns the cell, and each tile is judged by itself. A photograph is one
field and is judged as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.detect.by_tiles import DetectedTile, scale_of_scan
from spherodetect.detect.detector import Detector
from spherodetect.detect.model import Model
from spherodetect.detect.tiles import Survey, survey
from spherodetect.errors import BadImageError
from spherodetect.fields.field import Field
from spherodetect.fields.scan import Pixels, Region, Scan
from spherodetect.measure import measure, relative_to_patient
from spherodetect.photograph import Photograph
from spherodetect.pipeline.store import FinishedField
from spherodetect.quality import FieldQuality
from spherodetect.safety import quoted
from spherodetect.scale.file_metadata import file_pixel_size
from spherodetect.scale.find import Scale

#: Called with the name of an image, the number of the finished part, and the number of all parts.
PartProgress = Callable[[str, int, int], None]


def no_parts(name: str, part: int, n_parts: int) -> None:
    """Show nothing."""


def examine_scan(
    field: Field, detector: Detector, label_image: Path | None, *, progress: PartProgress = no_parts
) -> tuple[Photograph, FinishedField]:
    """The overview of a scan, and its cells.

    Args:
        field: the scan.
        detector: a model of this package; somebody's own detector knows no tiles.
        label_image: outlines of its cells by another tool, which cannot be used.
        progress: told of every part.

    Raises:
        BadImageError: the file cannot be read, or shows no cell.
    """
    from spherodetect.quality import assess

    if label_image is not None:
        raise BadImageError(
            f"{quoted(field.field_id)}: expected a field beside a label image, got a whole scan"
        )
    if not isinstance(detector, Model):
        raise BadImageError(
            f"{quoted(field.field_id)}: a slide scan needs a model of spherodetect, which cuts it "
            "into tiles; save its regions as images of their own"
        )
    with Scan(field.path, name=field.field_id) as scan:
        surveyed = survey(scan)
        scale = scale_of_scan(
            scan, surveyed, field.um_per_px, file_pixel_size(field.path), field_id=field.field_id
        )
        parts: list[Cells] = []
        verdicts: list[FieldQuality] = []
        for tile, photograph in _measured(
            detector, scan, scale, surveyed, field.field_id, progress
        ):
            verdicts.append(assess(photograph, tile.cells))
            part = np.full(len(tile.cells), len(parts), np.int32)
            cells = replace(tile.cells, measurements={**tile.cells.measurements, "part": part})
            parts.append(cells[tile.own].moved(tile.tile.origin_yx, scan.size_hw))
        if not parts:
            raise BadImageError(
                f"{quoted(field.field_id)}: expected a smear, found no cell; is it the right scan?"
            )
    cells = Cells.concatenate(parts)
    reference = cells.countable & np.isin(cells.names, list(RED_CELLS))
    scale = scale.or_cells(cells.measurements["diameter_px"][reference])
    accepted = tuple(bool(verdict.accepted) for verdict in verdicts)
    return Photograph(surveyed.overview), FinishedField(cells, _overall(verdicts), scale, accepted)


def examine_large(
    photograph: Photograph,
    scale: Scale,
    detector: Model,
    *,
    field_id: str,
    progress: PartProgress = no_parts,
) -> Cells:
    """The measured cells of a photograph of many pixels, found and measured tile by tile.

    Args:
        photograph: the field.
        scale: its pixel size.
        detector: the model.
        field_id: its name in messages.
        progress: told of every part.
    """
    region = Pixels(photograph.picture[: photograph.rows])
    parts = [
        tile.cells[tile.own].moved(tile.tile.origin_yx, photograph.size_hw)
        for tile, _ in _measured(detector, region, scale, survey(region), field_id, progress)
    ]
    if parts:
        return relative_to_patient([photograph.cut_off(Cells.concatenate(parts))])[0]
    size_hw = photograph.size_hw
    empty = Cells.empty(field_id=field_id, image_size_hw=size_hw, um_per_px=scale.um_per_px)
    return measure(empty, photograph)


def _measured(
    detector: Model,
    region: Region,
    scale: Scale,
    surveyed: Survey,
    field_id: str,
    progress: PartProgress,
) -> Iterator[tuple[DetectedTile, Photograph]]:
    """The tiles that own cells, with these measured, and the tiles' pixels."""
    for tile in detector.detect_tiles(region, scale, field_id=field_id, surveyed=surveyed):
        progress(field_id, tile.number, tile.n_tiles)
        if tile.own.any():
            photograph = Photograph(tile.image, whole=True)
            yield replace(tile, cells=measure(tile.cells, photograph)), photograph


def overview(field_id: str, path: Path) -> Photograph:
    """A small copy of a whole scan.

    Raises:
        BadImageError: the file cannot be read.
    """
    with Scan(path, name=field_id) as scan:
        return Photograph(survey(scan).overview)


def _overall(verdicts: Sequence[FieldQuality]) -> FieldQuality:
    """The medians over the parts that passed, or over all if none did. The reason is the one that
    most parts share."""
    passed = [verdict for verdict in verdicts if verdict.accepted]
    figures: dict[str, Any] = {}
    for name in (
        field.name for field in fields(FieldQuality) if field.name not in {"accepted", "reason"}
    ):
        values = np.array([getattr(verdict, name) for verdict in passed or verdicts], float)
        known = values[np.isfinite(values)]
        figures[name] = float(np.median(known)) if known.size else float("nan")
    figures["n_cells"] = sum(verdict.n_cells for verdict in passed or verdicts)
    reasons = Counter(verdict.reason.partition(":")[0] for verdict in verdicts)
    usual = reasons.most_common(1)[0][0]
    reason = next(v.reason for v in verdicts if v.reason.startswith(usual))
    return FieldQuality(accepted=bool(passed), reason="" if passed else reason, **figures)


__all__ = ["PartProgress", "examine_large", "examine_scan", "no_parts", "overview"]
