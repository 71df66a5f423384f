"""Turns the arrays of the inference graph into `Cells`."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from spherodetect.cells import UNSEEN, Cells
from spherodetect.detect.saved_graph import Arrays
from spherodetect.safety import quoted
from spherodetect.scale.find import Scale

logger = logging.getLogger(__name__)


def to_cells(
    found: Arrays,
    size_hw: tuple[int, int],
    class_names: tuple[str, ...],
    *,
    field_id: str,
    scale: Scale,
    conventions: tuple[str, ...] = (),
) -> Cells:
    """The cells of an image of a size, from what the graph returned for it."""
    if found["truncated"]:
        logger.warning(
            "%s: more cells than the model's limit; the least certain are left out",
            quoted(field_id),
        )
    n = int(found["num_detections"])
    return Cells(
        box_yxyx=found["boxes_yxyx"][:n],
        class_id=found["class_ids"][:n],
        confidence=found["confidences"][:n],
        class_probabilities=found["class_probabilities"][:n],
        p_spherocyte=found["p_spherocyte"][:n],
        countable=found["countable"][:n],
        masks=found["masks"][:n],
        image_size_hw=size_hw,
        field_id=field_id,
        um_per_px=scale.um_per_px,
        class_names=class_names,
        rbc_diameter_px=float(found["rbc_diameter_px"]),
        um_per_px_source=scale.source,
        measurements=_under_ink(found, n),
        **_convention(found, conventions),
    )


def _under_ink(found: Arrays, n: int) -> dict[str, np.ndarray]:
    """1 for each cell under ink, for `Cells.exclusion_reason`; graphs before 0.6 do not tell."""
    return {"under_ink": found["under_ink"][:n].astype(np.float32)} if "under_ink" in found else {}


def _convention(found: Arrays, names: tuple[str, ...]) -> dict[str, Any]:
    """The name of the field's convention and the distance of its look, if the graph has them."""
    if "convention" not in found:
        return {}
    return {
        "convention": (*names, UNSEEN)[int(found["convention"])],
        "look_distance": float(found["look_distance"]),
    }
