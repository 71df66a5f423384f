"""benchmarks.classical: the baseline on drawn cells, its figures and its bootstrap."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import classical
from benchmarks.classical import figures, paired_bootstrap
from spherodetect.labels.annotations import Annotation
from spherodetect.labels.recipe import Recipe


def row(field: str, label: str, called: str, p: float = 0.0, found: int = 1) -> dict:
    return {"field": field, "label": label, "called": called, "found": found, "p_spherocyte": p}


def test_figures_count_missed_cells_and_duplicates():
    rows = [
        row("a", "spherocyte", "spherocyte", 0.9),
        row("a", "spherocyte", "rbc", 0.2),
        row("a", "rbc", "rbc", 0.1),
        row("a", "rbc", "spherocyte", 0.8),
        row("b", "rbc", "", found=0),
        row("b", "spherocyte", "", found=0),
        row("b", "duplicate", "spherocyte", 0.7),
    ]
    found = figures(rows)
    assert (found["fields"], found["cells"], found["spherocytes"]) == (2, 6, 3)
    assert found["recall"] == pytest.approx(4 / 6)
    assert found["f1"] == pytest.approx(2 * 1 / (3 + 3)), "one hit, three called, three true"
    assert found["sensitivity"] == pytest.approx(1 / 3) and found["specificity"] == pytest.approx(
        1 / 2
    )
    assert found["average_precision"] == pytest.approx((1 + 2 / 4 + 3 / 7) / 3), (
        "the missed cell ranks last"
    )
    assert np.isnan(figures(rows[2:3])["f1"])


def test_a_cell_text_from_a_table_counts_like_the_number():
    rows = [row("a", "spherocyte", "spherocyte", 0.9), row("a", "rbc", "", found=0)]
    assert figures([{key: str(value) for key, value in r.items()} for r in rows]) == pytest.approx(
        figures(rows), nan_ok=True
    )


def predictions(*, errors: float, seed: int = 0, fields: int = 60) -> list[dict]:
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99).random((fields, 30)) < 0.3
    wrong = rng.random(truth.shape) < errors
    names = np.array(["rbc", "spherocyte"])
    return [
        row(f"{k}.jpg", str(names[int(t)]), str(names[int(t ^ w)]))
        for k in range(fields)
        for t, w in zip(truth[k], wrong[k], strict=True)
    ]


def test_the_same_predictions_do_not_differ():
    one = predictions(errors=0.1)
    same = paired_bootstrap(one, one)
    assert (same.difference, same.low, same.high, same.n_fields) == (0, 0, 0, 60)


def test_the_better_one_is_better_in_the_interval():
    good, poor = predictions(errors=0.05, seed=1), predictions(errors=0.15, seed=2)
    found = paired_bootstrap(good, poor)
    assert found.ours == pytest.approx(figures(good)["f1"]) and found.theirs == pytest.approx(
        figures(poor)["f1"]
    )
    assert 0 < found.low < found.difference < found.high
    turned = paired_bootstrap(poor, good)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert f"{found.difference:+.3f}" in str(found)


def test_nine_of_ten_intervals_contain_zero():
    held = [
        (
            d := paired_bootstrap(
                predictions(errors=0.1, seed=2 * k), predictions(errors=0.1, seed=2 * k + 1)
            )
        ).low
        < 0
        < d.high
        for k in range(1, 41)
    ]
    assert 0.75 < np.mean(held) < 1


def test_only_the_same_labels_are_compared():
    one = predictions(errors=0.1)
    with pytest.raises(ValueError, match="same labels"):
        paired_bootstrap(one, [row("elsewhere.jpg", "rbc", "rbc")])
    other = [r | {"label": "spherocyte"} for r in one]
    with pytest.raises(ValueError, match="same labels"):
        paired_bootstrap(one, other)


def as_point(outlined: Annotation) -> Annotation:
    ymin, xmin, ymax, xmax = outlined.box_yxyx
    return Annotation(
        outlined.annotation_id, outlined.name, point_yx=((ymin + ymax) / 2, (xmin + xmax) / 2)
    )


@pytest.mark.skipif(
    find_spec("sklearn") is None, reason="scikit-learn, of the extra [train], is not installed"
)
def test_drawn_spherocytes_are_found_and_called(tmp_path):
    from spherodetect.labels.readers.drawn import read_drawn

    recipe = Recipe("drawn", "synthetic", tmp_path, n_fields=4, seed=5, um_per_px=0.3)
    labels = read_drawn(recipe)
    fields = [replace(f, annotations=tuple(map(as_point, f.annotations))) for f in labels.fields]
    cells = classical.measured_cells(fields, recipe)
    assert cells.found[np.isin(cells.label, ["rbc", "spherocyte"])].mean() > 0.95
    judged = cells.field == fields[-1].file
    rows = classical.classify(cells, ~judged, judged)
    assert len(rows) == judged.sum() and {r["field"] for r in rows} == {fields[-1].file}
    assert figures(rows)["average_precision"] > 0.9
    assert all(r["called"] == "" and r["p_spherocyte"] == 0 for r in rows if not r["found"])
