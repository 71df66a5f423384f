"""What people drew, before anything is decided about it: annotations of one field, in the label file's own pixels.

Boxes are (ymin, xmin, ymax, xmax), polygons (M, 2) arrays of (y, x), points (y, x); all in native pixels of the image
as the label file describes it. Names are kept as the annotator wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Annotation:
    """One labelled cell: a point, a box, or an outline.

    Attributes:
        annotation_id: as in the file, or the line number in a text file; a string.
        name: the class as the annotator wrote it.
        box_yxyx: the box as the file states it, or None for a point.
        point_yx: the labelled point, or None.
        polygons: outlines, each (M, 2) float64 (y, x); empty where there is none.
        mask: (H, W) bool of the whole field, where the file holds a run-length mask instead of polygons.
        iscrowd: COCO's flag for a group of objects.
    """

    annotation_id: str
    name: str
    box_yxyx: tuple[float, float, float, float] | None = None
    point_yx: tuple[float, float] | None = None
    polygons: tuple[np.ndarray, ...] = ()
    mask: np.ndarray | None = None
    iscrowd: bool = False

    @property
    def outline_box_yxyx(self) -> tuple[float, float, float, float] | None:
        """The box around the outline where there is one, otherwise the stated box; None for a point."""
        if self.polygons:
            points = np.concatenate(self.polygons)
            (y0, x0), (y1, x1) = points.min(axis=0), points.max(axis=0)
            return float(y0), float(x0), float(y1), float(x1)
        return self.box_yxyx


@dataclass(frozen=True, eq=False)
class LabelledField:
    """One image file with its annotations.

    Attributes:
        file: the image's path relative to the source's root, with forward slashes; the field's name in every message.
        path: where the image lies, or None if there are labels without an image.
        size_hw: height and width as the label file states them (or as the image has them).
        annotations: in the file's order.
        source_id: the photograph this file was made from; augmented copies share it.
        patient_id: the unit of splitting, or None where nobody knows.
        split: the export's own split (train, val, test), or None.
        native_size_hw: size of the photograph before an export stretched it, or None if it was not stretched.
        um_per_px: pixel size of the file as it is, or None.
        labelled: False for an image that has no label file at all (then no annotation means "unknown", not "no cell").
    """

    file: str
    path: Path | None
    size_hw: tuple[int, int]
    annotations: tuple[Annotation, ...]
    source_id: str
    patient_id: str | None = None
    split: str | None = None
    native_size_hw: tuple[int, int] | None = None
    um_per_px: float | None = None
    labelled: bool = True


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the labels, as `lint --json` writes it.

    severity is "error" or "warning"; mend says what to do about it.
    """

    code: str
    severity: str
    file: str
    split: str | None
    count: int
    annotation_ids: tuple[str, ...]
    message: str
    mend: str
