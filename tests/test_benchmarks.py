"""benchmarks: both sides do the same work, which each asserts itself; ratios are what they say; no time is judged."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from benchmarks import measure, timing

needs_model_garden = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("official") is None, reason="tf-models-official, the extra [train], is not installed"),
]


def test_the_ratio_is_that_of_medians():
    times = ((1.0, 0.5), (9.0, 0.5), (2.0, 0.5)), ((5.0, 2.0), (6.0, 2.0), (90.0, 2.0))
    compared = timing.Comparison("a thing", "cells", 10, *times)
    assert compared.ratio == 3
    text = "a thing: ours 5.0, peer 1.7 cells a second: 3.0 times as many; by processor time 4.0 times (3 rounds)"
    assert str(compared) == text


def test_both_sides_take_turns_after_a_warm_up():
    calls: list[str] = []
    compared = timing.side_by_side(
        "turns", lambda: calls.append("ours"), lambda: calls.append("peer"), items=1, unit="calls", rounds=2
    )
    assert calls == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert len(compared.ours) == len(compared.peer) == 2


def test_measuring_cells(capsys):
    measure.main(["--fields", "1", "--cells", "30", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("measure(cells, image): ours ")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("conversion", {"fields": 2, "cells": 12}, marks=needs_model_garden),
        pytest.param("input_pipeline", {"fields": 2, "cells": 80, "batch": 2, "batches": 1}, marks=needs_model_garden),
    ],
)
def test_training_data(name, options):
    from importlib import import_module

    compared = import_module(f"benchmarks.{name}").compare(**options, rounds=1)
    assert compared.items == 2 and compared.ratio > 0
