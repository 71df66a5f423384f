"""benchmarks.train_step: time by operation, and equal drawn records on both sides."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.train_step import draw_records, operation_times


def profile(*lines: list[tuple[str, int, int]]) -> SimpleNamespace:
    """A profile of one plane: of each thread the (name, start, duration) of its events."""
    names = sorted({name for line in lines for name, _, _ in line})
    return SimpleNamespace(
        planes=[
            SimpleNamespace(
                event_metadata={k: SimpleNamespace(name=name) for k, name in enumerate(names)},
                lines=[
                    SimpleNamespace(
                        events=[
                            SimpleNamespace(
                                metadata_id=names.index(name), offset_ps=start, duration_ps=duration
                            )
                            for name, start, duration in line
                        ]
                    )
                    for line in lines
                ],
            )
        ]
    )


def test_time_goes_to_the_innermost_operation():
    one = [
        ("a/call:PartitionedCall", 0, 100),
        ("a/x:Conv2D", 10, 30),
        ("a/y:Relu", 40, 20),
        ("z:Conv2D", 100, 5),
    ]
    other = [
        ("step 3", 0, 1000),
        ("KernelAndDeviceFunc::Run", 0, 900),
        ("b/call:While", 0, 50),
        ("b/call:PartitionedCall", 0, 49),
        ("b/x:Relu", 44, 5),
    ]
    found = operation_times(profile(one, other))
    assert found == {"PartitionedCall": 50 + 44, "Conv2D": 35, "Relu": 25, "While": 1}


def test_an_empty_profile_has_no_times():
    assert not operation_times(profile())


@pytest.mark.train
@pytest.mark.skipif(
    find_spec("official") is None, reason="tf-models-official, the extra [train], is not installed"
)
def test_both_experiments_have_the_same_cells(tmp_path):
    from spherodetect.records.examples import read_examples

    draw_records(tmp_path, side=96, fields=2, cells=8)
    ours, stock = (
        list(read_examples(tmp_path.glob(f"{form}-train-*.tfrecord")))
        for form in ("drawn", "full-drawn")
    )
    assert len(ours) == len(stock) == 2
    for one, other in zip(ours, stock, strict=True):
        assert one["image"].shape[0] * 32 / one["rbc_diameter_px"] == pytest.approx(96, abs=0.5)
        assert len(one["class_id"]) >= 8
        np.testing.assert_array_equal(one["box_yxyx"], other["box_yxyx"])
