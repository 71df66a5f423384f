"""The pixel size of a field and its source: given, file metadata, a scale bar, or the red cells.

Lengths in the image are in pixels, pixel sizes in µm. The sources are used in this order:

1. the pixel size that the user gives;
2. the pixel size in the file's metadata, if it makes the field's red cells 4 to 12 µm wide;
3. a scale bar, if its length is stated or can be read, and the cells do not contradict it;
4. the median diameter of the field's own red cells.

Red cells on dried smears of healthy persons have a mean diameter of 7.2 to 7.8 µm (references from
6.7 to 8 µm in Harrison's, the ASH image bank and labce). A scale from cells assumes 7.5 µm. The
cells of patients differ more. By their scale bars, the medians of the slides of Chula RBC-12 lie
between 6.3 and 9.2 µm; many of these slides have small or large cells. The stated uncertainty of
11 % is taken from them: the bar's scale lies within 1.96 times that uncertainty in 95 % of the 499
fields with a bar. With the 4 % of healthy persons it would in 53 %. More cells do not reduce this
uncertainty. Sizes relative to the patient's own cells are therefore right, and sizes in µm are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.errors import SpherodetectError
from spherodetect.photograph import Photograph, as_photograph
from spherodetect.safety import quoted
from spherodetect.scale.bar import find_scale_bar
from spherodetect.scale.file_metadata import FilePixelSize
from spherodetect.scale.ocr import read_length_um

GIVEN, FILE, SCALE_BAR, CELLS = "given", "file", "scale bar", "cells"
#: Standard deviation of the median diameter between patients.
RBC_SPREAD_UM = 0.8
#: A scale is doubted if it makes the cells this many times larger or smaller than red cells.
MAX_CONTRADICTION = 1.5
#: Metadata is used if it makes the median red cell as wide as this. The limits are wider than the
#: range of patients (6.3 to 9.2 µm), because the diameter is estimated before any cell is detected.
MIN_FILE_DIAMETER_UM, MAX_FILE_DIAMETER_UM = 4.0, 12.0
#: Uncertainty of the length of a bar.
_BAR_ERROR_PX = 0.5
#: Bars whose lengths differ by less than this part are the same bar in several fields.
_SAME_BAR = 0.05
#: Fields with a bar that a message names.
_NAMED_FIELDS = 3


@dataclass(frozen=True)
class Scale:
    """The pixel size of one field.

    Attributes:
        um_per_px: pixel size in µm, or None if the cells must give it and were not measured yet.
        source: GIVEN, FILE, SCALE_BAR or CELLS.
        relative_error: standard error as a part of um_per_px, or NaN if it is unknown.
        warning: one sentence about a contradiction, or empty.
        unread_bar_px: length in pixels of a bar whose number was neither stated nor read, or None.
    """

    um_per_px: float | None
    source: str = CELLS
    relative_error: float = math.nan
    warning: str = ""
    unread_bar_px: float | None = None

    def or_cells(self, diameter_px: np.ndarray) -> Scale:
        """This scale if its pixel size is known, else the scale `from_cells`.

        Args:
            diameter_px: (N,) diameters of whole, separate red cells.
        """
        if self.um_per_px:
            return self
        return replace(
            from_cells(diameter_px), warning=self.warning, unread_bar_px=self.unread_bar_px
        )


def find_scale(
    image: np.ndarray | Photograph,
    um_per_px: float | None = None,
    *,
    file_size: FilePixelSize | None = None,
    scale_bar_um: float | None = None,
    field_id: str = "",
) -> Scale:
    """The scale of a field from the given pixel size, its file's metadata or its scale bar.

    Without any of them, um_per_px of the result is None, and `Scale.or_cells` completes it.

    Args:
        image: (H, W, 3) uint8.
        um_per_px: pixel size in µm that the user gives.
        file_size: pixel size in the file's metadata, see `file_metadata.file_pixel_size`.
        scale_bar_um: length in µm of the burnt-in bar that the user states. Without it the bar's
            number is read.
        field_id: name of the field in error messages.

    Raises:
        SpherodetectError: the pixel size is not between 0.001 and 5 µm.

    >>> find_scale(np.full((64, 64, 3), 230, np.uint8), 0.2).source
    'given'
    """
    photograph = as_photograph(image)
    image = photograph.image
    if um_per_px is None and file_size is not None:
        doubt = _contradiction(file_size, photograph.rbc_diameter_px)
        if not doubt:
            return Scale(file_size.um_per_px, FILE)
        other = find_scale(photograph, scale_bar_um=scale_bar_um, field_id=field_id)
        return replace(other, warning="; ".join(filter(None, (doubt, other.warning))))
    if um_per_px is not None:
        scale = Scale(um_per_px, GIVEN)
    else:
        bar = find_scale_bar(image)
        if bar is None:
            missing = "expected a scale bar, found none; the cells give the scale"
            return Scale(None, warning=missing if scale_bar_um else "")
        length_um = scale_bar_um or read_length_um(image, bar)
        if length_um is None:
            return Scale(None, unread_bar_px=bar.length_px)
        scale = Scale(length_um / bar.length_px, SCALE_BAR, _BAR_ERROR_PX / bar.length_px)
    size = scale.um_per_px or 0.0
    if not 1e-3 < size < 5:
        raise SpherodetectError(
            f"{quoted(field_id or 'image')}: expected a pixel size between 0.001 and 5 µm, "
            f"got {size:g} ({scale.source}); correct --um-per-px, --scale-bar-um or the manifest"
        )
    diameter_um = photograph.rbc_diameter_px * size
    # Without cells the diameter is NaN, and the comparison is then False: nothing is contradicted.
    if not max(diameter_um / RBC_DIAMETER_UM, RBC_DIAMETER_UM / diameter_um) > MAX_CONTRADICTION:
        return scale
    doubt = (
        f"at {size:.3g} µm a pixel ({scale.source}) its cells would be {diameter_um:.1f} µm wide, "
        f"not about {RBC_DIAMETER_UM:g}"
    )
    if scale.source == GIVEN:
        return replace(scale, warning=f"{doubt}; check the pixel size")
    return Scale(None, warning=f"{doubt}; the cells give the scale instead")


def _contradiction(file_size: FilePixelSize, rbc_diameter_px: float) -> str:
    """A sentence if the field's red cells do not confirm the pixel size in its file, else empty."""
    diameter_um = rbc_diameter_px * file_size.um_per_px
    if MIN_FILE_DIAMETER_UM <= diameter_um <= MAX_FILE_DIAMETER_UM:
        return ""
    stated = f"the file states {file_size.um_per_px:.3g} µm a pixel ({file_size.origin})"
    if math.isnan(diameter_um):
        return f"{stated}, which is not used because no cell confirms it"
    return (
        f"{stated}, which is not used because its cells would be {diameter_um:.3g} µm wide, "
        f"not {MIN_FILE_DIAMETER_UM:g} to {MAX_FILE_DIAMETER_UM:g}"
    )


