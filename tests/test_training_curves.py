"""curves: sorted values, and the later values of a resumed run."""

from __future__ import annotations

import pytest

from spherodetect.errors import SpherodetectError


def test_curves_are_sorted_and_later_values_count(tmp_path):
    tf = pytest.importorskip("tensorflow")
    from spherodetect.training.curves import read_curves

    for part, name, values in (
        ("train", "training_loss", {2: 3.0, 4: 2.0}),
        ("validation", "spherocyte_ap", {4: 0.5}),
    ):
        with tf.summary.create_file_writer(str(tmp_path / part)).as_default():
            for step, value in values.items():
                tf.summary.scalar(name, value, step=step)
    with tf.summary.create_file_writer(
        str(tmp_path / "train"), filename_suffix=".resumed"
    ).as_default():
        tf.summary.scalar("training_loss", 1.0, step=4)
    (written,) = (tmp_path / "train").glob("*.resumed")
    with written.open("ab") as file:
        file.write(b"what a run that goes on has half written")
    assert read_curves(tmp_path).to_dict("records") == [
        {"part": "train", "name": "training_loss", "step": 2, "value": 3.0},
        {"part": "train", "name": "training_loss", "step": 4, "value": 1.0},
        {"part": "validation", "name": "spherocyte_ap", "step": 4, "value": 0.5},
    ]
    with pytest.raises(SpherodetectError, match="expected a run folder"):
        read_curves(tmp_path / "none")
