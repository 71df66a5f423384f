"""Cells with the calibration and the cut of a laboratory in place of the model's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.errors import SpherodetectError
from spherodetect.examined import Examined
from spherodetect.safety import quoted
from spherodetect.score.lab_rates import LabRates


def with_lab(one: Examined, lab: LabRates | None) -> Examined:
    """The field with each red cell's probability and class as they are in the laboratory."""
    if lab is None or one.problem:
        return one
    return replace(one, cells=called_in_lab(one.cells, lab))


def called_in_lab(cells: Cells, lab: LabRates) -> Cells:
    """Red cells are called spherocytes from the laboratory's cut on; other cells stay as they are.

    A cell that is no longer called a spherocyte becomes the likeliest other red cell.
    """
    names = np.array(cells.class_names)
    sphere = np.flatnonzero(names == "spherocyte")
    others = np.flatnonzero(np.isin(names, list(RED_CELLS - {"spherocyte"})))
    if not sphere.size or not others.size:
        raise SpherodetectError(
            f"rates of {quoted(lab.name)}: expected a model that tells spherocytes from other red "
            f"cells, got one of {', '.join(cells.class_names)}"
        )
    red = np.isin(cells.names, list(RED_CELLS))
    p = np.where(red, lab.calibrated(cells.p_spherocyte), cells.p_spherocyte).astype(np.float32)
    called = red & (p >= lab.p_spherocyte)
    class_id = np.where(called, sphere[0] + 1, cells.class_id)
    likeliest = others[np.argmax(cells.class_probabilities[:, others], axis=1)] + 1
    demoted = red & ~called & (cells.names == "spherocyte")
    class_id = np.where(demoted, likeliest, class_id).astype(cells.class_id.dtype)
    return replace(cells, p_spherocyte=p, class_id=class_id)
