"""Measurements of labelled cells of Chula RBC-12, which pages show next to a patient's.

Quantiles from 0 to 100 % in steps of 5 %, as `python -m benchmarks.reference_cells --every 2`
prints them. They are of countable cells that people labelled normal or spherocyte, in fields that
passed quality control. Relative sizes and densities are relative to the median of the field, in
fields with few spherocytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: What a page says of the reference.
SOURCE = (
    "2,167 cells labelled normal and 1,168 labelled spherocyte in Chula RBC-12, from one "
    "laboratory with one stain (relative values: 120 of the spherocytes)"
)

#: measurement -> class -> quantiles
QUANTILES: Mapping[str, Mapping[str, Sequence[float]]] = {
    "diameter_um": {
        "normal": (
            5.912, 6.763, 6.927, 7.047, 7.141, 7.262, 7.343, 7.421, 7.503, 7.584, 7.663, 7.73,
            7.816, 7.888, 7.975, 8.081, 8.195, 8.336, 8.516, 8.776, 9.666,
        ),
        "spherocyte": (
            4.918, 5.459, 5.599, 5.729, 5.835, 5.919, 6.023, 6.117, 6.206, 6.309, 6.381, 6.482,
            6.57, 6.68, 6.793, 6.956, 7.07, 7.252, 7.425, 7.655, 10.277,
        ),
    },
    "pallor_fraction": {
        "normal": (
            0, 0.053, 0.09, 0.118, 0.141, 0.162, 0.177, 0.189, 0.204, 0.214, 0.225, 0.237, 0.25,
            0.263, 0.274, 0.292, 0.309, 0.328, 0.35, 0.386, 0.752,
        ),
        "spherocyte": (
            0, 0, 0, 0, 0, 0.001, 0.002, 0.003, 0.005, 0.007, 0.009, 0.012, 0.015, 0.019, 0.026,
            0.032, 0.043, 0.057, 0.073, 0.104, 0.406,
        ),
    },
    "relative_diameter": {
        "normal": (
            0.783, 0.894, 0.917, 0.931, 0.943, 0.953, 0.961, 0.97, 0.98, 0.988, 0.998, 1.005, 1.014,
            1.022, 1.031, 1.04, 1.053, 1.068, 1.085, 1.112, 1.234,
        ),
        "spherocyte": (
            0.722, 0.777, 0.813, 0.826, 0.835, 0.848, 0.858, 0.872, 0.883, 0.892, 0.91, 0.925,
            0.937, 0.945, 0.959, 0.973, 1, 1.019, 1.043, 1.091, 1.284,
        ),
    },
    "relative_od": {
        "normal": (
            0.585, 0.846, 0.888, 0.916, 0.932, 0.946, 0.958, 0.971, 0.983, 0.997, 1.005, 1.014,
            1.028, 1.043, 1.06, 1.075, 1.094, 1.117, 1.152, 1.2, 2.277,
        ),
        "spherocyte": (
            0.873, 0.999, 1.02, 1.052, 1.085, 1.105, 1.127, 1.146, 1.163, 1.184, 1.219, 1.247,
            1.269, 1.285, 1.313, 1.35, 1.392, 1.417, 1.481, 1.55, 2.3,
        ),
    },
}  # fmt: skip
