"""The pixel size of a field and where it comes from: given, a burnt-in scale bar, or the field's
own red cells.

Lengths in the image are pixels, pixel sizes µm. In this order: what the user gives is taken; a
scale bar is taken where its number is stated or can be read, unless the cells contradict it;
otherwise the red cells are the ruler.

Red cells on dried smears are 7.2 to 7.8 µm wide in the mean of a healthy person (references from
6.7 to 8 µm in Harrison's, the ASH image bank and labce). A scale from cells takes 7.5 µm. Patients'
cells differ more: by their bars the medians of slides of Chula RBC-12, many of them with small or
large cells, lie between 6.3 and 9.2 µm. The stated uncertainty of 11 % is theirs: 1.96 times it
holds the bar's scale in 95 % of those 499 fields (the healthy 4 % would in 53 %). No number of
cells mends that: sizes relative to the patient's own cells are right, sizes in µm are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted
from spherodetect.scale.bar import find_scale_bar
from spherodetect.scale.ocr import read_length_um
from spherodetect.scale.strip import image_rows
from spherodetect.segment import estimate_rbc_diameter_px, optical_density

GIVEN, SCALE_BAR, CELLS = "given", "scale bar", "cells"
RBC_DIAMETER_UM = 7.5
#: Standard uncertainty of a patient's median, from patient to patient.
RBC_SPREAD_UM = 0.8
#: A scale at which the field's cells would be this much larger or smaller than red cells are is
#: doubted.
MAX_CONTRADICTION = 1.5
#: Uncertainty of a bar's ends.
_BAR_ERROR_PX = 0.5
#: Bars whose lengths differ by less are one bar, measured in several fields.
_SAME_BAR = 0.05


@dataclass(frozen=True)
class Scale:
    """The pixel size of one field.

    Attributes:
        um_per_px: in µm, or None where only the cells can tell and have not been asked.
        source: given, scale bar or cells.
        relative_error: standard error as a part of um_per_px; NaN where nobody knows it.
        warning: one sentence on what does not fit, or empty.
        unread_bar_px: length of a bar whose number was neither stated nor read, or None.
    """

    um_per_px: float | None
    source: str = CELLS
    relative_error: float = math.nan
    warning: str = ""
    unread_bar_px: float | None = None

    def or_cells(self, diameter_px: np.ndarray) -> Scale:
        """Itself where the pixel size is known, else `from_cells`."""
        if self.um_per_px:
            return self
        return replace(
            from_cells(diameter_px), warning=self.warning, unread_bar_px=self.unread_bar_px
        )


def find_scale(
    image: np.ndarray,
    um_per_px: float | None = None,
    *,
    scale_bar_um: float | None = None,
    field_id: str = "",
    density: np.ndarray | None = None,
) -> Scale:
    """The scale of a field by the user's word or its scale bar; without either um_per_px is None
    (see `from_cells`).

    Args:
        image: (H, W, 3) uint8.
        um_per_px: the pixel size that the user gives.
        scale_bar_um: the length that the user states for the burnt-in bar; without it the bar's
            number is read.
        field_id: the field's name in errors.
        density: the image's (H, W, 3) `optical_density`, where that is at hand already.

    Raises:
        SpherodetectError: a pixel size or length that cannot be.

    >>> find_scale(np.full((64, 64, 3), 230, np.uint8), 0.2).source
    'given'
    """
    if um_per_px is not None:
        scale = Scale(um_per_px, GIVEN)
    else:
        bar = find_scale_bar(image)
        if bar is None:
            missing = (
                "expected a scale bar, found none; the cells give the scale" if scale_bar_um else ""
            )
            return Scale(None, warning=missing)
        length_um = scale_bar_um or read_length_um(image, bar)
        if length_um is None:
            return Scale(None, unread_bar_px=bar.length_px)
        scale = Scale(length_um / bar.length_px, SCALE_BAR, _BAR_ERROR_PX / bar.length_px)
    size = scale.um_per_px or 0.0
    if not 1e-3 < size < 5:
        raise SpherodetectError(
            f"{quoted(field_id or 'image')}: expected a pixel size between 0.001 and 5 µm, got {size:g} "
            f"({scale.source}); mend --um-per-px, --scale-bar-um or the manifest"
        )
    green = (optical_density(image) if density is None else density)[: image_rows(image), :, 1]
    diameter_um = estimate_rbc_diameter_px(green) * size
    # Without cells the diameter is NaN, which contradicts nothing.
    if not max(diameter_um / RBC_DIAMETER_UM, RBC_DIAMETER_UM / diameter_um) > MAX_CONTRADICTION:
        return scale
    doubt = f"at {size:.3g} µm a pixel ({scale.source}) its cells would be {diameter_um:.1f} µm wide, not about 7.5"
    if scale.source == GIVEN:
        return replace(scale, warning=f"{doubt}; check the pixel size")
    return Scale(None, warning=f"{doubt}; the cells give the scale instead")


def from_cells(diameter_px: np.ndarray) -> Scale:
    """The scale at which the median of these red cells is 7.5 µm wide; its um_per_px is None
    without cells.

    The standard error joins that of the median, from order statistics, with the spread of red cells
    between patients.

    Args:
        diameter_px: (N,) diameters of whole, separate red cells.

    >>> from_cells(np.full(100, 37.5))
    Scale(um_per_px=0.2, source='cells', relative_error=0.10666666666666667, warning='', unread_bar_px=None)
    """
    diameters = np.sort(diameter_px[np.isfinite(diameter_px) & (diameter_px > 0)])
    n = len(diameters)
    if n == 0:
        return Scale(None)
    median = float(np.median(diameters))
    # The number of cells below the true median is binomial (n, 1/2): one standard deviation of
    # ranks each way.
    reach = 0.5 * math.sqrt(n)
    low, high = np.interp([n / 2 - 0.5 - reach, n / 2 - 0.5 + reach], np.arange(n), diameters)
    sampling = (high - low) / 2 / median if n > 3 else math.inf
    return Scale(
        RBC_DIAMETER_UM / median, CELLS, math.hypot(sampling, RBC_SPREAD_UM / RBC_DIAMETER_UM)
    )


def unread_bars(scales: Iterable[Scale]) -> str:
    """One sentence on the bars that were seen but whose numbers nobody knows, and what to do; empty
    without any."""
    lengths = sorted(scale.unread_bar_px for scale in scales if scale.unread_bar_px)
    if not lengths:
        return ""
    fields = f"{len(lengths)} field{'s' * (len(lengths) != 1)}"
    if lengths[-1] - lengths[0] < _SAME_BAR * lengths[0]:
        size = f"{lengths[len(lengths) // 2]:.0f} px"
        return f"a scale bar of {size} was seen in {fields}, but its number was not read; --scale-bar-um would use it"
    size = f"{lengths[0]:.0f} to {lengths[-1]:.0f} px"
    told = f"scale bars of {size} were seen in {fields}, but their numbers were not read"
    return f"{told}; --scale-bar-um would use them, one length a run"


__all__ = [
    "CELLS",
    "GIVEN",
    "SCALE_BAR",
    "Scale",
    "find_scale",
    "from_cells",
    "image_rows",
    "unread_bars",
]
