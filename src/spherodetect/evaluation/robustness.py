"""Changes of an image for the robustness test: blur, tint, scale and JPEG, in three strengths.

Images are uint8 RGB (H, W, 3) and points (M, 2) (y, x) in their pixels. Microscopes and cameras
make such changes: defocus, a lamp that is too warm or too cold, another number of pixels in a cell,
and compression.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Change:
    """One change of an image.

    Attributes:
        kind: none, blur, tint, scale or JPEG.
        strength: in words.
        apply: (image, rbc_diameter_px) to the changed image.
        factor: new pixels for one old pixel, along each side.
    """

    kind: str
    strength: str
    apply: Callable[[np.ndarray, float], np.ndarray]
    factor: float = 1.0


def changes() -> Iterator[Change]:
    """All changes by kind and rising strength; the first is no change."""
    yield Change("none", "as it is", lambda image, diameter: image)
    for share in (0.02, 0.04, 0.08):
        yield Change("blur", f"{100 * share:.0f} % of a cell", partial(blur, share=share))
    for name, red, blue in (
        ("warm 15 %", 1.0, 0.85),
        ("cold 15 %", 0.85, 1.0),
        ("cold 30 %", 0.7, 1.0),
    ):
        yield Change("tint", name, partial(tint, red=red, blue=blue))
    for factor in (0.5, 0.75, 1.5):
        yield Change("scale", f"× {factor:g}", partial(resize, factor=factor), factor)
    for quality in (60, 30, 15):
        yield Change("JPEG", f"quality {quality}", partial(recompress, quality=quality))


def blur(image: np.ndarray, rbc_diameter_px: float, *, share: float) -> np.ndarray:
    """The image with a Gaussian blur; `share` is its standard deviation in red cell diameters."""
    from scipy.ndimage import gaussian_filter

    sigma = share * rbc_diameter_px
    return gaussian_filter(image, (sigma, sigma, 0))


def tint(
    image: np.ndarray, rbc_diameter_px: float = 0, *, red: float = 1.0, blue: float = 1.0
) -> np.ndarray:
    """The image under a lamp of another colour.

    Red and blue are multiplied by factors of 0 to 1, and green by their mean, so that no channel
    saturates.
    """
    return np.rint(image * np.array([red, (red + blue) / 2, blue])).astype(np.uint8)


def resize(image: np.ndarray, rbc_diameter_px: float = 0, *, factor: float) -> np.ndarray:
    """The image with more or fewer pixels."""
    height, width = image.shape[:2]
    size = max(16, round(width * factor)), max(16, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def recompress(image: np.ndarray, rbc_diameter_px: float = 0, *, quality: int) -> np.ndarray:
    """The image, compressed as JPEG of this quality and decoded."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def subset(fields: Sequence[str], n: int) -> list[str]:
    """n evenly spaced fields, or all if there are fewer.

    >>> subset(["a", "b", "c", "d"], 2)
    ['a', 'd']
    """
    if n >= len(fields):
        return list(fields)
    return [fields[k] for k in np.unique(np.linspace(0, len(fields) - 1, n).round().astype(int))]
