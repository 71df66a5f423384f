"""Runs a detector over held-out records and collects its red cells, labelled and not.

These cells calibrate the detector and train the second look. The detector must not have been
trained on the records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from spherodetect.cells import RED_CELLS, Cells
from spherodetect.detect.matching import match_points
from spherodetect.errors import SpherodetectError
from spherodetect.graph.decide import SPHEROCYTE
from spherodetect.graph.detector import Detector
from spherodetect.labels.splits import BLOCK_FIELDS, block_of, file_number
from spherodetect.records.examples import read_examples
from spherodetect.safety import quoted
from spherodetect.training.run import held_out_records, patterns_of
from spherodetect.training.second_look import Neighbours, SecondLookCells


def validation_records(run: Path, params: Any) -> list[Path]:
    """The held-out records of a run.

    Raises:
        SpherodetectError: they are not where the run had them.
    """
    records = held_out_records(params)
    if not records:
        patterns = ", ".join(patterns_of(params.task.validation_data))
        raise SpherodetectError(
            f"{quoted(run)}: expected validation records {quoted(patterns)} to calibrate on, "
            "got none; run export where train was run, or write them with `spherodetect tfrecords`"
        )
    return [Path(record) for record in records]


def collect(
    detector: Detector,
    records: list[Path],
    class_names: list[str],
    *,
    um_per_px: float = 0.0,
    patients: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SecondLookCells:
    """The detected red cells of records: those with a label, and the countable ones without.

    Args:
        detector: that was not trained on these records.
        records: files of one split.
        class_names: in the order of the records' class ids.
        um_per_px: pixel size of fields whose records do not state it. At 0 the detector estimates
            the scale, as it does in use.
        patients: of whom fields are used; all if none is named.
        progress: called with the number of fields done and in total.
    """
    call = tf.function(
        detector.replace(evidence=True),
        input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.float32)],
    )
    ids = {name: k for k, name in enumerate(class_names, 1)}
    spherocyte = ids.get(SPHEROCYTE, -1)
    red = [ids[name] for name in class_names if name in RED_CELLS]
    examples = [e for e in read_examples(records) if not patients or e["patient"] in patients]
    runs = _runs({e["field"]: e["patient"] for e in examples})
    columns: dict[str, list[Any]] = defaultdict(list)
    neighbours: dict[str, list[Any]] = defaultdict(list)
    n_countable: Counter[str] = Counter()
    for number, example in enumerate(examples, 1):
        field = example["field"]
        is_red = np.isin(example["class_id"], red)
        scale = example["um_per_px"] or um_per_px
        detected = {key: value.numpy() for key, value in call(example["image"], scale).items()}
        label, rows = _matched(example, is_red, detected, class_names)
        block = block_of(field, example["patient"])
        # A field without a labelled red cell may be of a data set that labels none.
        countable = np.flatnonzero(detected["countable"]) if is_red.any() else rows[:0]
        n_countable[block] += len(countable)
        unlabelled = np.setdiff1d(countable, rows)
        for key in ("log_odds", "window", "size"):
            values = detected[key]
            if key == "window":
                # Windows of a run take gigabytes.
                values = values.astype(np.float16)
            columns[key].append(values[rows])
            neighbours[key].append(values[unlabelled])
        neighbours["field"].append(np.full(len(unlabelled), field, object))
        columns["countable"].append(detected["countable"][rows])
        columns["spherocyte"].append(example["class_id"][label] == spherocyte)
        columns["name"].append(np.array(example["name"], object)[label])
        for key, value in (("block", block), ("run", runs[field]), ("field", field)):
            columns[key].append(np.full(len(rows), value, object))
        progress(number, len(examples))
    return SecondLookCells(
        **{key: np.concatenate(parts) for key, parts in columns.items()},
        n_countable=dict(n_countable),
        neighbours=Neighbours(**{k: np.concatenate(parts) for k, parts in neighbours.items()}),
    )


def _matched(
    example: Mapping[str, Any],
    is_red: np.ndarray,
    detected: Mapping[str, np.ndarray],
    class_names: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the labelled red cells that were detected, and of their detections."""
    cells = Cells.from_labels(
        detected["boxes_yxyx"],
        detected["class_ids"],
        detected["masks"],
        image_size_hw=example["image"].shape[:2],
        class_names=tuple(class_names),
    )
    center = (example["box_yxyx"][:, :2] + example["box_yxyx"][:, 2:]) / 2
    point = np.where(example["point_yx"] >= 0, example["point_yx"], center)[is_red]
    matching = match_points(cells, point)
    return np.flatnonzero(is_red)[matching.found], matching.detection[matching.found]


def _runs(patients: Mapping[str, str]) -> dict[str, str]:
    """Field to its patient, or without a patient to a run of neighbouring blocks of file numbers.

    Neighbouring blocks may be of one slide, so they stay together.
    """
    numbers = {f: file_number(f) for f, patient in patients.items() if not patient}
    runs = {f: patient or f for f, patient in patients.items()}
    start: dict[int, int] = {}
    for block in sorted({(n - 1) // BLOCK_FIELDS for n in numbers.values() if n is not None}):
        start[block] = start.get(block - 1, block)
    for field, number in numbers.items():
        if number is not None:
            runs[field] = f"run {start[(number - 1) // BLOCK_FIELDS] * BLOCK_FIELDS + 1}"
    return runs
