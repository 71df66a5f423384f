"""The part of an image outside of the field of view: a black or flat frame, or an eyepiece's edge.

Such a part is neither slide nor cell. Three kinds are found: bands of one colour along the sides,
as programs add them to fill a square (letterbox); bands that repeat the image beside them as a
mirror does (Roboflow's "fit, reflect edges"), whose cells would be counted twice; and the dark
surround of a round or cut-off field of view. A pointer is dark and reaches the edge too, but it
stands inside of the field of view, whose outline is convex without it.
"""

from __future__ import annotations

import numpy as np

from spherodetect.fields.strip import block_mean

#: Grey levels by which a pixel of a band may differ from the band's colour; JPEG adds some.
_BAND_LEVELS = 8
#: Smallest band as a part of the image's side, and in pixels; both bands leave the last part.
_MIN_BAND, _MIN_BAND_PX, _MIN_LEFT = 0.01, 4, 0.2
#: Lines at the edge of a band that compression may blur: those of a block of JPEG.
_BLURRED_PX = 8
#: Shares of a line that have the band's colour: at least in a band, and at most beyond it. Lines of
#: saturated slide between cells have shares in between.
_IN_BAND, _BEYOND = 0.97, 0.3
#: Smallest mirrored band as a part of the image's side, and in pixels; the largest one.
_MIN_MIRROR, _MIN_MIRROR_PX, _MAX_MIRROR = 0.02, 8, 0.4
#: Grey levels by which a mirrored band differs from its original, on average; compression adds
#: some. If the axis is moved by so many half pixels, the two differ by more than twice as much.
_MIRROR_LEVELS, _MIRROR_SHIFT, _MIRROR_LEAST = 4.0, 4, 1.5
#: A picture of which more pixels equal the one above them is drawn, and drawn cells are symmetric.
_DRAWN = 0.9
#: Longest side of the copy on which a dark surround is searched.
_COARSE_PX = 480
#: Dark is below this part of the slide's brightness, in all channels. Nuclei keep more of the blue.
_DARK = 0.35
#: Least dark part of an image that is a surround; a part of it that may lie inside of the convex
#: outline of the field of view.
_MIN_DARK, _MAX_INSIDE = 0.003, 0.2
#: The edge of an eyepiece is soft: the field begins where this part of its brightness is reached,
#: at most this part of the image's side inside of the dark.
_BRIGHT, _MAX_EDGE = 0.9, 0.06


def find_surround(image: np.ndarray) -> np.ndarray | None:
    """(H, W) bool, the pixels outside of the field of view; None if the field fills the image.

    Args:
        image: (H, W, 3) uint8.

    >>> find_surround(np.full((64, 64, 3), 230, np.uint8)) is None
    True
    """
    top, bottom = _bands(image)
    left, right = _bands(np.swapaxes(image[top : len(image) - bottom], 0, 1))
    inner = image[top : len(image) - bottom, left : image.shape[1] - right]
    dark = _dark_surround(inner)
    if dark is None and not (top or bottom or left or right):
        return None
    outside = np.ones(image.shape[:2], bool)
    inside = outside[top : len(image) - bottom, left : image.shape[1] - right]
    inside[...] = False if dark is None else dark
    return outside


def bottom_band(image: np.ndarray) -> int:
    """The height of a band at the lower edge, without text; 0 if there is none."""
    return _bands(image)[1]


