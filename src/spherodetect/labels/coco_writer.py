"""Writes labels as COCO instances for other tools; `read_coco` reads them back unchanged.

In `labels`, only this module and the COCO reader use COCO's (x, y, width, height).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from spherodetect.geometry import polygon_area
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.rle import RunLengthMask, run_lengths


def to_coco(fields: Iterable[LabelledField]) -> dict[str, Any]:
    """A COCO data set of labelled fields; a box is the one around the outline where there is one.

    Categories are the class names in order of appearance, numbered from 1. Annotation ids are kept,
    but if two are equal (as those of several files may be), all are numbered from 1.

    Raises:
        ValueError: an annotation is a point, which COCO's instances cannot hold.

    >>> to_coco([])["categories"]
    []
    """
    fields = list(fields)
    names = list(dict.fromkeys(a.name for f in fields for a in f.annotations))
    given = [a.annotation_id for f in fields for a in f.annotations]
    ids = iter(given if len(set(given)) == len(given) else map(str, range(1, len(given) + 1)))
    images, annotations = [], []
    for image_id, f in enumerate(fields, 1):
        height, width = f.size_hw
        images.append({"id": image_id, "file_name": f.file, "width": width, "height": height})
        annotations += [
            {
                "id": _coco_id(next(ids)),
                "image_id": image_id,
                "category_id": names.index(a.name) + 1,
                **_shape(a, f.file),
            }
            for a in f.annotations
        ]
    categories = [
        {"id": number, "name": name, "supercategory": "cell"}
        for number, name in enumerate(names, 1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _coco_id(text: str) -> int | str:
    """The id as the number that COCO expects, or as text if it is no number."""
    is_number = text.isdecimal() and len(text) <= 18 and str(int(text)) == text
    return int(text) if is_number else text


def _shape(a: Annotation, file: str) -> dict[str, Any]:
    box = a.outline_box_yxyx
    if box is None:
        raise ValueError(
            f"{file}: expected a box or an outline, got the point {a.annotation_id}; "
            "COCO's instances hold no points"
        )
    y0, x0, y1, x1 = box
    shape: dict[str, Any] = {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": int(a.iscrowd)}
    if a.mask is not None:
        mask = a.mask if isinstance(a.mask, RunLengthMask) else run_lengths(a.mask)
        return shape | {
            "segmentation": {"size": list(mask.shape), "counts": mask.runs.tolist()},
            "area": mask.area_px,
        }
    area = sum(map(polygon_area, a.polygons)) if a.polygons else (y1 - y0) * (x1 - x0)
    return shape | {
        "segmentation": [np.ravel(p[:, ::-1]).tolist() for p in a.polygons],
        "area": area,
    }
