"""Labels as `Cells`, as people drew them or repaired, to show and measure them."""

from __future__ import annotations

import io

import numpy as np

from spherodetect.cells import Cells, pixel_windows
from spherodetect.errors import BadImageError
from spherodetect.geometry import fill_polygon
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.repair.instances import Instance
from spherodetect.records.convert import convert
from spherodetect.safety import quoted

#: Half the side of the square that stands for a labelled point, in pixels.
_POINT_PX = 4.0


def labelled_cells(
    labelled: LabelledField, recipe: Recipe, *, repaired: bool = True
) -> tuple[np.ndarray, Cells]:
    """A labelled field's image, (H, W, 3) uint8, and its cells of known class.

    Args:
        labelled: a field of `read_labels`, with its image.
        recipe: what its names mean.
        repaired: True for the labels as in the records, with stretch undone and masks found; False
            for the labels as drawn on the file. A label without an outline is shown as its box.

    Raises:
        BadImageError: the image is missing or cannot be read.

    >>> image, cells = labelled_cells(labels.fields[0], recipe)  # doctest: +SKIP
    """
    from PIL import Image

    from spherodetect.fields.image import read_image

    if (path := labelled.path) is None:
        raise BadImageError(
            f"{quoted(labelled.file)}: expected an image with the labels, got none; export both"
        )
    if repaired:
        converted = convert(recipe, labelled)
        if converted.png is None:
            raise BadImageError(converted.problem)
        with Image.open(io.BytesIO(converted.png), formats=("PNG",)) as picture:
            image = np.asarray(picture)
        labelled, instances = converted.labelled, converted.found.instances
    else:
        image = read_image(path, name=labelled.file)
        instances = tuple(
            _as_drawn(a, recipe, image.shape[:2]) for a in labelled.annotations if not a.iscrowd
        )
    known = [i for i in instances if i.class_id]
    boxes = np.array([i.box_yxyx for i in known], float).reshape(-1, 4)
    windows = pixel_windows(boxes, image.shape[:2])
    masks = [
        np.ones((y1 - y0, x1 - x0), bool) if i.mask is None else i.mask
        for i, (y0, x0, y1, x1) in zip(known, windows.tolist(), strict=True)
    ]
    cells = Cells.from_labels(
        boxes,
        np.array([i.class_id for i in known], int),
        masks,
        image_size_hw=image.shape[:2],
        field_id=labelled.file,
        um_per_px=labelled.um_per_px,
        class_names=recipe.class_names,
    )
    return image, cells


def _as_drawn(annotation: Annotation, recipe: Recipe, size_hw: tuple[int, int]) -> Instance:
    """An annotation as an instance, with the pixels that its outline encloses."""
    if annotation.point_yx is not None:
        y, x = annotation.point_yx
        box = np.array([y - _POINT_PX, x - _POINT_PX, y + _POINT_PX, x + _POINT_PX])
    else:
        box = np.array(annotation.outline_box_yxyx, float)
    y0, x0, y1, x1 = pixel_windows(box[None], size_hw)[0].tolist()
    mask = None
    if annotation.mask is not None:
        mask = np.asarray(annotation.mask)[y0:y1, x0:x1]
    elif annotation.polygons:
        mask = np.zeros((y1 - y0, x1 - x0), bool)
        for polygon in annotation.polygons:
            mask |= fill_polygon(polygon - [y0, x0], mask.shape)
    return Instance(
        box,
        mask,
        0,
        recipe.meaning(annotation.name).class_id,
        annotation_id=annotation.annotation_id,
    )
