"""What people drew, before anything is decided about it.

Boxes are (ymin, xmin, ymax, xmax), polygons (M, 2) arrays of (y, x), points (y, x); all in native
pixels of the image as the label file describes it. Class names are as the annotator wrote them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spherodetect.geometry import is_rectangle, tight_box
from spherodetect.labels.file_names import tile_of
from spherodetect.rle import RunLengthMask, run_lengths

#: Two points closer than this, in red-cell diameters, mark the same cell.
SAME_CELL_DIAMETERS = 0.35
#: A mask of so few pixels fills its box whatever the shape of its cell.
_TINY_PX = 16
#: EXIF orientation to the operation that turns the stored image upright, for those that swap rows
#: and columns.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    5: lambda m: m.T,
    6: lambda m: np.rot90(m, -1),
    7: lambda m: np.rot90(m, 2).T,
    8: lambda m: np.rot90(m),
}


@dataclass(frozen=True, eq=False)
class Annotation:
    """One labelled cell: a point, a box, or an outline.

    Attributes:
        annotation_id: the file's id, or the line number in a text file; text.
        name: the class as the annotator wrote it.
        box_yxyx: the box as the file states it, or None for a point.
        point_yx: the labelled point, or None.
        polygons: outlines, each (M, 2) float64 (y, x); empty where there is none.
        mask: (H, W) bool of the whole field where the file holds a run-length mask instead of
            polygons; packed until its pixels are used.
        iscrowd: COCO's flag for a group of objects.
    """

    annotation_id: str
    name: str
    box_yxyx: tuple[float, float, float, float] | None = None
    point_yx: tuple[float, float] | None = None
    polygons: tuple[np.ndarray, ...] = ()
    mask: np.ndarray | RunLengthMask | None = None
    iscrowd: bool = False

    @property
    def outline_box_yxyx(self) -> tuple[float, float, float, float] | None:
        """The box around the polygons, or else the stated box; None for a point."""
        if self.polygons:
            points = np.concatenate(self.polygons)
            (y0, x0), (y1, x1) = points.min(axis=0), points.max(axis=0)
            return float(y0), float(x0), float(y1), float(x1)
        return self.box_yxyx

    @property
    def is_rectangle(self) -> bool:
        """Whether the label has no shape of its own: no outline, or one that fills its box.

        Labelling tools export boxes as polygons or masks; a mask head must not learn them.
        """
        if self.mask is not None:
            return _fills_its_box(self.mask)
        return all(is_rectangle(polygon) for polygon in self.polygons if len(polygon) >= 3)


def _fills_its_box(mask: np.ndarray | RunLengthMask) -> bool:
    if isinstance(mask, RunLengthMask):
        box, area_px = mask.box_yxyx(), mask.area_px
    else:
        area_px = int(np.count_nonzero(mask))
        box = tuple(tight_box(mask).tolist()) if area_px else None
    if box is None or area_px <= _TINY_PX:
        return False
    return (box[2] - box[0]) * (box[3] - box[1]) == area_px


def turned(annotation: Annotation, orientation: int, stored_hw: tuple[int, int]) -> Annotation:
    """An annotation of a stored image, in the pixels of the upright image.

    Args:
        annotation: in pixels of the stored image.
        orientation: EXIF's number, 5 to 8: those that swap rows and columns.
        stored_hw: height and width of the stored image.
    """

    def upright(at: np.ndarray) -> np.ndarray:
        y, x = at[:, 0], at[:, 1]
        down = stored_hw[1] - x if orientation in (7, 8) else x
        right = stored_hw[0] - y if orientation in (6, 7) else y
        return np.stack([down, right], axis=1)

    box, point, mask = annotation.box_yxyx, annotation.point_yx, annotation.mask
    if box is not None:
        corners = upright(np.reshape(box, (2, 2)))
        box = tuple(np.concatenate([corners.min(axis=0), corners.max(axis=0)]).tolist())
    return replace(
        annotation,
        box_yxyx=box,
        point_yx=None if point is None else tuple(upright(np.array([point]))[0].tolist()),
        polygons=tuple(upright(polygon) for polygon in annotation.polygons),
        mask=None if mask is None else run_lengths(_TURNS[orientation](np.asarray(mask))),
    )


@dataclass(frozen=True, eq=False)
class LabelledField:
    """One image file with its annotations.

    Attributes:
        file: the image's path relative to the source's root, with forward slashes; messages use it
            as the field's name.
        path: where the image is, or None for labels without an image.
        size_hw: height and width in pixels, as the label file states them or as the image has them.
        annotations: in the file's order.
        source_id: the name of the photograph that this file was made from; augmented copies share
            it.
        patient_id: the unit of splitting, or None where it is not known.
        split: the export's own split (train, val, test), or None.
        native_size_hw: size of the photograph before an export stretched it, or None if it was not
            stretched.
        um_per_px: pixel size of the file as it is, or None.
        labelled: False for an image without a label file; then the absence of annotations means
            "not known" and not "no cell".
        view_id: tells pictures apart that share only their name (see photographs.py), or empty.
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
    view_id: str = ""

    @property
    def view(self) -> str:
        """The photograph and the part of it that the file shows; copies share it."""
        return self.view_id or f"{self.source_id} {tile_of(self.file)}".strip()


@dataclass(frozen=True)
class Finding:
    """One problem of the labels, as `lint --json` writes it.

    Attributes:
        code: the kind of problem, one of `lint.CODES`.
        severity: error, warning or note.
        file: the label file, image or folder concerned.
        split: the export's split, or None.
        count: how many annotations, images, sources, patients or cells are concerned.
        annotation_ids: those of the annotations concerned, if they are annotations.
        message: the problem, as a phrase.
        mend: the next step.
    """

    code: str
    severity: str
    file: str
    split: str | None
    count: int
    annotation_ids: tuple[str, ...]
    message: str
    mend: str
