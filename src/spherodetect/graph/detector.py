"""The inference graph: a field of any size in, its cells in native pixels out. All that decides is
in here.

A field becomes optical density, is resized so that a red cell has the nominal diameter, and goes
through the trained layers with operations that accept any height and width. Model Garden's own
inference path wants a fixed size, gives each class its own suppression, and runs the mask head on
empty slots; this one suppresses across classes and keeps the class probabilities. p_spherocyte is
the calibrated odds of a spherocyte against the other red cells, those of the Mask R-CNN and of the
second look averaged, with the field's own prevalence as the prior. Boxes are (ymin, xmin, ymax,
xmax); one image at a time, no batch axis. The same code gives the form of fixed shapes that XLA
compiles, see `Canvas`: there every step has a row for each cell that there could be, and `valid`
says which are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from spherodetect.cells import RED_CELLS
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.errors import SpherodetectError
from spherodetect.graph import optics
from spherodetect.graph.boxes import align, anchors, clip, decode, pairwise_iou, whole
from spherodetect.graph.diameter import estimate_diameter
from spherodetect.graph.frame import laid
from spherodetect.graph.network import Network
from spherodetect.graph.prevalence import raise_by
from spherodetect.graph.second_look import WINDOW, combined, sizes, windows
from spherodetect.safety import quoted

SPHEROCYTE = "spherocyte"
#: More cells than this in one image are left out, and `truncated` says so.
MAX_CELLS = 2000
#: The most that an image is enlarged, and the most pixels that the network sees at once; an image
#: that would need more is looked at more coarsely, and `truncated` says so.
MAX_ENLARGEMENT, MAX_NETWORK_PIXELS = 3.0, 6_000_000
#: Cells whose boxes agree more than this lie on each other: discs at three quarters of a diameter,
#: side by side.
_OVERLAP_IOU = 0.12
#: A box of less height or width, in the network's pixels, is no cell: 1 µm, the last sliver of one
#: at the border.
_MIN_SIDE = 4.0
#: An unknown scale is one of six in an octave. A field that is cut, turned or saved otherwise gives
#: a diameter that is a little different, and the network, which knows cells of 0.8 to 1.25 times
#: the nominal size, still sees the same.
_SCALE_STEP = math.log(2.0) / 6
#: What is seen a little smaller is likelier to be called a spherocyte, and at which step a field of
#: unknown scale is seen is chance. By so much the network's log odds fall with the log of the size
#: at which red cells are seen (cells of 50 fields, seen at 0.88 to 1.12 times their size, by
#: detectors that held them out: 2 to 6).
_SIZE_SLOPE, _MOST_OFF = 3.5, 0.15
#: Minus so much is a score below all that a network gives.
_UNLIKELY = 1e6
_GREEN = 1
#: What ImageNet's colours are on the whole, 0 to 1, and how they spread: Model Garden's own input.
_COLOUR_MEAN, _COLOUR_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Thresholds:
    """What is tuned on held-out cells.

    Attributes:
        confidence: from which a detection counts as a cell.
        p_spherocyte: from which a red cell is called a spherocyte.
        slope, intercept: of the log odds of p_spherocyte on the log odds that were found (Platt
            1999).
        nms_iou: boxes that agree more are one cell.
    """

    # A cell at a fifth of the usual confidence is mostly a pale one, or one of two that lie on each
    # other.
    confidence: float = 0.15
    p_spherocyte: float = 0.5
    slope: float = 1.0
    intercept: float = 0.0
    nms_iou: float = 0.45


@dataclass(frozen=True)
class Canvas:
    """Fixed shapes for accelerators: images of one size, and as much of them as the network will
    see.

    Attributes:
        image_hw: height and width of every image.
        um_per_px: the pixel size that there is room for; an image that would have to be enlarged
            more is looked at more coarsely, and `truncated` says so.
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


