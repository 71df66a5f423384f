"""notes: a patient whose cells are mostly small is told how often such cells are flagged."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np

from spherodetect.cells import Cells
from spherodetect.detect.model_folder import ErrorRates
from spherodetect.pipeline.notes import look_alike_notes, rates_notes, stain_notes

BLOCKS = [
    {"fine_classes": {"microcyte": {"n": 80, "called": 8}, "normal": {"n": 900, "called": 9}}},
    {"fine_classes": {"microcyte": {"n": 20, "called": 4}, "spherocyte": {"n": 50, "called": 40}}},
    {},
]


def fields(relative_diameter: list[float], *, accepted: bool = True) -> list[SimpleNamespace]:
    """One field: red cells of the stated size, and as many small spherocytes, which are no
    look-alikes."""
    n = len(relative_diameter)
    box = np.array([[10 * k + 5, 50, 10 * k + 13, 58] for k in range(2 * n)])
    cells = Cells.from_labels(
        box, [1] * n + [2] * n, np.ones((2 * n, 28, 28)), image_size_hw=(1000, 100)
    )
    cells.measurements["relative_diameter"] = np.array([*relative_diameter, *([0.7] * n)])
    return [SimpleNamespace(cells=cells, quality=SimpleNamespace(accepted=accepted))]


def test_many_small_cells_give_a_note_with_how_often_such_cells_are_flagged():
    (note,) = look_alike_notes(fields([0.8, 0.7, 1.0, 1.1, 1.0]), BLOCKS)
    # 2 of 5 cells are small; 12 of 100 microcytes were flagged, and 9 of 900 others.
    figures = re.findall(r"([\d.]+) %", note)
    assert figures == ["40", "12.0", "1.0"]
    assert "microcytes" in note
    assert "positive" not in note


def test_rates_of_few_patients_are_told_with_what_would_narrow_the_interval():
    block = {"name": "p", "true_spherocytes": 60, "called_of_true": 50}
    reference = {"model": "bundled", "stain": "MGG", "blocks": [block] * 3}

    def notes(n: int, **changes) -> list[str]:
        rates = ErrorRates((block,) * n, n, **changes)
        return rates_notes(SimpleNamespace(rates=rates, conventions={}))

    (note,) = notes(2)
    assert "2 held-out patients" in note and "review" in note and "bundled" not in note
    assert "3 of bundled" in notes(2, reference=reference)[0]
    assert notes(0) == notes(6) == []


def test_few_small_cells_and_rejected_fields_give_no_note():
    assert look_alike_notes(fields([0.8, *[1.0] * 9]), BLOCKS) == []
    assert look_alike_notes(fields([0.5] * 9, accepted=False), BLOCKS) == []
    assert look_alike_notes([], []) == []


def test_a_stain_that_nobody_stated_is_not_said_to_be_unseen():
    assert stain_notes(["May-Grünwald-Giemsa"]) == stain_notes(["MGG", "not stated"]) == []
    (never,) = stain_notes(["Leishman"])
    assert "never saw" in never and "Leishman" in never
    for seen in ([], ["not stated"], ["Leishman", "unknown"]):
        (note,) = stain_notes(seen)
        assert "not stated" in note and "never" not in note
        assert ("Leishman" in note) == ("Leishman" in seen)
