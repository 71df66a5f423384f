"""Foreground of cells with their pale centres.

The centre of a red cell may be as pale as the slide, so that a threshold leaves a hole. The slide
that a ring of touching cells encloses is a hole as well, and must stay one.
"""

from __future__ import annotations

import numpy as np

#: The part of the threshold at which cells with a rim that is too pale on one side are closed.
_PALE_RIM = 0.6
#: A blob of fewer red cells than this does not enclose any slide: it takes four cells to leave a
#: gap of a size that matters.
_CLUMP_DISCS = 3.0


def foreground_with_pallor(density: np.ndarray, threshold: float, diameter_px: float) -> np.ndarray:
    """(H, W) bool: cells with their pale centres, even if the rim is too pale on one side.

    Args:
        density: (H, W) optical density.
        threshold: see `threshold.foreground_threshold`.
        diameter_px: diameter of a red cell.
    """
    from scipy import ndimage

    # A lower threshold closes a rim that is too pale on one side, but moves all outlines outwards.
    # So the outlines of the certain foreground are kept, and only pixels well inside of a blob are
    # added, and only where most of the blob is certain.
    certain = density > threshold
    whole = fill_pallor(density > _PALE_RIM * threshold, diameter_px, clump_discs=_CLUMP_DISCS)
    blobs, count = ndimage.label(whole)
    hits = np.bincount(blobs.ravel(), certain.ravel(), count + 1)
    known = hits > 0.5 * np.bincount(blobs.ravel(), minlength=count + 1)
    known[0] = False
    inner = known[blobs] & (distance_to_background(whole) > 0.15 * diameter_px)
    return fill_pallor(certain | inner, diameter_px, clump_discs=_CLUMP_DISCS)


def fill_pallor(
    foreground: np.ndarray, diameter_px: float, *, clump_discs: float = 0.0
) -> np.ndarray:
    """(H, W) bool: the foreground with its pale centres, without enclosed slide.

    Args:
        foreground: (H, W) bool.
        diameter_px: diameter of a red cell.
        clump_discs: every hole in a blob of less than this many red cells is filled. In a larger
            blob the shape of the hole decides.
    """
    from scipy import ndimage
    from skimage.measure import regionprops

    holes, count = ndimage.label(~foreground)
    if count == 0:
        return foreground
    disc = np.pi / 4 * diameter_px**2
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    at_edge = np.zeros(count + 1, bool)
    at_edge[np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])] = True
    blobs, _ = ndimage.label(foreground | ~at_edge[holes])
    in_small_blob = (np.bincount(blobs.ravel()) < clump_discs * disc)[blobs] & ~at_edge[holes]
    enclosed = np.zeros(count + 1, bool)
    enclosed[holes[in_small_blob]] = True
    # A hole at the edge of the image is a pale centre only if it is small: it may go on outside.
    fill = enclosed | (areas < np.where(at_edge, 0.25, 0.75) * disc)
    fill[0] = False
    # A pale centre is convex, or the ring of a target cell. The gap between three or four discs is
    # a star, whose convex hull is the polygon of the points of contact: its solidity is 0.37 for
    # three discs and 0.43 for four. So a hole with a solidity below 0.65 is slide.
    unsure = fill & ~enclosed & (areas > 0.02 * disc)
    for region in regionprops(np.where(unsure[holes], holes, 0)):
        if region.area_filled < (0.8 if at_edge[region.label] else 0.65) * region.area_convex:
            fill[region.label] = False
    return foreground | fill[holes]


def distance_to_background(foreground: np.ndarray) -> np.ndarray:
    """(H, W) distance to the background in pixels; cells are continued beyond the image."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(np.pad(foreground, 1, mode="edge"))[1:-1, 1:-1]
