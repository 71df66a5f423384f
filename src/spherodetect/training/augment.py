"""Augments fields with changes of microscope and stain that keep the class of each cell.

There is no blur that fills a pallor, no stretch and no cut-out: a spherocyte is recognised by its
pallor and by its density relative to its neighbours. Sharpness varies both ways, because phones and
slide scanners sharpen their images.

Fields are optical densities, float32 (S, S, 3). Boxes are (N, 4) in their pixels, and masks
(N, M, M) fill the boxes. Each function takes a seed, (2,) int32, and its result is a function of
the seed.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from spherodetect.graph.boxes import pairwise_iou
from spherodetect.graph.optics import softened

#: Side of the square in which a cell is copied.
_PATCH = 64
#: A cell whose box has a higher IoU with that of the pasted cell overlaps it.
_TOUCHED = 0.02


def recompress(
    image: tf.Tensor, seed: tf.Tensor, *, share: float, quality: tuple[int, int] = (50, 96)
) -> tf.Tensor:
    """The uint8 image, compressed as JPEG again with probability `share`."""
    if tf.random.stateless_uniform([], seed) < share:
        image = tf.image.stateless_random_jpeg_quality(image, *quality, seed + 1)
    return image


def turn(
    density: tf.Tensor, boxes: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The field in one of the eight orientations of a square, each equally probable."""
    # tf.reverse is fifteen times faster than [::-1].
    coins = tf.random.stateless_uniform([3], seed) < 0.5
    side = tf.cast(tf.shape(density)[0], tf.float32)
    if coins[0]:
        density, masks = tf.transpose(density, [1, 0, 2]), tf.transpose(masks, [0, 2, 1])
        boxes = tf.gather(boxes, [1, 0, 3, 2], axis=1)
    if coins[1]:
        density, masks = tf.reverse(density, [0]), tf.reverse(masks, [1])
        boxes = tf.stack([side - boxes[:, 2], boxes[:, 1], side - boxes[:, 0], boxes[:, 3]], axis=1)
    if coins[2]:
        density, masks = tf.reverse(density, [1]), tf.reverse(masks, [2])
        boxes = tf.stack([boxes[:, 0], side - boxes[:, 3], boxes[:, 2], side - boxes[:, 1]], axis=1)
    return density, boxes, masks


def vary(density: tf.Tensor, seed: tf.Tensor, config: Any) -> tf.Tensor:
    """Stain strength, tint and purity, lamp, glare, sharpness and noise, as changes of density.

    The ranges cover laboratories that nobody trained on: Giemsa stains, cameras with a colour cast,
    photographs through an eyepiece and slide scanners.
    """
    seeds = tf.random.split(seed, 4)
    draws = tf.random.stateless_uniform([13], seed, -1.0, 1.0)
    strength = tf.exp(draws[0] * config.stain_jitter)
    tint = tf.exp(draws[1:4] * config.tint_jitter)
    # Eosin and azure absorb in other proportions in every laboratory; the mean of the channels is
    # what they share.
    fade = 0.5 * (draws[4] + 1.0) * config.colour_fade
    density += fade * (tf.reduce_mean(density, axis=-1, keepdims=True) - density)
    # A camera's colour matrix mixes what its filters see.
    mixing = tf.eye(3) + tf.random.stateless_normal([3, 3], seeds[0]) * config.mixing_jitter
    density = tf.tensordot(density, mixing, 1)
    density = _sharpened(density, draws[8], config)
    density = _glared(density * strength * tint, 0.5 * (draws[10] + 1.0) * config.glare)
    ramp = tf.linspace(-1.0, 1.0, tf.shape(density)[0])
    slope = draws[5:8] * config.light_jitter
    curve = draws[11:13] * config.light_jitter
    light = slope[0] + slope[1] * ramp[:, None, None] + slope[2] * ramp[None, :, None]
    light += curve[0] * ramp[:, None, None] ** 2 + curve[1] * ramp[None, :, None] ** 2
    noise = tf.random.stateless_normal(tf.shape(density), seeds[1])
    # Grain of a compressed or demosaiced photograph is coarser than a pixel.
    noise = tf.cond(draws[12] > 0.0, lambda: 2.0 * softened(noise), lambda: noise)
    return density + light + noise * (0.5 * (draws[9] + 1.0) * config.noise)


