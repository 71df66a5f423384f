"""Accuracy and speed of the LiteRT files, compared with the SavedModel from which they were made.

    python -m benchmarks.edge MODEL [--every 7]

It takes 10 minutes of two cores. MODEL must have held out the fields: every Nth held-out field of
tfrecords/chula.yaml. Printed are recall, F1 and the other metrics of each form of the model, the
cells whose class differs from that of the SavedModel, and seconds for each field. The pixel size is
given.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.stock import ROOT, judge
from spherodetect.cells import Cells
from spherodetect.evaluation.truth import Labelled, open_truth
from spherodetect.geometry import box_iou

UM_PER_PX = 0.193
SIZE_HW = 480, 640
COLUMNS = {
    "box_yxyx": "boxes_yxyx",
    "class_id": "class_ids",
    "class_probabilities": "class_probabilities",
    "confidence": "confidences",
    "countable": "countable",
    "masks": "masks",
    "p_spherocyte": "p_spherocyte",
}


class Form:
    """One form of the model with the cells of each field."""

    def __init__(self, run: Callable[[np.ndarray], Cells]) -> None:
        self._run, self.found, self.seconds = run, dict[str, Cells](), list[float]()

    def detect(self, labelled: Labelled) -> None:
        """The cells of a field, which are kept."""
        start = time.perf_counter()
        self.found[labelled.field] = self._run(labelled.image)
        self.seconds.append(time.perf_counter() - start)


def forms(model: Path, folder: Path) -> dict[str, Form]:
    """The SavedModel and both LiteRT files."""
    from spherodetect import load_model
    from spherodetect.training.lite import to_lite

    saved = load_model(model)
    lite = {
        "LiteRT": to_lite(model, folder / "float.tflite"),
        "LiteRT, int8 weights": to_lite(model, folder / "int8.tflite", quantised=True),
    }
    return {"SavedModel": Form(lambda image: saved.detect(image, UM_PER_PX))} | {
        name: Form(interpreted(file)) for name, file in lite.items()
    }


def interpreted(file: Path) -> Callable[[np.ndarray], Cells]:
    """A LiteRT file as a function of an image."""
    import tensorflow as tf

    run = tf.lite.Interpreter(str(file), num_threads=2).get_signature_runner("serving_static")

    def detect(image: np.ndarray) -> Cells:
        found = run(image=image[np.newaxis], um_per_px=np.array([UM_PER_PX], np.float32))
        n = int(found["num_detections"][0])
        return Cells(
            **{name: found[key][0][:n] for name, key in COLUMNS.items()}, image_size_hw=SIZE_HW
        )

    return detect


def differing(one: Cells, other: Cells) -> tuple[int, int]:
    """The number of cells of one that the other lacks, and that it has in another class."""
    if not len(one) or not len(other):
        return len(one), 0
    agree = box_iou(one.box_yxyx.astype(float), other.box_yxyx.astype(float))
    has = agree.max(axis=1) > 0.5
    return int((~has).sum()), int(
        (one.class_id[has] != other.class_id[agree.argmax(axis=1)[has]]).sum()
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row for each form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--every", type=int, default=7, help="every Nth held-out field; default: 7")
    args = parser.parse_args(argv)
    fields = [
        f
        for f in open_truth(ROOT / "tfrecords" / "chula.yaml", "val").read(None)
        if f.image.shape[:2] == SIZE_HW
    ]
    fields = fields[:: args.every]
    with tempfile.TemporaryDirectory() as folder:
        by_form = forms(args.model, Path(folder))
        for labelled in fields:
            for form in by_form.values():
                form.detect(labelled)
    first = next(iter(by_form.values()))
    print(f"{len(fields)} fields, {sum(map(len, first.found.values()))} cells")
    for name, form in by_form.items():
        figures = judge(lambda one, form=form: form.found[one.field], fields)
        lost = np.sum(
            [differing(first.found[f.field], form.found[f.field]) for f in fields], axis=0
        )
        shown = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
        print(
            f"{name}: {shown}; {lost[0]} cells not found, {lost[1]} of another class; "
            f"{np.median(form.seconds):.2f} s a field"
        )


if __name__ == "__main__":
    main()
