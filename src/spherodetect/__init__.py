"""Counts spherocytes on blood smears, and says for each patient how many, how sure, and which
cells.

For Research Use Only. Not for use in diagnostic procedures.

    import spherodetect

    model = spherodetect.load_model()
    cells = model.detect(spherodetect.read_image("field.jpg"))
    print(len(cells[cells.countable]), "countable red cells")

Importing this package imports no TensorFlow: what is heavy comes with the first use of what needs
it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError

# Named as their modules are: bound here and now, or the first import of the module would put itself
# in their place.
from spherodetect.measure import measure
from spherodetect.segment import segment

if TYPE_CHECKING:
    from spherodetect.detect.model import Model, load_model
    from spherodetect.fields.find import find_fields
    from spherodetect.fields.image import read_image
    from spherodetect.labels.check.lint import lint
    from spherodetect.labels.recipe import load_recipe
    from spherodetect.score.counts import PatientScore, score_counts
    from spherodetect.synthetic import draw_field, draw_patient

__version__ = "0.1.0"

__all__ = [
    "Cells",
    "Model",
    "PatientScore",
    "SpherodetectError",
    "draw_field",
    "draw_patient",
    "find_fields",
    "lint",
    "load_model",
    "load_recipe",
    "measure",
    "read_image",
    "score_counts",
    "segment",
]

_HOMES = {
    "Model": "detect.model",
    "PatientScore": "score.counts",
    "draw_field": "synthetic",
    "draw_patient": "synthetic",
    "find_fields": "fields.find",
    "lint": "labels.check.lint",
    "load_model": "detect.model",
    "load_recipe": "labels.recipe",
    "read_image": "fields.image",
    "score_counts": "score.counts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
