"""What a detector finds in held-out records, with the label that each cell matches.

`survey` writes one file of arrays: columns of the cells, of the labels and of the fields.
laboratories.py and benchmarks/laboratories.py read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf

from spherodetect.cells import Cells, touches_border
from spherodetect.detect.matching import match_points
from spherodetect.errors import SpherodetectError
from spherodetect.graph.detector import Detector
from spherodetect.graph.prevalence import estimate_raise
from spherodetect.labels.splits import block_of
from spherodetect.records.examples import read_examples
from spherodetect.safety import atomic_write, quoted

#: The detector's outputs of each cell that are kept, and their columns.
_OF_CELLS = {
    "numbers": "numbers",
    "confidences": "confidence",
    "class_ids": "class_id",
    "class_probabilities": "probabilities",
    "countable": "countable",
}

#: Columns without which a file is of something else.
_READ = {"cells_label", "cells_log_odds", "fields_name", "labels_class_id", "labels_field"}

Columns = dict[str, list[Any]]


def survey(detector: Detector, patterns: Sequence[str], out: Path) -> None:
    """Detect the cells of records, pixel size unknown, and write what is known of each.

    Args:
        detector: with its thresholds.
        patterns: of the files of records.
        out: the file, .npz.
    """
    detector = detector.replace(evidence=True)
    call = tf.function(
        detector,
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.float32)],
        autograph=False,
    )
    groups: dict[str, Columns] = {name: defaultdict(list) for name in ("cells", "labels", "fields")}
    for pattern in patterns:
        for record in sorted(tf.io.gfile.glob(pattern)):
            data_set = Path(record).name.split("-")[0]
            for example in read_examples([Path(record)]):
                found = {k: v.numpy() for k, v in call(example["image"], 0.0).items()}
                _add(groups, example, found, data_set)
    if not groups["fields"]["name"]:
        raise SpherodetectError(
            f"expected records in {quoted(', '.join(patterns))}, got none; "
            "write them with `spherodetect tfrecords`"
        )
    arrays: dict[str, Any] = {
        f"{group}_{key}": np.array(values)
        for group, columns in groups.items()
        for key, values in columns.items()
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as file:
        np.savez_compressed(file, **arrays)


def read_survey(file: Path) -> dict[str, np.ndarray]:
    """The columns that `survey` wrote: `cells_...`, `labels_...` and `fields_...`.

    Raises:
        SpherodetectError: no file of `survey`.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        missing = _READ - found.keys()
        if missing:
            raise ValueError(f"no {', '.join(sorted(missing))}")
    except (OSError, ValueError, TypeError, BadZipFile) as error:
        raise SpherodetectError(
            f"{quoted(file)}: expected a file of `laboratories collect`, got {quoted(str(error))}; "
            "collect the cells again"
        ) from error
    return found


def _add(
    groups: dict[str, Columns], example: dict[str, Any], found: dict[str, Any], data_set: str
) -> None:
    """Add one field to the columns."""
    cells, labels, fields = groups["cells"], groups["labels"], groups["fields"]
    n, number = len(found["confidences"]), len(fields["name"])
    center = (example["box_yxyx"][:, :2] + example["box_yxyx"][:, 2:]) / 2
    point = np.where(example["point_yx"] >= 0, example["point_yx"], center)
    labelled = np.array([bool(name) for name in example["name"]], bool)
    size_hw = example["image"].shape[:2]
    detected = Cells.from_labels(
        found["boxes_yxyx"], found["class_ids"], found["masks"], image_size_hw=size_hw
    )
    matching = match_points(detected, point[labelled])
    label = np.full(n, -1)
    hits = matching.detection[matching.found]
    label[hits] = len(labels["field"]) + np.flatnonzero(matching.found)
    raised = float(estimate_raise(tf.constant(found["log_odds"]), tf.constant(found["countable"])))
    cells["log_odds"] += (found["log_odds"] + raised).tolist()
    for key, column in _OF_CELLS.items():
        if key in found:
            cells[column] += found[key].tolist()
    cells["label"] += label.tolist()
    cells["field"] += [number] * n
    labels["cut"] += touches_border(example["box_yxyx"][labelled], size_hw, margin_px=0.5).tolist()
    labels["class_id"] += example["class_id"][labelled].tolist()
    labels["name"] += np.array(example["name"], object)[labelled].tolist()
    labels["field"] += [number] * int(labelled.sum())
    labels["found"] += matching.found.tolist()
    confidence = np.zeros(int(labelled.sum()))
    confidence[matching.found] = found["confidences"][hits]
    labels["confidence"] += confidence.tolist()
    fields["name"].append(example["field"])
    fields["data_set"].append(data_set)
    fields["block"].append(block_of(example["field"], example["patient"]))
    fields["look"].append(found["look"])
    fields["rbc_px"].append([found["rbc_diameter_px"], example["rbc_diameter_px"]])


__all__ = ["read_survey", "survey"]
