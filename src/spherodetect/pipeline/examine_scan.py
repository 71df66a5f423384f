"""Looking at a slide scan: a file of many fields, detected, measured and judged part by part.

A scan's cells are in pixels of the whole scan; the measurement `part` is the number of the tile
that owns them. What no tile could look at at once is never in memory: cells, their masks and a
small overview of the scan are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.detect.tiles import survey
from spherodetect.errors import BadImageError
from spherodetect.fields.find import Field
from spherodetect.fields.scan import Scan
from spherodetect.photograph import Photograph
from spherodetect.pipeline.store import FinishedField
from spherodetect.quality import FieldQuality
from spherodetect.safety import quoted

if TYPE_CHECKING:
    from spherodetect.detect.model import Model


def look_at_scan(
    one: Field, model: Model, label_image: Path | None, *, finished: FinishedField | None = None
) -> tuple[np.ndarray, FinishedField]:
    """The overview of a scan and what it shows; its overlay is still to be drawn.

    Args:
        one: the scan.
        model: finds the cells.
        label_image: outlines of its cells by another tool, which cannot be used.
        finished: what is known of it already.

    Raises:
        BadImageError: the file cannot be read, or shows no cell.
    """
    from spherodetect.detect.by_tiles import scale_of_scan
    from spherodetect.measure import measure
    from spherodetect.quality import assess

    if label_image is not None:
        raise BadImageError(
            f"{quoted(one.field_id)}: expected a field beside a label image, got a whole scan"
        )
    with Scan(one.path, name=one.field_id) as scan:
        seen = survey(scan)
        if finished is not None:
            return seen.overview, finished
        scale = scale_of_scan(scan, seen, one.um_per_px, field_id=one.field_id)
        parts: list[Cells] = []
        verdicts: list[FieldQuality] = []
        for tile in model.detect_tiles(scan, scale, field_id=one.field_id, surveyed=seen):
            if not tile.own.any():
                continue
            photograph = Photograph(tile.image)
            cells = measure(tile.cells, photograph)
            verdicts.append(assess(photograph, cells))
            part = np.full(len(cells), len(parts), np.int32)
            cells = replace(cells, measurements={**cells.measurements, "part": part})
            parts.append(cells[tile.own].moved(tile.tile.origin_yx, scan.size_hw))
        if not parts:
            raise BadImageError(
                f"{quoted(one.field_id)}: expected a smear, found no cell; is it the right scan?"
            )
    cells = Cells.concatenate(parts)
    reference = cells.countable & np.isin(cells.names, list(RED_CELLS))
    scale = scale.or_cells(cells.measurements["diameter_px"][reference])
    accepted = tuple(bool(verdict.accepted) for verdict in verdicts)
    return seen.overview, FinishedField(cells, _on_the_whole(verdicts), scale, "", accepted)


def _on_the_whole(verdicts: Sequence[FieldQuality]) -> FieldQuality:
    """Medians over the parts that passed, or over all if none did, and then the reason that most of
    them share."""
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


__all__ = ["look_at_scan"]
