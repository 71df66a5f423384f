"""Draw the fields of one patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spherodetect.synthetic.checks import require
from spherodetect.synthetic.field import SyntheticField, draw_field
from spherodetect.synthetic.style import SmearStyle, random_style


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
    """The fields of one patient: one smear, one microscope, small changes between the fields.

    Focus, light and stain vary a little from field to field. Over all fields together,
    round(spherocyte_fraction * n_fields * n_cells) red cells are spherocytes, evenly spread.

    Args:
        seed: of the random numbers.
        spherocyte_fraction: share of spherocytes among the red cells.
        n_fields: number of fields.
        n_cells: number of red cells in each field.
        size_hw: height and width of a field in pixels.
        um_per_px: pixel size in µm; by default that of the style.
        style: the smear and the microscope; by default a random one.
        patient_id: start of the names of the fields.

    Raises:
        ValueError: an argument is out of range.
    """
    require("n_fields", n_fields, 0, 10_000, whole=True)
    require("n_cells", n_cells, 0, 20_000, whole=True)
    require("spherocyte_fraction", spherocyte_fraction, 0, 1)
    rng = np.random.default_rng(seed)
    style = style or random_style(rng)
    # The number of spherocytes in the first k fields, rounded, so that the total is exact.
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
