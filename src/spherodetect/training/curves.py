"""What a run wrote down on its way, losses and held-out figures, from TensorBoard's files as a
table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

if TYPE_CHECKING:
    import pandas as pd


def read_curves(run: str | Path) -> pd.DataFrame:
    """The curves of a run folder, also of one that is still training.

    Returns:
        A row a figure and step, in their order: part (train or validation), name, step, value. Of
            steps that a resumed
        run made again, the later value.

    Raises:
        SpherodetectError: no run, or one that wrote nothing yet.

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
        for record in tf.data.TFRecordDataset(str(file))
        .ignore_errors()
        .as_numpy_iterator()  # the last may be cut off
        for event in [tf.compat.v1.Event.FromString(record)]
        for value in event.summary.value
        if value.HasField("tensor") and not value.tensor.tensor_shape.dim
    ]
    if not rows:
        raise SpherodetectError(
            f"{quoted(run)}: expected a run folder with curves, got none; train first"
        )
    frame = pd.DataFrame(rows, columns=["part", "name", "step", "value", "time"]).sort_values(
        "time", kind="stable"
    )
    frame = frame.drop_duplicates(["part", "name", "step"], keep="last").sort_values(
        ["part", "name", "step"]
    )
    return frame.drop(columns="time").reset_index(drop=True)


__all__ = ["read_curves"]
