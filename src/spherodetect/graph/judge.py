"""From the detections of a field to the class, the probability and the use of each cell.

The log odds of a spherocyte are the mean of those of the Mask R-CNN and of the second look, with
the field's own prevalence as the prior. A convention or the model's calibration makes them
p_spherocyte, and its cut decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.graph import decide
from spherodetect.graph.conventions import Conventions, look_of
from spherodetect.graph.decide import ClassIds
from spherodetect.graph.evidence import measured, relative
from spherodetect.graph.prevalence import estimate_raise
from spherodetect.graph.second_look import SIZE_GAIN, mean_log_odds, sizes, windows

#: A cell that is shown smaller gets a higher p_spherocyte, and the step at which a field of unknown
#: scale is shown is chance. The log odds of the network fall with the log of the shown size by this
#: slope (cells of 50 fields, shown at 0.88 to 1.12 times their size, by detectors that held them
#: out: 2 to 6).
_SIZE_SLOPE, _MAX_SIZE_CORRECTION = 3.5, 0.15
#: A detection of at least this confidence keeps the cell beside it from being countable.
_SURE = 0.15


@dataclass(frozen=True, eq=False)
class Detections:
    """N detections in the network's pixels.

    Attributes:
        boxes: (N, 4) (ymin, xmin, ymax, xmax).
        probabilities: (N, K + 1) of the classes, background first.
        masks: (N, m, m) probabilities that fill the boxes.
        valid: (N,) bool, rows that are cells.
        uncut: (N,) bool, cells that the border does not cut.
        clear: (N,) bool, cells that do not lie under ink.
    """

    boxes: tf.Tensor
    probabilities: tf.Tensor
    masks: tf.Tensor
    valid: tf.Tensor
    uncut: tf.Tensor
    clear: tf.Tensor


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The field of the detections.

    Attributes:
        image_hw: (2,) of the image in the network's pixels.
        picture: the network's input before normalisation.
        offset: (4,) of the image's corner in it.
        light: (3,) intensity of the empty slide.
        um_per_px: of the network's pixels; 0 where it is unknown.
        median: median diameter of whole red cells; at 0 it is measured.
        raised: increase of the log odds by prevalence; below 0 it is estimated.
        convention: row of the convention; below 0 the look of the field decides.
    """

    image_hw: tf.Tensor
    picture: tf.Tensor | None
    offset: tf.Tensor
    light: tf.Tensor
    um_per_px: tf.Tensor
    median: tf.Tensor
    raised: tf.Tensor
    convention: tf.Tensor


