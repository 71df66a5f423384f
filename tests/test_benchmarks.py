"""benchmarks: both sides do the same work, which each asserts itself; ratios are what they say; no
time is judged."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import ablations, detect, edge, measure, stock, timing
from spherodetect.cells import Cells
from spherodetect.evaluation.metrics import average_precision
from spherodetect.evaluation.truth import Labelled

needs_model_garden = [
    pytest.mark.train,
    pytest.mark.skipif(
        find_spec("official") is None,
        reason="tf-models-official, the extra [train], is not installed",
    ),
]


def test_the_ratio_is_that_of_medians():
    times = ((1.0, 0.5), (9.0, 0.5), (2.0, 0.5)), ((5.0, 2.0), (6.0, 2.0), (90.0, 2.0))
    compared = timing.Comparison("a thing", "cells", 10, *times)
    assert compared.ratio == 3
    assert [float(n) for n in re.findall(r"\d\.\d", str(compared))] == [5.0, 1.7, 3.0, 4.0]


def test_operations_belong_to_the_innermost_stage():
    inside = "StatefulPartitionedCall/while/body/_1/while/stage_outline/call/mask/Conv2D:Conv2D"
    assert detect.stage_of(inside) == "outline"
    assert detect.stage_of("stage_scale/cond/then/_2/stage_second_look_1/Max:Max") == "second_look"
    assert detect.stage_of("StatefulPartitionedCall/while/Switch:Switch") == "other"


def test_a_stage_loses_what_its_multiply_adds_do_not_take(capsys):
    detect.print_stages({"input": 4.0, "features": 10.0}, {"features": 160.0}, peak=20e3)
    head, *rows = capsys.readouterr().out.strip().splitlines()
    assert head.split() == ["stage", "ms", "million", "of", "peak", "ms", "lost"]
    # 160 million at 20 a millisecond take 8 ms.
    assert [row.split() for row in rows] == [
        ["features", "10.0", "160", "0.80", "2.0"],
        ["input", "4.0", "0", "0.00", "4.0"],
        ["all", "14.0", "160", "0.57", "6.0"],
    ]


def test_both_alternate_after_a_warm_up():
    calls: list[str] = []
    compared = timing.side_by_side(
        "turns",
        lambda: calls.append("ours"),
        lambda: calls.append("peer"),
        items=1,
        unit="calls",
        rounds=2,
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
        pytest.param(
            "input_pipeline",
            {"fields": 2, "cells": 80, "batch": 2, "batches": 1},
            marks=[*needs_model_garden, pytest.mark.slow],
        ),
    ],
)
def test_training_data(name, options):
    from importlib import import_module

    compared = import_module(f"benchmarks.{name}").compare(**options, rounds=1)
    assert compared.items == 2 and compared.ratio > 0


# --- judging


def judged(n: int = 400, seed: int = 0, gain: float = 2.0) -> ablations.Judged:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    score = rng.normal(np.where(truth, gain, -gain), 1.5)
    block = np.array([f"{20 * k + 1}-{20 * k + 20}" for k in rng.integers(0, 8, n)])
    return ablations.Judged(block, truth, score >= 0, score)


def test_a_cell_that_counts_twice_is_as_two_cells():
    one = judged()
    weight = np.random.default_rng(1).integers(0, 4, len(one.truth))
    many = np.repeat(np.arange(len(weight)), weight)
    twice = ablations.Judged(one.block[many], one.truth[many], one.called[many], one.score[many])
    np.testing.assert_allclose(
        one.figures(weight.astype(float)), twice.figures(np.ones(len(many))), atol=0.01
    )
    f1, ap, sensitivity, specificity = one.figures(np.ones(len(one.truth)))
    assert ap == pytest.approx(average_precision(one.score, one.truth))
    assert sensitivity == pytest.approx(one.called[one.truth].mean())
    assert specificity == pytest.approx((~one.called[~one.truth]).mean())
    assert f1 == pytest.approx(
        2 * (one.called & one.truth).sum() / (one.called.sum() + one.truth.sum())
    )


def test_rows_are_compared_on_the_same_blocks():
    better = judged(gain=4.0)
    head, _, first, same, other = ablations.compare(
        {"a": judged(), "again": judged(), "better": better}
    )
    assert head.startswith("| held out |") and first.endswith("| – |")
    assert same.endswith("| +0.000 to +0.000 |")
    low, high = (float(v) for v in other.split("|")[-2].split(" to "))
    assert 0 < low < high


def test_the_calibration_of_a_model_is_removed(tmp_path):
    columns = "field,label,found,called,p_spherocyte\n"
    rows = "images/1.jpg,spherocyte,1,spherocyte,0.9\nimages/1.jpg,rbc,1,rbc,0.2\n"
    rows += "images/1.jpg,spherocyte,0,,0.0\n"
    (tmp_path / "a.csv").write_text(columns + rows)
    (tmp_path / "b.csv").write_text(
        columns + rows + "images/30.jpg,duplicate,1,spherocyte,0.5\nimages/30.jpg,wbc,1,wbc,0\n"
    )
    (tmp_path / "model.json").write_text(
        json.dumps({"thresholds": {"slope": 2.0, "intercept": 1.0}})
    )
    one = ablations.from_rows([f"{tmp_path / 'a.csv'}@{tmp_path}", f"{tmp_path / 'b.csv'}"])
    np.testing.assert_allclose(
        one.score, [(np.log(9) - 1) / 2, (np.log(0.25) - 1) / 2, -np.inf, 0], atol=1e-9
    )
    assert one.block.tolist() == ["1-20"] * 3 + ["21-40"], "a field counts in the first table"
    assert one.truth.tolist() == [True, False, True, False] and one.called.tolist() == [
        True,
        False,
        False,
        True,
    ]


def found(ids: list[int], boxes: list[list[float]]) -> Cells:
    return Cells.from_labels(
        np.array(boxes, float),
        np.array(ids),
        np.ones((len(ids), 1, 1), bool),
        image_size_hw=(90, 90),
    )


def test_missed_cells_and_duplicates_count():
    boxes = [[0, 0, 20, 20], [0, 30, 20, 50], [30, 0, 50, 20], [30, 1, 50, 21], [60, 60, 80, 80]]
    points = np.array([[10.0, 10], [10, 40], [40, 10], [70, 10]])
    classes = np.array(["spherocyte", "rbc", "spherocyte", "spherocyte"], object)
    field = Labelled(
        "a",
        "",
        np.zeros((90, 90, 3), np.uint8),
        points,
        classes,
        classes,
        4,
        0,
        np.zeros((4, 4)),
        (),
    )
    # One true positive, one false positive, one true positive that is detected twice, one missed
    # spherocyte, and one detection without a label.
    figures = stock.judge(lambda labelled: found([2, 2, 2, 2, 2], boxes), [field])
    assert figures == pytest.approx(
        {"recall": 3 / 4, "sensitivity": 2 / 3, "precision": 2 / 4, "f1": 4 / 7}
    )


def test_the_differences_between_two_forms_of_a_model():
    one = found([1, 2, 1], [[0, 0, 20, 20], [0, 30, 20, 50], [30, 0, 50, 20]])
    other = found([1, 1], [[0, 1, 20, 21], [0, 30, 20, 50]])
    assert edge.differing(one, one) == (0, 0)
    assert edge.differing(one, other) == (1, 1)
