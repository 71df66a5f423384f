"""The look of one smear under one microscope, fixed or random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.synthetic.checks import require
from spherodetect.synthetic.shapes import RED_CELL_SHAPES

#: Smaller cells would have no visible pallor.
_MIN_RBC_PX = 12.0


@dataclass(frozen=True)
class SmearStyle:
    """The look of one smear under one microscope. Colours are (red, green, blue).

    Attributes:
        um_per_px: pixel size.
        rbc_diameter_um: mean diameter of the discocytes.
        anisocytosis: standard deviation of the relative diameter, in addition to the range of each
            shape.
        stain_od: green OD of a discocyte's rim.
        stain_rgb: OD of a red cell in each channel, relative to green.
        azure_od: green OD of a nucleus.
        azure_rgb: OD of a nucleus in each channel, relative to green.
        background_rgb: grey levels of the empty field at its brightest place, 0 to 255.
        falloff: part of the light that is lost one field width away from the brightest place.
        falloff_yx: the brightest place, relative to the field's height and width.
        pallor: factor on the pallor of all red cells but spherocytes. In thin areas of a smear it
            is small.
        pallor_steepness: 1 for a pallor that fades from its very centre, 6 for a pallor with a
            sharp edge.
        overlap_power: p in (sum OD^p)^(1/p), the OD of overlapping cells. With 1 the densities add;
            with larger values the cells are squeezed flat.
        halo: OD that refraction takes away just outside of each outline.
        blur_um: standard deviation of the optical blur.
        fringe_um: displacement of red and blue from green.
        noise: standard deviation of the sensor noise in grey levels.
        mottle: relative unevenness of the stain.
        debris: number of specks of stain and dust per 10,000 µm². They are in no mask.
        overlays: probability of each burnt-in or optical mark (scale bar, arrow, pointer). It does
            not depend on the cells.
        jpeg_quality: 1 to 95, or None for a field without compression.
        shape_shares: shares of the shapes of `RED_CELL_SHAPES` among the red cells that are not
            spherocytes.

    Raises:
        ValueError: a value is out of range.
    """

    um_per_px: float = 0.193
    rbc_diameter_um: float = RBC_DIAMETER_UM
    anisocytosis: float = 0.04
    stain_od: float = 0.20
    stain_rgb: tuple[float, float, float] = (0.38, 1.0, 0.62)
    azure_od: float = 0.5
    azure_rgb: tuple[float, float, float] = (0.62, 1.0, 0.28)
    background_rgb: tuple[float, float, float] = (186.0, 196.0, 188.0)
    falloff: float = 0.10
    falloff_yx: tuple[float, float] = (0.5, 0.5)
    pallor: float = 1.0
    pallor_steepness: float = 2.5
    overlap_power: float = 1.0
    halo: float = 0.015
    blur_um: float = 0.18
    fringe_um: float = 0.05
    noise: float = 2.0
    mottle: float = 0.03
    debris: float = 4.0
    overlays: float = 0.0
    jpeg_quality: int | None = 92
    shape_shares: Mapping[str, float] = field(
        default_factory=lambda: {
            name: recipe.share for name, recipe in RED_CELL_SHAPES.items() if recipe.share
        }
    )

    def __post_init__(self) -> None:
        for name, low, high in (
            ("um_per_px", 1e-4, 10),
            ("rbc_diameter_um", 1, 30),
            ("anisocytosis", 0, 0.3),
            ("stain_od", 0.01, 2),
            ("azure_od", 0.01, 2),
            ("falloff", 0, 0.9),
            ("pallor", 0, 1.3),
            ("pallor_steepness", 0.5, 20),
            ("overlap_power", 1, 10),
            ("halo", 0, 0.2),
            ("blur_um", 0, 3),
            ("fringe_um", 0, 1),
            ("noise", 0, 50),
            ("mottle", 0, 0.5),
            ("debris", 0, 1000),
            ("overlays", 0, 1),
        ):
            require(name, getattr(self, name), low, high)
        for name, high in (
            ("stain_rgb", 5),
            ("azure_rgb", 5),
            ("background_rgb", 255),
            ("falloff_yx", 2),
        ):
            for value in getattr(self, name):
                require(name, value, 0, high)
        if self.jpeg_quality is not None:
            require("jpeg_quality", self.jpeg_quality, 1, 95)
        unknown = set(self.shape_shares) - set(RED_CELL_SHAPES)
        if unknown or not sum(self.shape_shares.values()) > 0:
            raise ValueError(
                f"shape_shares: expected shares of {sorted(RED_CELL_SHAPES)}, "
                f"got {self.shape_shares!r}"
            )
        if self.rbc_diameter_um / self.um_per_px < _MIN_RBC_PX:
            raise ValueError(
                f"um_per_px: expected at most {self.rbc_diameter_um / _MIN_RBC_PX:.3g} for red "
                f"cells of {self.rbc_diameter_um} µm ({_MIN_RBC_PX:.0f} px), got {self.um_per_px!r}"
            )


def random_style(rng: np.random.Generator, *, um_per_px: float = 0.193) -> SmearStyle:
    """A random smear and microscope: stain, light, focus, camera and the mix of shapes vary.

    >>> random_style(np.random.default_rng(0)).um_per_px
    0.193
    """
    green = rng.uniform(135, 235)
    colours = rng.uniform([0.82, 0.88], [1.04, 1.10])
    shares = {name: r.share * rng.gamma(0.5, 2.0) for name, r in RED_CELL_SHAPES.items() if r.share}
    shares["discocyte"] = RED_CELL_SHAPES["discocyte"].share * rng.uniform(0.3, 1.2)
    return SmearStyle(
        um_per_px=um_per_px,
        rbc_diameter_um=float(np.clip(rng.normal(RBC_DIAMETER_UM, 0.45), 6.3, 8.9)),
        anisocytosis=float(rng.uniform(0.02, 0.09)),
        stain_od=float(np.exp(rng.uniform(np.log(0.11), np.log(0.38)))),
        stain_rgb=(float(rng.uniform(0.26, 0.62)), 1.0, float(rng.uniform(0.52, 0.90))),
        azure_od=float(rng.uniform(0.28, 0.70)),
        azure_rgb=(float(rng.uniform(0.42, 0.95)), 1.0, float(rng.uniform(0.08, 0.40))),
        background_rgb=(
            float(min(green * colours[0], 245)),
            float(green),
            float(min(green * colours[1], 245)),
        ),
        falloff=float(rng.uniform(0, 0.22)),
        falloff_yx=(float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.2, 0.8))),
        pallor=float(rng.uniform(0.7, 1.3)),
        pallor_steepness=float(np.exp(rng.uniform(np.log(1.3), np.log(6)))),
        overlap_power=float(rng.uniform(1, 2)),
        halo=float(rng.uniform(0, 0.035)),
        blur_um=float(rng.uniform(0.10, 0.30)),
        fringe_um=float(rng.uniform(0, 0.12)),
        noise=float(rng.uniform(1.0, 4.0)),
        mottle=float(rng.uniform(0.01, 0.06)),
        debris=float(rng.gamma(1.0, 5.0)),
        overlays=0.25,
        jpeg_quality=int(rng.integers(70, 96)),
        shape_shares=shares,
    )
