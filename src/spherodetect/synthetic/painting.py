"""Cells painted into the optical density of a field."""

from __future__ import annotations

import math

import numpy as np

from spherodetect.synthetic.bodies import ANGLES, Body
from spherodetect.synthetic.noise import smooth_noise
from spherodetect.synthetic.style import SmearStyle

#: OD of the cytoplasm in each channel.
_CYTOPLASM_RGB = {
    "neutrophil": (0.55, 1.0, 0.50),
    "lymphocyte": (1.0, 0.85, 0.25),
    "monocyte": (0.85, 1.0, 0.45),
    "eosinophil": (0.30, 1.0, 0.80),
}


def paint(
    rng: np.random.Generator,
    density: np.ndarray,
    halo: np.ndarray,
    body: Body,
    at: np.ndarray,
    style: SmearStyle,
) -> tuple[np.ndarray, np.ndarray]:
    """Add a cell to the field and return its mask and its box (y0, x0, y1, x1).

    Args:
        rng: source of random numbers.
        density: (H, W, 3), gets the cell's OD to the power of style.overlap_power.
        halo: (H, W), gets the OD that refraction takes away outside of the outline.
        body: the cell.
        at: its centre (y, x) in pixels.
        style: the smear.
    """
    radius_px = body.diameter_um / 2 / style.um_per_px
    margin = radius_px * body.outline.max() + 1.0 / style.um_per_px + 2
    low = np.maximum(np.floor(at - margin), 0).astype(int)
    high = np.minimum(np.ceil(at + margin), density.shape[:2]).astype(int)
    y, x = np.ogrid[low[0] : high[0], low[1] : high[1]]
    y = (y + 0.5 - at[0]).astype(np.float32) / radius_px
    x = (x + 0.5 - at[1]).astype(np.float32) / radius_px
    edge = np.interp(np.arctan2(y, x), ANGLES, body.outline).astype(np.float32)
    # rho is 0 in the centre and 1 on the outline.
    rho = np.hypot(y, x) / edge
    inside_um = (1 - rho) * edge * (body.diameter_um / 2)

    # Pixels on the outline are covered in part.
    coverage = np.clip(inside_um / style.um_per_px + 0.5, 0, 1)
    density_of = {"wbc": _white_od, "platelet": _platelet_od}.get(body.class_name, _red_od)
    od = density_of(rng, body, rho, y, x, style) * coverage[..., None]
    window = np.s_[low[0] : high[0], low[1] : high[1]]
    density[window] += np.maximum(od, 0) ** style.overlap_power
    halo[window] += (
        style.halo * np.exp(-((np.minimum(inside_um, 0) / 0.35 + 0.8) ** 2)) * (1 - coverage)
    )

    mask = rho <= 1
    if not mask.any():  # a cell that lies almost outside of the image keeps one pixel
        mask[tuple(np.clip((at - low).astype(int), 0, np.array(mask.shape) - 1))] = True
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    (y0, y1), (x0, x1) = rows[[0, -1]] + [0, 1], columns[[0, -1]] + [0, 1]
    return mask[y0:y1, x0:x1], np.array([low[0] + y0, low[1] + x0, low[0] + y1, low[1] + x1])


def _red_od(
    rng: np.random.Generator,
    body: Body,
    rho: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    style: SmearStyle,
) -> np.ndarray:
    """(h, w, 3) OD of a flattened disc with a dip.

    The dip is round, a slit (stomatocyte) or a ring (target cell).

    Args:
        rng: source of random numbers.
        body: the cell.
        rho: (h, w) distance from the centre, 1 on the outline.
        y, x: coordinates relative to the centre, in radii.
        style: the smear.
    """
    rim = np.maximum(1 - np.minimum(rho, 1) ** body.dome, 0) ** 0.5
    dy, dx = y - body.off_centre[0], x - body.off_centre[1]
    if body.shape == "stomatocyte":
        turn = rng.uniform(0, np.pi)
        along = dx * math.cos(turn) + dy * math.sin(turn)
        across = dy * math.cos(turn) - dx * math.sin(turn)
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
    # A drying artefact that refracts light, or an inclusion that absorbs it.
    if rng.random() < 0.04:
        spot_y, spot_x = rng.uniform(-0.5, 0.5, 2)
        od = od + rng.choice([-0.6, 0.5]) * body.rim_od * np.exp(
            -((y - spot_y) ** 2 + (x - spot_x) ** 2) / 0.006
        )
    return od[..., None] * body.rgb.astype(np.float32)


def _white_od(
    rng: np.random.Generator,
    body: Body,
    rho: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    style: SmearStyle,
) -> np.ndarray:
    """(h, w, 3) OD of pale, granular cytoplasm around a nucleus whose lobes lie on an arc."""
    n_lobes, orbit, size, arc = {
        "neutrophil": (int(rng.integers(3, 6)), 0.42, 0.30, 4.2),
        "eosinophil": (2, 0.40, 0.38, 2.6),
        "monocyte": (7, 0.36, 0.42, 2.6),
    }.get(body.shape, (1, 0.12, 0.80, 0.0))
    nucleus = np.zeros_like(rho)
    first = rng.uniform(0, 2 * np.pi)
    for turn in first + np.linspace(0, arc, n_lobes) + rng.normal(0, 0.15, n_lobes):
        wide, long = size * rng.uniform(0.85, 1.1), rng.uniform(1, 1.3)
        dy, dx = y - orbit * math.sin(turn), x - orbit * math.cos(turn)
        out = dy * math.sin(turn) + dx * math.cos(turn)
        around = dx * math.sin(turn) - dy * math.cos(turn)
        distance = np.hypot(out / wide, around / (wide * (long if n_lobes > 1 else 1)))
        nucleus = np.maximum(nucleus, 1 / (1 + np.exp(np.clip((distance - 1) / 0.06, -30, 30))))
    chromatin = 1 + 0.22 * smooth_noise(rng, rho.shape, 0.7 / style.um_per_px)
    granules = 1 + 0.30 * smooth_noise(rng, rho.shape, 0.35 / style.um_per_px)
    pale = (0.30 if body.shape == "eosinophil" else 0.14) * np.sqrt(np.clip(1.3 - rho, 0, 1))
    cytoplasm = pale * np.clip(granules, 0, 2) * (1 - nucleus)
    deep = body.rim_od * np.clip(chromatin, 0.3, 2) * nucleus
    return deep[..., None] * body.rgb + cytoplasm[..., None] * np.array(_CYTOPLASM_RGB[body.shape])


def _platelet_od(
    rng: np.random.Generator,
    body: Body,
    rho: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    style: SmearStyle,
) -> np.ndarray:
    """(h, w, 3) OD of a granular body that is densest in its centre."""
    granules = np.clip(1 + 0.25 * smooth_noise(rng, rho.shape, 0.6 / style.um_per_px), 0.3, 2)
    profile = 0.2 + 0.8 * np.exp(-((rho / 0.75) ** 3))
    return (body.rim_od * granules * profile)[..., None] * body.rgb
