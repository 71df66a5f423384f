"""Mask R-CNN: the model of the project, by the same steps as `spherodetect score`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spherodetect.app.methods.method import COMMON, Found, Parameter, within_limits
from spherodetect.app.project import Project
from spherodetect.app.store.fields import COPIED, GIVEN, MEASURED, FieldRow
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.fields.field import Field
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.store import FieldStore

#: Where a person stated the pixel size, the model is told; else it finds the scale by itself.
_STATED = (GIVEN, MEASURED, COPIED)
#: The pixel sizes that the model accepts, in µm.
_LEAST_UM, _MOST_UM = 1e-3, 5.0


class MaskRCNN:
    """Finds and classifies the cells of a blood smear."""

    id = "model"
    name = "Mask R-CNN"
    cost = "some seconds a field on two CPU cores"
    parameters: tuple[Parameter, ...] = COMMON

    def missing(self, project: Project) -> str:
        return ""

    def find(self, project: Project, field: FieldRow, params: Mapping[str, Any]) -> Found:
        one = examined(project, field)
        if one.problem:
            raise SpherodetectError(one.problem)
        scale = one.scale
        return Found(
            within_limits(one.cells, params),
            named=True,
            accepted=one.quality.accepted,
            reason=one.quality.reason,
            um_per_px=scale.um_per_px,
            scale_source="bar" if scale.source == "scale bar" else scale.source,
        )


def examined(project: Project, field: FieldRow) -> Examined:
    """A field by the model, from the store of finished fields if it was examined before."""
    stated = field.um_per_px if field.scale_source in _STATED else None
    if stated is not None and not _LEAST_UM < stated < _MOST_UM:
        stated = None
    known = Field(field.patient, field.name, project.path_of(field), stated)
    labels = project.label_images.get(field.name)
    (one,) = examine(
        known,
        project.detector(),
        store=FieldStore(project.hidden / "fields"),
        label_images=None if labels is None else {known.path: labels},
    )
    return one


__all__ = ["MaskRCNN", "examined"]
