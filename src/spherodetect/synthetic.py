"""Draws fields of a stained blood smear whose truth is known: masks, classes, diameters, pallor and
pixel size.

Light is absorbed as in Beer-Lambert's law: each cell adds optical density (OD, -log10 of
transmitted light over background) in the ratio of its stain, so overlapping cells darken each
other. Images are uint8 RGB (H, W, 3), lengths in µm, masks box-local and boolean. A mask is the
full outline of its cell inside the image: where two cells overlap, both masks hold the overlap, and
the blur of the optics does not widen them. All chance comes from the generator that the caller
gives: one seed, one field, byte for byte.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.spatial import cKDTree

from .cells import CLASS_NAMES, Cells
from .constants import RBC_DIAMETER_UM

_ANGLES = np.linspace(-np.pi, np.pi, 361)
_MIN_RBC_PX = 12.0
_COUNTABLE_OVERLAP = 0.05
_CYTOPLASM_RGB = {"neutrophil": (0.55, 1.0, 0.50), "lymphocyte": (1.0, 0.85, 0.25), "monocyte": (0.85, 1.0, 0.45),
                  "eosinophil": (0.30, 1.0, 0.80)}  # fmt: skip


class _Recipe(NamedTuple):
    """Ranges of a red-cell shape; diameter and density relative to the patient's discocytes, width
    to the radius."""

    diameter: tuple[float, float]
    density: tuple[float, float]
    pallor: tuple[float, float]
    pallor_width: tuple[float, float]
    aspect: tuple[float, float]
    share: float


#: Pallor, size and density follow the medians and quartiles of isolated Chula RBC-12 cells of the
#: same name.
RED_CELL_SHAPES: Mapping[str, _Recipe] = {
    "spherocyte": _Recipe((0.78, 0.95), (1.25, 1.55), (0.00, 0.20), (0.25, 0.42), (0.90, 1.00), 0),
    "discocyte": _Recipe((0.95, 1.05), (0.92, 1.08), (0.45, 0.82), (0.34, 0.60), (0.87, 1.00), 70),
    "ovalocyte": _Recipe((0.90, 1.08), (0.95, 1.20), (0.30, 0.70), (0.35, 0.58), (0.62, 0.80), 6),
    "elliptocyte": _Recipe((0.88, 1.02), (0.95, 1.20), (0.20, 0.60), (0.38, 0.60), (0.42, 0.62), 2),
    "microcyte": _Recipe((0.72, 0.87), (0.90, 1.10), (0.42, 0.75), (0.38, 0.58), (0.88, 1.00), 5),
    "macrocyte": _Recipe((1.18, 1.35), (0.90, 1.10), (0.35, 0.70), (0.36, 0.55), (0.88, 1.00), 3),
    "target": _Recipe((0.98, 1.15), (0.85, 1.00), (0.50, 0.75), (0.15, 0.22), (0.85, 1.00), 3),
    "stomatocyte": _Recipe((0.92, 1.08), (0.90, 1.08), (0.60, 0.92), (0.15, 0.34), (0.85, 1.00), 3),
    "hypochromic": _Recipe((0.88, 1.08), (0.78, 0.98), (0.70, 0.90), (0.60, 0.75), (0.85, 1.00), 3),
    "teardrop": _Recipe((0.85, 1.00), (0.95, 1.15), (0.20, 0.70), (0.32, 0.50), (0.75, 0.95), 1.5),
    "burr": _Recipe((0.82, 1.00), (0.95, 1.35), (0.00, 0.50), (0.30, 0.50), (0.82, 1.00), 2.5),
    "schistocyte": _Recipe(
        (0.55, 0.82), (1.00, 1.30), (0.00, 0.30), (0.25, 0.45), (0.65, 1.00), 1.5
    ),
    "polychromatic": _Recipe(
        (1.08, 1.25), (0.90, 1.08), (0.00, 0.20), (0.30, 0.45), (0.85, 1.00), 1.5
    ),
}


@dataclass(frozen=True)
class SmearStyle:
    """How one smear looks under one microscope; colours are (red, green, blue).

    Attributes:
        um_per_px: pixel size.
        rbc_diameter_um: mean diameter of the discocytes.
        anisocytosis: standard deviation of the relative diameter, on top of each shape's own range.
        stain_od: green OD of a discocyte's rim.
        stain_rgb: OD of a red cell in each channel, relative to green.
        background_rgb: grey levels of the empty field at its brightest, 0 to 255.
        falloff: light lost from the brightest place to a point one field width away, 0 to 1.
        falloff_yx: the brightest place, relative to the field's height and width.
        azure_od, azure_rgb: green OD of a nucleus, and its OD in each channel relative to green.
        pallor: factor on the pallor of all red cells but spherocytes; thin areas of a smear have
            less of it.
        pallor_steepness: 1 for a pallor that fades from its very centre, 6 for one with a sharp
            edge.
        overlap_power: 1 adds the OD of overlapping cells; with larger p, cells squeezed flat, it is
            (sum OD^p)^(1/p).
        halo: OD that refraction takes away just outside each outline.
        blur_um: standard deviation of the optical blur.
        fringe_um: how far red and blue are displaced from green.
        noise: standard deviation of the sensor noise in grey levels.
        mottle: relative unevenness of the stain.
        debris: specks of stain and dust per 10,000 µm²; they are in no mask.
        overlays: probability of each burnt-in or optical decoy (scale bar, arrow, pointer),
            whatever the cells are.
        jpeg_quality: 1 to 95, or None to leave the field uncompressed.
        shape_shares: shape name of `RED_CELL_SHAPES` to its share among the red cells that are not
            spherocytes.
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
            _require(name, getattr(self, name), low, high)
        for name, high in (
            ("stain_rgb", 5),
            ("azure_rgb", 5),
            ("background_rgb", 255),
            ("falloff_yx", 2),
        ):
            for value in getattr(self, name):
                _require(name, value, 0, high)
        if self.jpeg_quality is not None:
            _require("jpeg_quality", self.jpeg_quality, 1, 95)
        unknown = set(self.shape_shares) - set(RED_CELL_SHAPES)
        if unknown or not sum(self.shape_shares.values()) > 0:
            raise ValueError(
                f"shape_shares: expected shares of {sorted(RED_CELL_SHAPES)}, got {self.shape_shares!r}"
            )
        if self.rbc_diameter_um / self.um_per_px < _MIN_RBC_PX:
            raise ValueError(
                f"um_per_px: expected at most {self.rbc_diameter_um / _MIN_RBC_PX:.3g} for red cells of "
                f"{self.rbc_diameter_um} µm ({_MIN_RBC_PX:.0f} px), got {self.um_per_px!r}"
            )


