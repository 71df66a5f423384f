"""Cells as `supervision.Detections`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spherodetect.cells import Cells, pixel_windows
from spherodetect.rle import run_lengths

if TYPE_CHECKING:
    import supervision


def to_supervision(cells: Cells) -> supervision.Detections:
    """Return the cells of one field as `supervision.Detections`.

    Needs the extra: pip install 'spherodetect[supervision]'. Class ids of supervision count from 0.
    `data` holds names, p_spherocyte, countable and every measurement. Masks are
    `supervision.CompactMask`, so that none has the size of the field.

    >>> detections = to_supervision(cells)  # doctest: +SKIP
    """
    import supervision

    height, width = cells.image_size_hw
    y0, x0, y1, x1 = pixel_windows(cells.box_yxyx, cells.image_size_hw).T
    runs = [
        run_lengths(mask, origin_yx=corner, size_hw=(height, width)).to_coco()
        for mask, corner in cells.pixel_masks()
    ]
    # The boxes of supervision's masks include their last row and column.
    box_xyxy = np.stack([x0, y0, x1 - 1, y1 - 1], axis=1).astype(np.float32)
    masks = supervision.CompactMask.from_coco_rle(runs, box_xyxy, (height, width))
    return supervision.Detections(
        xyxy=cells.box_yxyx[:, [1, 0, 3, 2]],
        mask=masks,
        confidence=cells.confidence,
        class_id=cells.class_id.astype(int) - 1,
        data={
            "class_name": cells.names.astype(str),
            "p_spherocyte": cells.p_spherocyte,
            "countable": cells.countable,
            **cells.measurements,
        },
    )


__all__ = ["to_supervision"]
