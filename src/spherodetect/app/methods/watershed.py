"""Watershed: objects that stand out from an even ground, separated where they touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spherodetect.app.methods.method import COMMON, Found, Parameter, within_limits
from spherodetect.app.project import Project
from spherodetect.app.store.fields import FieldRow
from spherodetect.cells import Cells
from spherodetect.measure import measure
from spherodetect.photograph import Photograph
from spherodetect.segment import segment

LIGHT, DARK = "light", "dark"
GROUND = Parameter(
    "ground",
    "Ground",
    "What the objects lie on.",
    type="choice",
    default=LIGHT,
    choices=((LIGHT, "dark objects on a light ground"),
             (DARK, "light objects on a dark ground")),
)  # fmt: skip


class Watershed:
    """See `segment.watershed`."""

    id = "watershed"
    name = "Watershed"
    cost = "about half a second a field of 640 by 480 pixels; no model"
    parameters: tuple[Parameter, ...] = (
        Parameter(
            "diameter_px",
            "Diameter",
            "Of a usual object; without it, it is estimated in each field.",
            unit="px",
            least=4,
            most=5000,
        ),
        GROUND,
        *COMMON,
    )  # fmt: skip

    def missing(self, project: Project) -> str:
        return ""

    def find(self, project: Project, field: FieldRow, params: Mapping[str, Any]) -> Found:
        photograph = project.photograph(field)
        picture = photograph.image[: photograph.rows]
        if params["ground"] == DARK:
            picture = 255 - picture
            photograph = Photograph(255 - photograph.image)
        labels = segment(picture, rbc_diameter_px=params["diameter_px"]).labels
        cells = cells_of_labels(labels, field)
        return Found(within_limits(measure(cells, photograph), params))


def cells_of_labels(labels: np.ndarray, field: FieldRow) -> Cells:
    """The regions of a label image, numbered from 1 without gaps, as cells of class 1."""
    from scipy.ndimage import find_objects

    slices = list(find_objects(labels))
    return Cells.from_labels(
        np.array([(y.start, x.start, y.stop, x.stop) for y, x in slices], np.float32),
        np.ones(len(slices)),
        [labels[where] == k for k, where in enumerate(slices, 1)],
        image_size_hw=field.size_hw,
        field_id=field.name,
        um_per_px=field.um_per_px,
    )


__all__ = ["DARK", "GROUND", "LIGHT", "Watershed", "cells_of_labels"]