def random_style(rng: np.random.Generator, *, um_per_px: float = 0.193) -> SmearStyle:
    """A smear and microscope as they come: stain, light, focus, camera and the patient's mix of
    shapes vary.

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


@dataclass(frozen=True, eq=False)
class SyntheticField:
    """One drawn field and its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        cells: outlines and classes of all cells; measurements are "diameter_um" (of the circle of
            the whole cell's area, also where the border cuts it), "pallor" (depth of the central
            dip relative to the rim, 0 for none), "rim_od" (green OD without the dip),
            "overlap_fraction" (of the mask's area, shared with other cells) and "shape" (its name).
            Countable: a whole red cell with an overlap_fraction of at most 0.05.
        um_per_px: pixel size.
    """

    image: np.ndarray
    cells: Cells
    um_per_px: float


def draw_field(
    rng: np.random.Generator,
    *,
    size_hw: tuple[int, int] = (480, 640),
    n_cells: int = 90,
    spherocyte_fraction: float = 0.1,
    um_per_px: float | None = None,
    style: SmearStyle | None = None,
    n_platelets: int = 5,
    n_white: int = 1,
    overlap_fraction: float = 0.08,
    touching_fraction: float = 0.12,
    field_id: str = "synthetic",
) -> SyntheticField:
    """One field of `n_cells` red cells, of which round(spherocyte_fraction * n_cells) are
    spherocytes.

    overlap_fraction and touching_fraction are the shares of red cells that are laid on or against
    another one; the rest keeps a gap as long as there is room. um_per_px overrides the style's.
    Raises ValueError for arguments out of range.

    >>> drawn = draw_field(np.random.default_rng(7), n_cells=40, spherocyte_fraction=0.25)
    >>> int((drawn.cells.names == "spherocyte").sum())
    10
    """
    style = style or SmearStyle()
    if um_per_px is not None:
        style = replace(style, um_per_px=um_per_px)
    for name, count in (("n_cells", n_cells), ("n_platelets", n_platelets), ("n_white", n_white)):
        _require(name, count, 0, 20_000, whole=True)
    for side in size_hw:
        _require("size_hw", side, 16, 20_000, whole=True)
    for name, share in (
        ("spherocyte_fraction", spherocyte_fraction),
        ("overlap_fraction", overlap_fraction),
        ("touching_fraction", touching_fraction),
    ):
        _require(name, share, 0, 1)

    n_spherocytes = round(spherocyte_fraction * n_cells)
    names, shares = list(style.shape_shares), np.array(list(style.shape_shares.values()), float)
    others = rng.choice(names, n_cells - n_spherocytes, p=shares / shares.sum()).tolist()
    bodies = [
        _red_cell(rng, str(shape), style)
        for shape in rng.permutation(["spherocyte"] * n_spherocytes + others)
    ]
    bodies += [_white_cell(rng, style) for _ in range(n_white)] + [
        _platelet(rng, style) for _ in range(n_platelets)
    ]
    centres = _settle(rng, bodies, n_cells, size_hw, style, overlap_fraction, touching_fraction)

    density, halo = np.zeros((*size_hw, 3), np.float32), np.zeros(size_hw, np.float32)
    traced = [
        _paint(rng, density, halo, body, at, style)
        for body, at in zip(bodies, centres, strict=True)
    ]
    image = _photograph(rng, density ** (1 / style.overlap_power) - halo[..., None], style)
    return SyntheticField(image, _truth(bodies, traced, size_hw, style, field_id), style.um_per_px)


def draw_patient(
    seed: int,
    *,
    spherocyte_fraction: float,
    n_fields: int = 12,
    n_cells: int = 140,
    size_hw: tuple[int, int] = (480, 640),
    um_per_px: float | None = None,
    style: SmearStyle | None = None,
    patient_id: str = "synthetic",
) -> list[SyntheticField]:
    """The fields of one patient: one smear, one microscope, small changes of focus, light and
    density between fields.

    Over all fields round(spherocyte_fraction * n_fields * n_cells) red cells are spherocytes,
    spread evenly. Without a style the seed draws one. Raises ValueError for arguments out of range.
    """
    _require("n_fields", n_fields, 0, 10_000, whole=True)
    _require("n_cells", n_cells, 0, 20_000, whole=True)
    _require("spherocyte_fraction", spherocyte_fraction, 0, 1)
    rng = np.random.default_rng(seed)
    style = style or random_style(rng)
    ends = [round(spherocyte_fraction * n_cells * k) for k in range(n_fields + 1)]
    fields = []
    for k in range(n_fields):
        light = rng.normal(1, 0.015)
        red, green, blue = (min(float(c * light), 250.0) for c in style.background_rgb)
        here = replace(
            style,
            stain_od=min(style.stain_od * float(np.clip(rng.normal(1, 0.04), 0.85, 1.15)), 2.0),
            blur_um=min(style.blur_um * float(rng.uniform(0.85, 1.25)), 3.0),
            background_rgb=(red, green, blue),
        )
        fields.append(
            draw_field(
                rng,
                size_hw=size_hw,
                n_cells=n_cells,
                um_per_px=um_per_px,
                style=here,
                n_platelets=int(rng.poisson(5)),
                spherocyte_fraction=(ends[k + 1] - ends[k]) / max(n_cells, 1),
                n_white=int(rng.random() < 0.3),
                field_id=f"{patient_id}_{k + 1:02d}.png",
            )
        )
    return fields


@dataclass(frozen=True, eq=False)
class _Body:
    """A cell before it has a place: its outline (radius at _ANGLES, mean square 1) and what absorbs
    light in it."""

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


def _red_cell(rng: np.random.Generator, shape: str, style: SmearStyle) -> _Body:
    recipe = RED_CELL_SHAPES[shape]
    size, density, pallor, width, aspect = (float(rng.uniform(*limits)) for limits in recipe[:5])
    sphere = shape == "spherocyte"
    size *= math.exp(rng.normal(0, style.anisocytosis * (0.7 if sphere else 1)))
    rgb = np.array(style.stain_rgb) * rng.normal(1, 0.02, 3)
    if shape == "polychromatic":  # RNA takes the blue stain, so red light is lost as well
        rgb = rgb + np.array([0.14, 0.0, -0.06]) * rng.uniform(0.4, 1.2)
    return _Body(
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
    """Radius at each of _ANGLES of a star-shaped outline of area pi, turned at random."""
    angle = _ANGLES[:-1]
    blunt = 2 + 0.8 * (1 - aspect)  # elongated cells end rounder than an ellipse
    x, y = np.abs(np.cos(angle)) * math.sqrt(aspect), np.abs(np.sin(angle)) / math.sqrt(aspect)
    radius = (x**blunt + y**blunt) ** (-1 / blunt)
    if wobble is None:
        wobble = 0.006 if shape == "spherocyte" else 0.016 * aspect
    for order in range(2, 7):
        radius *= 1 + rng.normal(0, wobble / (order - 1) ** 0.5) * np.cos(
            order * angle + rng.uniform(0, 2 * np.pi)
        )
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
        for direction in rng.uniform(0, 2 * np.pi) + np.cumsum(
            rng.uniform(1.3, 2.6, rng.integers(1, 4))
        ):
            radius = np.minimum(
                radius, rng.uniform(0.25, 0.7) / np.maximum(np.cos(angle - direction), 1e-3)
            )
        smooth = 9
    if smooth:
        radius = ndimage.gaussian_filter1d(radius, smooth, mode="wrap")
    radius = np.roll(radius, int(rng.integers(len(radius)))) / math.sqrt(np.mean(radius**2))
    return np.append(radius, radius[0])


def _white_cell(rng: np.random.Generator, style: SmearStyle) -> _Body:
    kind = str(
        rng.choice(
            ["neutrophil", "lymphocyte", "monocyte", "eosinophil"], p=[0.58, 0.30, 0.08, 0.04]
        )
    )
    low, high = {"lymphocyte": (8.5, 12), "monocyte": (14, 18)}.get(kind, (11.5, 14.5))
    outline = _outline(rng, kind, float(rng.uniform(0.85, 1)), wobble=0.03)
    rgb = np.array(style.azure_rgb) * rng.normal(1, 0.05, 3)
    return _Body(
        "wbc",
        kind,
        float(rng.uniform(low, high)),
        outline,
        rgb,
        style.azure_od * float(rng.uniform(0.85, 1.15)),
    )


def _platelet(rng: np.random.Generator, style: SmearStyle) -> _Body:
    diameter = float(np.clip(rng.normal(2.6, 0.5), 1.5, 4.5))
    outline = _outline(rng, "platelet", float(rng.uniform(0.6, 1)), wobble=0.06)
    rgb = np.array(style.azure_rgb) * rng.normal(1, 0.1, 3)
    return _Body(
        "platelet",
        "platelet",
        diameter,
        outline,
        rgb,
        style.azure_od * float(rng.uniform(0.4, 1.0)),
    )


def _settle(
    rng: np.random.Generator,
    bodies: list[_Body],
    n_red: int,
    size_hw: tuple[int, int],
    style: SmearStyle,
    overlap_fraction: float,
    touching_fraction: float,
) -> np.ndarray:
    """(N, 2) centres (y, x) in px: random places, then cells push each other apart, and chosen
    neighbours together.

    The field is a torus meanwhile, so that cells do not pile up at the borders, and a fixed number
    of rounds ends it.
    """
    if not bodies:
        return np.zeros((0, 2))
    radius = np.array([b.diameter_um / 2 / style.um_per_px for b in bodies])
    reach = radius * [(1 + b.outline.max()) / 2 for b in bodies]
    gap = (0.15 + rng.exponential(0.35, len(bodies))) / style.um_per_px
    outside = 0.5 * radius * [b.outline.min() for b in bodies] * (np.arange(len(bodies)) < n_red)

    order = rng.permutation(n_red)
    n_overlap = round(overlap_fraction * n_red)
    n_touching = min(round(touching_fraction * n_red), n_red - n_overlap)
    chained: list[tuple[int, int]] = []
    apart: list[float] = []
    for chosen, nearest, farthest in (
        (order[:n_overlap], 0.55, 0.87),
        (order[n_overlap:][:n_touching], 0.98, 1.0),
    ):
        for a, b in _neighbours(rng, chosen):
            chained.append((a, b))
            apart.append((reach[a] + reach[b]) * rng.uniform(nearest, farthest))
    links, distance = np.array(chained, int).reshape(-1, 2), np.array(apart)

    torus = np.array(size_hw) + 2 * outside.max(initial=0)
    at = rng.uniform(0, torus, (len(bodies), 2))
    for (a, b), d in zip(links, distance, strict=True):
        turn = rng.uniform(0, 2 * np.pi)
        at[b] = at[a] + d * np.array([np.sin(turn), np.cos(turn)])
    linked = np.sort(links, axis=1) @ [len(bodies), 1]
    widest = 2 * (reach + gap).max()
    for _ in range(80):
        tree = cKDTree(
            at % torus % torus, boxsize=torus
        )  # twice: a tiny negative number modulo torus is torus
        pairs = tree.query_pairs(min(widest, torus.min() / 2), output_type="ndarray")
        pairs = pairs[~np.isin(pairs @ [len(bodies), 1], linked)]
        wanted = (reach + gap)[pairs].sum(axis=1)
        pairs, wanted = np.concatenate([pairs, links]), np.concatenate([wanted, distance])
        step = at[pairs[:, 1]] - at[pairs[:, 0]]
        step -= torus * np.round(step / torus)
        length = np.maximum(np.hypot(*step.T), 1e-6)
        push = wanted - length
        push[: len(pairs) - len(links)].clip(0, out=push[: len(pairs) - len(links)])
        move = step * (0.35 * push / length)[:, None]
        np.add.at(at, pairs[:, 0], -move)
        np.add.at(at, pairs[:, 1], move)
    centres = at % torus - outside.max(initial=0)
    return np.clip(centres, 0.5 - outside[:, None], np.array(size_hw) - 0.5 + outside[:, None])


def _neighbours(rng: np.random.Generator, chosen: np.ndarray) -> Iterator[tuple[int, int]]:
    """The chosen cells as chains of two or three, as pairs of neighbours; one cell alone has no
    neighbour."""
    start = 0
    while len(chosen) - start >= 2:
        left = len(chosen) - start
        size = left if left <= 3 else 2 if left == 4 else int(rng.choice([2, 2, 3]))
        yield from zip(
            chosen[start : start + size - 1], chosen[start + 1 : start + size], strict=True
        )
        start += size


def _paint(
    rng: np.random.Generator,
    density: np.ndarray,
    halo: np.ndarray,
    body: _Body,
    at: np.ndarray,
    style: SmearStyle,
) -> tuple[np.ndarray, np.ndarray]:
    """Adds the cell to the field's OD (to the overlap_power) and halo; returns its mask and box
    (y0, x0, y1, x1)."""
    radius_px = body.diameter_um / 2 / style.um_per_px
    margin = radius_px * body.outline.max() + 1.0 / style.um_per_px + 2
    low = np.maximum(np.floor(at - margin), 0).astype(int)
    high = np.minimum(np.ceil(at + margin), density.shape[:2]).astype(int)
    y, x = np.ogrid[low[0] : high[0], low[1] : high[1]]
    y, x = (
        (y + 0.5 - at[0]).astype(np.float32) / radius_px,
        (x + 0.5 - at[1]).astype(np.float32) / radius_px,
    )
    edge = np.interp(np.arctan2(y, x), _ANGLES, body.outline).astype(np.float32)
    rho = np.hypot(y, x) / edge
    inside_um = (1 - rho) * edge * (body.diameter_um / 2)

    coverage = np.clip(inside_um / style.um_per_px + 0.5, 0, 1)
    paint = {"wbc": _white_od, "platelet": _platelet_od}.get(body.class_name, _red_od)
    od = paint(rng, body, rho, y, x, style) * coverage[..., None]
    window = np.s_[low[0] : high[0], low[1] : high[1]]
    density[window] += np.maximum(od, 0) ** style.overlap_power
    halo[window] += (
        style.halo * np.exp(-((np.minimum(inside_um, 0) / 0.35 + 0.8) ** 2)) * (1 - coverage)
    )

    mask = rho <= 1
    if not mask.any():
        mask[tuple(np.clip((at - low).astype(int), 0, np.array(mask.shape) - 1))] = True
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    (y0, y1), (x0, x1) = rows[[0, -1]] + [0, 1], columns[[0, -1]] + [0, 1]
    return mask[y0:y1, x0:x1], np.array([low[0] + y0, low[1] + x0, low[0] + y1, low[1] + x1])


def _red_od(
    rng: np.random.Generator,
    body: _Body,
    rho: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    style: SmearStyle,
) -> np.ndarray:
    """(h, w, 3) OD of a flattened disc with a dip: round, a slit (stomatocyte) or a ring
    (target)."""
    rim = np.maximum(1 - np.minimum(rho, 1) ** body.dome, 0) ** 0.5
    dy, dx = y - body.off_centre[0], x - body.off_centre[1]
    if body.shape == "stomatocyte":
        turn = rng.uniform(0, np.pi)
        along, across = (
            dx * math.cos(turn) + dy * math.sin(turn),
            dy * math.cos(turn) - dx * math.sin(turn),
        )
        dip = np.exp(-((along / 0.55) ** 4) - (across / body.pallor_width) ** 2)
    elif body.shape == "target":
        away = np.hypot(dy, dx)
        dip = np.exp(-(((away - 0.45) / body.pallor_width) ** 2)) + 0.35 * np.exp(
            -((away / 0.3) ** 4)
        )
    else:
        shift = np.hypot(dy, dx) / np.maximum(np.hypot(y, x), 1e-3)
        dip = np.exp(-((rho * shift / body.pallor_width) ** body.pallor_steepness))
    od = body.rim_od * rim * (1 - body.pallor * dip)
    if rng.random() < 0.04:  # a drying artefact that refracts light, or an inclusion that blocks it
        spot_y, spot_x = rng.uniform(-0.5, 0.5, 2)
        od = od + rng.choice([-0.6, 0.5]) * body.rim_od * np.exp(
            -((y - spot_y) ** 2 + (x - spot_x) ** 2) / 0.006
        )
    return od[..., None] * body.rgb.astype(np.float32)


def _white_od(
    rng: np.random.Generator,
    body: _Body,
    rho: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    style: SmearStyle,
) -> np.ndarray:
    """(h, w, 3) OD of pale granular cytoplasm around a nucleus of lobes on an arc."""
    n_lobes, orbit, size, arc = {
        "neutrophil": (int(rng.integers(3, 6)), 0.42, 0.30, 4.2),
        "eosinophil": (2, 0.40, 0.38, 2.6),
        "monocyte": (7, 0.36, 0.42, 2.6),
    }.get(body.shape, (1, 0.12, 0.80, 0.0))
    nucleus = np.zeros_like(rho)
    for turn in (
        rng.uniform(0, 2 * np.pi) + np.linspace(0, arc, n_lobes) + rng.normal(0, 0.15, n_lobes)
    ):
        wide, long = size * rng.uniform(0.85, 1.1), rng.uniform(1, 1.3)
        dy, dx = y - orbit * math.sin(turn), x - orbit * math.cos(turn)
        out, around = (
            dy * math.sin(turn) + dx * math.cos(turn),
            dx * math.sin(turn) - dy * math.cos(turn),
        )
        distance = np.hypot(out / wide, around / (wide * (long if n_lobes > 1 else 1)))
        nucleus = np.maximum(nucleus, 1 / (1 + np.exp(np.clip((distance - 1) / 0.06, -30, 30))))
    chromatin = 1 + 0.22 * _smooth_noise(rng, rho.shape, 0.7 / style.um_per_px)
    granules = 1 + 0.30 * _smooth_noise(rng, rho.shape, 0.35 / style.um_per_px)
    pale = (0.30 if body.shape == "eosinophil" else 0.14) * np.sqrt(np.clip(1.3 - rho, 0, 1))
    cytoplasm = pale * np.clip(granules, 0, 2) * (1 - nucleus)
    deep = body.rim_od * np.clip(chromatin, 0.3, 2) * nucleus
    return deep[..., None] * body.rgb + cytoplasm[..., None] * np.array(_CYTOPLASM_RGB[body.shape])


def _platelet_od(
    rng: np.random.Generator,
    body: _Body,
    rho: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    style: SmearStyle,
) -> np.ndarray:
    """(h, w, 3) OD of a granular body, densest inside."""
    granules = np.clip(1 + 0.25 * _smooth_noise(rng, rho.shape, 0.6 / style.um_per_px), 0.3, 2)
    return (body.rim_od * granules * (0.2 + 0.8 * np.exp(-((rho / 0.75) ** 3))))[
        ..., None
    ] * body.rgb


def _smooth_noise(
    rng: np.random.Generator, shape_hw: tuple[int, int], grain_px: float
) -> np.ndarray:
    """(H, W) float32 noise of about unit variance whose grains are grain_px wide."""
    coarse = [max(2, math.ceil(side / max(grain_px, 1))) for side in shape_hw]
    noise = Image.fromarray(rng.standard_normal(coarse, dtype=np.float32))
    return 1.3 * np.asarray(noise.resize(shape_hw[::-1], Image.Resampling.BICUBIC))


def _photograph(rng: np.random.Generator, density: np.ndarray, style: SmearStyle) -> np.ndarray:
    """(H, W, 3) uint8: what lamp, optics, camera and file format make of the field's OD."""
    height, width = density.shape[:2]
    density = (
        density
        * (1 + style.mottle * _smooth_noise(rng, (height, width), 0.6 / style.um_per_px))[..., None]
    )
    density += (
        0.1 * style.mottle * _smooth_noise(rng, (height, width), 6 / style.um_per_px)[..., None]
    )
    _add_debris(rng, density, style)
    y, x = np.ogrid[:height, :width]
    far = (y / width - style.falloff_yx[0] * height / width) ** 2 + (
        x / width - style.falloff_yx[1]
    ) ** 2
    light = (
        np.array(style.background_rgb, np.float32)
        * (1 - style.falloff * np.minimum(far, 1)).astype(np.float32)[..., None]
    )
    image = light * np.exp(-math.log(10) * density)
    turn = rng.uniform(0, 2 * np.pi)
    fringe = style.fringe_um / style.um_per_px * np.array([math.sin(turn), math.cos(turn)])
    for channel, side in enumerate((-1, 0, 1)):
        plane = ndimage.gaussian_filter(
            image[..., channel], style.blur_um / style.um_per_px, truncate=3
        )
        image[..., channel] = (
            ndimage.shift(plane, side * fringe, order=1, mode="nearest") if side else plane
        )
    # Demosaicing spreads a pixel's noise to its neighbours; 1.78 restores the standard deviation
    # after the filter.
    grain = ndimage.gaussian_filter(
        rng.standard_normal(image.shape, dtype=np.float32), (0.55, 0.55, 0), truncate=2
    )
    image += 1.78 * style.noise * grain
    picture = Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    _add_overlays(rng, picture, style)
    if style.jpeg_quality is not None:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(style.jpeg_quality))
        picture = Image.open(file)
    return np.array(picture)


