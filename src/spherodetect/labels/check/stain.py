"""Where a field is stained, on a reduced copy, which tells boxes on cells from boxes on slide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Longer side of the reduced copy. A red cell has about ten pixels across in it.
_REDUCED_PX = 160
#: A field of which a smaller part is denser than slide shows no cell to compare with.
_MIN_FOREGROUND = 0.005
#: Where the density is below this part of the threshold there is only slide (see coverage.py).
_FAINT = 0.35
#: A place whose density relative to the brightest slide is higher may be a cell.
_MAYBE_CELL = 0.08
#: The surroundings extend beyond a box by this part of its sides.
_AROUND = 0.35
#: No cell has a smaller side.
_MIN_SIDE_PX = 2.0


@dataclass(frozen=True, eq=False)
class Stain:
    """The stain of a field.

    Attributes:
        size_hw: of the field.
        step: pixels of the field along a side of a pixel of the copy.
        density: (h, w) smoothed optical density over the threshold of cells.
        sums: (h + 1, w + 1) sums of the stained pixels above and to the left.
    """

    size_hw: tuple[int, int]
    step: int
    density: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> Stain | None:
        """The stain of a field (H, W, 3) uint8; None if no cell can be seen in it."""
        from PIL import Image
        from scipy import ndimage

        from spherodetect.segment.density import green_density
        from spherodetect.segment.threshold import foreground_threshold

        height, width = image.shape[:2]
        step = math.ceil(max(height, width) / _REDUCED_PX)
        small = np.asarray(Image.fromarray(image).reduce(step))
        smooth = ndimage.gaussian_filter(green_density(small), 0.7)
        threshold = foreground_threshold(smooth)
        stained = smooth > threshold
        if not math.isfinite(threshold) or stained.mean() < _MIN_FOREGROUND:
            return None
        sums = np.zeros((stained.shape[0] + 1, stained.shape[1] + 1))
        sums[1:, 1:] = stained.cumsum(axis=0).cumsum(axis=1)
        return cls((height, width), step, smooth / threshold, sums)

    def contrasts(self, box_yxyx: np.ndarray) -> np.ndarray:
        """(N,) the stained part of boxes minus that around them.

        It is 0 for a box off the image, and for a speck.
        """
        margin = np.tile(_AROUND * (box_yxyx[:, 2:] - box_yxyx[:, :2]), 2) * [-1, -1, 1, 1]
        inner, n_inner = self._stained(box_yxyx)
        outer, n_outer = self._stained(box_yxyx + margin)
        around = (outer - inner) / np.maximum(n_outer - n_inner, 1)
        inside = inner / np.maximum(n_inner, 1)
        is_box = (box_yxyx[:, 2:] - box_yxyx[:, :2]).min(axis=1, initial=np.inf) >= _MIN_SIDE_PX
        return np.where(is_box & (n_inner > 0), inside - around, 0)

    def is_slide(self, box_yxyx: np.ndarray) -> bool:
        """Whether there is only empty slide in a box (4,); not if it is off the image."""
        y0, x0, y1, x1 = self._whole(box_yxyx[None])[0]
        part = self.density[y0:y1, x0:x1]
        return bool(part.size) and float(part.max()) < _FAINT

    def _stained(self, box_yxyx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) stained pixels of the copy in boxes, and all pixels in them."""
        y0, x0, y1, x1 = self._whole(box_yxyx).T
        sums = self.sums
        return sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0], (y1 - y0) * (x1 - x0)

    def _whole(self, box_yxyx: np.ndarray) -> np.ndarray:
        """(N, 4) boxes in whole pixels of the copy, clipped to it; a box inside is never empty."""
        limit = np.tile(self.density.shape, 2)
        scaled = np.clip(np.nan_to_num(box_yxyx) / self.step, -1e6, 1e6)
        low, high = np.floor(scaled[:, :2]), np.ceil(scaled[:, 2:])
        return np.clip(np.concatenate([low, high], axis=1), 0, limit).astype(int)


def boxes_on_slide(image: np.ndarray, box_yxyx: np.ndarray) -> np.ndarray:
    """(N,) bool, whether there is only empty slide in boxes.

    The stain is computed only if some box holds nothing dark, which is rare.

    Args:
        image: (H, W, 3) uint8.
        box_yxyx: (N, 4) in its pixels.
    """
    on_slide = np.zeros(len(box_yxyx), bool)
    if not len(box_yxyx):
        return on_slide
    step = math.ceil(max(image.shape[:2]) / _REDUCED_PX)
    green = image[step // 2 :: step, step // 2 :: step, 1]
    darkest = np.percentile(green, 95) * 10**-_MAYBE_CELL
    dark = np.zeros((green.shape[0] + 1, green.shape[1] + 1), np.int64)
    dark[1:, 1:] = (green < darkest).cumsum(axis=0).cumsum(axis=1)
    limit = np.tile(green.shape, 2)
    whole = np.clip(np.nan_to_num(box_yxyx) / step, 0, limit)
    y0, x0 = np.floor(whole[:, :2]).astype(int).T
    y1, x1 = np.ceil(whole[:, 2:]).astype(int).T
    bright = dark[y1, x1] - dark[y0, x1] - dark[y1, x0] + dark[y0, x0] == 0
    if bright.any() and (stain := Stain.of(image)) is not None:
        on_slide[bright] = [stain.is_slide(box) for box in box_yxyx[bright]]
    return on_slide
