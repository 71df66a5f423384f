"""rows, metrics, shares and bootstrap: closed forms, and invariance to the order of the cells."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from spherodetect.evaluation import metrics, shares
from spherodetect.evaluation.bootstrap import compare, intervals
from spherodetect.evaluation.rows import figures, read_rows, spread


def row(
    label: str,
    called: str = "",
    p: float | None = None,
    *,
    field: str = "1.jpg",
    fine: str = "",
    **more,
) -> dict:
    """A labelled cell; without a call it is missed."""
    p = p if p is not None else 0.9 if called == "spherocyte" else 0.1 if called else 0.0
    return {
        "field": field,
        "block": "1-20",
        "patient": "",
        "label": label,
        "fine": fine or label,
        "found": int(bool(called)),
        "called": called,
        "p_spherocyte": p,
    } | more


SPHERE, RBC = "spherocyte", "rbc"
#: 10 spherocytes: 7 called so, 2 called rbc, 1 missed; 20 others: 1 called spherocyte, 1 missed;
#: one called twice.
ROWS = [
    *[row(SPHERE, SPHERE)] * 7, *[row(SPHERE, RBC)] * 2, row(SPHERE),
    *[row(RBC, RBC)] * 18, row(RBC, SPHERE), row(RBC), row("duplicate", SPHERE),
    row("red cell", RBC), row("red cell"), row("wbc", SPHERE), row("", RBC, fine="uncategorised"),
]  # fmt: skip


def test_figures_by_hand():
    assert figures(ROWS) == {
        "n_labels": 32,
        "n_spherocytes": 10,
        "recall": pytest.approx(29 / 32),
        "precision": pytest.approx(7 / 9),
        "sensitivity": pytest.approx(0.7),
        "f1": pytest.approx(14 / 19),
        "specificity": pytest.approx(18 / 19),
    }
    assert figures(ROWS[::-1]) == pytest.approx(figures(ROWS))


def test_a_rate_without_cells_is_nan():
    nothing = figures([])
    assert all(
        math.isnan(nothing[name])
        for name in ("recall", "precision", "sensitivity", "f1", "specificity")
    )
    only_others = figures([row(RBC, RBC)])
    assert math.isnan(only_others["f1"]) and only_others["specificity"] == 1
    assert math.isnan(shares.within_field([row(RBC, RBC)])["auc"])
    assert math.isnan(shares.agreement([])["bias"])
    assert shares.leave_one_out(ROWS, key="block") == []


def test_rows_of_a_file_give_the_same_figures(tmp_path):
    path = tmp_path / "labelled_cells.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    assert figures(read_rows(path)) == figures(ROWS)


def test_confusion_counts_every_label_and_every_extra():
    extras = [row("", SPHERE), row("", RBC), row("", RBC)]
    table = metrics.confusion(ROWS, extras, ("rbc", "spherocyte", "wbc", "platelet"))
    assert table["columns"] == ["rbc", "spherocyte", "wbc", "platelet", "missed"]
    rows = dict(table["rows"])
    assert rows["spherocyte"] == [2, 7, 0, 0, 1]
    assert rows["rbc"] == [18, 1, 0, 0, 1]
    assert rows["background"] == [2, 1, 0, 0, 0]
    assert "duplicate" not in rows
    assert sum(map(sum, rows.values())) == len(ROWS) - 1 + len(extras)
    assert [name for name, _ in table["rows"]][:2] == ["rbc", "spherocyte"]
    fine = metrics.confusion(ROWS, (), ("rbc", "spherocyte", "wbc", "platelet"), key="fine")
    assert dict(fine["rows"])["uncategorised"] == [1, 0, 0, 0, 0]


def test_reliability_of_calibrated_probabilities():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    bins = metrics.reliability(p, rng.random(len(p)) < p)
    assert len(bins) == 10 and sum(b["n"] for b in bins) == len(p)
    assert all(
        abs(b["mean_p"] - b["frequency"]) < 0.03 and b["low"] < b["frequency"] < b["high"]
        for b in bins
    )
    assert metrics.reliability(np.array([1.0]), np.array([True])) == [
        {
            "from": 0.9,
            "n": 1,
            "mean_p": 1.0,
            "frequency": 1.0,
            "low": pytest.approx(0.2065, abs=1e-3),
            "high": 1.0,
        }
    ]


def test_precision_and_recall_have_a_step_at_each_score_but_not_at_missed_cells():
    p, truth = np.array([0.9, 0.8, 0.8, 0.3, 0.0]), np.array([True, False, True, False, True])
    recall, precision = metrics.precision_recall(p, truth)
    assert recall.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert precision.tolist() == pytest.approx([1, 2 / 3, 1 / 2])
    assert [len(x) for x in metrics.precision_recall(np.zeros(0), np.zeros(0, bool))] == [0, 0]


def test_agreement_is_that_of_bland_and_altman():
    rows = []
    # Labelled 2, 4 and 6 of 20; called 3, 4 and 5 of the 20: differences of +5, 0 and -5 points.
    for field, (true, called) in {"a": (2, 3), "b": (4, 4), "c": (6, 5)}.items():
        rows += [row(SPHERE, SPHERE, field=field)] * min(true, called)
        rows += [row(SPHERE, RBC, field=field)] * max(0, true - called)
        rows += [row(RBC, SPHERE, field=field)] * max(0, called - true) + [
            row(RBC, RBC, field=field)
        ] * (20 - max(true, called))
    rows += [row(SPHERE, SPHERE, field="few")] * 9
    agreement = shares.agreement(rows)
    assert [f["field"] for f in agreement["fields"]] == ["a", "b", "c"]
    assert (agreement["bias"], agreement["sd"]) == pytest.approx((0, 5))
    assert (agreement["low"], agreement["high"]) == pytest.approx((-9.8, 9.8))


def test_differences_between_slides_do_not_count_within_a_field():
    # All cells of a field have one p, and the field with more spherocytes has the higher p.
    rows = [row(SPHERE, SPHERE, 0.9, field="a")] * 9 + [row(RBC, SPHERE, 0.9, field="a")]
    rows += [row(SPHERE, RBC, 0.1, field="b")] + [row(RBC, RBC, 0.1, field="b")] * 9
    found = shares.within_field(rows)
    assert found["auc"] == pytest.approx(0.9)
    assert (found["auc_within_field"], found["n_fields"]) == (pytest.approx(0.5), 2)


def test_spread_is_over_groups_with_enough_cells():
    rows = [row(SPHERE, SPHERE, block="a")] * 8 + [row(SPHERE, RBC, block="a")] * 2
    rows += (
        [row(SPHERE, SPHERE, block="b")] * 6
        + [row(SPHERE, RBC, block="b")] * 4
        + [row(SPHERE, RBC, block="c")] * 4
    )
    sensitivity = spread(rows, "block")["sensitivity"]
    assert sensitivity == {
        "median": pytest.approx(0.7),
        "mean": pytest.approx(0.7),
        "min": pytest.approx(0.6),
        "max": pytest.approx(0.8),
        "sd": pytest.approx(0.2 / math.sqrt(2)),
        "n": 2,
    }
    assert spread(rows, "block")["specificity"]["n"] == 0


def test_intervals_contain_the_rate_and_become_narrower_with_fields():
    def fields(n: int) -> list[dict]:
        rng = np.random.default_rng(1)
        calls = rng.random((n, 10)) < 0.8
        return [
            row(SPHERE, SPHERE if hit else RBC, field=f"{k}") for k in range(n) for hit in calls[k]
        ]

    few, many = (intervals(fields(10))["sensitivity"], intervals(fields(160))["sensitivity"])
    for rows, (low, high) in ((fields(10), few), (fields(160), many)):
        assert low < figures(rows)["sensitivity"] < high
    # A binomial of 1,600 cells has a standard error of 0.01, so 90 % are within +-0.0165.
    assert many[1] - many[0] == pytest.approx(0.033, abs=0.006)
    assert few[1] - few[0] > 2.5 * (many[1] - many[0])


def detector(sensitivity: float, *, n_fields: int = 60, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n_fields):
        rows += [
            row(SPHERE, SPHERE if rng.random() < sensitivity else RBC, field=f"{k}.jpg")
            for _ in range(8)
        ]
        rows += [
            row(RBC, SPHERE if rng.random() < 0.02 else RBC, field=f"{k}.jpg") for _ in range(12)
        ]
    return rows


def test_compare_finds_a_difference_and_finds_none_between_equals():
    better = compare(detector(0.9), detector(0.7, seed=1))
    assert better.difference == pytest.approx(0.12, abs=0.03)
    assert 0 < better.low < better.difference < better.high
    same = compare(detector(0.8), detector(0.8))
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    back = compare(detector(0.7, seed=1), detector(0.9))
    assert (back.low, back.high) == pytest.approx((-better.high, -better.low))
    assert "F1 0.9" in str(better) and "60 fields" in str(better)


def test_compare_is_paired():
    # The two detectors differ on one cell in each field. Their rates vary between fields, and their
    # difference hardly varies.
    rng = np.random.default_rng(3)
    hits = rng.integers(2, 20, 50)
    a = [
        row(SPHERE, SPHERE if i < n else RBC, field=f"{k}")
        for k, n in enumerate(hits)
        for i in range(20)
    ]
    b = [
        row(SPHERE, SPHERE if i < n - 1 else RBC, field=f"{k}")
        for k, n in enumerate(hits)
        for i in range(20)
    ]
    paired = compare(a, b)
    low, high = intervals(a)["f1"]
    assert paired.low > 0
    assert paired.high - paired.low < 0.2 * (high - low)


def test_compare_needs_the_same_labels():
    with pytest.raises(ValueError, match="got none"):
        compare([row(SPHERE, SPHERE, field="a")], [row(SPHERE, SPHERE, field="b")])
    with pytest.raises(ValueError, match=r"'1\.jpg'"):
        compare([row(SPHERE, SPHERE)], [row(RBC, SPHERE)])
    common = compare([row(SPHERE, SPHERE), row(RBC, RBC, field="mine")], [row(SPHERE, SPHERE)])
    assert common.n_fields == 1


def test_each_group_is_corrected_by_the_others():
    # 600 cells a patient; of its spherocytes 80 % are called so, of its other cells 5 %.
    truth = {"p1": 0.1, "p2": 0.2, "p3": 0.3, "p4": 0.05}
    rows = []
    for patient, share in truth.items():
        true = round(600 * share)
        calls = [(SPHERE, SPHERE)] * round(0.8 * true) + [(SPHERE, RBC)] * round(0.2 * true)
        calls += [(RBC, SPHERE)] * round(0.05 * (600 - true))
        calls += [(RBC, RBC)] * (600 - len(calls))
        rows += [
            row(*call, field=f"{patient}_{k % 10}", patient=patient) for k, call in enumerate(calls)
        ]
    groups = shares.leave_one_out(rows, key="patient")
    assert [(g["patient"], g["labelled_percent"]) for g in groups] == [
        (p, pytest.approx(100 * share)) for p, share in truth.items()
    ]
    assert all(g["holds"] and g["n_fields"] == 10 and g["n_cells"] == 600 for g in groups)
    assert groups[2]["called_percent"] == pytest.approx(27.5)
    assert groups[2]["corrected_percent"] == pytest.approx(30, abs=1)
    # The error rates of a patient's own cells are not used for its own estimate.
    changed = [
        r | {"called": RBC} if r["patient"] == "p3" and r["label"] == SPHERE else r for r in rows
    ]
    own = shares.leave_one_out(changed, key="patient")[2]
    assert own["called_percent"] == pytest.approx(3.5) and own["corrected_percent"] < 3.5
