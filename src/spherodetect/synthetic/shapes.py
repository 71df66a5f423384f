"""The kinds of red cells and the ranges of their size, density and pallor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_Range = tuple[float, float]


class ShapeRanges(NamedTuple):
    """The ranges of one kind of red cell, each (low, high).

    Attributes:
        diameter: relative to the patient's discocytes.
        density: of the rim, relative to the patient's discocytes.
        pallor: depth of the central dip, relative to the rim.
        pallor_width: width of the dip, relative to the radius.
        aspect: width over length.
        share: default share among the red cells that are not spherocytes, not normalised.
    """

    diameter: _Range
    density: _Range
    pallor: _Range
    pallor_width: _Range
    aspect: _Range
    share: float


#: Pallor, size and density follow the medians and quartiles of the separate cells of the same name
#: in Chula RBC-12. Columns: diameter, density, pallor, pallor_width, aspect, share.
_TABLE: dict[str, tuple[_Range, _Range, _Range, _Range, _Range, float]] = {
    "spherocyte": ((0.78, 0.95), (1.25, 1.55), (0.00, 0.20), (0.25, 0.42), (0.90, 1.00), 0),
    "discocyte": ((0.95, 1.05), (0.92, 1.08), (0.45, 0.82), (0.34, 0.60), (0.87, 1.00), 70),
    "ovalocyte": ((0.90, 1.08), (0.95, 1.20), (0.30, 0.70), (0.35, 0.58), (0.62, 0.80), 6),
    "elliptocyte": ((0.88, 1.02), (0.95, 1.20), (0.20, 0.60), (0.38, 0.60), (0.42, 0.62), 2),
    "microcyte": ((0.72, 0.87), (0.90, 1.10), (0.42, 0.75), (0.38, 0.58), (0.88, 1.00), 5),
    "macrocyte": ((1.18, 1.35), (0.90, 1.10), (0.35, 0.70), (0.36, 0.55), (0.88, 1.00), 3),
    "target": ((0.98, 1.15), (0.85, 1.00), (0.50, 0.75), (0.15, 0.22), (0.85, 1.00), 3),
    "stomatocyte": ((0.92, 1.08), (0.90, 1.08), (0.60, 0.92), (0.15, 0.34), (0.85, 1.00), 3),
    "hypochromic": ((0.88, 1.08), (0.78, 0.98), (0.70, 0.90), (0.60, 0.75), (0.85, 1.00), 3),
    "teardrop": ((0.85, 1.00), (0.95, 1.15), (0.20, 0.70), (0.32, 0.50), (0.75, 0.95), 1.5),
    "burr": ((0.82, 1.00), (0.95, 1.35), (0.00, 0.50), (0.30, 0.50), (0.82, 1.00), 2.5),
    "schistocyte": ((0.55, 0.82), (1.00, 1.30), (0.00, 0.30), (0.25, 0.45), (0.65, 1.00), 1.5),
    "polychromatic": ((1.08, 1.25), (0.90, 1.08), (0.00, 0.20), (0.30, 0.45), (0.85, 1.00), 1.5),
    # Pale cells without pallor, as in the thin part of a film; drawn only on request.
    "flat": ((0.98, 1.20), (0.70, 0.95), (0.00, 0.15), (0.30, 0.50), (0.82, 1.00), 0),
}  # fmt: skip

RED_CELL_SHAPES: Mapping[str, ShapeRanges] = {
    name: ShapeRanges(*values) for name, values in _TABLE.items()
}
