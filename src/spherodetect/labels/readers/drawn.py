"""Drawn smears as a data set: fields of synthetic.py with their outlines as labels, the same at
every run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe

if TYPE_CHECKING:
    from spherodetect.synthetic import SyntheticField

#: Shares of spherocytes that fields are drawn with: none, as in most smears, to most, as in severe
#: disease.
_FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7)


def read_drawn(recipe: Recipe) -> LabelSet:
    """Draw recipe.n_fields fields into a folder that lives as long as the result."""
    from PIL import Image

    from spherodetect.synthetic import (  # loads SciPy, which other formats can do without
        draw_field,
        random_style,
    )

    keep = tempfile.TemporaryDirectory(prefix="spherodetect-", ignore_cleanup_errors=True)
    fields = []
    for number in range(recipe.n_fields):
        rng = np.random.default_rng([recipe.seed, number])
        um_per_px = recipe.um_per_px or 0.193
        drawn = draw_field(
            rng,
            n_cells=int(rng.integers(50, 190)),
            spherocyte_fraction=float(rng.choice(_FRACTIONS)),
            style=random_style(rng, um_per_px=um_per_px),
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
                _annotations(drawn),
                source_id=path.stem,
                um_per_px=um_per_px,
            )
        )
    return LabelSet(tuple(fields), keep=keep)


def _annotations(drawn: SyntheticField) -> tuple[Annotation, ...]:
    from skimage.measure import find_contours

    annotations = []
    named = zip(drawn.cells.names, drawn.cells.box_yxyx, drawn.cells.pixel_masks(), strict=True)
    for number, (name, box, (mask, (y0, x0))) in enumerate(named, 1):
        # Contours run through pixel centres; labels count from pixel corners.
        outlines = find_contours(np.pad(mask, 1).astype(float), 0.5)
        polygons = tuple(outline - 0.5 + [y0, x0] for outline in outlines)
        top, left, bottom, right = map(float, box)
        annotations.append(
            Annotation(str(number), str(name), (top, left, bottom, right), polygons=polygons)
        )
    return tuple(annotations)
