"""Whether two small pictures show the same scene, one of them turned, mirrored, zoomed or shifted.

Labelling tools make augmented copies of a photograph in these ways. The second picture is tried in
all of them, and the correlation with the first decides (template matching by cross-correlation).
The labels of a field, drawn as discs, are such a picture too. Those of Dataset A's augmented copies
have a correlation of at least 0.79 (62 pairs), and those of different photographs at most 0.47 (60
pairs).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

#: Side of the pictures in pixels.
SIZE = 48
#: Correlation from which two pictures show the same scene.
MIN_AGREEMENT = 0.62
#: Zooms and turns of one copy relative to another. Crops of up to 20 % zoom by up to 1.25.
_ZOOMS = tuple(np.exp(np.linspace(-0.4, 0.4, 11)).tolist())
_TURNS_DEGREES = (10, -10, 20, -20)
#: Part of the picture that must overlap.
_MIN_OVERLAP = 0.3
#: Places of the highest correlation that are examined.
_N_PEAKS = 4
_STEPS = tuple(itertools.product((-1, 0, 1), repeat=2))
#: A shift by one pixel changes the correlation by less.
_ONE_PIXEL = 0.2
#: Twice the size, so that no shift wraps around.
_PADDED = (2 * SIZE, 2 * SIZE)


def show_the_same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether some way to lay the second picture over the first makes them agree.

    Args:
        first, second: (SIZE, SIZE) float32, from `duplicates.flatten`.
    """
    from scipy import fft

    spectrum = fft.rfft2(first.astype(np.float32), _PADDED, workers=1)
    # Small turns are rare, and trying them takes most of the time.
    return any(
        _agreement(first, spectrum, picture, turns) >= MIN_AGREEMENT
        for turns in ((0,), _TURNS_DEGREES)
        for picture in _orientations(second.astype(np.float32))
    )


def _agreement(
    first: np.ndarray, spectrum: np.ndarray, second: np.ndarray, turns: tuple[int, ...]
) -> float:
    """The highest correlation of two pictures over turns, zooms and shifts of the second."""
    from scipy import fft

    laid, inside = _warped(second, turns)
    spectra = fft.rfft2(laid, _PADDED, axes=(1, 2), workers=1)
    surface = fft.irfft2(spectrum * spectra.conj(), _PADDED, axes=(1, 2), workers=1)
    surface = surface.reshape(len(laid), -1)
    place = surface.argmax(axis=1)
    height = surface[np.arange(len(laid)), place] / (np.linalg.norm(laid, axis=(1, 2)) + 1e-6)
    best = 0.0
    for k in np.argsort(height)[-_N_PEAKS:].tolist():
        shift = [side - 2 * SIZE if side >= SIZE else side for side in divmod(place[k], 2 * SIZE)]
        found = _correlation(first, laid[k], inside[k], (int(shift[0]), int(shift[1])))
        # The peak may be one pixel off.
        for step_y, step_x in _STEPS if found > MIN_AGREEMENT - _ONE_PIXEL else ():
            moved = int(shift[0]) + step_y, int(shift[1]) + step_x
            found = max(found, _correlation(first, laid[k], inside[k], moved))
        best = max(best, found)
    return best


def _orientations(picture: np.ndarray) -> Iterator[np.ndarray]:
    """The picture in its eight orientations: four quarter turns, mirrored or not."""
    for mirrored in (picture, picture[:, ::-1]):
        for quarter in range(4):
            yield np.ascontiguousarray(np.rot90(mirrored, quarter))


def _warped(picture: np.ndarray, turns: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(T, SIZE, SIZE) the picture turned and zoomed, 0 outside of it; and bool, what is inside."""
    corner, weights, inside = _grid(turns)
    flat = picture.ravel()
    laid = np.zeros(inside.shape, np.float32)
    for offset, weight in zip((0, 1, SIZE, SIZE + 1), weights, strict=True):
        laid += flat[corner + offset] * weight
    return laid * inside, inside


@lru_cache(maxsize=4)
def _grid(turns: tuple[int, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
    """For each turn and zoom: the upper left pixel of bilinear interpolation, the four weights, and
    which places lie inside the picture."""
    middle = (SIZE - 1) / 2
    y, x = np.mgrid[:SIZE, :SIZE] - middle
    places = []
    for degrees, zoom in itertools.product(turns, _ZOOMS):
        cosine, sine = np.cos(np.deg2rad(degrees)) / zoom, np.sin(np.deg2rad(degrees)) / zoom
        places.append([cosine * y - sine * x, sine * y + cosine * x])
    place = np.array(places) + middle
    inside = np.all((place >= 0) & (place <= SIZE - 1), axis=1)
    low = np.clip(np.floor(place).astype(int), 0, SIZE - 2)
    part_y, part_x = (place - low).astype(np.float32).swapaxes(0, 1)
    weights: tuple[np.ndarray, ...] = (
        (1 - part_y) * (1 - part_x),
        (1 - part_y) * part_x,
        part_y * (1 - part_x),
        part_y * part_x,
    )
    return low[:, 0] * SIZE + low[:, 1], weights, np.asarray(inside)


def _correlation(
    first: np.ndarray, laid: np.ndarray, inside: np.ndarray, shift: tuple[int, int]
) -> float:
    """The correlation of the part that two pictures share; 0 if it is too small."""
    here, there = [], []
    for by in shift:
        here.append(slice(max(0, by), SIZE + min(0, by)))
        there.append(slice(max(0, -by), SIZE + min(0, -by)))
    shared = inside[tuple(there)]
    if shared.sum() < _MIN_OVERLAP * SIZE**2:
        return 0.0
    a, b = first[tuple(here)][shared], laid[tuple(there)][shared]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-9))
