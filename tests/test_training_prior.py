"""prior: the log odds of a tuned detector return to the scale of its start; the ranking stays."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("official") is None, reason="the extra [train] is missing"),
]


@pytest.fixture(scope="module")
def prior() -> ModuleType:
    return import_module("spherodetect.training.prior")


def _write_cells(file: Path, fields: dict[str, list[tuple[int, float]]]) -> Path:
    """Field to its labels: class and log odds of the cell that was found; NaN for a missed one."""
    field, class_id, label, log_odds = [], [], [], []
    for number, labels in enumerate(fields.values()):
        for kind, value in labels:
            if not np.isnan(value):
                label.append(len(field))
                log_odds.append(value)
            field.append(number)
            class_id.append(kind)
    np.savez(
        file,
        fields_name=np.array(list(fields)),
        labels_field=np.array(field, int),
        labels_class_id=np.array(class_id, int),
        # A cell without a label comes first, and the others in reverse order.
        cells_label=np.array([-1, *label[::-1]], int),
        cells_log_odds=np.array([50.0, *log_odds[::-1]]),
    )
    return file


def test_the_shift_is_that_of_the_same_cells_near_the_cut(prior, tmp_path):
    rng = np.random.default_rng(3)
    before = {f"{k}.jpg": [(1 + k % 2, float(v)) for v in rng.uniform(-2, 2, 9)] for k in range(4)}
    now = {name: [(kind, v - 0.7) for kind, v in cells] for name, cells in before.items()}
    # Far from the cut, the two detectors may differ as they like.
    for cells, value in ((before, 9.0), (now, 5.0)):
        cells["0.jpg"] = [*cells["0.jpg"], (2, value)]
    # A platelet says nothing, a cell that one of them missed neither.
    for cells, values in ((before, (0.0, np.nan)), (now, (1.5, 1.0))):
        cells["1.jpg"] = [*cells["1.jpg"], (4, values[0]), (1, values[1])]
    files = [_write_cells(tmp_path / f"{k}.npz", cells) for k, cells in enumerate((before, now))]
    shift, n_cells = prior.prior_shift(*files)
    assert shift == pytest.approx(0.7)
    assert n_cells == 36
    part = {name: now[name] for name in ("3.jpg", "1.jpg")}
    shift, n_cells = prior.prior_shift(files[0], _write_cells(tmp_path / "part.npz", part))
    assert (shift, n_cells) == (pytest.approx(0.7), 18)


def test_without_a_common_cell_nothing_is_moved(prior, tmp_path):
    files = [
        _write_cells(tmp_path / f"{name}.npz", {f"{name}.jpg": [(1, 0.5)]}) for name in ("a", "b")
    ]
    assert prior.prior_shift(*files) == (0.0, 0)


def test_a_file_of_something_else_is_refused_in_one_sentence(tmp_path, capsys):
    laboratories = import_module("spherodetect.training.laboratories")
    good = _write_cells(tmp_path / "good.npz", {"0.jpg": [(1, 0.5)]})
    (tmp_path / "text.npz").write_text("cells")
    np.savez(tmp_path / "other.npz", cells_label=np.zeros(3, int))
    objects = {name: np.array([None]) for name in ("cells_log_odds", "labels_field", "fields_name")}
    np.savez(tmp_path / "objects.npz", **objects)
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("text.npz", "other.npz", "objects.npz", "array.npy", "none.npz"):
        with pytest.raises(SystemExit) as left:
            laboratories.main(["prior", "--before", str(good), "--now", str(tmp_path / name)])
        said = capsys.readouterr().err
        assert left.value.code == 2
        assert name in said and "expected" in said and said.count("\n") == 1
    assert laboratories.main(["prior", "--before", str(good), "--now", str(good)]) == 0
    assert capsys.readouterr().out == "--spherocyte-prior 0.000 (by 1 cells)\n"


def test_records_that_are_not_there_are_named(tmp_path):
    survey = import_module("spherodetect.training.survey")
    from spherodetect.errors import SpherodetectError
    from spherodetect.graph.detector import Detector

    class Nothing(Detector):
        def __init__(self):
            pass

        def replace(self, **_):
            return lambda image, um_per_px: {}

    with pytest.raises(SpherodetectError, match=r"none-\*"):
        survey.survey(Nothing(), [str(tmp_path / "none-*")], tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
