"""The frame of an image: the scale, the grid and the prevalence with which the network examines it.

A frame is measured once on a large image and is then the same in all of its tiles. It has no
TensorFlow in it, so that both the detection code and the inference graph can use it. The SavedModel
takes and returns it as seven float32 numbers, in the order of the attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Frame:
    """How the network examines one image; inside the inference graph each value is a scalar tensor.

    Attributes:
        scale_diameter_px: red cell diameter that sets the enlargement, in native pixels. At 0 the
            graph estimates the scale and the grid from the image.
        rbc_diameter_px: median red cell diameter, the reference of relative sizes, in native
            pixels. At 0 the graph measures it.
        grid_y_px, grid_x_px: point of the image through which the network's grid is laid, in native
            pixels.
        turn: flips and transposition, see `graph.frame.Placement.turn`.
        prevalence_raise: increase of the log odds by the prevalence of spherocytes. Below 0 the
            graph estimates it from the image.
        convention: row of the laboratory's convention, see graph/conventions.py. Below 0 the graph
            chooses it by the look of the image.
    """

    scale_diameter_px: float = 0.0
    rbc_diameter_px: float = 0.0
    grid_y_px: float = 0.0
    grid_x_px: float = 0.0
    turn: float = 0.0
    prevalence_raise: float = -1.0
    convention: float = -1.0

    @classmethod
    def from_array(cls, values: Sequence[float] | np.ndarray) -> Frame:
        """The frame of the numbers that the SavedModel returns."""
        return cls(*map(float, values))

    def to_array(self) -> np.ndarray:
        """(7,) float32, as the SavedModel takes them."""
        return np.array(self.values(), np.float32)

    def values(self) -> list[Any]:
        """The values in order."""
        return [getattr(self, field.name) for field in fields(self)]

    def moved(self, origin_yx: Sequence[int]) -> Frame:
        """The frame of an image that has the corner of this one at `origin_yx`."""
        y, x = origin_yx
        return replace(self, grid_y_px=self.grid_y_px + y, grid_x_px=self.grid_x_px + x)


#: The graph estimates everything from the image.
ESTIMATE_EVERYTHING = Frame()
#: The value of `Frame.prevalence_raise` that lets the graph estimate the prevalence.
ESTIMATE_PREVALENCE = ESTIMATE_EVERYTHING.prevalence_raise
#: Numbers of a frame.
FRAME_SIZE = len(fields(Frame))
