"""Fixed shapes of the inference graph, for accelerators."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted


@dataclass(frozen=True)
class Canvas:
    """Fixed shapes for accelerators: images of one size, with a lower limit of the pixel size.

    Attributes:
        image_hw: height and width of every image.
        um_per_px: the coarsest pixel size that fits. An image that needs more enlargement is
            examined at a lower resolution, and `truncated` says so.
    """

    image_hw: tuple[int, int]
    um_per_px: float

    @classmethod
    def parse(cls, text: str) -> Canvas:
        """HEIGHTxWIDTH@UM_PER_PX, as in 480x640@0.193.

        Raises:
            SpherodetectError: not of that form.
        """
        found = re.fullmatch(r"(\d{2,5})x(\d{2,5})@(\d*\.?\d+)", text)
        if not found or min(int(found[1]), int(found[2])) < 16 or float(found[3]) == 0:
            raise SpherodetectError(
                f"{quoted(text)}: expected height x width @ um per pixel, as in 480x640@0.193"
            )
        return cls((int(found[1]), int(found[2])), float(found[3]))

    def network_hw(self, rbc_px: float, stride: int) -> tuple[int, int]:
        """Height and width of the network's input, whatever the scale of an image."""
        scale = rbc_px * self.um_per_px / RBC_DIAMETER_UM
        height, width = (math.ceil(n * scale / stride + 1) * stride for n in self.image_hw)
        return height, width


__all__ = ["Canvas"]