def _bands(image: np.ndarray) -> tuple[int, int]:
    """The number of rows at the upper and at the lower edge that are a band of one colour or a
    mirrored one."""
    # 200 columns suffice to tell whether a row is flat.
    lines = image[:, :: max(1, image.shape[1] // 200)]
    top, bottom = _band(lines), _band(lines[::-1])
    if not (top or bottom):
        top, bottom = _mirrored_bands(lines)
    return (top, bottom) if len(image) - top - bottom >= _MIN_LEFT * len(image) else (0, 0)


def _band(lines: np.ndarray) -> int:
    first = np.median(lines[0], axis=0)
    if (np.abs(lines[:_MIN_BAND_PX] - first).max(axis=2) > _BAND_LEVELS).mean() > 1 - _IN_BAND:
        return 0
    flat = (np.abs(lines - first).max(axis=2) <= _BAND_LEVELS).mean(axis=1)
    if flat.min() > _BEYOND:
        return 0
    flawless, end = int(np.argmax(flat < _IN_BAND)), int(np.argmax(flat <= _BEYOND))
    is_band = flawless >= max(_MIN_BAND_PX, _MIN_BAND * len(lines))
    # The edges of cells next to empty slide are round: there the share falls over many lines.
    is_sharp = end - flawless <= _BLURRED_PX and flat[end : end + _BLURRED_PX].mean() <= _BEYOND
    return end if is_band and is_sharp else 0


def _mirrored_bands(lines: np.ndarray) -> tuple[int, int]:
    """The heights of mirrored bands at both edges.

    Programs add both, of one height. A strip of text may be symmetric at one edge.
    """
    top = _mirrored(lines)
    bottom = _mirrored(lines[::-1]) if top else 0
    return (top, bottom) if bottom and abs(top - bottom) <= 1 else (0, 0)


def _mirrored(lines: np.ndarray) -> int:
    """The number of first rows that repeat the rows after them in reverse order."""
    grey = lines[..., 1].astype(np.float32)
    if len(grey) < 4 * _MIN_MIRROR_PX or (np.diff(grey, axis=0) == 0).mean() > _DRAWN:
        return 0
    smallest = max(_MIN_MIRROR_PX, round(_MIN_MIRROR * len(grey)))
    # Row i is the mirror image of row `both` - i.
    sums = np.arange(2 * smallest, round(2 * _MAX_MIRROR * len(grey)))
    if not len(sums):
        return 0
    outermost = np.abs(grey[sums] - grey[0]).mean(axis=1)
    likely = sums[outermost <= 2 * _MIRROR_LEVELS]
    differences = [(_mirror_difference(grey, both), int(both)) for both in likely]
    difference, both = min(differences, default=(np.inf, 0))
    # A band of empty slide, or of a large cell, resembles its mirror image wherever the axis is.
    moved = [_mirror_difference(grey, both + by) for by in (-_MIRROR_SHIFT, _MIRROR_SHIFT) if both]
    is_sharp = difference <= _MIRROR_LEVELS and min(moved) >= 2 * difference + _MIRROR_LEAST
    # A pattern that repeats, as a grid does, has several axes.
    is_only = all(d > _MIRROR_LEVELS for d, b in differences if abs(b - both) > 2 * _MIRROR_SHIFT)
    return (both + 1) // 2 if is_sharp and is_only else 0


def _mirror_difference(grey: np.ndarray, both: int) -> float:
    n = (both + 1) // 2
    return float(np.abs(grey[:n] - grey[both : both - n : -1]).mean())


def _dark_surround(image: np.ndarray) -> np.ndarray | None:
    """(H, W) bool, the dark part around a convex field of view; None without one."""
    height, width = image.shape[:2]
    step = max(1, -(-max(height, width) // _COARSE_PX))
    if min(height, width) < 2 * step:
        return None
    # Single pixels tell fast that most fields have no dark surround.
    points = image[::step, ::step].max(axis=2)
    if (points < _DARK * np.percentile(points, 95)).mean() < _MIN_DARK:
        return None
    value = block_mean(image, step).max(axis=2)
    dark = value < _DARK * np.percentile(value, 95)
    surround = _around(dark)
    if surround is None:
        return None
    surround = _with_soft_edge(value, surround)
    whole = np.repeat(np.repeat(surround, step, axis=0), step, axis=1)
    # Rows and columns that do not fill a block take the value of the block beside them.
    return np.pad(whole, ((0, height - whole.shape[0]), (0, width - whole.shape[1])), mode="edge")


def _around(dark: np.ndarray) -> np.ndarray | None:
    """The dark parts that reach the edge and lie outside of the convex hull of the rest."""
    from scipy.ndimage import binary_fill_holes, label
    from skimage.morphology import convex_hull_image

    parts, _ = label(dark)
    rim = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    numbers = np.setdiff1d(rim, [0])
    outer = np.isin(parts, numbers)
    views, n_views = label(~outer)
    if not n_views:
        return None
    view = views == 1 + int(np.argmax(np.bincount(views.ravel())[1:]))
    if view.mean() < _MIN_LEFT:
        return None
    hull = convex_hull_image(view)
    area = np.bincount(parts.ravel())
    inside = np.bincount(parts[hull], minlength=len(area))
    kept = [number for number in numbers.tolist() if inside[number] <= _MAX_INSIDE * area[number]]
    if sum(area[kept]) < _MIN_DARK * dark.size:
        return None
    # What lies beyond the surround, such as a speck of light, is outside of the view too.
    surround: np.ndarray = np.isin(parts, kept)
    return ~binary_fill_holes(view & ~surround) & (surround | ~view)


def _with_soft_edge(value: np.ndarray, surround: np.ndarray) -> np.ndarray:
    """The surround grown to where the field has its full brightness."""
    from scipy.ndimage import distance_transform_edt

    distance = distance_transform_edt(~surround)
    most = max(2, round(_MAX_EDGE * max(value.shape)))
    plateau = (distance > most) & (distance <= 2 * most)
    if not plateau.any():
        return surround
    enough = _BRIGHT * np.percentile(value[plateau], 75)
    for reach in range(1, most):
        ring = (distance > reach - 0.5) & (distance <= reach + 0.5)
        if ring.any() and np.percentile(value[ring], 75) >= enough:
            break
    return np.asarray(distance < reach + 0.5)


__all__ = ["bottom_band", "find_surround"]
