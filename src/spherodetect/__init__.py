"""Measures the share of spherocytes among the red cells of blood smears, patient by patient.

Beside the figure it gives its uncertainty and the cells it rests on.
For Research Use Only. Not for use in diagnostic procedures.

    import spherodetect

    result = spherodetect.score_patients("smears")
    print(result.patients[["patient_id", "hs_score", "hs_score_low", "hs_score_high"]])

The import of this package imports no other library. Each is imported by the first function that
needs it, so that a command can be interrupted from its first moment on.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from spherodetect.errors import SpherodetectError

if TYPE_CHECKING:
    from spherodetect.cells import Cells
    from spherodetect.cells_file import read_cells, write_cells
    from spherodetect.corrections import Correction
    from spherodetect.detect.detector import Detector
    from spherodetect.detect.model import Model, load_model
    from spherodetect.evaluation.run import evaluate
    from spherodetect.examined import Examined
    from spherodetect.fields.find import find_fields
    from spherodetect.fields.image import read_image
    from spherodetect.labels.check.lint import lint
    from spherodetect.labels.recipe import load_recipe
    from spherodetect.measure import measure
    from spherodetect.photograph import Photograph
    from spherodetect.pipeline.examine import examine
    from spherodetect.pipeline.patient import score_patient
    from spherodetect.pipeline.run import score_patients
    from spherodetect.pipeline.store import FieldStore
    from spherodetect.records.builder import tfds_builder
    from spherodetect.records.tfrecords import tfrecords
    from spherodetect.report.results import Result
    from spherodetect.score.counts import PatientScore, score_counts
    from spherodetect.segment import segment
    from spherodetect.synthetic import draw_field, draw_patient
    from spherodetect.training.api import export, train

__version__ = "0.1.0"

#: Public name to the module that defines it.
_HOMES = {
    "Cells": "cells",
    "Correction": "corrections",
    "Detector": "detect.detector",
    "Examined": "examined",
    "FieldStore": "pipeline.store",
    "Model": "detect.model",
    "PatientScore": "score.counts",
    "Photograph": "photograph",
    "Result": "report.results",
    "draw_field": "synthetic",
    "draw_patient": "synthetic",
    "evaluate": "evaluation.run",
    "examine": "pipeline.examine",
    "export": "training.api",
    "find_fields": "fields.find",
    "lint": "labels.check.lint",
    "load_model": "detect.model",
    "load_recipe": "labels.recipe",
    "measure": "measure",
    "read_cells": "cells_file",
    "read_image": "fields.image",
    "score_counts": "score.counts",
    "score_patient": "pipeline.patient",
    "score_patients": "pipeline.run",
    "segment": "segment",
    "tfds_builder": "records.builder",
    "tfrecords": "records.tfrecords",
    "train": "training.api",
    "write_cells": "cells_file",
}

__all__ = [
    "Cells",
    "Correction",
    "Detector",
    "Examined",
    "FieldStore",
    "Model",
    "PatientScore",
    "Photograph",
    "Result",
    "SpherodetectError",
    "draw_field",
    "draw_patient",
    "evaluate",
    "examine",
    "export",
    "find_fields",
    "lint",
    "load_model",
    "load_recipe",
    "measure",
    "read_cells",
    "read_image",
    "score_counts",
    "score_patient",
    "score_patients",
    "segment",
    "tfds_builder",
    "tfrecords",
    "train",
    "write_cells",
]


class _Package(ModuleType):
    """The package. Two of its functions have the names of their modules."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import of such a module would put the module in the place of the function.
        is_module = isinstance(value, ModuleType) and _HOMES.get(name) == name
        super().__setattr__(name, getattr(value, name) if is_module else value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
