"""Finds the cells of one decoded photograph, then measures and judges them.

The detector runs at once. What follows is returned as a function, so that another thread can do it
while the detector runs on the next photograph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.detect.detector import Detector
from spherodetect.detect.model import Model
from spherodetect.errors import SpherodetectError
from spherodetect.fields.field import Field
from spherodetect.fields.scan import LARGE_PIXELS
from spherodetect.fields.strip import block_mean
from spherodetect.photograph import Photograph
from spherodetect.pipeline.examine_scan import PartProgress, examine_large
from spherodetect.pipeline.store import FinishedField
from spherodetect.safety import quoted
from spherodetect.scale.find import Scale

#: Images with more pixels are judged by the classical segmentation before the model is run.
EARLY_PIXELS = 3_000_000
#: A photograph of very many pixels is reduced until a red cell has at least this many across. The
#: network sees fewer.
_ENOUGH_PX = 80
#: In a large image smaller objects are no red cells.
_LEAST_CELL_PX = 10.0


def find_cells(
    field: Field,
    photograph: Photograph,
    scale: Scale,
    detector: Detector,
    label_image: Path | None,
    progress: PartProgress,
) -> Callable[[], FinishedField]:
    """Find the cells of a photograph; returns what remains to be done.

    Args:
        field: whose id is named in errors and in the cells.
        photograph: the decoded image.
        scale: its pixel size.
        detector: the detector.
        label_image: outlines of another tool in place of the detector's, or None.
        progress: told of every part of an image that is examined in parts.

    Raises:
        SpherodetectError: the detector returned something else, or, by the function that is
            returned, the label image cannot be used.
    """
    step = 1
    if isinstance(detector, Model) and label_image is None:
        step = _reduction(photograph)
    small = photograph
    if step > 1:
        small = Photograph(block_mean(photograph.image, step), notes=photograph.file_notes)
    rest = _in_full(field.field_id, small, _times(scale, step), detector, label_image, progress)
    return lambda: _enlarged(rest(), step, photograph.size_hw)


def _reduction(photograph: Photograph) -> int:
    """The factor by which a photograph of very many pixels may be reduced: the network would not
    see more of its cells."""
    height, width = photograph.size_hw
    if height * width <= LARGE_PIXELS or not photograph.rbc_diameter_px > _ENOUGH_PX:
        return 1
    return int(photograph.rbc_diameter_px / _ENOUGH_PX)


def _times(scale: Scale, step: int) -> Scale:
    """The scale of a copy that is smaller by a factor."""
    return replace(scale, um_per_px=scale.um_per_px * step) if scale.um_per_px else scale


def _enlarged(finished: FinishedField, step: int, size_hw: tuple[int, int]) -> FinishedField:
    """The result in the pixels of the photograph."""
    if step == 1:
        return finished
    quality, scale = finished.quality, finished.scale
    um_per_px = scale.um_per_px / step if scale.um_per_px else None
    return replace(
        finished,
        cells=finished.cells.enlarged(step, size_hw),
        quality=replace(quality, rbc_diameter_px=quality.rbc_diameter_px * step),
        scale=replace(scale, um_per_px=um_per_px),
    )


def _in_full(
    field_id: str,
    photograph: Photograph,
    scale: Scale,
    detector: Detector,
    label_image: Path | None,
    progress: PartProgress,
) -> Callable[[], FinishedField]:
    """Find the cells of a photograph at the size that it has; the rest measures and judges them."""
    from spherodetect.measure import measure
    from spherodetect.pipeline.label_images import read_label_image, with_outlines
    from spherodetect.quality import MIN_CELLS, assess

    height, width = photograph.size_hw
    early = assess(photograph) if height * width > EARLY_PIXELS else None
    if (
        early
        and not early.accepted
        and (early.n_cells < MIN_CELLS or early.rbc_diameter_px < _LEAST_CELL_PX)
    ):
        # An image that is no smear, such as grain, would be enlarged and cut into thousands of
        # tiles.
        none = Cells.empty(
            field_id=field_id, image_size_hw=(height, width), um_per_px=scale.um_per_px
        )
        rejected = FinishedField(measure(none, photograph), early, scale, notes=photograph.notes)
        return lambda: rejected
    if isinstance(detector, Model) and label_image is None and height * width > LARGE_PIXELS:
        cells = examine_large(photograph, scale, detector, field_id=field_id, progress=progress)
        return lambda: _judged(cells, photograph, scale)
    found = _detect(detector, photograph, scale, field_id)

    def measured() -> FinishedField:
        cells = found
        if label_image is not None:
            cells = with_outlines(cells, read_label_image(label_image))
        return _judged(measure(photograph.cut_off(cells), photograph), photograph, scale)

    return measured


def _judged(cells: Cells, photograph: Photograph, scale: Scale) -> FinishedField:
    """A field whose cells are measured, with its quality and a scale from them where none is
    known."""
    from spherodetect.quality import assess

    reference = cells.countable & np.isin(cells.names, list(RED_CELLS))
    scale = scale.or_cells(cells.measurements["diameter_px"][reference])
    return FinishedField(cells, assess(photograph, cells), scale, notes=photograph.notes)


def _detect(detector: Detector, photograph: Photograph, scale: Scale, field_id: str) -> Cells:
    """The cells of a field by our model, or by somebody's own detector."""
    if isinstance(detector, Model):
        return detector.detect(photograph, scale, field_id=field_id)
    cells = detector.detect(photograph.image, scale.um_per_px)
    if not isinstance(cells, Cells) or cells.image_size_hw != photograph.size_hw:
        got = repr(cells) if isinstance(cells, Cells) else type(cells).__name__
        raise SpherodetectError(
            f"{quoted(field_id)}: expected the detector to return Cells of an image of "
            f"{photograph.size_hw} (height, width), got {got}"
        )
    return replace(
        cells, field_id=field_id, um_per_px=scale.um_per_px, um_per_px_source=scale.source
    )


__all__ = ["EARLY_PIXELS", "find_cells"]