def _add_debris(rng: np.random.Generator, density: np.ndarray, style: SmearStyle) -> None:
    """Specks of precipitated stain and dust, and the shadow of an eyepiece pointer."""
    height, width = density.shape[:2]
    for _ in range(rng.poisson(style.debris * height * width * style.um_per_px**2 / 1e4)):
        size = rng.uniform(0.12, 0.45) / style.um_per_px
        cy, cx = rng.uniform(0, [height, width])
        y0, x0, reach = max(int(cy - 4 * size), 0), max(int(cx - 4 * size), 0), int(8 * size) + 2
        y, x = np.ogrid[y0 : min(y0 + reach, height), x0 : min(x0 + reach, width)]
        speck = np.exp(-((y - cy) ** 2 + ((x - cx) * rng.uniform(0.7, 1.4)) ** 2) / (2 * size**2))
        colour = rng.uniform(-0.05, 0.35) * rng.uniform(0.6, 1, 3)
        density[y0 : y0 + reach, x0 : x0 + reach] += speck[..., None] * colour
    if rng.random() < style.overlays / 2:
        shadow = Image.new("L", (width, height))
        tip = rng.uniform([0.4, 0.2], [0.95, 0.7]) * [width, height]
        foot = np.array([tip[0] + rng.uniform(-0.3, 0.3) * width, height * 1.05])
        ImageDraw.Draw(shadow).line([tuple(tip), tuple(foot)], fill=255, width=max(2, width // 45))
        density += (
            rng.uniform(0.2, 0.5)
            * ndimage.gaussian_filter(np.asarray(shadow, np.float32) / 255, width / 160)[..., None]
        )


def _add_overlays(rng: np.random.Generator, picture: Image.Image, style: SmearStyle) -> None:
    """Burnt-in marks that say nothing about the cells: a true scale bar, an arrow."""
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    if rng.random() < style.overlays:
        length = min((5, 8, 10, 20), key=lambda um: abs(um / style.um_per_px - 0.13 * width))
        right, bottom, tick = 0.96 * width, 0.92 * height, height / 100
        left, colour = (
            right - length / style.um_per_px,
            [(0, 230, 30), (20, 20, 20), (250, 250, 250)][rng.integers(3)],
        )
        draw.line((left, bottom, right, bottom), fill=colour, width=max(1, height // 480))
        for end in (left, right):
            draw.line(
                (end, bottom - tick, end, bottom + tick), fill=colour, width=max(1, height // 480)
            )
        font = ImageFont.load_default(size=max(8, height / 45))
        draw.text(
            ((left + right) / 2, bottom - 2), f"{length}.00um", fill=colour, anchor="mb", font=font
        )
    if rng.random() < style.overlays / 2:
        tip, turn, size = (
            rng.uniform(0.15, 0.85, 2) * [width, height],
            rng.uniform(0, 2 * np.pi),
            height / 18,
        )
        shape = (
            np.array(
                [
                    (0, 0),
                    (0.4, 0.17),
                    (0.4, 0.09),
                    (1, 0.09),
                    (1, -0.09),
                    (0.4, -0.09),
                    (0.4, -0.17),
                ]
            )
            * size
        )
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        draw.polygon([tuple(p) for p in shape @ rotation + tip], fill=(255, 225, 0))


def _truth(
    bodies: list[_Body],
    traced: list[tuple[np.ndarray, np.ndarray]],
    size_hw: tuple[int, int],
    style: SmearStyle,
    field_id: str,
) -> Cells:
    layers = np.zeros(size_hw, np.int32)
    for mask, (y0, x0, y1, x1) in traced:
        layers[y0:y1, x0:x1] += mask
    shared = np.array(
        [(layers[y0:y1, x0:x1][m] > 1).mean() for m, (y0, x0, y1, x1) in traced], np.float32
    )
    cells = Cells.from_labels(
        np.array([box for _, box in traced]),
        np.array([CLASS_NAMES.index(b.class_name) + 1 for b in bodies]),
        [mask for mask, _ in traced],
        image_size_hw=(int(size_hw[0]), int(size_hw[1])),
        field_id=field_id,
        um_per_px=style.um_per_px,
    )
    measurements = {
        "diameter_um": np.array([b.diameter_um for b in bodies], np.float32),
        "pallor": np.array([b.pallor for b in bodies], np.float32),
        "rim_od": np.array([b.rim_od for b in bodies], np.float32),
        "overlap_fraction": shared,
        "shape": np.array([b.shape for b in bodies], object),
    }
    return replace(
        cells, countable=cells.countable & (shared <= _COUNTABLE_OVERLAP), measurements=measurements
    )


def _require(name: str, value: float, low: float, high: float, *, whole: bool = False) -> None:
    """ValueError unless low <= value <= high, which NaN never is."""
    if not low <= value <= high or (whole and not isinstance(value, int | np.integer)):
        kind = "whole number" if whole else "number"
        raise ValueError(f"{name}: expected a {kind} from {low:g} to {high:g}, got {value!r}")
