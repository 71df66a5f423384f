"""Places an image in the network's input by its content, not by how it was cropped.

The network's features have a stride of eight pixels. A cell that is moved by four pixels, or turned
upside down, gets other features: its log odds change by 1 (standard deviation). So the coarsest
grid is laid through the densest spot of the field, and the field is flipped so that the next
densest spot lies below it and to the right. A field that is higher than wide is transposed. A
rotated, flipped or slightly cropped picture then gives the network the same pixels. The tiles of a
larger image use the placement of the whole image, see detect/frame.py.

Positions are (y, x) in the network's pixels, where the image's corner is (0, 0). `size` is that of
the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from spherodetect.graph import optics

#: Side of the squares over which density is averaged, in red cells.
_BLUR = 0.5
#: Spots within this distance of the border, in red cells, may be missing from the next picture.
_MARGIN = 1.5


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network's input.

    Attributes:
        size: (2,) of the image in the input.
        offset: (2,) of its corner, 0 or more.
        flip: (2,) bool, the image's own axes along which it is flipped.
        transposed: bool, whether the axes are exchanged after the flip.
        spot: (2,) point of the image through which the grid is laid.
    """

    size: tf.Tensor
    offset: tf.Tensor
    flip: tf.Tensor
    transposed: tf.Tensor
    spot: tf.Tensor

    @property
    def turn(self) -> tf.Tensor:
        """flip and transposed as one number: 1, 2 and 4 for the three bits."""
        bits = tf.concat([self.flip, [self.transposed]], axis=0)
        return tf.reduce_sum(tf.cast(bits, tf.float32) * [1.0, 2.0, 4.0])

    def native(self, boxes: tf.Tensor, masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes (N, 4) and masks (N, m, m) in the axes of the image itself."""
        low, high = boxes[:, :2], boxes[:, 2:]
        low, high, size = (
            tf.where(self.transposed, at[..., ::-1], at) for at in (low, high, self.size)
        )
        masks = tf.where(self.transposed, tf.transpose(masks, [0, 2, 1]), masks)
        for axis in (0, 1):
            masks = tf.where(self.flip[axis], tf.reverse(masks, [axis + 1]), masks)
        corners = tf.where(self.flip, size - high, low), tf.where(self.flip, size - low, high)
        return tf.concat(corners, axis=1), masks


def place(
    picture: tf.Tensor,
    dark: tf.Tensor,
    size: tf.Tensor,
    *,
    stride: int,
    rbc_px: float,
    canvas: Sequence[int] | None = None,
    given: tuple[tf.Tensor, tf.Tensor, tf.Tensor] | None = None,
) -> tuple[tf.Tensor, Placement]:
    """The network's input and the placement of the image in it.

    The sides of the input are multiples of the stride. It is 0 where there is no image.

    Args:
        picture: (H, W, C) float32.
        dark: (H, W, 1), highest where the image is densest.
        size: (2,) float32, height and width at the network's scale.
        stride: the network's coarsest stride.
        rbc_px: diameter of a red cell at that scale.
        canvas: fixed height and width of the input, at least `stride` more than the size. The
            image's own shape is then fixed too, and an oblong image is not transposed.
        given: whether the placement is known, and its spot and turn.
    """

    def measured() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        first, second = _spots(dark, size, rbc_px=rbc_px, canvas=canvas)
        apart, hw = tf.abs(second - first), tf.shape(picture)[:2]
        return first, second < first, (hw[0] > hw[1]) | ((hw[0] == hw[1]) & (apart[0] > apart[1]))

    if given is None:
        spot, flip, transposed = measured()
    else:
        bits = tf.bitwise.bitwise_and(tf.cast(given[2], tf.int32), [1, 2, 4]) > 0
        spot, flip, transposed = tf.cond(given[0], lambda: (given[1], bits[:2], bits[2]), measured)
    offset = tf.math.floormod(-spot, float(stride))
    room = (
        tf.cast(tf.math.ceil((offset + size) / stride), tf.int32) * stride
        if canvas is None
        else tf.constant(canvas)
    )
    input_ = optics.resampled(picture, size, origin=offset, canvas=canvas or room)
    for axis in (0, 1):
        input_ = _reversed_if(flip[axis], input_, axis)
    offset = tf.where(flip, tf.cast(room, tf.float32) - offset - size, offset)
    if canvas is None:
        input_ = tf.cond(transposed, lambda: tf.transpose(input_, [1, 0, 2]), lambda: input_)
    elif canvas[0] == canvas[1]:
        input_ = tf.where(transposed, tf.transpose(input_, [1, 0, 2]), input_)
    else:
        transposed = tf.constant(False)
    offset, size = (tf.where(transposed, both[::-1], both) for both in (offset, size))
    return input_, Placement(size, offset, flip, transposed, spot)


def _reversed_if(wanted: tf.Tensor, image: tf.Tensor, axis: int) -> tf.Tensor:
    return tf.cond(wanted, lambda: tf.reverse(image, [axis]), lambda: image)


def _spots(
    dark: tf.Tensor, size: tf.Tensor, *, rbc_px: float, canvas: Sequence[int] | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Centres of the densest spot and of the densest one a red cell away, (2,) each."""
    blurred = _blurred(
        optics.resampled(dark, size, canvas=canvas)[..., 0],
        halvings=round(math.log2(_BLUR * rbc_px)),
    )
    y, x = (tf.cast(tf.range(n), tf.float32) + 0.5 for n in tf.unstack(tf.shape(blurred)))
    inner_y, inner_x = (tf.minimum(at, side - at) for at, side in ((y, size[0]), (x, size[1])))
    inner = tf.minimum(inner_y[:, tf.newaxis], inner_x) / (_MARGIN * rbc_px)
    weighted = blurred * tf.clip_by_value(inner, 0.0, 1.0)
    first = _maximum(weighted)
    apart = tf.square(y - first[0])[:, tf.newaxis] + tf.square(x - first[1]) > rbc_px**2
    return first, _maximum(tf.where(apart, weighted, -1.0))


def _blurred(values: tf.Tensor, *, halvings: int) -> tf.Tensor:
    """(H, W) values averaged twice over squares of side 2**halvings, padded with 0."""
    width = 2**halvings
    values = tf.pad(values, [[width - 1] * 2] * 2)
    for step in [2**k for k in range(halvings)] * 2:
        values = 0.5 * (values[step:] + values[:-step])
        values = 0.5 * (values[:, step:] + values[:, :-step])
    return values


def _maximum(values: tf.Tensor) -> tf.Tensor:
    """The position of the highest of (H, W) values, (2,), with subpixel precision.

    A parabola through the highest value and its two neighbours has its vertex there, on each axis.
    """
    at = tf.argmax(tf.reshape(values, [-1]), output_type=tf.int32)
    at = tf.stack([at // tf.shape(values)[1], at % tf.shape(values)[1]])
    # XLA would take the begin of a slice for a constant, and compile anew for each photograph.
    rows = tf.gather(tf.pad(values, [[1, 1], [1, 1]], "SYMMETRIC"), at[0] + tf.range(3))
    around = tf.gather(rows, at[1] + tf.range(3), axis=1)
    low, high = tf.stack([around[0, 1], around[1, 0]]), tf.stack([around[2, 1], around[1, 2]])
    bend = tf.minimum(low + high - 2 * around[1, 1], -1e-9)
    return tf.cast(at, tf.float32) + 0.5 + tf.clip_by_value(0.5 * (low - high) / bend, -0.5, 0.5)
