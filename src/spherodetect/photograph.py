"""`Photograph`: one decoded field, with what several stages need of it, each computed once.

Images are uint8 RGB (H, W, 3). Optical densities are float32 (H, W, 3), see segment.py. Lengths
are pixels of the image. Every function that takes an image also takes a Photograph, so that a
program that examines one field in several steps pays for the density once.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from spherodetect.fields.strip import image_rows
from spherodetect.segment import estimate_rbc_diameter_px, green_density, optical_density

_GREEN = 1


class Photograph:
    """An image with its optical density, the rows that show the field, and a first guess of the
    size of its red cells.

    Args:
        image: (H, W, 3) uint8. It is not copied, and must not be changed afterwards.

    >>> Photograph(np.full((64, 64, 3), 230, np.uint8)).rows
    64
    """

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def __repr__(self) -> str:
        return f"Photograph({self.image.shape[0]}x{self.image.shape[1]} pixels)"

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape[:2]
        return height, width

    @cached_property
    def rows(self) -> int:
        """How many rows from the top show the field: all, unless a strip of text ends the image."""
        return image_rows(self.image)

    @cached_property
    def density(self) -> np.ndarray:
        """(H, W, 3) float32 optical density, about 0 on the empty slide."""
        return optical_density(self.image)

    @cached_property
    def green(self) -> np.ndarray:
        """(H, W) float32, the density of the green channel, at less cost where it is all that is
        needed."""
        if "density" in self.__dict__:
            return self.density[..., _GREEN]
        return green_density(self.image)

    @cached_property
    def rbc_diameter_px(self) -> float:
        """The usual diameter of the field's cells by the widths of its foreground, or NaN."""
        return estimate_rbc_diameter_px(self.green[: self.rows])


def as_photograph(image: np.ndarray | Photograph) -> Photograph:
    """The image as a Photograph; one that is a Photograph already keeps what it has computed."""
    return image if isinstance(image, Photograph) else Photograph(image)


__all__ = ["Photograph", "as_photograph"]