def from_cells(diameter_px: np.ndarray) -> Scale:
    """The scale at which the median diameter of these red cells is 7.5 µm.

    Its um_per_px is None without cells. Its standard error combines the error of the median with
    the spread of red cells between patients.

    Args:
        diameter_px: (N,) diameters of whole, separate red cells.

    >>> scale = from_cells(np.full(100, 37.5))
    >>> scale.um_per_px, scale.source, round(scale.relative_error, 3)
    (0.2, 'cells', 0.107)
    """
    diameters = np.sort(diameter_px[np.isfinite(diameter_px) & (diameter_px > 0)])
    n = len(diameters)
    if n == 0:
        return Scale(None)
    median = float(np.median(diameters))
    # Standard error of the median from order statistics. The number of cells below the true median
    # is binomial (n, 1/2), with a standard deviation of sqrt(n) / 2 ranks. The diameters at that
    # many ranks below and above the middle rank, (n - 1) / 2, are one standard error apart on each
    # side. No distribution of diameters has to be assumed.
    reach = 0.5 * math.sqrt(n)
    low, high = np.interp([n / 2 - 0.5 - reach, n / 2 - 0.5 + reach], np.arange(n), diameters)
    sampling = (high - low) / 2 / median if n > 3 else math.inf
    return Scale(
        RBC_DIAMETER_UM / median, CELLS, math.hypot(sampling, RBC_SPREAD_UM / RBC_DIAMETER_UM)
    )


def unread_bars(scales: Mapping[str, Scale]) -> str:
    """One sentence on the bars with unknown numbers, their fields, and the option that uses them.

    The result is empty if there is no such bar.

    Args:
        scales: name of each field to its scale.
    """
    bars = {name: scale.unread_bar_px for name, scale in scales.items() if scale.unread_bar_px}
    if not bars:
        return ""
    lengths = sorted(bars.values())
    named = ", ".join(map(quoted, list(bars)[:_NAMED_FIELDS]))
    more = f" and {len(bars) - _NAMED_FIELDS} more" if len(bars) > _NAMED_FIELDS else ""
    fields = f"{len(bars)} field{'s' * (len(bars) != 1)} ({named}{more})"
    if lengths[-1] - lengths[0] < _SAME_BAR * lengths[0]:
        size = f"{lengths[len(lengths) // 2]:.0f} px"
        return (
            f"a scale bar of {size} was seen in {fields}, but its number was not read; "
            "--scale-bar-um would use it"
        )
    size = f"{lengths[0]:.0f} to {lengths[-1]:.0f} px"
    return (
        f"scale bars of {size} were seen in {fields}, but their numbers were not read; "
        "--scale-bar-um would use them, one length a run"
    )


__all__ = [
    "CELLS",
    "FILE",
    "GIVEN",
    "SCALE_BAR",
    "Scale",
    "find_scale",
    "from_cells",
    "unread_bars",
]
