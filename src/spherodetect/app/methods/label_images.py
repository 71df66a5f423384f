"""Label images: outlines that another tool wrote beside the photographs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spherodetect.app.methods.method import COMMON, Found, Parameter, within_limits
from spherodetect.app.methods.watershed import cells_of_labels
from spherodetect.app.project import Project
from spherodetect.app.store.fields import FieldRow
from spherodetect.errors import BadImageError
from spherodetect.measure import measure
from spherodetect.pipeline.label_images import read_label_image
from spherodetect.safety import quoted


class LabelImages:
    """Takes the outlines of a TIFF of one whole number an object."""

    id = "labels"
    name = "Label images"
    cost = "less than a second a field"
    parameters: tuple[Parameter, ...] = COMMON

    def missing(self, project: Project) -> str:
        if project.label_images:
            return ""
        return "no label image lies beside a photograph; put one there, such as a_masks.tif"

    def find(self, project: Project, field: FieldRow, params: Mapping[str, Any]) -> Found:
        path = project.label_images.get(field.name)
        if path is None:
            raise BadImageError(
                f"{quoted(field.name)}: expected a label image beside it, found none; it is left "
                "out"
            )
        labels = read_label_image(path)
        if labels.shape != field.size_hw:
            raise BadImageError(
                f"{quoted(field.name)}: expected a label image of {field.size_hw} (height, width), "
                f"got {labels.shape}"
            )
        numbers, numbered = np.unique(labels, return_inverse=True)
        # Without a background the first region is 0 too.
        first = 0 if len(numbers) and numbers[0] == 0 else 1
        regions = numbered.reshape(labels.shape).astype(np.int32) + first
        cells = cells_of_labels(regions, field)
        return Found(within_limits(measure(cells, project.photograph(field)), params))


__all__ = ["LabelImages"]
