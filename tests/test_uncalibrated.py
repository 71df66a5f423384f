"""A model without error rates: every output says `uncalibrated`, and none gives an interval."""

from __future__ import annotations

import json
import math
import re

import pytest

from spherodetect.console import print_patients
from spherodetect.report.fhir import to_observation
from spherodetect.report.grade_scale import graded_scale
from spherodetect.report.index import write_index
from spherodetect.report.patient import write_patient_report
from spherodetect.report.status_text import status_words
from spherodetect.report.tables import patients_frame
from spherodetect.score.counts import score_counts
from spherodetect.score.grades import ICSH2015
from spherodetect.score.rates import unknown_rates


@pytest.fixture(scope="module")
def score():
    return score_counts([11] * 12, [90] * 12, model=unknown_rates("mine"), patient_id="p1")


def test_the_terminal_gives_the_raw_percentage_and_no_interval(score, capsys):
    print_patients([score])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "p1" in line]
    assert "uncalibrated" in row and "12.2 [no interval]" in row and "nan" not in row


def test_the_table_leaves_limits_and_grade_empty(score):
    row = patients_frame([score]).iloc[0]
    assert row["status"] == "uncalibrated" and row["grade"] == ""
    assert row["hs_score"] == row["raw_percent"] == row["model_score"]
    for name in ("hs_score_low", "hs_score_high", "model_score_low", "p_above_5_percent"):
        assert math.isnan(row[name])


def test_fhir_has_the_reason_and_no_range(score):
    observation = to_observation(score)
    assert "uncalibrated" in observation["dataAbsentReason"]["text"]
    codes = {c["code"]["text"]: c for c in observation["component"]}
    assert not [code for code in codes if "interval" in code]
    assert codes["spherocytes percent"]["valueQuantity"]["value"] == pytest.approx(12.2222)
    assert "not corrected" in observation["method"]["text"]
    json.dumps(observation, allow_nan=False)


def test_pages_show_a_point_without_limits_and_no_limit_of_blank(score, tmp_path):
    write_index(tmp_path / "index.html", [(score, None)])
    write_patient_report(tmp_path / "p1.html", score, [], provenance={"Model": "mine"})
    for name in ("index", "p1"):
        text = (tmp_path / f"{name}.html").read_text()
        assert "uncalibrated" in text and not re.search(r"\bnan\b", text)
    page = (tmp_path / "p1.html").read_text()
    assert "no interval" in page and "95 % interval" not in page and "limit of blank" not in page
    assert "corrected for the model" not in page and "Probability that it is above" not in page
    assert graded_scale(score, ICSH2015)["limits"] is None
    assert status_words(score).startswith("Not graded")
