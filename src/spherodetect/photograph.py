"""`Photograph`: one decoded field, with what several stages need of it, each computed once.

Images are uint8 RGB (H, W, 3). Optical densities are float32 (H, W, 3), see segment.py. Lengths
are pixels of the image. Every function that takes an image also takes a Photograph, so that a
program that examines one field in several steps pays for the density once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from spherodetect.cells import CUT, Cells
from spherodetect.fields.scan import LARGE_PIXELS
from spherodetect.fields.strip import block_mean, image_rows
from spherodetect.fields.surround import bottom_band, find_surround
from spherodetect.segment import (
    background,
    estimate_rbc_diameter_px,
    green_density,
    optical_density,
)

_GREEN = 1
#: Longest side of the copy of a large image from which the size of its cells is estimated.
_ESTIMATE_PX = 1280
#: A cell may be cut by the edge of the field of view if it comes this near, in red cell diameters
#: and in pixels.
_CUT_REACH, _CUT_PX = 1 / 16, 2.0


class Photograph:
    """An image with its optical density, the part that shows the field, and a first guess of the
    size of its red cells.

    Args:
        image: (H, W, 3) uint8. It is not copied, and must not be changed afterwards.
        notes: one sentence for each thing about its file that its user should know.
        whole: the image is known to show the field in all of its pixels.

    >>> Photograph(np.full((64, 64, 3), 230, np.uint8)).rows
    64
    """

    def __init__(
        self, image: np.ndarray, *, notes: tuple[str, ...] = (), whole: bool = False
    ) -> None:
        self.image = image
        self.file_notes = notes
        self._whole = whole

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
        height, rows = len(self.image), image_rows(self.image)
        # A band without text is a part of a frame around the field.
        return height if rows < height and bottom_band(self.image) else rows

    @cached_property
    def outside(self) -> np.ndarray | None:
        """(H, W) bool, the pixels outside of the field of view, or None: see fields/surround.py."""
        if self._whole:
            return None
        outside = find_surround(self.image[: self.rows])
        below = len(self.image) - self.rows
        return outside if outside is None else np.pad(outside, ((0, below), (0, 0)))

    @cached_property
    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8, the image with empty slide in the place of what is outside."""
        outside = self.outside
        if outside is None:
            return self.image
        filled = self.image.copy()
        # A first filling, so that the fit of the background does not see the dark pixels.
        filled[outside] = np.percentile(self.image[~outside], 95, axis=0)
        filled[outside] = background(filled)[outside].clip(0, 255)
        return filled

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each thing about the image that its user should know."""
        if self.outside is None:
            return self.file_notes
        share = f"{100 * self.outside.mean():.0f} %"
        note = f"{share} of the image lie outside of the field of view and were left out"
        return (*self.file_notes, note)

    def cut_off(self, cells: Cells) -> Cells:
        """The cells, of which those at the edge of the field of view are not countable."""
        outside = self.outside
        if outside is None or not len(cells):
            return cells
        from scipy.ndimage import distance_transform_edt

        distance = distance_transform_edt(~outside)
        reach = max(_CUT_PX, _CUT_REACH * (cells.rbc_diameter_px or 0.0))
        cut = np.array(
            [
                bool(mask.any())
                and float(distance[y : y + mask.shape[0], x : x + mask.shape[1]][mask].min())
                <= reach
                for mask, (y, x) in cells.pixel_masks()
            ]
        )
        measurements = {**cells.measurements, CUT: cut}
        return replace(cells, countable=cells.countable & ~cut, measurements=measurements)

    @cached_property
    def density(self) -> np.ndarray:
        """(H, W, 3) float32 optical density, about 0 on the empty slide."""
        return optical_density(self.picture)

    @cached_property
    def green(self) -> np.ndarray:
        """(H, W) float32, the density of the green channel, at less cost where it is all that is
        needed."""
        if "density" in self.__dict__:
            return self.density[..., _GREEN]
        return green_density(self.picture)

    @cached_property
    def rbc_diameter_px(self) -> float:
        """The usual diameter of the field's cells by the widths of its foreground, or NaN."""
        height, width = self.size_hw
        if height * width <= LARGE_PIXELS:
            return estimate_rbc_diameter_px(self.green[: self.rows])
        step = -(-max(height, width) // _ESTIMATE_PX)
        small = block_mean(self.picture[: self.rows], step)
        return step * estimate_rbc_diameter_px(green_density(small))


def as_photograph(image: np.ndarray | Photograph) -> Photograph:
    """The image as a Photograph; one that is a Photograph already keeps what it has computed."""
    return image if isinstance(image, Photograph) else Photograph(image)


__all__ = ["Photograph", "as_photograph"]
