"""worst: the worst errors of each kind, with the cell in the middle of the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spherodetect.cells import Cells
from spherodetect.evaluation.worst import (
    FALSE_SPHEROCYTES,
    MAX_ERRORS,
    MAX_ERRORS_A_FIELD,
    MISSED_CELLS,
    MISSED_SPHEROCYTES,
    Gallery,
)

SIZE_HW = (200, 300)
CENTRES = np.array([[40 + 60 * (k // 4), 40 + 60 * (k % 4)] for k in range(8)], float)


def field(*, name: str = "1.png") -> tuple[np.ndarray, Cells]:
    """Eight discs of 30 px with different grey levels on a light slide."""
    image = np.full((*SIZE_HW, 3), 230, np.uint8)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    for k, (cy, cx) in enumerate(CENTRES):
        image[np.hypot(y - cy, x - cx) < 15] = 60 + 15 * k
    boxes = np.concatenate([CENTRES - 15, CENTRES + 15], axis=1)
    at = np.arange(30) + 0.5 - 15
    masks = [np.hypot(at[:, None], at) < 15] * 8
    cells = Cells.from_labels(boxes, np.ones(8), masks, image_size_hw=SIZE_HW, field_id=name)
    return image, replace(cells, rbc_diameter_px=30.0)


def rows(errors: dict[int, dict], *, name: str = "1.png") -> list[dict]:
    return [
        {
            "field": name,
            "label": "rbc",
            "fine": "normal",
            "called": "rbc",
            "found": 1,
            "p_spherocyte": 0.1,
            "y_px": y,
            "x_px": x,
        }
        | errors.get(k, {})
        for k, (y, x) in enumerate(CENTRES)
    ]


def called(p: float) -> dict:
    return {"called": "spherocyte", "p_spherocyte": p}


MISSED = {"called": "", "found": 0, "p_spherocyte": 0.0}


def offered(*fields: list[dict]) -> Gallery:
    gallery = Gallery()
    for labels in fields:
        image, cells = field(name=labels[0]["field"])
        gallery.offer(
            image, cells, labels, np.array([k if r["found"] else -1 for k, r in enumerate(labels)])
        )
    return gallery


def test_right_calls_are_not_shown():
    gallery = offered(rows({}))
    assert gallery.n_seen == {FALSE_SPHEROCYTES: 0, MISSED_SPHEROCYTES: 0, MISSED_CELLS: 0}
    assert not any(gallery.errors.values())


def test_errors_are_sorted_by_kind_and_confidence():
    gallery = offered(
        rows(
            {
                0: called(0.7),
                1: called(0.95),
                2: {"label": "spherocyte", "p_spherocyte": 0.4},
                3: {"label": "spherocyte", "p_spherocyte": 0.01},
                4: MISSED,
                5: MISSED | {"label": "spherocyte"},
                6: {"label": "red cell"} | called(0.99),
                7: {"label": "wbc"} | called(0.99),
            }
        )
    )
    assert [e.row["p_spherocyte"] for e in gallery.errors[FALSE_SPHEROCYTES]] == [0.95, 0.7]
    assert [e.row["p_spherocyte"] for e in gallery.errors[MISSED_SPHEROCYTES]] == [0.01, 0.4]
    assert [e.row["label"] for e in gallery.errors[MISSED_CELLS]] == ["spherocyte", "rbc"]
    assert gallery.n_seen == {FALSE_SPHEROCYTES: 2, MISSED_SPHEROCYTES: 2, MISSED_CELLS: 2}


def test_the_cell_is_in_the_middle_with_its_measurements():
    gallery = offered(rows({2: called(0.9), 5: called(0.8)}))
    for error, k in zip(gallery.errors[FALSE_SPHEROCYTES], (2, 5), strict=True):
        side = error.picture.width
        assert error.picture.size == (side, side)
        assert error.picture.getpixel((side // 2, side // 2)) == pytest.approx(
            (60 + 15 * k,) * 3, abs=2
        )
        assert error.evidence["diameter_px"] == pytest.approx(30, abs=0.6)
        assert error.evidence["relative_diameter"] == pytest.approx(1, abs=0.02)
    darker, lighter = (e.evidence["relative_od"] for e in gallery.errors[FALSE_SPHEROCYTES])
    assert darker > lighter


def test_a_missed_cell_has_a_cross_and_no_measurements():
    (error,) = offered(rows({3: MISSED})).errors[MISSED_CELLS]
    assert error.evidence == {}
    middle = error.picture.width // 2
    assert error.picture.getpixel((middle, middle)) == (213, 94, 0)


def test_the_errors_of_one_field_are_limited_and_the_worst_remain():
    fields = [
        rows({k: called(0.5 + 0.01 * n) for k in range(8)}, name=f"{n}.png") for n in range(12)
    ]
    shown = offered(*fields).errors[FALSE_SPHEROCYTES]
    assert len(shown) == MAX_ERRORS
    names = [e.row["field"] for e in shown]
    assert max(names.count(name) for name in set(names)) == MAX_ERRORS_A_FIELD
    assert {"11.png", "10.png"} <= set(names) and not {"0.png", "1.png", "2.png"} & set(names)
    again = offered(*reversed(fields)).errors[FALSE_SPHEROCYTES]
    assert [e.row["p_spherocyte"] for e in again] == [e.row["p_spherocyte"] for e in shown]
