"""pipeline.batch and report.batch_page: the page of a run over many patients, and summary.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cohort_stub import Grid, results_of, write_smears
from spherodetect.errors import SpherodetectError
from spherodetect.pipeline import batch
from spherodetect.pipeline.run import score_patients
from spherodetect.report.batch_summary import MEASURES


def _values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(10, 1, (n, len(MEASURES)))


def test_a_drift_is_told_and_noise_is_not():
    values = _values(60)
    values[:, 1] += np.linspace(0, 4, 60)
    drift = batch.drift_of(values)
    assert [one.name for one in drift if one.drifts] == ["focus"]
    focus = drift[1]
    assert focus.last - focus.first == pytest.approx(3.2, abs=1.0) and focus.correlation > 0.6


def test_noise_drifts_in_less_than_one_of_a_hundred_batches():
    told = sum(any(d.drifts for d in batch.drift_of(_values(30, seed))) for seed in range(200))
    assert told <= 6


def test_who_differs_is_named_with_the_farthest_first():
    values = _values(40)
    values[7, 0], values[20, 2], values[21] = 30.0, -20.0, np.nan
    found = batch.differing_of([f"p{n}" for n in range(40)], values)
    assert [(one.patient_id, one.name) for one in found] == [
        ("p20", "cell_size_px"),
        ("p7", "stain"),
    ]
    assert found[0].deviations < -5 < 5 < found[1].deviations


def test_few_patients_and_equal_values_show_neither():
    assert batch.drift_of(_values(7)) == () and batch.differing_of(["a"] * 7, _values(7)) == ()
    same = np.ones((20, len(MEASURES)))
    assert not any(one.drifts for one in batch.drift_of(same))
    assert batch.differing_of(["a"] * 20, same) == ()


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    """A batch of nine patients, of whom the sixth is far darker, with a file that is no image."""
    smears = write_smears(tmp_path_factory.mktemp("batch") / "smears", n_patients=9, n_fields=1)
    image = np.asarray(Image.open(smears / "p5" / "f0.png"))
    Image.fromarray((image * [1, 0.35, 1]).astype(np.uint8)).save(smears / "p5" / "f0.png")
    out = smears.with_name("out")
    result = score_patients(smears, model=Grid(), out=out, batch=True)
    assert {"batch.html", "summary.json"} <= set(result.tables)
    return out


def test_the_summary_accounts_for_every_field(scored):
    summary = json.loads((scored / "summary.json").read_text())
    assert summary["complete"] and summary["seconds_left"] == 0
    assert (summary["n_fields"], summary["n_finished"], summary["n_unreadable"]) == (10, 10, 1)
    assert (summary["n_patients"], summary["n_patients_finished"]) == (9, 9)
    assert [row["patient_id"] for row in summary["patients"]] == [f"p{n}" for n in range(9)]
    assert "torn.png" in summary["problems"][0]
    assert {"p5"} == {one["patient_id"] for one in summary["differing"] if one["name"] == "stain"}


def test_the_page_names_who_differs_and_what_was_left_out(scored):
    page = (scored / "batch.html").read_text()
    assert "Complete: 10 of 10 fields" in page and "refresh" not in page
    assert "Patients who differ" in page and "<td>p5</td>" in page and "torn.png" in page


def test_the_other_files_are_those_of_a_run_without_a_page(scored, tmp_path):
    score_patients(scored.with_name("smears"), model=Grid(), out=tmp_path / "out")
    other, own = results_of(tmp_path / "out"), results_of(scored)
    journal = ".spherodetect/written.txt"
    assert set(own) - set(other) == {"batch.html", "summary.json"}
    assert {n: b for n, b in own.items() if n in other and n != journal} == {
        n: b for n, b in other.items() if n != journal
    }


def test_the_page_is_there_while_the_run_goes_on(scored, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "_EVERY_S", 0.0)
    out, seen = tmp_path / "out", []

    class Looking(Grid):
        def detect(self, image, um_per_px=None):
            seen.append(json.loads((out / "summary.json").read_text()))
            return super().detect(image, um_per_px)

    score_patients(scored.with_name("smears"), model=Looking(), out=out, batch=True)
    finished = [one["n_finished"] for one in seen]
    # One field is unreadable. Of the examined ones two may wait, and one is being written.
    assert len(seen) == 9 and finished == sorted(finished)
    assert all(k - 2 <= n <= k + 1 for k, n in enumerate(finished))
    assert not any(one["complete"] for one in seen)
    assert seen[0]["seconds_left"] is None and seen[-1]["seconds_left"] > 0


def test_a_batch_needs_a_folder_and_photographs(scored):
    with pytest.raises(SpherodetectError, match="batch: expected a folder for its page"):
        score_patients(scored.with_name("smears"), model=Grid(), batch=True)
    with pytest.raises(SpherodetectError, match="batch: expected photographs"):
        score_patients(scored / "coco.json", out=scored.with_name("other"), batch=True)


def test_a_drift_by_date_does_not_depend_on_the_order():
    values, days = _values(60), np.random.default_rng(1).permutation(60).astype(float)
    values[:, 0] += days / 15
    assert not any(one.drifts for one in batch.drift_of(values))
    (stain, *others) = batch.drift_of(values, days)
    assert stain.drifts and stain.last - stain.first == pytest.approx(3.2, abs=1.0)
    assert not any(one.drifts for one in others)
    shuffled = np.random.default_rng(2).permutation(60)
    again = batch.drift_of(values[shuffled], days[shuffled])
    assert again[0].first == stain.first
    assert again[0].correlation == pytest.approx(stain.correlation)


def _dated(smears: Path, days: list[int]) -> Path:
    """The photographs of each patient with this day of November 2026 in their EXIF; 0 for none."""
    for patient, day in enumerate(days):
        path = smears / f"p{patient}" / "f0.png"
        exif = Image.Exif()
        if day:
            exif[0x8769] = {0x9003: f"2026:11:{day:02d} 10:00:00"}
        with Image.open(path) as file:
            file.load()
            file.save(path, exif=exif)
    return smears


def _summary(out: Path, smears: Path, **options) -> dict:
    score_patients(smears, model=Grid(), out=out, batch=True, **options)
    return json.loads((out / "summary.json").read_text())


def test_the_batch_is_by_the_dates_of_the_cameras(tmp_path):
    days = [9, 3, 5, 4, 8]
    smears = _dated(write_smears(tmp_path / "smears", n_patients=5, n_fields=1), days)
    summary = _summary(tmp_path / "out", smears)
    assert summary["along"] == "date"
    order = sorted(range(5), key=days.__getitem__)
    assert [row["patient_id"] for row in summary["patients"]] == [f"p{n}" for n in order]
    assert summary["patients"][0]["date"] == "2026-11-03 10:00"
    page = (tmp_path / "out" / "batch.html").read_text()
    assert "in the order of the dates of the photographs" in page
    assert ">2026-11-03</text>" in page and ">2026-11-09</text>" in page


@pytest.mark.parametrize("days", [[9, 3, 0], [0, 0, 0], [3, 3, 3]])
def test_without_a_date_of_each_patient_the_batch_is_by_order(days, tmp_path):
    smears = _dated(write_smears(tmp_path / "smears", n_patients=3, n_fields=1), days)
    summary = _summary(tmp_path / "out", smears)
    assert summary["along"] == "order"
    assert [row["patient_id"] for row in summary["patients"]] == ["p0", "p1", "p2"]
    page = (tmp_path / "out" / "batch.html").read_text()
    assert "the photographs do not all state a date" in page


def test_dates_of_a_manifest_come_before_those_of_the_cameras(tmp_path):
    smears = _dated(write_smears(tmp_path / "smears", n_patients=2, n_fields=1), [1, 2])
    manifest = smears / "manifest.csv"
    manifest.write_text("patient_id;field;Date\np0;p0/f0.png;30.11.2026\np1;p1/f0.png;2026-11-29\n")
    summary = _summary(tmp_path / "out", manifest)
    assert [row["patient_id"] for row in summary["patients"]] == ["p1", "p0"]
    assert summary["patients"][1]["date"] == "2026-11-30 00:00"


def test_a_pseudonymised_batch_shows_no_dates(tmp_path):
    smears = _dated(write_smears(tmp_path / "smears", n_patients=2, n_fields=1), [2, 1])
    summary = _summary(tmp_path / "out", smears, pseudonymise=True)
    assert summary["along"] == "date"
    assert [row["date"] for row in summary["patients"]] == [None, None]
    assert "2026" not in (tmp_path / "out" / "batch.html").read_text()
