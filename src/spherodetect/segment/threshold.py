"""The optical density that separates cells from the empty slide."""

from __future__ import annotations

import numpy as np

#: Nuclei cover less of a field than this part.
_NUCLEI = 0.15
#: Standard deviation of a normal distribution over its median absolute deviation.
_MAD_TO_SD = 1.4826


def foreground_threshold(density: np.ndarray) -> float:
    """The density above which a pixel belongs to a cell, or infinity in a uniform field.

    The method is that of Otsu (1979, doi 10.1109/TSMC.1979.4310076), which maximises the variance
    between two classes, with three changes:

    * Dark nuclei and pointers would raise the threshold. Therefore densities are clipped at twice
      the median of a first foreground.
    * If the first foreground is small, it may consist of nuclei only, and pale red cells may lie
      below the first threshold. If the rest falls into two classes that are far apart, its upper
      class belongs to the foreground, too.
    * The result is kept above the noise of the slide.

    Args:
        density: optical density of any shape; values that are not finite are ignored.
    """
    known = np.isfinite(density)
    values = density.ravel() if known.all() else density[known]
    if values.size == 0 or np.ptp(values) < 1e-6:
        return float("inf")
    first = _otsu(np.clip(values, -0.05, 0.8))
    cells = values[values > first]
    if 0 < cells.size < _NUCLEI * values.size:
        rest = values[values <= first]
        second = _otsu(np.maximum(rest, -0.05))
        paler, slide = rest[rest > second], rest[rest <= second]
        apart = _median(paler) - _median(slide) if paler.size and slide.size else 0.0
        # Five standard deviations: Otsu divides pure noise, too, but not into classes that far
        # apart.
        if paler.size > 1.5 * cells.size and apart > 5 * _MAD_TO_SD * _median(
            np.abs(slide - _median(slide))
        ):
            cells = values[values > second]
    values = np.clip(values, -0.05, 2 * _median(cells)) if cells.size else values
    cut = _otsu(values) if np.ptp(values) > 1e-6 else first
    slide = values[values < cut]
    # Otsu's threshold lies half way between the classes. A little less keeps pale rims.
    if not slide.size:
        return max(0.85 * cut, 0.012)
    # An empty field has only one class, so that Otsu's threshold lies within its noise. The
    # threshold is therefore at least 3.5 standard deviations above the slide.
    middle = _median(slide)
    return max(0.85 * cut, middle + 3.5 * _MAD_TO_SD * _median(np.abs(slide - middle)), 0.012)


def _median(values: np.ndarray) -> float:
    """The median of (N,) finite values, in two thirds of the time of np.median."""
    half = len(values) // 2
    parted = np.partition(values, half)
    if len(values) % 2:
        return float(parted[half])
    return (float(parted[half]) + float(parted[:half].max())) / 2


def _otsu(values: np.ndarray, *, bins: int = 256) -> float:
    """Otsu's threshold, the centre of a bin, in a third of the time of scikit-image's."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    index = np.minimum((values - low) * (bins / (high - low)), bins - 1).astype(np.intp)
    counts = np.bincount(index, minlength=bins)
    centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
    below, moment = np.cumsum(counts)[:-1], np.cumsum(counts * centres)
    above = values.size - below
    between = below * above * (moment[:-1] / below - (moment[-1] - moment[:-1]) / above) ** 2
    return float(centres[np.argmax(between)])
