"""Cells before they have a place: size, outline, stain and pallor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from spherodetect.synthetic.shapes import RED_CELL_SHAPES
from spherodetect.synthetic.style import SmearStyle

#: The angles at which the radius of an outline is stored; the last repeats the first.
ANGLES = np.linspace(-np.pi, np.pi, 361)
#: Probabilities of the kinds of white cells.
_WHITE_KINDS = {"neutrophil": 0.58, "lymphocyte": 0.30, "monocyte": 0.08, "eosinophil": 0.04}


@dataclass(frozen=True, eq=False)
class Body:
    """A cell before it has a place.

    Attributes:
        class_name: its class.
        shape: its kind, for red cells a name of `RED_CELL_SHAPES`.
        diameter_um: diameter of the circle of the same area.
        outline: radius at `ANGLES`, with a mean square of 1.
        rgb: OD in each channel relative to green.
        rim_od: green OD of the rim, or of the nucleus.
        pallor: depth of the central dip, relative to the rim.
        pallor_width: width of the dip, relative to the radius.
        pallor_steepness: exponent of the dip's profile.
        dome: exponent of the profile at the rim; large values give a steep edge.
        off_centre: (y, x) of the dip, relative to the radius.
    """

    class_name: str
    shape: str
    diameter_um: float
    outline: np.ndarray
    rgb: np.ndarray
    rim_od: float
    pallor: float = 0.0
    pallor_width: float = 0.4
    pallor_steepness: float = 3.0
    dome: float = 8.0
    off_centre: tuple[float, float] = (0.0, 0.0)


def red_cell(rng: np.random.Generator, shape: str, style: SmearStyle) -> Body:
    """A red cell of a kind of `RED_CELL_SHAPES`."""
    ranges = RED_CELL_SHAPES[shape]
    size, density, pallor, width, aspect = (float(rng.uniform(*limits)) for limits in ranges[:5])
    sphere = shape == "spherocyte"
    size *= math.exp(rng.normal(0, style.anisocytosis * (0.7 if sphere else 1)))
    rgb = np.array(style.stain_rgb) * rng.normal(1, 0.02, 3)
    if shape == "polychromatic":  # RNA takes up the blue stain, which absorbs red light
        rgb = rgb + np.array([0.14, 0.0, -0.06]) * rng.uniform(0.4, 1.2)
    return Body(
        class_name="spherocyte" if sphere else "rbc",
        shape=shape,
        diameter_um=style.rbc_diameter_um * size,
        outline=_outline(rng, shape, aspect),
        rgb=rgb,
        rim_od=style.stain_od * density,
        pallor=pallor if sphere else min(pallor * style.pallor, 0.92),
        pallor_width=width,
        pallor_steepness=style.pallor_steepness * float(rng.uniform(0.8, 1.25)),
        dome=float(rng.uniform(7, 13) if sphere else rng.uniform(9, 20)),
        off_centre=tuple(rng.normal(0, 0.02 if sphere else 0.05, 2).tolist()),
    )


def _outline(
    rng: np.random.Generator, shape: str, aspect: float, *, wobble: float | None = None
) -> np.ndarray:
    """The radius of a star-shaped outline of area pi at `ANGLES`, in a random orientation."""
    angle = ANGLES[:-1]
    # A superellipse: the ends of elongated cells are rounder than those of an ellipse.
    blunt = 2 + 0.8 * (1 - aspect)
    x, y = np.abs(np.cos(angle)) * math.sqrt(aspect), np.abs(np.sin(angle)) / math.sqrt(aspect)
    radius = (x**blunt + y**blunt) ** (-1 / blunt)
    if wobble is None:
        wobble = 0.006 if shape == "spherocyte" else 0.016 * aspect
    # Low harmonics make the outline irregular. Order 1 would only move it.
    for order in range(2, 7):
        amplitude = rng.normal(0, wobble / (order - 1) ** 0.5)
        radius *= 1 + amplitude * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    smooth = 0.0
    if shape == "teardrop":
        radius += rng.uniform(0.45, 0.95) * np.exp(
            -(np.abs(angle / rng.uniform(0.22, 0.38)) ** 1.5)
        )
        smooth = 4
    elif shape == "burr":
        n_spikes = int(rng.integers(8, 17))
        spikes = (np.arange(n_spikes) + rng.normal(0, 0.13, n_spikes)) / n_spikes
        away = np.abs((angle[:, None] / (2 * np.pi) - spikes + 0.5) % 1 - 0.5) * n_spikes
        height = rng.uniform(0.04, 0.15) * rng.uniform(0.4, 1.3, n_spikes)
        radius += np.exp(-((away / 0.30) ** 2)) @ height
        smooth = 2
    elif shape == "schistocyte":
        # One to three straight cuts. At an angle a from its normal, a line at distance d has the
        # radius d / cos(a).
        turns = rng.uniform(0, 2 * np.pi)
        for direction in turns + np.cumsum(rng.uniform(1.3, 2.6, rng.integers(1, 4))):
            distance = rng.uniform(0.25, 0.7)
            radius = np.minimum(radius, distance / np.maximum(np.cos(angle - direction), 1e-3))
        smooth = 9
    if smooth:
        radius = ndimage.gaussian_filter1d(radius, smooth, mode="wrap")
    radius = np.roll(radius, int(rng.integers(len(radius)))) / math.sqrt(np.mean(radius**2))
    return np.append(radius, radius[0])


def white_cell(rng: np.random.Generator, style: SmearStyle) -> Body:
    """A white cell of a random kind."""
    kind = str(rng.choice(list(_WHITE_KINDS), p=list(_WHITE_KINDS.values())))
    low, high = {"lymphocyte": (8.5, 12), "monocyte": (14, 18)}.get(kind, (11.5, 14.5))
    outline = _outline(rng, kind, float(rng.uniform(0.85, 1)), wobble=0.03)
    rgb = np.array(style.azure_rgb) * rng.normal(1, 0.05, 3)
    return Body(
        "wbc",
        kind,
        float(rng.uniform(low, high)),
        outline,
        rgb,
        style.azure_od * float(rng.uniform(0.85, 1.15)),
    )


def platelet(rng: np.random.Generator, style: SmearStyle) -> Body:
    """A platelet."""
    diameter = float(np.clip(rng.normal(2.6, 0.5), 1.5, 4.5))
    outline = _outline(rng, "platelet", float(rng.uniform(0.6, 1)), wobble=0.06)
    rgb = np.array(style.azure_rgb) * rng.normal(1, 0.1, 3)
    return Body(
        "platelet",
        "platelet",
        diameter,
        outline,
        rgb,
        style.azure_od * float(rng.uniform(0.4, 1.0)),
    )
