"""Whether a field can be counted: focus, exposure, density, and whether it is a blood smear at all.

Images are uint8 RGB (H, W, 3). A field is assessed relative to its own cells and its own empty
slide, so that magnification and stain have little influence: lengths are in cell diameters, and
optical density (OD, green channel) is relative to the slide. A field is never rejected for the kind
of its cells: spherocytes are dense and small, and the cells at the thin end of a smear are flat,
pale and wide.

Modules: `field` (assess one field), `limits` (the limits and the reasons for a rejection),
`statistics` (what is measured on the image).
"""

from spherodetect.quality.field import FieldQuality, assess
from spherodetect.quality.limits import MIN_CELLS

__all__ = ["MIN_CELLS", "FieldQuality", "assess"]
