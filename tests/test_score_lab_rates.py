"""A laboratory's rates: the counts of its blocks, the calibration, the cut and the file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import special

from benchmarks.reviewed import simulated
from spherodetect.errors import SpherodetectError
from spherodetect.score.counts import score_counts
from spherodetect.score.lab_rates import ReviewedCells, lab_rates, load_lab_rates
from spherodetect.score.review import review_order
from test_score_review import answered


def reviewed(seed, *, n=150, share=0.2, classifier="shifted"):
    patient = simulated(
        np.random.default_rng(seed), share=share, n_cells=1500, classifier=classifier, excluded=0
    )
    ids = [str(i) for i in range(1500)]
    answers = answered(review_order(patient.p, ids, seed), ids, patient.spherocyte, n)
    return patient, ReviewedCells.of(patient.p, ids, answers, seed)


def test_weights_stand_for_all_cells():
    _, cells = reviewed(1)
    assert cells.weight.sum() == pytest.approx(1500)
    assert len(cells.p) == len(cells.spherocyte) == 150


def test_all_reviewed_cells_are_the_counts():
    patient, cells = reviewed(2, n=1500, classifier="good")
    lab = lab_rates([cells], name="ours", model="m", at_least=1)
    block = lab.blocks[0]
    called = lab.calibrated(patient.p) >= lab.p_spherocyte
    assert lab.p_spherocyte == pytest.approx(patient.spherocyte.mean())
    assert block["true_spherocytes"] == patient.spherocyte.sum()
    assert block["called_of_true"] == (called & patient.spherocyte).sum()
    assert block["true_others"] == (~patient.spherocyte).sum()
    assert block["called_of_others"] == (called & ~patient.spherocyte).sum()


def test_a_shifted_model_is_calibrated():
    """The simulated classifier adds 3 to the log odds; the laboratory's fit takes it away."""
    lab = lab_rates([reviewed(seed)[1] for seed in range(4)], name="ours", model="m")
    patient, _ = reviewed(9)
    p = lab.calibrated(patient.p)
    truth = patient.spherocyte.mean()
    assert abs(p.mean() - truth) < 0.04 < patient.p.mean() - truth
    assert np.all(np.diff(lab.calibrated(np.sort(patient.p))) >= 0)


def test_a_score_from_the_laboratory_s_rates_holds_the_truth():
    lab = lab_rates([reviewed(seed)[1] for seed in range(5)], name="ours", model="m")
    patient, _ = reviewed(11)
    called = lab.calibrated(patient.p) >= lab.p_spherocyte
    counts = [np.bincount(patient.field, chosen) for chosen in (called, np.ones(1500))]
    score = score_counts(*counts, model=lab.rates)
    assert score.hs_score_low <= patient.cells_percent <= score.hs_score_high
    assert "ours" in score.model and "m" in score.model


def test_too_few_patients_are_refused():
    with pytest.raises(ValueError, match="3 reviewed patients"):
        lab_rates([reviewed(seed)[1] for seed in range(2)], name="ours", model="m")


def test_patients_without_spherocytes_give_a_block_without():
    lab = lab_rates([reviewed(s, share=0.0)[1] for s in range(3)], name="ours", model="m")
    assert [block["true_spherocytes"] for block in lab.blocks] == [0, 0, 0]
    assert np.isfinite([lab.slope, lab.intercept]).all()
    assert special.expit(lab.intercept) < 0.5


def test_the_file_gives_back_what_it_was_written_from(tmp_path):
    lab = lab_rates([reviewed(seed)[1] for seed in range(3)], name="ours", model="m")
    path = tmp_path / "LAB.json"
    path.write_text(json.dumps(lab.to_json()))
    assert load_lab_rates(path) == lab
    assert "patient 1" in path.read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda read: read.update(format=2),
        lambda read: read.pop("calibration"),
        lambda read: read.update(p_spherocyte=7),
        lambda read: read["rates"]["blocks"][0].update(called_of_true=10**9),
        lambda read: read["calibration"].update(slope="steep"),
        lambda read: read.clear(),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, change):
    read = lab_rates([reviewed(s)[1] for s in range(3)], name="ours", model="m").to_json()
    change(read)
    path = tmp_path / "LAB.json"
    path.write_text(json.dumps(read))
    with pytest.raises(SpherodetectError, match=r"LAB\.json"):
        load_lab_rates(path)
