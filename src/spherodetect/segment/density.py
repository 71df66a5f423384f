"""The empty slide's intensity, and the optical density of a field.

The background is a quadratic surface for each colour channel. It is fitted on a coarse copy, since
illumination is smooth, with the moments of the pixels that are empty slide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from spherodetect.segment.threshold import foreground_threshold

#: Long side of the copy on which slow, smooth quantities (background, size of cells) are estimated.
COARSE_PX = 320
_GREEN = 1


def background(image: np.ndarray) -> np.ndarray:
    """The empty slide's intensity at each pixel, (H, W, 3) float32.

    The surface is fitted to the pixels that are not cells, and which these are depends on the
    surface. Both are improved in turn; four rounds suffice. In a field with almost no empty slide
    the background is constant: the 95th percentile of each channel.

    Args:
        image: (H, W, 3) uint8.
    """
    return np.stack([*_background_planes(image)], axis=-1)


def optical_density(image: np.ndarray) -> np.ndarray:
    """-log10(I / background) of each channel, (H, W, 3) float32.

    It is about 0 on the empty slide, and 0.1 to 0.4 in a red cell.

    Args:
        image: (H, W, 3) uint8.
    """
    surfaces = enumerate(_background_planes(image))
    return np.moveaxis(
        np.stack([_density(image[..., channel], surface) for channel, surface in surfaces]), 0, -1
    )


def green_density(image: np.ndarray) -> np.ndarray:
    """The green channel of `optical_density`, (H, W) float32, in less time and memory."""
    return _density(image[..., _GREEN], *_background_planes(image, channels=(_GREEN,)))


def _density(values: np.ndarray, surface: np.ndarray) -> np.ndarray:
    density = np.maximum(values, 1) / surface
    np.log(density, out=density)
    density *= -np.log10(np.e)
    return density


def _background_planes(
    image: np.ndarray, *, channels: Sequence[int] = (0, 1, 2)
) -> Iterator[np.ndarray]:
    """The planes of `background`, (H, W) float32 each."""
    height, width = image.shape[:2]
    step = max(1, max(height, width) // COARSE_PX)
    y, x = (_powers(size) for size in (height, width))
    coarse = np.ascontiguousarray(np.moveaxis(np.maximum(image[::step, ::step], 1), -1, 0))
    values = coarse.astype(np.float32)
    coefficients = np.zeros((3, 3, 3), np.float32)
    coefficients[:, 0, 0] = _bright(coarse)
    for _ in range(4):
        surfaces = np.maximum(_surface(coefficients, y[::step], x[::step]), 1)
        density = _density(values[_GREEN], surfaces[_GREEN])
        cut = foreground_threshold(density)
        # Half of the threshold keeps the pale rims of cells out of the fit.
        empty = density < 0.5 * cut
        # Saturated marks (scale bars, arrows) may be as bright as the slide in green, but they are
        # far from its colour in some channel.
        far = np.float32(10 ** max(cut, 0.06))
        empty &= ((values < far * surfaces) & (far * values > surfaces)).all(axis=0)
        if empty.mean() < 0.02:
            break
        coefficients = _fit(values, empty, y[::step], x[::step])
    for channel in channels:
        yield np.clip(_surface(coefficients[channel], y, x), 1, 400)


def _bright(planes: np.ndarray) -> np.ndarray:
    """(C,) 95th percentiles of (C, h, w) uint8 planes.

    A stable sort of bytes is a radix sort in NumPy, which is faster than np.percentile.
    """
    ordered = np.sort(planes.reshape(len(planes), -1), axis=1, kind="stable").T
    rank = 0.95 * (len(ordered) - 1)
    low, high = ordered[int(rank)], ordered[int(np.ceil(rank))]
    return low + (rank - int(rank)) * (high - low)


def _powers(size: int) -> np.ndarray:
    """(size, 5) float32: powers 0 to 4 of the position, which runs from -0.5 to 0.5."""
    position = np.arange(size) / max(size - 1, 1) - 0.5
    return np.vander(position, 5, increasing=True).astype(np.float32)


def _surface(coefficients: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(..., H, W) float32 values of quadratic surfaces.

    Args:
        coefficients: (..., 3, 3), by the power of y and the power of x.
        y, x: (H, 5) and (W, 5), see `_powers`.
    """
    across = coefficients @ x[:, :3].T
    surface = y[:, 2:3] * across[..., 2:, :]
    surface += y[:, 1:2] * across[..., 1:2, :]
    surface += across[..., :1, :]
    return surface


def _fit(values: np.ndarray, where: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(3, 3, 3) coefficients of the quadratic surfaces that fit three planes by least squares.

    The normal equations need only sums of y^i x^j over the chosen pixels, with and without the
    values. As x and y are separable, these are two small matrix products instead of a design matrix
    with a row for each pixel.

    Args:
        values: (3, h, w) planes.
        where: (h, w) bool, the pixels to fit.
        y, x: (h, 5) and (w, 5), see `_powers`.
    """
    # The six terms of a quadratic: 1, y, x, y^2, y x, x^2.
    power_y, power_x = np.array([0, 1, 0, 2, 1, 0]), np.array([0, 0, 1, 0, 1, 2])
    moments = (y.T @ (where.astype(np.float32) @ x)).astype(float)
    # If only a part of the field is empty, the surface is not determined elsewhere and may reach
    # any value in the corners. A weak ridge penalty on all terms but the constant prevents that.
    ridge = np.diag([0, 1, 1, 1, 1, 1]) * 0.002 * where.sum()
    right = (y[:, :3].T @ ((values * where) @ x[:, :3]))[:, power_y, power_x]
    coefficients = np.zeros((3, 3, 3), np.float32)
    normal = moments[power_y[:, None] + power_y, power_x[:, None] + power_x] + ridge
    coefficients[:, power_y, power_x] = np.linalg.solve(normal, right.T).T
    return coefficients
