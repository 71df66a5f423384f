"""benchmarks of overlaps, outlines and the classes of Chula: counts and figures on drawn cases."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from benchmarks import chula_classes, overlaps, real_overlaps
from benchmarks.outlines import evenly
from benchmarks.sheet import Tile, write_sheet
from spherodetect.cells import Cells
from spherodetect.synthetic import draw_field


def squares(*corners: tuple[int, int], side: int = 10) -> Cells:
    boxes = [(y, x, y + side, x + side) for y, x in corners]
    masks = [np.ones((side, side), bool)] * len(boxes)
    return Cells.from_labels(boxes, np.ones(len(boxes)), masks, image_size_hw=(60, 60))


def test_an_outline_is_the_outline_of_one_cell():
    truth = squares((0, 0), (0, 6), (40, 40))
    np.testing.assert_array_equal(overlaps.matched_iou(truth, truth), [1, 1, 1])
    # An outline around both has an IoU of 10 / 16 with either.
    around = Cells.from_labels(
        [(0, 0, 10, 16)], [1], [np.ones((10, 16), bool)], image_size_hw=(60, 60)
    )
    iou = overlaps.matched_iou(truth, around)
    assert sorted(iou) == [0, 0, pytest.approx(10 / 16)]
    # IoU 30 / 170: not the outline of that cell.
    assert not overlaps.matched_iou(truth[2:], squares((47, 40))).any()
    assert overlaps.matched_iou(truth, squares()).tolist() == [0, 0, 0]


def test_pairs_are_separated_if_both_cells_are_found():
    drawn = draw_field(
        np.random.default_rng(3), size_hw=(400, 400), n_cells=40, n_white=0, n_platelets=0,
        overlap_fraction=0.7,
    )  # fmt: skip
    perfect = overlaps.judge([drawn], lambda image: drawn.cells)
    assert len(perfect.degree) > 3 and perfect.separated.all() and (perfect.iou == 1).all()
    assert (perfect.degree > overlaps.DEGREES[0]).all()
    lost = int(np.flatnonzero(perfect.shared > 0.2)[0])
    counted = np.flatnonzero(~drawn.cells.at_border)
    others = np.delete(np.arange(len(drawn.cells)), counted[lost])
    judged = overlaps.judge([drawn], lambda image: drawn.cells[others])
    assert judged.iou[lost] == 0 and (judged.iou == 0).sum() == 1
    assert 0 < (~judged.separated).sum() < len(judged.separated)
    lines = overlaps.pair_table({"all": perfect, "one less": judged})
    assert lines[-1].startswith(f"| **all** | {len(perfect.degree)} | 1.000 ")
    totals = [line for line in overlaps.cell_table({"all": perfect}) if "**" in line]
    assert sum(int(line.split("|")[2]) for line in totals) == len(perfect.iou)


def test_the_interval_of_a_share_is_over_fields():
    field = np.repeat(np.arange(8), 10)
    assert overlaps.share_and_interval(np.ones(80, bool), field) == (1, 1, 1)
    # The same share is less certain if it differs between fields.
    even = np.tile([True, False], 40)
    assert overlaps.share_and_interval(even, field) == (0.5, 0.5, 0.5)
    mean, low, high = overlaps.share_and_interval(field < 4, field)
    assert mean == 0.5 and low < 0.35 and high > 0.65


PAIR = np.array([(0, 0, 40, 40), (20, 20, 60, 60)])


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([(1, 0, 40, 40), (20, 22, 60, 60)], (2, 0), id="separated"),
        pytest.param([(0, 0, 60, 60)], (0, 0), id="in one outline that is neither"),
        pytest.param([(0, 0, 44, 44)], (1, 0), id="one missed"),
        pytest.param([(0, 0, 40, 40), (20, 20, 60, 60), (22, 22, 38, 38)], (2, 1), id="a third"),
        pytest.param([(0, 0, 40, 40), (20, 20, 60, 60), (0, 41, 19, 60)], (2, 0), id="neighbour"),
        pytest.param([], (0, 0), id="nothing"),
    ],
)
def test_cells_of_an_overlap(boxes, expected):
    found = np.array(boxes, float).reshape(-1, 4)
    assert real_overlaps.separated(PAIR, found)[0] == expected[0]
    if len(boxes) != 1 or expected[0]:
        assert real_overlaps.separated(PAIR, found)[1] == expected[1]


def test_the_real_overlaps_are_twenty_groups_of_boxes_that_meet():
    counts = Counter(overlap.data_set for overlap in real_overlaps.OVERLAPS)
    assert counts == {"chula": 12, "dataset_a_mgg": 4, "txl_pbc": 4}
    for overlap in real_overlaps.OVERLAPS:
        boxes = np.array(overlap.boxes, float)
        assert (boxes[:, 2:] > boxes[:, :2]).all(), overlap.file
        iou = real_overlaps.box_iou(boxes, boxes) - np.eye(len(boxes))
        assert (iou.max(axis=1) > 0).all(), overlap.file


def test_names_are_evenly_spaced():
    names = [f"{k:03}" for k in range(100)]
    assert evenly(names[::-1], 4) == ["000", "025", "050", "075"]
    assert evenly(names[:3], 4) == names[:3]


def test_a_sheet_shows_outlines_beside_crops(tmp_path):
    image = np.full((60, 60, 3), 200, np.uint8)
    tile = Tile(image, (15.0, 15.0), 30, [squares((10, 10))], "a square")
    write_sheet([tile] * 3, tmp_path / "sheet.png", size_px=60, columns=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 2 * (2 * 60 + 6)
    assert (sheet[:60, :60] == 200).all(), "the crop without an outline"
    assert (sheet[:60, 60:120] != 200).any(), "the crop with an outline"


# --- the classes of Chula


def rows(*labels_and_calls: tuple[str, str], field: str = "images/1.jpg") -> chula_classes.Rows:
    labels, called = zip(*labels_and_calls, strict=True)
    return chula_classes.rows_of(field, labels, called)


def test_missed_cells_and_other_classes_are_wrong():
    found = rows(
        ("normal", "normal"),
        ("normal", "spherocyte"),
        ("spherocyte", "spherocyte"),
        ("spherocyte", ""),
        ("teardrop", "uncategorised"),
    )
    counts = chula_classes.confusion(found)
    assert counts.sum() == 5 and counts[:, -1].sum() == 1 and counts[:, -2].sum() == 1
    values = chula_classes.figures(counts)
    assert values["accuracy"] == pytest.approx(2 / 5)
    assert values["accuracy of found cells"] == pytest.approx(2 / 4)
    # Normal: 2 labelled, 1 called, 1 right; spherocyte: 2, 2, 1; teardrop: 0.
    assert values["mean F1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert values["weighted F1"] == pytest.approx((2 * 2 / 3 + 2 * 1 / 2 + 0) / 5)


def test_intervals_are_over_blocks():
    right, wrong = [("normal", "normal")] * 10, [("normal", "")] * 10
    mixed = [r for k in range(8) for r in rows(*right, *wrong, field=f"{20 * k + 1}.jpg")]
    assert chula_classes.intervals(mixed, draws=50)["accuracy"] == (0.5, 0.5)
    differing = [
        r for k in range(8) for r in rows(*(right if k % 2 else wrong), field=f"{20 * k + 1}.jpg")
    ]
    low, high = chula_classes.intervals(differing, draws=200)["accuracy"]
    assert low < 0.35 and high > 0.65
    lines = chula_classes.report("test", differing)
    assert sum(line.startswith("  block ") for line in lines) == 8


@pytest.mark.skipif(
    find_spec("sklearn") is None, reason="scikit-learn, of the extra [train], is not installed"
)
def test_the_forest_learns_features_and_leaves_missed_cells_wrong():
    rng = np.random.default_rng(0)

    def drawn(n: int) -> dict[str, np.ndarray]:
        label = rng.choice(chula_classes.CLASSES[:3], n)
        center = np.array([chula_classes.CLASSES.index(name) for name in label])
        features = center[:, None] + rng.normal(0, 0.1, (n, 4))
        features[:2] = np.nan
        return {"field": np.full(n, "1.jpg"), "label": label, "features": features}

    judged = chula_classes.forest(drawn(90), drawn(60))
    assert [r["called"] for r in judged[:2]] == ["", ""]
    assert all(r["called"] == r["label"] for r in judged[2:])
