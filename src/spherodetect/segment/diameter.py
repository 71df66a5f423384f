"""The diameter of a field's red cells, estimated before any cell is found."""

from __future__ import annotations

import numpy as np

from spherodetect.segment.density import COARSE_PX
from spherodetect.segment.pallor import fill_pallor
from spherodetect.segment.threshold import foreground_threshold


def estimate_rbc_diameter_px(density: np.ndarray) -> float:
    """The median diameter of the field's cells in pixels, or NaN without any foreground.

    The largest inscribed circle at each peak of the distance to the background is as wide as the
    cell there, even where cells touch in chains. The median is weighted with the area of the
    circles, so that platelets and dirt hardly count.

    Args:
        density: (H, W) optical density.
    """
    from scipy import ndimage
    from skimage.transform import rescale

    shrink = min(1.0, 2 * COARSE_PX / max(density.shape))
    small = density
    if shrink < 1:
        small = rescale(density, shrink, anti_aliasing=True, preserve_range=True)
    smooth = ndimage.gaussian_filter(small, 0.8)
    foreground = smooth > foreground_threshold(smooth)
    if not foreground.any():
        return float("nan")
    # Pale centres must be filled first, although the size of the cells is not known yet. A quarter
    # of the field is an upper limit of it.
    filled = fill_pallor(foreground, min(density.shape) * shrink / 4)
    distance = ndimage.distance_transform_edt(filled)
    peaks = (ndimage.maximum_filter(distance, 7) == distance) & (distance > 1.5)
    radii = np.sort(distance[peaks])
    if radii.size == 0:
        return float("nan")
    weight = np.cumsum(radii**2)
    diameter = 2 * float(radii[np.searchsorted(weight, weight[-1] / 2)])
    return diameter / shrink
