"""Reads the curves of a run, losses and held-out figures, from TensorBoard's files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

if TYPE_CHECKING:
    import pandas as pd


def read_curves(run: str | Path) -> pd.DataFrame:
    """The curves of a run folder; the run may still be training.

    Returns:
        A row for each value and step, sorted: part (train or validation), name, step, value. If a
        resumed run repeated a step, the later value counts.

    Raises:
        SpherodetectError: no run, or a run without curves.

    >>> read_curves("runs/mine").query("name == 'training_loss'")  # doctest: +SKIP
    """
    import pandas as pd

    rows = [
        (
            file.parent.name,
            value.tag,
            event.step,
            float(tf.make_ndarray(value.tensor)),
            event.wall_time,
        )
        for file in sorted(Path(run).glob("*/events.out.tfevents.*"))
        # The last record of a run that is still training may be incomplete.
        for record in tf.data.TFRecordDataset(str(file)).ignore_errors().as_numpy_iterator()
        for event in [tf.compat.v1.Event.FromString(record)]
        for value in event.summary.value
        if value.HasField("tensor") and not value.tensor.tensor_shape.dim
    ]
    if not rows:
        raise SpherodetectError(
            f"{quoted(run)}: expected a run folder with curves, got none; train first"
        )
    key = ["part", "name", "step"]
    frame = pd.DataFrame(rows, columns=[*key, "value", "time"]).sort_values("time", kind="stable")
    frame = frame.drop_duplicates(key, keep="last").sort_values(key)
    return frame.drop(columns="time").reset_index(drop=True)


__all__ = ["read_curves"]
