"""evaluation.page: empty results, warnings about held-out fields, and hostile names."""

from __future__ import annotations

import math
import re

import pytest

from spherodetect.evaluation import metrics, shares
from spherodetect.evaluation.bootstrap import intervals
from spherodetect.evaluation.page import write_evaluation_page
from spherodetect.evaluation.result import Evaluation
from spherodetect.evaluation.rows import figures, known_cells, spread
from spherodetect.evaluation.worst import Gallery

HOSTILE = "$\\frac{1}{$ <img src=x onerror=alert(1)>\u202e\n"


def row(block: str, label: str, called: str) -> dict:
    p = 0.9 if called == "spherocyte" else 0.2
    return {
        "field": f"{block}/1.png",
        "block": block,
        "patient": block,
        "label": label,
        "fine": label,
        "found": 1,
        "called": called,
        "p_spherocyte": p,
    }


def page_of(
    rows: list[dict],
    tmp_path,
    *,
    held_out: str = "held-out",
    warning: str = "",
    calibrated: bool = False,
) -> str:
    p, truth = known_cells(rows)
    classes = ("rbc", "spherocyte")
    details = {
        "intervals": intervals(rows, draws=50),
        "confusion": metrics.confusion(rows, (), classes),
        "confusion_fine": metrics.confusion(rows, (), classes, key="fine"),
        "threshold": 0.5,
        "reliability": metrics.reliability(p, truth),
        "agreement": shares.agreement(rows),
        "within_field": shares.within_field(rows),
        "robustness": {},
        "spread": {key: spread(rows, key) for key in ("block", "field")},
        "leave_one_out": {"unit": "patient", "groups": shares.leave_one_out(rows, key="patient")},
        "coco": {kind: {"refused": "the labels are points"} for kind in ("box", "mask")},
        "fields": [],
        "provenance": {
            "model": "m",
            "model_sha256": {},
            "version": "0",
            "data": HOSTILE,
            "split": "val",
            "held_out": held_out,
            "calibrated_on_it": calibrated,
            "calibration": ["On fields that 3 detectors held out: p1 (20 spherocytes)."],
        },
    }
    result = Evaluation(
        model="m",
        n_fields=2,
        average_precision=math.nan,
        brier=math.nan,
        ece=math.nan,
        duplicates=0.0,
        white_or_platelet_called=(0, 0),
        blocks=(),
        warning=warning,
        details=details,
        **figures(rows),
    )
    write_evaluation_page(tmp_path / "evaluation.html", result, rows, Gallery())
    return (tmp_path / "evaluation.html").read_text()


def test_a_page_of_a_single_cell(tmp_path):
    page = page_of([row("p1", "red cell", "rbc")], tmp_path)
    without_pictures = re.sub(r"base64,[^\"]+", "", page)
    assert "\N{EN DASH}" in page and not re.search(
        r"\bnan\b|\binf\b|\bNone\b(?!\.<)", without_pictures
    )
    assert page.count("not measured: the labels are points") == 2
    # Without a fully labelled field there is no share of extra detections.
    assert re.search(r"Extra detections</span><b>\N{EN DASH}</b>", page)


def test_hostile_names_are_text_in_page_and_plots(tmp_path):
    rows = [
        row(f"{HOSTILE}{k}", *call)
        for k in range(3)
        for call in [("spherocyte", "spherocyte"), ("rbc", "rbc")] * 40
    ]
    page = page_of(rows, tmp_path)
    assert "<img src=x" not in page and "\u202e" not in page
    assert "&lt;img src=x" in page


@pytest.mark.parametrize(
    ("held_out", "warning", "calibrated", "says", "is_red"),
    [
        ("held-out", "", False, None, False),
        ("held-out", "", True, "calibrated", False),
        (
            "not-known",
            "reason of the model",
            False,
            "Not known to be held out: reason of the model.",
            False,
        ),
        ("trained-on", "reason of the model", False, "Not held out: reason of the model.", True),
    ],
)
def test_the_page_warns_of_fields_that_are_not_held_out(
    tmp_path, held_out, warning, calibrated, says, is_red
):
    page = page_of(
        [row("p1", "rbc", "rbc")],
        tmp_path,
        held_out=held_out,
        warning=warning,
        calibrated=calibrated,
    )
    body = page[page.index("<body>") :]
    assert ('class="banner' in body) == bool(says)
    assert says is None or says in body
    assert ("banner leak" in body) == is_red
