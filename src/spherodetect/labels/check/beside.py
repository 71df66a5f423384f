"""Boxes and outlines that meet no cell, and the convention of coordinates that would fit.

A label meets no cell if there is only empty slide in its box. All boxes of a label file were read
in a wrong convention if they hold hardly more stain than their surroundings, while another
convention gives boxes that do. Points are left to coverage.py.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from spherodetect.errors import BadImageError
from spherodetect.labels.annotations import Annotation, Finding, LabelledField
from spherodetect.labels.check.stain import Stain, boxes_on_slide
from spherodetect.labels.readers.ledger import LabelSet

CODE = "box-beside-cell"
#: So many boxes, of so many fields at most, are compared with the stain; fewer prove nothing.
_ENOUGH_BOXES, _MOST_FIELDS, _FEWEST_BOXES = 200, 20, 10
#: A convention fits if its boxes hold so much more stain than their surroundings, and so many times
#: more than those of the convention that was read. The contrast of one box varies by _SPREAD.
_FITS, _FITS_BETTER, _SPREAD = 0.08, 3.0, 0.35

#: Four numbers of a label file times such a matrix are a box (ymin, xmin, ymax, xmax).
_FORMS = {
    "x, y, width, height": np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0]]),
    "centre x, centre y, width, height": np.array(
        [[0, 1, 0, 1], [1, 0, 1, 0], [0, -0.5, 0, 0.5], [-0.5, 0, 0.5, 0]]
    ),
    "corners x1, y1, x2, y2": np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]),
    "corners y1, x1, y2, x2": np.eye(4),
}
_XYWH, _CENTRE, _CORNERS, _CORNERS_YX = _FORMS
_PIXELS, _PERCENT, _FRACTIONS = _UNITS = (
    "pixels",
    "percent of the image",
    "fractions of the image",
)
#: Form and unit in which the readers take boxes.
_READINGS = {"coco": (_XYWH, _PIXELS), "yolo": (_CENTRE, _FRACTIONS)}
#: Those of the other formats, and of all outlines.
_AS_CORNERS = (_CORNERS, _PIXELS)


def labels_on_slide(image: np.ndarray, field: LabelledField) -> tuple[str, ...]:
    """The ids of a field's boxes and outlines that meet no cell.

    Args:
        image: (H, W, 3) uint8, the field.
        field: its labels, in the pixels of image.
    """
    drawn = [a for a in field.annotations if a.outline_box_yxyx and not a.iscrowd]
    box = np.array([a.outline_box_yxyx for a in drawn], float).reshape(-1, 4)
    on_slide = boxes_on_slide(image, box)
    return tuple(a.annotation_id for a, beside in zip(drawn, on_slide, strict=True) if beside)


def on_slide_finding(file: str, split: str | None, ids: Sequence[str]) -> Finding:
    """The finding on labels of a label file that meet no cell."""
    return Finding(
        CODE,
        "error",
        file,
        split,
        len(ids),
        tuple(ids),
        "boxes or outlines lie on empty slide, beside every cell",
        "move them onto their cells, or delete them; tfrecords leaves them out",
    )


def misread_conventions(labels: LabelSet) -> Iterator[Finding]:
    """A finding for each label file, or folder of them, whose boxes fit another convention."""
    groups: dict[tuple[str, str | None], list[LabelledField]] = defaultdict(list)
    for field in labels.fields:
        if field.path and any(map(_is_drawn, field.annotations)):
            file = labels.label_files.get(field.file, field.file)
            if labels.format != "coco":  # a label file for each image
                file = PurePosixPath(file).parent.as_posix()
            groups[file, field.split].append(field)
    for (file, split), fields in groups.items():
        if convention := _better_convention(fields, labels.format):
            ids = tuple(a.annotation_id for f in fields for a in f.annotations if _is_drawn(a))
            yield Finding(
                CODE,
                "error",
                file,
                split,
                len(ids),
                ids,
                f"boxes or outlines meet no cells; they would as {convention}",
                "export them in the convention of the format",
            )


def _is_drawn(annotation: Annotation) -> bool:
    return annotation.outline_box_yxyx is not None and not annotation.iscrowd


def _is_outline(annotation: Annotation) -> bool:
    return bool(annotation.polygons) or annotation.mask is not None


def _better_convention(fields: Sequence[LabelledField], label_format: str) -> str:
    """The convention in which the boxes or outlines of fields meet cells; empty if they do."""
    step = max(1, len(fields) // _MOST_FIELDS)
    contrasts: dict[bool, dict[tuple[str, str], list[np.ndarray]]] = {
        False: defaultdict(list),
        True: defaultdict(list),
    }
    n_boxes = 0
    for field in itertools.islice(fields, 0, None, step):
        if n_boxes >= _ENOUGH_BOXES:
            break
        if (stain := _stain_of(field)) is None:
            continue
        for outlines, by_convention in contrasts.items():
            drawn = [a for a in field.annotations if _is_drawn(a) and _is_outline(a) == outlines]
            box = np.array([a.outline_box_yxyx for a in drawn], float).reshape(-1, 4)
            n_boxes += len(box)
            for convention in itertools.product(_FORMS, _UNITS):
                if not outlines or convention[0] in (_CORNERS, _CORNERS_YX):
                    reading = _reading(label_format, outlines)
                    other = _read_as(box, reading, convention, field.size_hw)
                    by_convention[convention].append(stain.contrasts(other))
    for outlines, by_convention in contrasts.items():
        contrast = {key: np.concatenate(values) for key, values in by_convention.items()}
        own = contrast.get(_reading(label_format, outlines), np.zeros(0))
        if len(own) < _FEWEST_BOXES:
            continue
        best = max(contrast, key=lambda key: float(contrast[key].mean()))
        fits, read = float(contrast[best].mean()), float(own.mean())
        if fits > max(_FITS, _FITS_BETTER * read, read + 4 * _SPREAD / math.sqrt(len(own))):
            return f"{best[0]} in {best[1]}"
    return ""


def _stain_of(field: LabelledField) -> Stain | None:
    from spherodetect.fields.image import read_image

    assert field.path is not None, "only fields with an image are examined"
    try:
        image = read_image(field.path, name=field.file)
    except BadImageError:
        return None  # the conversion reports it
    return Stain.of(image) if image.shape[:2] == field.size_hw else None


def _reading(label_format: str, outlines: bool) -> tuple[str, str]:
    return _AS_CORNERS if outlines else _READINGS.get(label_format, _AS_CORNERS)


def _read_as(
    box_yxyx: np.ndarray, reading: tuple[str, str], other: tuple[str, str], size_hw: tuple[int, int]
) -> np.ndarray:
    """The boxes that the same numbers of a label file mean in another convention."""
    sides = np.tile(size_hw, 2)
    unit = {_PIXELS: np.ones(4), _PERCENT: sides / 100, _FRACTIONS: sides}
    numbers = box_yxyx / unit[reading[1]] @ np.linalg.inv(_FORMS[reading[0]])
    return numbers @ _FORMS[other[0]] * unit[other[1]]
