"""convert: a data set is read, split and converted, in order, in one process or several."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadLabelsError
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.recipe import Recipe, SplitRule
from spherodetect.records.convert import convert, converting, prepare
from spherodetect.synthetic import draw_field

RECIPE = Recipe(
    "mine",
    "points",
    Path("."),
    images="images",
    labels="labels",
    unlabelled_cells="none",
    split=SplitRule("source", val=("2",)),
)


def write_points(root: Path, n_fields: int = 3) -> Recipe:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number in range(n_fields):
        drawn = draw_field(np.random.default_rng(number), size_hw=(120, 160), n_cells=10, n_white=0)
        Image.fromarray(drawn.image).save(root / "images" / f"{number}.png")
        boxes = drawn.cells.box_yxyx[:3]
        lines = [f"{x:.0f} {y:.0f} rbc" for y, x in (boxes[:, :2] + boxes[:, 2:]) / 2]
        (root / "labels" / f"{number}.txt").write_text("\n".join(lines))
    return replace(RECIPE, root=root)


def test_a_data_set_is_prepared(tmp_path):
    ready = prepare(write_points(tmp_path))
    assert ready.splits == {"images/0.png": "train", "images/1.png": "train", "images/2.png": "val"}
    assert ready.labels.n_read == 9 and not ready.findings and not ready.forced


def test_a_leaking_split_must_be_forced_and_is_told(tmp_path):
    recipe = replace(write_points(tmp_path), patients=re.compile("(?P<patient>png)"))
    with pytest.raises(BadLabelsError, match=r"'mine'.*got 1 patient .*--force"):
        prepare(recipe)
    ready = prepare(recipe, force=True)
    assert ready.forced and [f.code for f in ready.findings] == ["patient-in-two-splits"]
    assert not prepare(replace(recipe, patients=None), force=True).forced, (
        "nothing leaks: nothing was forced"
    )


def test_a_field_is_unstretched_and_its_image_kept(tmp_path):
    image = draw_field(np.random.default_rng(1), size_hw=(120, 160), n_cells=10).image
    Image.fromarray(image).resize((120, 120)).save(tmp_path / "a.png")
    points = (Annotation("1", "rbc", point_yx=(60.0, 60.0)),)
    squashed = LabelledField(
        "a.png", tmp_path / "a.png", (120, 120), points, "a", native_size_hw=(120, 160)
    )
    one = convert(RECIPE, squashed)
    assert one.size_hw == one.labelled.size_hw == (90, 120)
    assert one.labelled.annotations[0].point_yx == (45.0, 60.0)
    assert one.found.repaired["unstretched"] == 1
    with Image.open(io.BytesIO(one.png)) as picture:
        assert picture.format == "PNG" and picture.size == (120, 90)


def test_a_bad_image_loses_its_labels_by_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    points = (
        Annotation("1", "rbc", point_yx=(6.0, 6.0)),
        Annotation("2", "rbc", point_yx=(6.0, 6.0)),
    )
    one = convert(RECIPE, LabelledField("a.png", tmp_path / "a.png", (12, 12), points, "a"))
    assert one.png is None and "'a.png'" in one.problem
    assert [(u.annotation_id, u.reason) for u in one.found.dropped] == [
        ("1", "bad-image"),
        ("2", "bad-image"),
    ]


def test_fields_come_in_their_order(tmp_path):
    recipe = write_points(tmp_path)
    fields = prepare(recipe).labels.fields[::-1]
    with converting(1) as convert_all:
        assert [one.labelled.file for one in convert_all(recipe, fields)] == [
            f.file for f in fields
        ]


_SLOW = """
import sys, time
from spherodetect.records import convert

def slow(recipe, labelled):
    time.sleep(600)

if __name__ == "__main__":
    convert.convert = slow
    with convert.converting(2) as convert_all:
        work = convert_all(None, [None, None])
        time.sleep(1)
        print("ready", flush=True)
        list(work)
"""


@pytest.mark.slow  # two processes that start
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(_SLOW)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) >= 2
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (
        any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