class Detector(tf.Module):
    """A trained Mask R-CNN as a function of one image.

    Args:
        network: its layers.
        rbc_px: the diameter at which the network sees a red cell.
        class_names: in the order of the class ids; the red cells among them are known by name, see
            cells.RED_CELLS.
        colours: the network knows ImageNet's normalised colours, Model Garden's own input, and not
            density.
        second: what a second look says, see second_look.py.
        evidence: also give what the decisions rest on: log_odds of each cell by itself, and what
            the second look sees, seen and size.
        canvas: fixed shapes; what is said of cells has a row for each that there could be.
    """

    def __init__(
        self,
        network: Network,
        *,
        rbc_px: float,
        class_names: Sequence[str],
        colours: bool = False,
        second: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
        evidence: bool = False,
        canvas: Canvas | None = None,
    ) -> None:
        super().__init__()
        self.second, self.evidence = second, evidence
        self.network, self.rbc_px, self.class_names, self.colours = (
            network,
            rbc_px,
            tuple(class_names),
            colours,
        )
        #: Ids of the red cells other than spherocytes, and of spherocytes; a model may lack either.
        self.other_red_ids = [
            k for k, name in enumerate(class_names, 1) if name in RED_CELLS - {SPHEROCYTE}
        ]
        self.spherocyte_id = (
            class_names.index(SPHEROCYTE) + 1 if SPHEROCYTE in class_names else None
        )
        self.tuned = {
            name: tf.Variable(value, trainable=False)
            for name, value in asdict(Thresholds()).items()
        }
        self.canvas, self._room, self.max_cells = canvas, None, MAX_CELLS
        if canvas:
            scale = rbc_px * canvas.um_per_px / RBC_DIAMETER_UM
            #: Height and width that the network sees, whatever the scale.
            self._room = [
                math.ceil(n * scale / network.stride + 1) * network.stride for n in canvas.image_hw
            ]
            self.max_cells = min(int(self._likely(math.prod(self._room))), MAX_CELLS)

    def assign(self, thresholds: Thresholds) -> None:
        """Use other thresholds."""
        for name, value in asdict(thresholds).items():
            self.tuned[name].assign(value)

    def but(self, **changes: Any) -> Detector:
        """The same detector, thresholds and all, with other options."""
        options = ("rbc_px", "class_names", "colours", "second", "evidence", "canvas")
        other = Detector(self.network, **{name: getattr(self, name) for name in options} | changes)
        other.tuned = self.tuned
        return other

    def __call__(
        self, image: tf.Tensor, um_per_px: tf.Tensor, frame: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """The cells of one image, as `specs` says; of fixed rows the first num_detections, the
        others are 0.

        Args:
            image: uint8 (H, W, 3).
            um_per_px: float32 scalar, 0 where it is unknown: then the field's own red cells give
                the scale.
            frame: (6,) float32, how to look, for the tiles of a larger image: the size of a red
                cell that decides how much the image is enlarged, the median red cell's, the place
                (y, x) that the grid goes through, all in native pixels, `Frame.turn`, and how much
                the prevalence of spherocytes raises the log odds. Sizes of 0 and a raise below 0
                leave it to the image. How it was looked at is then in the result, in the same form.
        """
        image = tf.cast(image, tf.float32)
        density = optics.optical_density(image)
        picture = (image / 255.0 - _COLOUR_MEAN) / _COLOUR_SPREAD if self.colours else density
        known, usual = um_per_px > 0.0, RBC_DIAMETER_UM / tf.maximum(um_per_px, 1e-6)

        def look(
            again: tf.Tensor, diameter: tf.Tensor, cells: dict[str, tf.Tensor]
        ) -> tuple[Any, ...]:
            cells = self._detect(picture, diameter, um_per_px, frame)
            found = cells["rbc_diameter_px"]
            cells["rbc_diameter_px"] = tf.where(known, usual, found)
            again = (
                tf.abs(tf.math.log(found / diameter)) > 0.75 * _SCALE_STEP
            ) & tf.math.logical_not(told | known)
            return again, _stepped(found), cells

        told = tf.constant(False) if frame is None else frame[0] > 0.0
        # A known pixel size shows small cells small: that tells more of their class than it costs
        # in cells missed.
        guess = tf.cond(
            told | known,
            lambda: usual if frame is None else tf.where(told, frame[0], usual),
            lambda: _stepped(estimate_diameter(density)),
        )
        # The first guess is checked against what was found with it.
        specs = self.specs(self.max_cells if self._room else None, framed=frame is not None)
        nothing = {
            name: tf.zeros([n or 0 for n in spec.shape], spec.dtype) for name, spec in specs.items()
        }
        shapes = {name: spec.shape for name, spec in specs.items()}
        return tf.while_loop(
            lambda again, *_: again,
            look,
            [tf.constant(True), guess, nothing],
            shape_invariants=[guess.shape, guess.shape, shapes],
            maximum_iterations=2,
            parallel_iterations=1,
        )[2]

    def specs(self, rows: int | None, *, framed: bool = False) -> dict[str, tf.TensorSpec]:
        """Shapes and types of what is said of an image; of each cell, in so many rows, but for the
        last few."""
        k, size = len(self.class_names), self.network.mask_size
        evidence = {
            "log_odds": tf.TensorSpec([rows]),
            "seen": tf.TensorSpec([rows, WINDOW, WINDOW, 4]),
            "size": tf.TensorSpec([rows, 3]),
        }
        return (evidence if self.evidence else {}) | {
            "boxes_yxyx": tf.TensorSpec([rows, 4]),
            "class_ids": tf.TensorSpec([rows], tf.int32),
            "confidences": tf.TensorSpec([rows]),
            "class_probabilities": tf.TensorSpec([rows, k]),
            "p_spherocyte": tf.TensorSpec([rows]),
            "countable": tf.TensorSpec([rows], tf.bool),
            "masks": tf.TensorSpec([rows, size, size]),
            "num_detections": tf.TensorSpec([], tf.int32),
            "rbc_diameter_px": tf.TensorSpec([]),
            "truncated": tf.TensorSpec([], tf.bool),
            **({"frame": tf.TensorSpec([6])} if framed else {}),
        }

    def _detect(
        self, picture: tf.Tensor, diameter: tf.Tensor, um_per_px: tf.Tensor, told: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        native = tf.cast(tf.shape(picture)[:2], tf.float32)
        wanted = self.rbc_px / diameter
        pixels = MAX_NETWORK_PIXELS / tf.reduce_prod(native)
        stride = self.network.stride
        fitting = (
            tf.reduce_min([n - stride for n in self._room] / native)
            if self._room
            else tf.sqrt(pixels)
        )
        scale = tf.minimum(wanted, tf.minimum(fitting, MAX_ENLARGEMENT))
        dark = (-1.0 if self.colours else 1.0) * picture[..., _GREEN : _GREEN + 1]
        given = None if told is None else (told[0] > 0.0, told[2:4] * scale, told[4])
        seen, frame = laid(
            picture,
            dark,
            native * scale,
            stride=stride,
            rbc_px=self.rbc_px,
            canvas=self._room,
            given=given,
        )
        if not self.colours:
            # Grain and a camera's sharpening differ between slides, and classes do not: a little
            # out of focus, as some of the fields of training are, more of the spherocytes of the
            # sharpest slides are known.
            seen = optics.softened(seen)
        size, offset = frame.size, tf.tile(frame.offset, [2])
        scores, offsets, *pyramid = self.network.features(
            seen if self.colours else optics.network_input(seen)
        )
        references = (
            anchors(tf.shape(seen)[:2], self.network.levels, self.network.anchor_shapes) - offset
        )
        proposals, proposed = self._propose(scores, offsets, references, size)
        probabilities, offsets = self.network.classify(
            self._align(pyramid, proposals + offset, self.network.box_crop)
        )
        boxes = clip(decode(offsets, proposals, (10.0, 10.0, 5.0, 5.0)), size)
        proposed &= tf.reduce_min(boxes[:, 2:] - boxes[:, :2], axis=1) >= _MIN_SIDE
        # One box a cell, whatever its class.
        keep, valid = self._suppress(
            boxes,
            tf.where(proposed, 1.0 - probabilities[:, 0], -1.0),
            self.max_cells + 1,
            self.tuned["nms_iou"],
            above=self.tuned["confidence"],
        )
        count = tf.reduce_sum(tf.cast(valid, tf.int32))
        keep, valid = keep[: self.max_cells], valid[: self.max_cells]
        boxes, probabilities = tf.gather(boxes, keep), tf.gather(probabilities, keep)
        if self._room:
            boxes *= tf.cast(valid, tf.float32)[:, tf.newaxis]
        masks = self._masks(pyramid, boxes + offset, probabilities)
        cells, median, raised = self._decided(
            boxes,
            probabilities,
            masks,
            valid,
            size,
            seen=seen,
            offset=offset,
            um_per_px=um_per_px / scale,
            told=(tf.constant(0.0), tf.constant(-1.0))
            if told is None
            else (told[1] * scale, told[5]),
        )
        boxes, masks = frame.native(boxes, masks)
        cells |= {"boxes_yxyx": boxes / scale, "masks": masks}
        if self._room:
            rows = {
                name: tf.reshape(valid, [-1] + [1] * (value.shape.rank - 1))
                for name, value in cells.items()
            }
            cells = {
                name: tf.where(rows[name], value, tf.zeros_like(value))
                for name, value in cells.items()
            }
        looked = tf.concat(
            [[diameter, median / scale], frame.spot / scale, [frame.turn, raised]], axis=0
        )
        return cells | {
            "num_detections": tf.minimum(count, self.max_cells),
            "rbc_diameter_px": median / scale,
            "truncated": (count > self.max_cells) | (scale < 0.99 * wanted),
            **({} if told is None else {"frame": looked}),
        }

    def _likely(self, pixels: Any) -> Any:
        """More cells than there are in so many pixels."""
        return pixels / (0.75 * self.rbc_px**2) + 50

    def _propose(
        self, scores: tf.Tensor, offsets: tf.Tensor, references: tf.Tensor, size: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best boxes of the region proposals, (P, 4), as many as there could be cells; and
        which are meant."""
        likely = tf.cast(self._likely(tf.reduce_prod(size)), tf.int32)
        if self._room:
            most = int(self._likely(math.prod(self._room)))
            candidates = min(5 * most, self.network.n_anchors(self._room))
        else:
            most, candidates = likely, tf.minimum(5 * likely, tf.size(scores))
        top = tf.math.top_k(scores, candidates)
        boxes = decode(
            tf.gather(offsets, top.indices),
            tf.gather(references, top.indices),
            (1.0, 1.0, 1.0, 1.0),
        )
        boxes = clip(boxes, size)
        best = tf.where(tf.range(candidates) < 5 * likely, top.values, -2 * _UNLIKELY)
        limit = min(most, 2 * MAX_CELLS) if self._room else tf.minimum(most, 2 * MAX_CELLS)
        keep, valid = self._suppress(boxes, best, limit, 0.65, above=-_UNLIKELY)
        return tf.gather(boxes, keep), valid & (tf.range(tf.size(keep)) < likely)

    def _suppress(
        self, boxes: tf.Tensor, scores: tf.Tensor, most: Any, iou: Any, *, above: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows of the boxes that agree with no better one, best first, and which of these rows are
        meant."""
        if not self._room:
            keep = tf.image.non_max_suppression(boxes, scores, most, iou, above)
            return keep, tf.ones_like(keep, tf.bool)
        keep, count = tf.image.non_max_suppression_padded(
            boxes, scores, most, iou, above, pad_to_max_output_size=True
        )
        return keep, tf.range(tf.size(keep)) < count

    def _align(self, pyramid: Sequence[tf.Tensor], boxes: tf.Tensor, crop: int) -> tf.Tensor:
        return align(
            pyramid,
            boxes,
            crop,
            first_level=self.network.levels[0],
            gathered=self._room is not None,
        )

    def _masks(
        self, pyramid: Sequence[tf.Tensor], boxes: tf.Tensor, probabilities: tf.Tensor
    ) -> tf.Tensor:
        # The head refuses an empty batch, and a field without cells is a field: one box more goes
        # in than comes out.
        boxes = tf.concat([boxes, tf.constant([[0.0, 0.0, 8.0, 8.0]])], axis=0)
        class_ids = tf.pad(
            tf.argmax(probabilities[:, 1:], axis=1, output_type=tf.int32) + 1, [[0, 1]]
        )
        return self.network.outline(self._align(pyramid, boxes, self.network.mask_crop), class_ids)[
            :-1
        ]

    def _decided(
        self,
        boxes: tf.Tensor,
        probabilities: tf.Tensor,
        masks: tf.Tensor,
        valid: tf.Tensor,
        size: tf.Tensor,
        *,
        seen: tf.Tensor,
        offset: tf.Tensor,
        um_per_px: tf.Tensor,
        told: tuple[tf.Tensor, tf.Tensor],
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """What every cell is and whether it counts; the median diameter of whole red cells and how
        much prevalence raises log odds, as they were told or, where told a diameter of 0 and a
        raise below 0, as they are here."""
        diameters = _diameters(boxes, masks)
        other_red = tf.reduce_sum(tf.gather(probabilities, self.other_red_ids, axis=1), axis=1)
        spherocyte = (
            tf.zeros_like(other_red)
            if self.spherocyte_id is None
            else probabilities[:, self.spherocyte_id]
        )
        red = other_red + spherocyte
        own = _median(diameters, valid & whole(boxes, size) & (red > 0.5), self.rbc_px)
        median = tf.where(told[0] > 0.0, told[0], own)
        log_odds, evidence = tf.math.log(spherocyte + 1e-6) - tf.math.log(other_red + 1e-6), {}
        if not self.colours:
            off = tf.clip_by_value(tf.math.log(median / self.rbc_px), -_MOST_OFF, _MOST_OFF)
            log_odds += tf.where(um_per_px > 0.0, 0.0, _SIZE_SLOPE * off)
        if self.second or self.evidence:
            # Where the pixel size is known, a window shows a small cell small.
            usual = RBC_DIAMETER_UM / tf.where(um_per_px > 0.0, um_per_px, RBC_DIAMETER_UM / median)
            look = windows(
                seen,
                boxes + offset,
                masks,
                zoom=usual / self.rbc_px,
                gathered=self._room is not None,
            )
            size_of = sizes(diameters / median, median * um_per_px, RBC_DIAMETER_UM)
            if self.second:
                log_odds = combined(log_odds, self.second(look, size_of))
            if self.evidence:
                evidence = {"log_odds": log_odds, "seen": look, "size": size_of}
        is_red = red >= 0.5 * tf.reduce_sum(probabilities[:, 1:], axis=1)
        countable = is_red & _separate(boxes, size, diameters / median)
        raised = tf.where(told[1] >= 0.0, told[1], raise_by(log_odds, countable & valid))
        p_spherocyte = tf.sigmoid(
            self.tuned["slope"] * (log_odds + raised) + self.tuned["intercept"]
        )
        if self.spherocyte_id is None:
            p_spherocyte = tf.zeros_like(p_spherocyte)
        ids = _likeliest(probabilities, among=self.other_red_ids)
        if self.spherocyte_id is not None:
            ids = tf.where(p_spherocyte >= self.tuned["p_spherocyte"], self.spherocyte_id, ids)
        reds = {0, self.spherocyte_id, *self.other_red_ids}
        others = _likeliest(
            probabilities, among=[k for k in range(probabilities.shape[1]) if k not in reds]
        )
        return (
            {
                "class_ids": tf.where(is_red, ids, others),
                "confidences": 1.0 - probabilities[:, 0],
                "class_probabilities": self._divided(probabilities, p_spherocyte),
                "p_spherocyte": tf.where(is_red, p_spherocyte, 0.0),
                "countable": countable,
                **evidence,
            },
            median,
            raised,
        )

    def _divided(self, probabilities: tf.Tensor, p_spherocyte: tf.Tensor) -> tf.Tensor:
        """Class probabilities without background, (N, K); what is red is divided by p_spherocyte;
        rows sum to 1."""
        given_cell = probabilities[:, 1:] / tf.maximum(1.0 - probabilities[:, :1], 1e-6)
        if self.spherocyte_id is None or not self.other_red_ids:
            return given_cell
        others = tf.reduce_sum(
            tf.gather(given_cell, [k - 1 for k in self.other_red_ids], axis=1), axis=1
        )
        columns = tf.unstack(given_cell, num=probabilities.shape[1] - 1, axis=1)
        red = others + columns[self.spherocyte_id - 1]
        for k in self.other_red_ids:
            columns[k - 1] *= (1.0 - p_spherocyte) * red / tf.maximum(others, 1e-12)
        columns[self.spherocyte_id - 1] = red * p_spherocyte
        return tf.stack(columns, axis=1)


def _stepped(diameter: tf.Tensor) -> tf.Tensor:
    return tf.exp(tf.round(tf.math.log(diameter) / _SCALE_STEP) * _SCALE_STEP)


def _separate(boxes: tf.Tensor, size: tf.Tensor, relative: tf.Tensor) -> tf.Tensor:
    """Whole cells that lie on no other and are not several in one box."""
    iou = pairwise_iou(boxes) * (1.0 - tf.eye(tf.shape(boxes)[0]))
    alone = (
        tf.reduce_max(tf.concat([iou, tf.zeros_like(iou[:, :1])], axis=1), axis=1) < _OVERLAP_IOU
    )
    return alone & whole(boxes, size) & (relative > 0.4) & (relative < 1.55)


def _diameters(boxes: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """(N,) diameter of the circle of each mask's area."""
    area = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    area *= tf.reduce_mean(tf.cast(masks >= 0.5, tf.float32), axis=[1, 2])
    return tf.sqrt(4 / math.pi * area)


def _median(values: tf.Tensor, among: tf.Tensor, default: float) -> tf.Tensor:
    """The median of some of the values; the default where there are none."""
    count = tf.reduce_sum(tf.cast(among, tf.int32))
    ordered = tf.concat([tf.sort(tf.where(among, values, math.inf)), [default]], axis=0)
    middle = 0.5 * (
        tf.gather(ordered, tf.maximum(count - 1, 0) // 2) + tf.gather(ordered, count // 2)
    )
    return tf.where(count > 0, middle, default)


def _likeliest(probabilities: tf.Tensor, *, among: Sequence[int]) -> tf.Tensor:
    """The most probable class of some, (N,) int32; 0 where there are none to choose from."""
    if not among:
        return tf.zeros(tf.shape(probabilities)[:1], tf.int32)
    return tf.gather(
        tf.constant(among, tf.int32), tf.argmax(tf.gather(probabilities, among, axis=1), axis=1)
    )
