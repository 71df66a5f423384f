"""Synthetic fields as a data set: drawn by synthetic.py, with their outlines as labels.

The same recipe gives the same fields at every run.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe

if TYPE_CHECKING:
    from spherodetect.synthetic import SmearStyle, SyntheticField

#: Fractions of spherocytes, from none as in most smears to most cells as in severe disease.
_FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7)
#: The pixel size of Chula RBC-12.
_UM_PER_PX = 0.193
#: Shapes that are mistaken for spherocytes, or missed, and that real labels are short of.
_SPECIALITIES = ("target", "stomatocyte", "burr", "hypochromic", "flat")
#: Share of the fields in which one of them is frequent, and its share of the red cells.
_SPECIAL_FIELDS, _SPECIAL_CELLS = 2 / 3, (0.1, 0.5)


def read_drawn(recipe: Recipe) -> LabelSet:
    """Draw recipe.n_fields fields into a temporary folder that lives as long as the result."""
    from PIL import Image

    # synthetic.py imports SciPy, which the other formats do not need.
    from spherodetect.synthetic import draw_field, random_style

    keep = tempfile.TemporaryDirectory(prefix="spherodetect-", ignore_cleanup_errors=True)
    fields = []
    for number in range(recipe.n_fields):
        rng = np.random.default_rng([recipe.seed, number])
        um_per_px = recipe.um_per_px or _UM_PER_PX
        drawn = draw_field(
            rng,
            n_cells=int(rng.integers(50, 190)),
            spherocyte_fraction=float(rng.choice(_FRACTIONS)),
            style=_with_speciality(rng, random_style(rng, um_per_px=um_per_px)),
            n_platelets=int(rng.integers(2, 14)),
            n_white=int(rng.integers(0, 3)),
            overlap_fraction=float(rng.uniform(0.03, 0.2)),
            touching_fraction=float(rng.uniform(0.05, 0.25)),
        )
        path = Path(keep.name) / f"synthetic_{number:04d}.png"
        Image.fromarray(drawn.image).save(path)
        fields.append(
            LabelledField(
                path.name,
                path,
                drawn.image.shape[:2],
                outline_annotations(drawn),
                source_id=path.stem,
                um_per_px=um_per_px,
            )
        )
    return LabelSet(tuple(fields), keep=keep)


def _with_speciality(rng: np.random.Generator, style: SmearStyle) -> SmearStyle:
    """The style, in most fields with a high share of one of the special shapes."""
    if rng.random() > _SPECIAL_FIELDS:
        return style
    total = sum(style.shape_shares.values())
    special = str(rng.choice(_SPECIALITIES))
    share = float(rng.uniform(*_SPECIAL_CELLS))
    return replace(style, shape_shares={**style.shape_shares, special: total * share / (1 - share)})


def outline_annotations(drawn: SyntheticField) -> tuple[Annotation, ...]:
    """One polygon annotation for each cell of a synthetic field, along its mask's contour."""
    from skimage.measure import find_contours

    annotations = []
    cells = zip(drawn.cells.names, drawn.cells.box_yxyx, drawn.cells.pixel_masks(), strict=True)
    for number, (name, box, (mask, (y0, x0))) in enumerate(cells, 1):
        # find_contours counts from pixel centres, labels from pixel corners: half a pixel apart.
        # The padding of one pixel adds the other half.
        contours = find_contours(np.pad(mask, 1).astype(float), 0.5)
        polygons = tuple(contour - 0.5 + [y0, x0] for contour in contours)
        top, left, bottom, right = map(float, box)
        annotations.append(
            Annotation(str(number), str(name), (top, left, bottom, right), polygons=polygons)
        )
    return tuple(annotations)
