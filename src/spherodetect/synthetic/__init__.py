"""Drawn fields of a stained blood smear with known truth: masks, classes, diameters, pallor, scale.

Light is absorbed by Beer-Lambert's law: each cell adds optical density (OD, -log10 of transmitted
light over background) in the proportions of its stain, so overlapping cells darken each other.
Images are uint8 RGB (H, W, 3), lengths are in µm, and masks are box-local and boolean. A mask is
the full outline of its cell within the image. Where two cells overlap, both masks contain the
overlap. The blur of the optics does not widen the masks. All random numbers come from the generator
that the caller passes: the same seed gives the same field, byte for byte.

Modules: `shapes` (kinds of red cells), `style` (one smear under one microscope), `bodies` (cells
without a place), `placement`, `painting` (cells into optical density), `camera` (density into an
image), `marks` (debris, scale bars, arrows), `field` and `patient`.
"""

from spherodetect.synthetic.field import SyntheticField, draw_field
from spherodetect.synthetic.patient import draw_patient
from spherodetect.synthetic.shapes import RED_CELL_SHAPES
from spherodetect.synthetic.style import SmearStyle, random_style

__all__ = [
    "RED_CELL_SHAPES",
    "SmearStyle",
    "SyntheticField",
    "draw_field",
    "draw_patient",
    "random_style",
]
