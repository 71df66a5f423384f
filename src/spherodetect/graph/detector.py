"""The inference graph: an image of any size in, its cells in native pixels out.

The image becomes optical density and is resized so that a red cell has the nominal diameter. The
trained layers then run with operations that accept any height and width. Model Garden's own
inference path differs in three points: it needs a fixed size, it suppresses each class separately,
and it runs the mask head on empty rows. This graph suppresses across classes and keeps the class
probabilities.

judge.py decides what each cell is.

Boxes are (ymin, xmin, ymax, xmax). The graph takes one image at a time, without a batch axis. With
a `Canvas` all shapes are fixed, so that XLA can compile it; see proposals.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import tensorflow as tf

from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.detect.frame import FRAME_SIZE, Frame
from spherodetect.detect.model_folder import Thresholds
from spherodetect.graph import decide, optics
from spherodetect.graph.boxes import align, anchors, clip, decode, whole
from spherodetect.graph.canvas import Canvas
from spherodetect.graph.conventions import FEATURES, LOOK, Conventions
from spherodetect.graph.decide import ClassIds
from spherodetect.graph.diameter import estimate_diameter
from spherodetect.graph.frame import place
from spherodetect.graph.ink import is_ink, under_ink
from spherodetect.graph.judge import Detections, Judge, Surroundings
from spherodetect.graph.network import Network
from spherodetect.graph.outlines import one_piece, smoothed, tightened
from spherodetect.graph.proposals import Shapes, in_use_or_zero
from spherodetect.graph.second_look import WINDOW

#: The largest enlargement, and the most pixels that the network processes at once. An image that
#: needs more is examined at a lower resolution, and `truncated` says so.
MAX_ENLARGEMENT, MAX_NETWORK_PIXELS = 3.0, 6_000_000
#: A box of less height or width, in the network's pixels, is not a cell: 1 µm, the last sliver of a
#: cell at the border.
_MIN_SIDE = 4.0
#: An unknown scale is rounded to one of six steps in an octave. A field that is cropped, rotated or
#: compressed again gives a slightly different diameter, and the network then still gets the same
#: pixels. The network was trained on cells of 0.8 to 1.25 times the nominal size.
_SCALE_STEP = math.log(2.0) / 6
#: The scale is determined again where the measured diameter differs by more than this.
_RESCALE_ABOVE = 0.75 * _SCALE_STEP
_GREEN = 1
#: The colour of the empty slide is the mean of every eighth pixel.
_LIGHT_STEP = 8
#: Mean and standard deviation of ImageNet's colours, 0 to 1: the input of Model Garden's models.
_COLOUR_MEAN, _COLOUR_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Detector(tf.Module):
    """A trained Mask R-CNN as a function of one image.

    Args:
        network: the trained layers.
        rbc_px: diameter of a red cell in the network's pixels.
        class_names: in the order of the class ids; red cells are recognised by name, see
            cells.RED_CELLS.
        colours: the network takes ImageNet's normalised colours, as Model Garden's own models do,
            and not optical density.
        second: the second look, see second_look.py.
        conventions: what laboratories call a spherocyte. Without them the thresholds decide.
        evidence: also return the inputs of the decision: `log_odds` of each cell by itself,
            `window` and `size`, the inputs of the second look, and `numbers` and `look`, those of
            a convention.
        canvas: fixed shapes; values of cells then have a constant number of rows.
    """

    #: Operations are named by their stage, for `benchmarks.detect`. A saved graph with these names
    #: is larger by a fifth.
    names_stages = False

    def __init__(
        self,
        network: Network,
        *,
        rbc_px: float,
        class_names: Sequence[str],
        colours: bool = False,
        second: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
        conventions: Conventions | None = None,
        evidence: bool = False,
        canvas: Canvas | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.rbc_px = rbc_px
        self.class_names = tuple(class_names)
        self.colours = colours
        self.second = second
        self.conventions = conventions
        self.evidence = evidence
        self.canvas = canvas
        self.classes = ClassIds.of(self.class_names)
        self.shapes = Shapes(rbc_px, canvas.network_hw(rbc_px, network.stride) if canvas else None)
        self.tuned = {
            name: tf.Variable(value, trainable=False)
            for name, value in asdict(Thresholds()).items()
        }

    def _stage(self, name: str) -> AbstractContextManager[Any]:
        return tf.name_scope(f"stage_{name}") if self.names_stages else nullcontext()

    def assign(self, thresholds: Thresholds) -> None:
        """Use other thresholds."""
        for name, value in asdict(thresholds).items():
            self.tuned[name].assign(value)

    def replace(self, **changes: Any) -> Detector:
        """The same detector, thresholds included, with other options."""
        options = {
            name: getattr(self, name)
            for name in (
                "rbc_px",
                "class_names",
                "colours",
                "second",
                "conventions",
                "evidence",
                "canvas",
            )
        }
        other = Detector(self.network, **options | changes)
        other.tuned = self.tuned
        return other

    def __call__(
        self, image: tf.Tensor, um_per_px: tf.Tensor, frame: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """The cells of one image, as `specs` describes.

        With fixed shapes the first num_detections rows are cells, and the others are 0.

        Args:
            image: uint8 (H, W, 3).
            um_per_px: float32 scalar; at 0 it is unknown, and the scale comes from the image's own
                red cells.
            frame: (7,) float32, a `detect.frame.Frame`, for the tiles of a larger image. The result
                then has the frame that was used, in the same form.
        """
        with self._stage("density"):
            image = tf.cast(image, tf.float32)
            density = optics.optical_density(image)
            picture = (image / 255.0 - _COLOUR_MEAN) / _COLOUR_SPREAD if self.colours else density
            ink = is_ink(density)
            step = _LIGHT_STEP
            light = tf.reduce_mean(
                image[::step, ::step] * 10.0 ** density[::step, ::step], axis=[0, 1]
            )
        given = None if frame is None else Frame(*tf.unstack(frame))
        scale_known = um_per_px > 0.0
        scale_given = tf.constant(False) if given is None else given.scale_diameter_px > 0.0
        usual = RBC_DIAMETER_UM / tf.maximum(um_per_px, 1e-6)

        def detect_at(
            again: tf.Tensor, diameter: tf.Tensor, cells: dict[str, tf.Tensor]
        ) -> tuple[Any, ...]:
            cells = self._detect(picture, diameter, um_per_px, given, light, ink)
            measured = cells["rbc_diameter_px"]
            cells["rbc_diameter_px"] = tf.where(scale_known, usual, measured)
            differs = tf.abs(tf.math.log(measured / diameter)) > _RESCALE_ABOVE
            again = differs & tf.math.logical_not(scale_given | scale_known)
            return again, _rounded_to_step(measured), cells

        # A known pixel size shows small cells small. That says more about their class than it costs
        # in missed cells.
        with self._stage("scale"):
            first = tf.cond(
                scale_given | scale_known,
                lambda: (
                    usual
                    if given is None
                    else tf.where(scale_given, given.scale_diameter_px, usual)
                ),
                lambda: _rounded_to_step(estimate_diameter(density)),
            )
        # The estimated diameter is compared with the cells that were detected with it.
        specs = self.specs(
            self.shapes.max_cells if self.shapes.fixed else None, framed=given is not None
        )
        empty = {
            name: tf.zeros([n or 0 for n in spec.shape], spec.dtype) for name, spec in specs.items()
        }
        shapes = {name: spec.shape for name, spec in specs.items()}
        return tf.while_loop(
            lambda again, *_: again,
            detect_at,
            [tf.constant(True), first, empty],
            shape_invariants=[first.shape, first.shape, shapes],
            maximum_iterations=2,
            parallel_iterations=1,
        )[2]

    def specs(self, rows: int | None, *, framed: bool = False) -> dict[str, tf.TensorSpec]:
        """Shapes and types of the result; the values of cells have `rows` rows."""
        k, size = len(self.class_names), self.network.mask_size
        evidence = {
            "log_odds": tf.TensorSpec([rows]),
            "window": tf.TensorSpec([rows, WINDOW, WINDOW, 4]),
            "size": tf.TensorSpec([rows, 3]),
            "numbers": tf.TensorSpec([rows, len(FEATURES) - 1]),
            "look": tf.TensorSpec([len(LOOK)]),
        }
        convention = {"convention": tf.TensorSpec([], tf.int32), "look_distance": tf.TensorSpec([])}
        return (evidence if self.evidence else {}) | {
            "boxes_yxyx": tf.TensorSpec([rows, 4]),
            "class_ids": tf.TensorSpec([rows], tf.int32),
            "confidences": tf.TensorSpec([rows]),
            "class_probabilities": tf.TensorSpec([rows, k]),
            "p_spherocyte": tf.TensorSpec([rows]),
            "countable": tf.TensorSpec([rows], tf.bool),
            "under_ink": tf.TensorSpec([rows], tf.bool),
            "masks": tf.TensorSpec([rows, size, size]),
            "num_detections": tf.TensorSpec([], tf.int32),
            "rbc_diameter_px": tf.TensorSpec([]),
            "truncated": tf.TensorSpec([], tf.bool),
            **(convention if self.conventions else {}),
            **({"frame": tf.TensorSpec([FRAME_SIZE])} if framed else {}),
        }

    def _detect(
        self,
        picture: tf.Tensor,
        diameter: tf.Tensor,
        um_per_px: tf.Tensor,
        given: Frame | None,
        light: tf.Tensor,
        ink: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The cells at a scale: `diameter` native pixels become rbc_px of the network's."""
        scale, is_limited = self._scale(picture, diameter)
        with self._stage("input"):
            input_, placed = self._network_input(picture, scale, given)
        size = placed.size
        offset = tf.tile(placed.offset, [2])
        with self._stage("features"):
            scores, offsets, *pyramid = self.network.features(
                input_ if self.colours else optics.network_input(input_)
            )
        input_hw = tf.shape(input_)[:2]
        fixed_hw = self.shapes.canvas_hw
        with self._stage("proposals"):
            references = anchors(input_hw, self.network.levels, self.network.anchor_shapes) - offset
            proposals, proposed = self.shapes.propose(
                scores,
                offsets,
                references,
                size,
                self.network.n_anchors(fixed_hw) if fixed_hw else None,
            )
        with self._stage("classify"):
            probabilities, offsets = self.network.classify(
                self._align(pyramid, proposals + offset, self.network.box_crop)
            )
            probabilities = decide.with_prior(
                probabilities,
                self.classes,
                spherocyte=self.tuned["spherocyte_prior"],
                other=self.tuned["other_prior"],
            )
        boxes = clip(decode(offsets, proposals, (10.0, 10.0, 5.0, 5.0)), size)
        proposed &= tf.reduce_min(boxes[:, 2:] - boxes[:, :2], axis=1) >= _MIN_SIDE
        # One box a cell, whatever its class. One row more than the limit shows that cells are left
        # out.
        limit = self.shapes.max_cells
        keep, valid = self.shapes.suppress(
            boxes,
            tf.where(proposed, 1.0 - probabilities[:, 0], -1.0),
            limit + 1,
            self.tuned["nms_iou"],
            above=self.tuned["confidence"],
        )
        count = tf.reduce_sum(tf.cast(valid, tf.int32))
        keep, valid = keep[:limit], valid[:limit]
        part = decide.is_part(tf.gather(boxes, keep), 1.0 - tf.gather(probabilities, keep)[:, 0])
        keep, valid = self.shapes.without(keep, valid, part)
        n_cells = tf.reduce_sum(tf.cast(valid, tf.int32))
        boxes, probabilities = tf.gather(boxes, keep), tf.gather(probabilities, keep)
        if self.shapes.fixed:
            boxes *= tf.cast(valid, tf.float32)[:, tf.newaxis]
        with self._stage("outline"):
            masks = self._masks(pyramid, boxes + offset, probabilities)
        # The box of a cell that the border cuts may end short of the border once it is tight.
        uncut = whole(boxes, size)
        with self._stage("shape"):
            boxes, masks = tightened(boxes, one_piece(masks, gathered=self.shapes.fixed))
            masks = smoothed(masks)
            in_image, native_masks = placed.native(boxes, masks)
            in_image /= scale
            inked = under_ink(ink, in_image, native_masks, gathered=self.shapes.fixed)
        unknown, estimate = tf.constant(0.0), tf.constant(-1.0)
        cells, of_field = self._judge()(
            Detections(boxes, probabilities, masks, valid, uncut=uncut, clear=~inked),
            Surroundings(
                image_hw=size,
                picture=input_,
                offset=offset,
                light=light,
                um_per_px=um_per_px / scale,
                median=unknown if given is None else given.rbc_diameter_px * scale,
                raised=estimate if given is None else given.prevalence_raise,
                convention=estimate if given is None else given.convention,
            ),
        )
        median, raised = of_field.pop("median"), of_field.pop("raise")
        cells |= {"boxes_yxyx": in_image, "masks": native_masks, "under_ink": inked}
        if self.shapes.fixed:
            cells = in_use_or_zero(cells, valid)
        grid_y, grid_x = tf.unstack(placed.spot / scale)
        row = tf.cast(of_field.get("convention", -1), tf.float32)
        used = Frame(diameter, median / scale, grid_y, grid_x, placed.turn, raised, row)
        return (
            cells
            | of_field
            | {
                "num_detections": n_cells,
                "rbc_diameter_px": median / scale,
                "truncated": (count > limit) | is_limited,
                **({} if given is None else {"frame": tf.stack(used.values())}),
            }
        )

    def _judge(self) -> Judge:
        return Judge(
            classes=self.classes,
            rbc_px=self.rbc_px,
            colours=self.colours,
            second=self.second,
            conventions=self.conventions,
            evidence=self.evidence,
            tuned=self.tuned,
            fixed_hw=self.shapes.canvas_hw,
            stage=self._stage,
        )

    def _scale(self, picture: tf.Tensor, diameter: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The enlargement, and whether a limit keeps it below the nominal one."""
        native = tf.cast(tf.shape(picture)[:2], tf.float32)
        nominal = self.rbc_px / diameter
        if self.shapes.canvas_hw is None:
            fitting = tf.sqrt(MAX_NETWORK_PIXELS / tf.reduce_prod(native))
        else:
            stride = self.network.stride
            fitting = tf.reduce_min([n - stride for n in self.shapes.canvas_hw] / native)
        scale = tf.minimum(nominal, tf.minimum(fitting, MAX_ENLARGEMENT))
        return scale, scale < 0.99 * nominal

    def _network_input(
        self, picture: tf.Tensor, scale: tf.Tensor, given: Frame | None
    ) -> tuple[tf.Tensor, Any]:
        """The resized image as the network gets it, and its placement."""
        dark = (-1.0 if self.colours else 1.0) * picture[..., _GREEN : _GREEN + 1]
        known = None
        if given is not None:
            spot = tf.stack([given.grid_y_px, given.grid_x_px]) * scale
            known = given.scale_diameter_px > 0.0, spot, given.turn
        input_, placed = place(
            picture,
            dark,
            tf.cast(tf.shape(picture)[:2], tf.float32) * scale,
            stride=self.network.stride,
            rbc_px=self.rbc_px,
            canvas=self.shapes.canvas_hw,
            given=known,
        )
        if not self.colours:
            # Noise and a camera's sharpening differ between slides, and classes do not. A slight
            # blur, which some of the training fields have, finds more spherocytes of the sharpest
            # slides.
            input_ = optics.softened(input_)
        return input_, placed

    def _align(self, pyramid: Sequence[tf.Tensor], boxes: tf.Tensor, crop: int) -> tf.Tensor:
        first_level = self.network.levels[0]
        return align(pyramid, boxes, crop, first_level=first_level, gathered=self.shapes.fixed)

    def _masks(
        self, pyramid: Sequence[tf.Tensor], boxes: tf.Tensor, probabilities: tf.Tensor
    ) -> tf.Tensor:
        # The mask head fails on an empty batch, and a field may have no cell: one box is added and
        # its mask is dropped.
        boxes = tf.concat([boxes, tf.constant([[0.0, 0.0, 8.0, 8.0]])], axis=0)
        class_ids = tf.argmax(probabilities[:, 1:], axis=1, output_type=tf.int32) + 1
        pooled = self._align(pyramid, boxes, self.network.mask_crop)
        return self.network.outline(pooled, tf.pad(class_ids, [[0, 1]]))[:-1]


def _rounded_to_step(diameter: tf.Tensor) -> tf.Tensor:
    return tf.exp(tf.round(tf.math.log(diameter) / _SCALE_STEP) * _SCALE_STEP)


__all__ = ["Detector"]