@dataclass(frozen=True, eq=False)
class Judge:
    """What decides; the attributes are those of `Detector`.

    Attributes:
        tuned: the thresholds by name.
        fixed_hw: the network's input where shapes are fixed.
        stage: names the operations of a stage.
    """

    classes: ClassIds
    rbc_px: float
    colours: bool
    second: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None
    conventions: Conventions | None
    evidence: bool
    tuned: Mapping[str, tf.Variable]
    fixed_hw: tuple[int, int] | None
    stage: Callable[[str], AbstractContextManager[Any]]

    def __call__(
        self, found: Detections, field: Surroundings
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Class, probability and countable of each cell; and what was found of the field.

        The field has a `median` diameter and a `raise` of the log odds, and with conventions the
        row of its `convention` and its `look_distance`.
        """
        diameters = decide.mask_diameters(found.boxes, found.masks)
        spherocyte, other_red = decide.red_cell_probabilities(found.probabilities, self.classes)
        red = other_red + spherocyte
        measured_median = decide.median(
            diameters, found.valid & found.uncut & (red > 0.5), self.rbc_px
        )
        median = tf.where(field.median > 0.0, field.median, measured_median)
        is_red = red >= 0.5 * tf.reduce_sum(found.probabilities[:, 1:], axis=1)
        with self.stage("contact"):
            separate = decide.are_separate(
                found.boxes,
                found.masks,
                field.image_hw,
                diameters / median,
                sure=found.valid & (found.probabilities[:, 0] < 1.0 - _SURE),
                canvas=self.fixed_hw,
            )
        countable = is_red & found.uncut & found.clear & separate
        log_odds = self._network_log_odds(spherocyte, other_red, median, field.um_per_px)
        evidence: dict[str, tf.Tensor] = {}
        of_field = {"median": median}
        if self.second or self.evidence or self.conventions:
            counted = countable & found.valid
            log_odds, evidence, of_field["look"] = self._looked_at(
                log_odds, diameters / median, median, counted, found, field
            )
        estimated = estimate_raise(log_odds, countable & found.valid)
        raised = of_field["raise"] = tf.where(field.raised >= 0.0, field.raised, estimated)
        if self.conventions:
            row, distance = self.conventions.chosen(
                of_field["look"], tf.cast(field.convention, tf.int32)
            )
            p_spherocyte, cut = self.conventions.judged(log_odds + raised, evidence["numbers"], row)
            of_field |= {"convention": row, "look_distance": distance}
        else:
            cut = self.tuned["p_spherocyte"]
            slope, intercept = self.tuned["slope"], self.tuned["intercept"]
            p_spherocyte = tf.sigmoid(slope * (log_odds + raised) + intercept)
        if self.classes.spherocyte is None:
            p_spherocyte = tf.zeros_like(p_spherocyte)
        if not self.evidence:
            of_field.pop("look", None)
        cells = {
            "class_ids": decide.called_classes(
                found.probabilities, is_red, p_spherocyte >= cut, self.classes
            ),
            "confidences": 1.0 - found.probabilities[:, 0],
            "class_probabilities": decide.class_probabilities(
                found.probabilities, p_spherocyte, self.classes
            ),
            "p_spherocyte": tf.where(is_red, p_spherocyte, 0.0),
            "countable": countable,
            **({**evidence, "log_odds": log_odds} if self.evidence else {}),
        }
        return cells, of_field

    def _network_log_odds(
        self, spherocyte: tf.Tensor, other_red: tf.Tensor, median: tf.Tensor, um_per_px: tf.Tensor
    ) -> tf.Tensor:
        """(N,) of the Mask R-CNN, without the effect of the size at which a field is shown."""
        log_odds = tf.math.log(spherocyte + 1e-6) - tf.math.log(other_red + 1e-6)
        if self.colours:
            return log_odds
        shown = tf.math.log(median / self.rbc_px)
        shown = tf.clip_by_value(shown, -_MAX_SIZE_CORRECTION, _MAX_SIZE_CORRECTION)
        return log_odds + tf.where(um_per_px > 0.0, 0.0, _SIZE_SLOPE * shown)

    def _looked_at(
        self,
        log_odds: tf.Tensor,
        relative_diameters: tf.Tensor,
        median: tf.Tensor,
        counted: tf.Tensor,
        found: Detections,
        field: Surroundings,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], tf.Tensor]:
        """The log odds of both networks, the evidence of each cell, and the look of the field."""
        # Where the pixel size is known, a window shows a small cell small.
        usual = RBC_DIAMETER_UM / tf.where(
            field.um_per_px > 0.0, field.um_per_px, RBC_DIAMETER_UM / median
        )
        with self.stage("second_look"):
            window = windows(
                field.picture,
                found.boxes + field.offset,
                found.masks,
                zoom=usual / self.rbc_px,
                gathered=self.fixed_hw is not None,
            )
            size = sizes(relative_diameters, median * field.um_per_px, RBC_DIAMETER_UM)
            if self.second:
                log_odds = mean_log_odds(log_odds, self.second(window, size))
        with self.stage("evidence"):
            sides = found.boxes[:, 2:] - found.boxes[:, :2]
            measurements = measured(window, found.masks, sides)
            numbers = relative(measurements, counted)
            # The relative diameter is the first of the sizes, times its gain.
            numbers = tf.concat([size[:, :1] / SIZE_GAIN, numbers], axis=1)
            look = look_of(window, measurements, field.light, counted)
        return log_odds, {"window": window, "size": size, "numbers": numbers}, look


__all__ = ["Detections", "Judge", "Surroundings"]
