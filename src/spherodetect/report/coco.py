"""Cells as a COCO data set, and as COCO results.

Pixel (0, 0) covers x and y from 0 to 1. Boxes are (x, y, width, height), the order of COCO; this
module and the COCO modules of `labels` alone use it. A box is that of the mask: readers cut masks
by their boxes. Masks are run-length encoded from box-local masks, so no mask of the whole field is
made. A mask has one part, the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.geometry import largest_part
from spherodetect.rle import run_lengths


def to_coco(fields: Iterable[Cells], *, patient_ids: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a COCO data set; annotations also have a score, and their attributes have p_spherocyte
    and countable.

    Ids count from 1 and never repeat. category_id is the class id. segmentation is a compressed
    run-length mask of the field.

    Args:
        fields: the cells, one element a field.
        patient_ids: one a field, to be written with the images; None for none.

    Raises:
        ValueError: the fields' classes differ, or there is not one patient_id a field.

    >>> coco = to_coco([cells])  # doctest: +SKIP
    """
    fields = list(fields)
    class_names = fields[0].class_names if fields else ()
    if any(cells.class_names != class_names for cells in fields):
        raise ValueError(
            "expected fields of the same classes, got several sets of names; write a file for each"
        )
    patients = (
        [{"patient_id": p} for p in patient_ids] if patient_ids is not None else [{}] * len(fields)
    )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (cells, patient) in enumerate(zip(fields, patients, strict=True), 1):
        height, width = cells.image_size_hw
        images.append(
            {
                "id": image_id,
                "file_name": cells.field_id,
                "width": width,
                "height": height,
                **patient,
            }
        )
        for annotation in coco_annotations(cells):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    return coco_head(class_names) | {"images": images, "annotations": annotations}


def coco_head(class_names: Sequence[str]) -> dict[str, Any]:
    """Return the members of a COCO data set, in order: with categories, without images."""
    categories = [
        {"id": i, "name": name, "supercategory": "cell"} for i, name in enumerate(class_names, 1)
    ]
    return {
        "info": {"description": "spherodetect"},
        "images": [],
        "categories": categories,
        "annotations": [],
    }


def to_result(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an annotation as an entry of COCO results, as `COCO.loadRes` takes it."""
    keys = "image_id", "category_id", "bbox", "segmentation", "score"
    return {key: annotation[key] for key in keys}


def coco_annotations(cells: Cells) -> Iterator[dict[str, Any]]:
    """Yield the annotation of each cell, without its ids."""
    for i, (whole, corner) in enumerate(cells.pixel_masks()):
        mask = largest_part(whole)
        ymin, xmin, ymax, xmax = _box(mask, corner) if mask.any() else cells.box_yxyx[i].tolist()
        yield {
            "category_id": int(cells.class_id[i]),
            "bbox": [round(float(v), 2) for v in (xmin, ymin, xmax - xmin, ymax - ymin)],
            "area": int(mask.sum()),
            "segmentation": run_lengths(
                mask, origin_yx=corner, size_hw=cells.image_size_hw
            ).to_coco(),
            "iscrowd": 0,
            "score": round(float(cells.confidence[i]), 4),
            "attributes": {
                "p_spherocyte": round(float(cells.p_spherocyte[i]), 4),
                "countable": int(cells.countable[i]),
            },
        }


def _box(mask: np.ndarray, origin_yx: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return (ymin, xmin, ymax, xmax) of the pixels of a mask that has one, half-open."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y, x = origin_yx
    return (y + int(rows[0]), x + int(columns[0]), y + int(rows[-1]) + 1, x + int(columns[-1]) + 1)


__all__ = ["coco_annotations", "coco_head", "to_coco", "to_result"]
