"""Findings on single outlines, boxes and points; one finding of a kind for each label file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.geometry import ROUNDING_PX, box_iou
from spherodetect.labels.annotations import SAME_CELL_DIAMETERS, Annotation, Finding, LabelledField

#: Boxes of a higher intersection over union label the same cell.
DUPLICATE_IOU = 0.9
#: Points closer than this mark the same cell where the pixel size is not known.
_SAME_CELL_PX = 3.0


def shape_findings(
    file: str, split: str | None, fields: Sequence[LabelledField]
) -> Iterator[Finding]:
    """The findings on the shapes in one label file."""
    ids: dict[str, list[str]] = defaultdict(list)
    largest_px: dict[str, float] = defaultdict(float)
    n_outlines = 0

    def note(code: str, annotation: Annotation, distance_px: float = 0.0) -> None:
        ids[code].append(annotation.annotation_id)
        largest_px[code] = max(largest_px[code], distance_px)

    for field in fields:
        for annotation in _repeated(field):
            note("duplicate-box", annotation)
        for annotation in field.annotations:
            if (outside_px := _outside_px(annotation, field.size_hw)) > 0:
                note("box-outside-image", annotation, outside_px)
            if (mismatch_px := _mismatch_px(annotation)) > ROUNDING_PX:
                note("box-polygon-mismatch", annotation, mismatch_px)
            has_outline = bool(annotation.polygons) or annotation.mask is not None
            n_outlines += has_outline
            if has_outline and annotation.is_rectangle:
                note("rectangle-mask", annotation)
    n_rectangles = len(ids["rectangle-mask"])
    for code, severity, message, mend in (
        (
            "box-outside-image",
            "error",
            f"boxes extend beyond the image by up to {largest_px['box-outside-image']:.2f} px; "
            "some converters drop them",
            "take the box from the outline and clip it, as spherodetect tfrecords does",
        ),
        (
            "box-polygon-mismatch",
            "warning",
            "stated boxes differ from their outlines by up to "
            f"{largest_px['box-polygon-mismatch']:.2f} px",
            "take the box from the outline, as spherodetect tfrecords does",
        ),
        (
            "rectangle-mask",
            "error" if n_rectangles * 2 > n_outlines else "warning",
            f"outlines are rectangles, {n_rectangles:,} of {n_outlines:,}; "
            "a mask head learns rectangles from them",
            "treat them as boxes and refine them by segmentation, as spherodetect tfrecords does",
        ),
        (
            "duplicate-box",
            "warning",
            "cells are labelled twice at the same place",
            "delete one of the two labels; they may differ in class",
        ),
    ):
        if ids[code]:
            count = len(ids[code])
            yield Finding(code, severity, file, split, count, tuple(ids[code]), message, mend)


def _outside_px(annotation: Annotation, size_hw: tuple[int, int]) -> float:
    """How far the stated box or the outline extends beyond the image; 0 if it does not."""
    limits = (*size_hw, *size_hw)
    outline_box = annotation.outline_box_yxyx if annotation.polygons else None
    boxes = [box for box in (annotation.box_yxyx, outline_box) if box]
    return max(
        (max(-v, v - limit) for box in boxes for v, limit in zip(box, limits, strict=True)),
        default=0.0,
    )


def _mismatch_px(annotation: Annotation) -> float:
    stated, drawn = annotation.box_yxyx, annotation.outline_box_yxyx
    if not annotation.polygons or stated is None or drawn is None:
        return 0.0
    return max(abs(s - d) for s, d in zip(stated, drawn, strict=True))


def _repeated(field: LabelledField) -> Iterator[Annotation]:
    """The annotations that lie where an earlier one of the field lies."""
    boxed = [a for a in field.annotations if a.outline_box_yxyx and not a.iscrowd]
    box = np.array([a.outline_box_yxyx for a in boxed]).reshape(-1, 4)
    for k in range(1, len(boxed)):
        if (box_iou(box[k : k + 1], box[:k]) > DUPLICATE_IOU).any():
            yield boxed[k]
    points = [a for a in field.annotations if a.point_yx]
    at = np.array([a.point_yx for a in points]).reshape(-1, 2)
    nearest_px = _SAME_CELL_PX
    if field.um_per_px:
        nearest_px = SAME_CELL_DIAMETERS * RBC_DIAMETER_UM / field.um_per_px
    for k in range(1, len(points)):
        if (np.hypot(*(at[:k] - at[k]).T) < nearest_px).any():
            yield points[k]