def _sharpened(density: tf.Tensor, draw: tf.Tensor, config: Any) -> tf.Tensor:
    """Softer for a draw above 0.2, up to `defocus`; sharper below -0.4, up to `sharpening`."""
    # Two passes of a 3x3 mean blur about as much as a defocus of 0.2 µm at the nominal cell size.
    blurred = softened(softened(density))
    return density + (
        tf.maximum(draw - 0.2, 0.0) * config.defocus
        - tf.maximum(-draw - 0.4, 0.0) * config.sharpening
    ) * (blurred - density)


def _glared(density: tf.Tensor, glare: tf.Tensor) -> tf.Tensor:
    """Densities when stray light adds a share of the lamp's intensity: dark parts lose contrast."""
    scale = 0.4342944819
    return -scale * tf.math.log(
        (tf.exp(-tf.clip_by_value(density, -0.5, 2.5) / scale) + glare) / (1.0 + glare)
    )


def paste(
    density: tf.Tensor, cells: tuple[tf.Tensor, ...], seed: tf.Tensor, *, some_cell: int
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """The field with a copy of one cell, cut out along its mask, that half covers another cell.

    This makes an overlap with known masks. Light passes through both cells, so their densities add.
    The centre of an overlapped cell says nothing about its class, so both become "some cell".

    Args:
        density: (S, S, 3).
        cells: boxes, masks, class sets (N,) int32, and whether each mask is known (N,) bool. The
            result has one more row.
        some_cell: class set of all classes except background.
    """
    boxes, masks, class_set, mask_known = cells
    side = tf.shape(density)[0]
    corner = tf.cast(tf.floor(boxes[:, :2]), tf.int32) - 1
    extent = boxes[:, 2:] - boxes[:, :2]
    inside = tf.reduce_all((corner >= 0) & (corner + _PATCH <= side), axis=1)
    donors = tf.where(mask_known & inside & tf.reduce_all(extent < _PATCH - 4.0, axis=1))[:, 0]
    draws = tf.random.stateless_uniform([4], seed)
    if tf.size(donors) > 0:
        donor = donors[tf.cast(draws[0] * tf.cast(tf.size(donors), tf.float32), tf.int32)]
        host = tf.cast(draws[1] * tf.cast(tf.shape(boxes)[0], tf.float32), tf.int32)
        apart = (0.55 + 0.4 * draws[2]) * tf.reduce_mean(tf.stack([extent[donor], extent[host]]))
        angle = draws[3] * 6.2831853
        direction = tf.stack([tf.sin(angle), tf.cos(angle)])
        center = (boxes[host, :2] + boxes[host, 2:]) / 2 + apart * direction
        shift = tf.cast(tf.round(center - (boxes[donor, :2] + boxes[donor, 2:]) / 2), tf.int32)
        start, end = corner[donor], corner[donor] + shift
        if tf.reduce_all((end >= 0) & (end + _PATCH <= side)):
            patch = density[start[0] : start[0] + _PATCH, start[1] : start[1] + _PATCH]
            patch *= _mask_on(masks[donor], boxes[donor], start)
            rest = side - _PATCH - end
            density += tf.pad(patch, [[end[0], rest[0]], [end[1], rest[1]], [0, 0]])
            box = boxes[donor] + tf.cast(tf.tile(shift, [2]), tf.float32)
            touched = pairwise_iou(box[None], boxes)[0] > _TOUCHED
            class_set = tf.where(touched, some_cell, class_set)
            boxes = tf.concat([boxes, box[None]], axis=0)
            masks = tf.concat([masks, masks[donor][None]], axis=0)
            class_set = tf.concat([class_set, [some_cell]], axis=0)
            mask_known = tf.concat([mask_known, [True]], axis=0)
    return density, (boxes, masks, class_set, mask_known)


def _mask_on(mask: tf.Tensor, box: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """A box-local mask in the pixels of a patch, (_PATCH, _PATCH, 1), 0 to 1.

    `start` is the corner of the patch in the field.
    """
    samples = tf.cast(tf.shape(mask)[0], tf.float32)
    ends = tf.cast(start, tf.float32) + tf.constant([[0.5], [_PATCH - 0.5]])
    # crop_and_resize maps corner to corner, and mask samples lie at half steps.
    at = ((ends - box[:2]) / (box[2:] - box[:2]) * samples - 0.5) / (samples - 1)
    corners = tf.reshape(at, [1, 4])
    return tf.image.crop_and_resize(mask[None, ..., None], corners, [0], [_PATCH, _PATCH])[0]
