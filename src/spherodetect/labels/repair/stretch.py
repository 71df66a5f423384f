"""Undoes the stretch of an export, for the image and its labels together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spherodetect.labels.annotations import Annotation, LabelledField

#: Aspect ratios closer than this are equal.
_TOLERANCE = 0.005


def unstretch(image: np.ndarray, labelled: LabelledField) -> tuple[np.ndarray, LabelledField, int]:
    """Give a stretched field the aspect ratio of its photograph.

    One side keeps its length and the other one shrinks, so that no pixel is invented.

    Returns:
        The image, the field in its pixels, and the number of annotations scaled.
    """
    if labelled.native_size_hw is None:
        return image, labelled, 0
    height, width = image.shape[:2]
    native_height, native_width = labelled.native_size_hw
    scale = np.array([native_height / height, native_width / width])
    scale /= scale.max()
    if np.allclose(scale, 1, atol=_TOLERANCE):
        return image, labelled, 0
    from PIL import Image

    size_hw = (round(height * scale[0]), round(width * scale[1]))
    resized = np.asarray(Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.LANCZOS))
    factor = np.array(size_hw) / [height, width]
    annotations = tuple(_scaled(a, factor) for a in labelled.annotations)
    field = replace(labelled, annotations=annotations, size_hw=size_hw, um_per_px=None)
    return resized, field, len(annotations)


def _scaled(annotation: Annotation, factor_yx: np.ndarray) -> Annotation:
    mask = annotation.mask
    if mask is not None:
        from PIL import Image

        height, width = np.round(np.array(mask.shape) * factor_yx).astype(int)
        picture = Image.fromarray(np.asarray(mask))
        mask = np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))
    box, point = annotation.box_yxyx, annotation.point_yx
    return replace(
        annotation,
        box_yxyx=None if box is None else tuple(np.array(box) * np.tile(factor_yx, 2)),
        point_yx=None if point is None else tuple(np.array(point) * factor_yx),
        polygons=tuple(p * factor_yx for p in annotation.polygons),
        mask=mask,
    )
