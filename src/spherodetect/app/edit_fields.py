"""Outlines that people draw, and pixel sizes that they measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spherodetect.app.project import Project
from spherodetect.app.store.fields import COPIED, MEASURED, FieldRow, all_fields, set_scale
from spherodetect.app.store.objects import objects_in
from spherodetect.app.store.outlines import Outline, cells_of, drawn_mask, outlines_of
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.errors import SpherodetectError
from spherodetect.measure import measure

#: Pixel sizes that a microscope or a camera can have, in µm.
LEAST_UM, MOST_UM = 1e-4, 1e5
#: Two bars are the same if their lengths and places differ by at most this.
_SAME_LENGTH, _SAME_PLACE_PX = 0.03, 8.0
_DOUBT = 1.5
#: Measurements that are relative to the objects of the field, and what they are relative to.
_RELATIVE = {"relative_diameter": "diameter_px", "relative_od": "mean_od"}


class Measurer:
    """Measures outlines that a person drew, in relation to the objects of the field."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def drawn(self, field_id: int, flat_xy: Sequence[float]) -> Outline:
        """The measured outline of a drawn polygon.

        Raises:
            SpherodetectError: it is no outline, or lies outside of the image.
        """
        field = self._project.field(field_id)
        box, mask = drawn_mask(flat_xy, field.size_hw)
        return self(field_id, Outline(box, mask))

    def __call__(self, field_id: int, outline: Outline) -> Outline:
        return self.all(field_id, [outline])[0]

    def all(self, field_id: int, outlines: Sequence[Outline]) -> list[Outline]:
        """The outlines of one field, measured.

        Raises:
            BadImageError: the photograph cannot be read.
        """
        if not outlines:
            return []
        field = self._project.field(field_id)
        cells = cells_of(outlines, range(len(outlines)), field.size_hw)
        cells = replace(cells, um_per_px=field.um_per_px)
        measured = outlines_of(measure(cells, self._project.photograph(field)), named=False)
        others = [one.measurements for one in objects_in(self._project.base, field_id)]
        medians = {}
        for of in _RELATIVE.values():
            known = [other[of] for other in others if of in other]
            medians[of] = float(np.median(known)) if known else None
        found = []
        for outline, one in zip(outlines, measured, strict=True):
            values = dict(one.measurements)
            for name, of in _RELATIVE.items():
                if (median := medians[of]) and of in values:
                    values[name] = round(values[of] / median, 5)
            found.append(replace(outline, countable=one.countable, measurements=values))
        return found


def scale_view(project: Project, field: FieldRow) -> dict[str, Any]:
    """The pixel size of a field, the bar that was found, and the fields with the same bar."""
    line = field.scale_line
    diameter = field.rbc_diameter_px
    width_um = diameter * field.um_per_px if diameter and field.um_per_px else None
    error = None
    if line is not None:
        # Each end is placed to half a pixel.
        error = 0.5 * math.sqrt(2) / math.dist(line[:2], line[2:4])
    elif field.scale_source == "bar" and field.bar:
        error = 0.5 / field.bar["length_px"]
    return {
        "um_per_px": field.um_per_px,
        "source": field.scale_source,
        "confirmed": field.scale_confirmed,
        "warning": _doubt(width_um),
        "relative_error": error,
        "line": list(line) if line else None,
        "bar": field.bar,
        "strip_rows": field.strip_rows,
        "same_bar": [one.id for one in same_bar(project, field)],
        "rbc_diameter_um": round(width_um, 2) if width_um else None,
    }


def measure_scale(
    project: Project,
    field: FieldRow,
    *,
    um_per_px: float | None = None,
    line_xy: Sequence[float] | None = None,
    length_um: float | None = None,
    apply_to: str = "this",
) -> list[int]:
    """Set the pixel size of a field by a line of known length, or as a number; the fields set.

    The field itself is measured and confirmed. Others get a copy that is not confirmed.

    Raises:
        SpherodetectError: a line without length or outside of the image, or an impossible size.
    """
    line: list[float] | None = None
    if line_xy is not None:
        um_per_px, line = _by_line(field, line_xy, length_um)
    if um_per_px is None or not LEAST_UM <= um_per_px <= MOST_UM:
        got = "none" if um_per_px is None else f"{um_per_px:g}"
        raise SpherodetectError(
            f"expected a pixel size from {LEAST_UM:g} to {MOST_UM:g} µm, got {got}; check the "
            "length"
        )
    others: list[int] = []
    if apply_to == "same_bar":
        others = [one.id for one in same_bar(project, field)]
    elif apply_to == "all":
        others = [one.id for one in all_fields(project.base) if one.id != field.id]
    with project.base.writing():
        set_scale(project.base, [field.id], um_per_px, MEASURED, confirmed=True, line=line)
        set_scale(project.base, others, um_per_px, COPIED, confirmed=False)
    return [field.id, *others]


def same_bar(project: Project, field: FieldRow) -> list[FieldRow]:
    """The other fields of the same size whose bar has the same length at the same place."""
    bar = field.bar
    if bar is None:
        return []
    found = []
    for one in all_fields(project.base):
        if one.id == field.id or one.bar is None or one.size_hw != field.size_hw:
            continue
        apart = max(abs(one.bar[end] - bar[end]) for end in ("x0", "x1", "y0"))
        ratio = abs(one.bar["length_px"] / bar["length_px"] - 1)
        if ratio <= _SAME_LENGTH and apart <= _SAME_PLACE_PX:
            found.append(one)
    return found


def _by_line(
    field: FieldRow, line_xy: Sequence[float], length_um: float | None
) -> tuple[float, list[float]]:
    x0, y0, x1, y1 = line_xy
    height, width = field.size_hw
    inside = all(0 <= x <= width for x in (x0, x1)) and all(0 <= y <= height for y in (y0, y1))
    if not inside:
        raise SpherodetectError(
            f"expected both ends inside of the image of {width}x{height} pixels, got one outside"
        )
    length_px = math.hypot(x1 - x0, y1 - y0)
    if length_px < 2:
        raise SpherodetectError(
            f"expected two ends at least 2 pixels apart, got {length_px:.2g}; drag one of them"
        )
    if length_um is None or not math.isfinite(length_um) or length_um <= 0:
        got = "none" if length_um is None else f"{length_um:g}"
        raise SpherodetectError(f"expected a length above 0 µm, got {got}")
    return length_um / length_px, [x0, y0, x1, y1, length_um]


def _doubt(width_um: float | None) -> str:
    if width_um is None:
        return ""
    if max(width_um / RBC_DIAMETER_UM, RBC_DIAMETER_UM / width_um) <= _DOUBT:
        return ""
    return (
        f"at this pixel size the usual object is {width_um:.3g} µm wide; red cells are about "
        f"{RBC_DIAMETER_UM:g}"
    )


__all__ = ["LEAST_UM", "MOST_UM", "Measurer", "measure_scale", "same_bar", "scale_view"]
