"""Finds exports whose photographs were stretched to another aspect ratio.

Cells lie in all directions on a smear, so the median of their height to width is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from spherodetect.cells import touches_border
from spherodetect.labels.annotations import Finding, LabelledField
from spherodetect.labels.readers.ledger import LabelSet

#: The median of round cells is within a few per cent of 1.
MIN_STRETCH = 1.1
#: Cells are not quite round: at Dataset A's stretch of 1.33 their ratio is 1.28 to 1.30.
_RATIO_TOLERANCE = 0.05
#: Boxes have a margin around their cells, so their sides are nearer to each other by this factor.
_MARGIN = 1.02
#: Fewer cells give no reliable median.
_MIN_CELLS = 30
_CAMERA_RATIOS = {"4:3": 4 / 3, "3:2": 3 / 2, "16:9": 16 / 9, "5:4": 5 / 4}


def stretched_images(
    labels: LabelSet, split: str | None, fields: Sequence[LabelledField]
) -> Iterator[Finding]:
    """One finding for each image size whose cells are taller than wide, or wider than tall."""
    for size_hw in sorted({f.size_hw for f in fields}):
        members = [f for f in fields if f.size_hw == size_hw]
        ratio = _height_to_width(members)
        native_hw = members[0].native_size_hw
        stretch = ratio
        if native_hw:
            stretch = native_hw[1] * size_hw[0] / (native_hw[0] * size_hw[1])
        # A NaN compares as False.
        if not max(stretch, 1 / stretch) > MIN_STRETCH:
            continue
        height, width = size_hw
        observed = "cells are squashed"
        if math.isfinite(ratio):
            observed = f"whole cells are {ratio:.2f} times as tall as wide"
        if native_hw:
            severity, mend = "note", "nothing: the recipe's native_size_hw undoes it"
            cause = (
                f"{native_hw[1]}x{native_hw[0]} photographs were stretched to {width}x{height} "
                f"({stretch:.2f})"
            )
        else:
            severity = "error"
            mend = (
                "give native_size_hw: [height, width] of the photographs in a recipe, "
                "or export without stretching"
            )
            cause = (
                f"as if photographs of {_camera_ratios(stretch)} were stretched to {width}x{height}"
            )
        yield Finding(
            "stretched-image",
            severity,
            labels.where(members),
            split,
            len(members),
            (),
            f"{observed}: {cause}",
            mend,
        )


def _camera_ratios(stretch: float) -> str:
    """The usual aspect ratios of cameras that would explain a stretch to a square."""
    error = _ratio_errors(stretch)
    accepted = max(min(error.values()), _RATIO_TOLERANCE)
    near = sorted((name for name in error if error[name] <= accepted), key=error.__getitem__)
    return " or ".join(f"{name} ({_CAMERA_RATIOS[name]:.2f})" for name in near)


def probable_native_size(fields: Sequence[LabelledField]) -> tuple[int, int] | None:
    """Height and width from which an export probably stretched its photographs, or None.

    Only the aspect ratio is known: the width is that of the export. None if the fields have several
    sizes, too few boxes, round cells, or a stretch that no usual camera explains.
    """
    sizes = {f.size_hw for f in fields}
    ratio = _height_to_width(fields)
    if len(sizes) != 1 or not max(ratio, 1 / ratio) > MIN_STRETCH:
        return None
    height, width = sizes.pop()
    aspect = (ratio * _MARGIN if ratio > 1 else ratio / _MARGIN) * width / height
    error = _ratio_errors(aspect)
    name = min(error, key=error.__getitem__)
    if error[name] > _RATIO_TOLERANCE:
        return None
    camera = _CAMERA_RATIOS[name]
    return round(width / camera if aspect > 1 else width * camera), width


def _ratio_errors(aspect: float) -> dict[str, float]:
    """Difference between an aspect ratio and that of each camera, as a logarithm."""
    landscape = max(aspect, 1 / aspect)
    return {name: abs(math.log(ratio / landscape)) for name, ratio in _CAMERA_RATIOS.items()}


def _height_to_width(fields: Sequence[LabelledField]) -> float:
    """Median height to width of the boxes off the image's border; NaN for fewer than 30 boxes."""
    ratios: list[float] = []
    for field in fields:
        boxes = [a.outline_box_yxyx for a in field.annotations if a.outline_box_yxyx]
        box = np.array(boxes).reshape(-1, 4)
        box = box[~touches_border(box, field.size_hw)]
        ratios += ((box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1])).tolist()
    return float(np.median(ratios)) if len(ratios) >= _MIN_CELLS else float("nan")
