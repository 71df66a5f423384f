"""Cells for other programs: COCO, GeoJSON for QuPath, label images, binary masks, supervision.

Coordinates are native pixels; pixel (0, 0) covers x and y from 0 to 1, as in COCO and QuPath. All
exports read box-local masks, so no mask of the whole field is made for a cell.
"""

from __future__ import annotations

from spherodetect.report.coco import to_coco
from spherodetect.report.geojson import CLASS_COLOURS, class_colour, to_geojson
from spherodetect.report.label_images import to_class_mask, to_label_tiff
from spherodetect.report.supervision_detections import to_supervision

__all__ = [
    "CLASS_COLOURS",
    "class_colour",
    "to_class_mask",
    "to_coco",
    "to_geojson",
    "to_label_tiff",
    "to_supervision",
]
