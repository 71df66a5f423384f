"""look and pipeline: a run that is killed goes on where it was, and two runs give the same
bytes."""

from __future__ import annotations

import csv
import hashlib
import html
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from spherodetect.cells import Cells
from spherodetect.detect.model_folder import ModelCard
from spherodetect.errors import SpherodetectError
from spherodetect.fields.find import find_fields
from spherodetect.pipeline import run as pipeline
from spherodetect.pipeline.examine import examine
from spherodetect.pipeline.store import FieldStore
from spherodetect.report.results import HIDDEN, MARKER
from spherodetect.scale import find as scale
from spherodetect.synthetic import SmearStyle, draw_patient


class StandIn:
    """A detector of somebody's own, without TensorFlow: the classical segmentation, and dense cells
    called spherocytes."""

    name, class_names = "stand-in", ("rbc", "spherocyte", "wbc", "platelet")

    def __init__(self, card_file: Path) -> None:
        self.card = ModelCard.from_json(json.loads(card_file.read_text()))
        self.rates = self.card.classifier_rates()
        self.seen: list[tuple[int, ...]] = []

    @property
    def identity(self) -> str:
        return str(sorted(dict(self.card.checksums).items()))

    def detect(self, image: np.ndarray, um_per_px: float | None = None) -> Cells:
        from scipy.ndimage import find_objects

        from spherodetect.segment import segment

        self.seen.append(image.shape)
        labels = segment(image).labels
        slices = find_objects(labels)
        box = np.array([(y.start, x.start, y.stop, x.stop) for y, x in slices]).reshape(-1, 4)
        masks = [labels[where] == i for i, where in enumerate(slices, 1)]
        dark = [
            image[where][..., 1][mask].mean() < 150
            for where, mask in zip(slices, masks, strict=True)
        ]
        return Cells.from_labels(box, np.where(dark, 2, 1), masks, image_size_hw=image.shape[:2])


@pytest.fixture
def model(bundled_model) -> StandIn:
    return StandIn(bundled_model / "model.json")


@pytest.fixture(scope="module")
def smears(tmp_path_factory) -> Path:
    """Two patients of two small fields, and one file that is no image."""
    root = tmp_path_factory.mktemp("smears")
    for number, patient in enumerate(("p1", "p2")):
        folder = root / patient
        folder.mkdir()
        drawn = draw_patient(
            number,
            spherocyte_fraction=0.4 * number,
            n_fields=2,
            n_cells=20,
            size_hw=(200, 260),
            style=SmearStyle(),
            patient_id=patient,
        )
        for field in drawn:
            Image.fromarray(field.image).save(folder / field.cells.field_id)
    (root / "p2" / "torn.png").write_bytes(b"no image")
    return root


def _bytes(out: Path) -> dict[str, str]:
    """Checksums of the results, without what is kept for later runs."""
    files = {
        path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()
    }
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if HIDDEN not in name
    }


def test_a_second_run_detects_nothing_and_writes_the_same_bytes(smears, model, tmp_path):
    first = pipeline.score_patients(smears, model=model, out=tmp_path / "a")
    assert len(model.seen) == 4
    once = _bytes(tmp_path / "a")
    again = pipeline.score_patients(smears, model=model, out=tmp_path / "a")
    assert len(model.seen) == 4
    assert repr(again.scores) == repr(first.scores)
    assert _bytes(tmp_path / "a") == once
    pipeline.score_patients(smears, model=model, out=tmp_path / "b")
    assert len(model.seen) == 8
    assert _bytes(tmp_path / "b") == once


def test_an_empty_file_is_said_to_be_empty_whatever_its_name(smears, model, tmp_path):
    for name in ("a.jpg", "b.tif"):
        (tmp_path / name).write_bytes(b"")
    result = pipeline.detect_images(
        [smears / "p1", tmp_path / "a.jpg", tmp_path / "b.tif"], tmp_path / "out", model=model
    )
    assert [problem.split(": ")[1][:42] for problem in result.problems] == [
        "expected an image, got an empty file; copy"
    ] * 2


def test_the_results_hold_a_file_of_every_kind(smears, model, tmp_path):
    result = pipeline.score_patients(smears, model=model, out=tmp_path)
    assert len(result.problems) == 1
    assert "torn.png" in result.problems[0]
    names = set(_bytes(tmp_path))
    for table in ("cells", "patients", "quality", "counts", "objects"):
        assert {f"{table}.csv", f"{table}.parquet"} <= names
    assert {"coco.json", "cells.geojson", "index.html", "reports/p1.html", "fhir/p2.json"} <= names
    fields = {
        n.removeprefix("overlays/").removesuffix(".png") for n in names if n.startswith("overlays/")
    }
    assert len(fields) == 4
    for field in fields:
        assert {
            f"geojson/{field}.geojson",
            f"masks/{field}.tif",
            f"masks/{field}_spherocyte.png",
        } <= names
    assert "torn.png" in (tmp_path / "reports" / "p2.html").read_text()
    assert "torn.png" in (tmp_path / "index.html").read_text()


def test_other_settings_and_other_bytes_are_examined_again(smears, model, tmp_path):
    pipeline.score_patients(smears, model=model, out=tmp_path)
    pipeline.score_patients(smears, model=model, out=tmp_path, um_per_px=0.2)
    assert len(model.seen) == 8
    pipeline.score_patients(
        smears, model=model, out=tmp_path, um_per_px=0.2, grade_scheme="icsh2015", pseudonymise=True
    )
    assert len(model.seen) == 8  # names and grades change no cell
    assert not any("p1" in name for name in _bytes(tmp_path))
    model.card = replace(model.card, checksums={"other": "0" * 64})
    pipeline.score_patients(smears, model=model, out=tmp_path, um_per_px=0.2)
    assert len(model.seen) == 12


def test_an_overlay_that_is_gone_or_changed_is_drawn_again(smears, model, tmp_path):
    pipeline.score_patients(smears, model=model, out=tmp_path)
    before = _bytes(tmp_path)
    first, second, *_ = sorted((tmp_path / "overlays").rglob("*.png"))
    first.unlink()
    second.write_bytes(b"other")
    pipeline.score_patients(smears, model=model, out=tmp_path)
    assert len(model.seen) == 4
    assert _bytes(tmp_path) == before


def test_a_bar_that_nobody_read_is_said_once_and_a_stated_one_used(
    smears, model, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(scale, "read_length_um", lambda image, bar: None)
    barred = tmp_path / "barred" / "p1"
    barred.mkdir(parents=True)
    for path in sorted((smears / "p1").iterdir()):
        picture = Image.open(path).convert("RGB")
        draw = ImageDraw.Draw(picture)
        draw.rectangle((150, 180, 232, 181), fill=(0, 230, 30))
        for x in (150, 231):
            draw.rectangle((x, 173, x + 1, 181), fill=(0, 230, 30))
        picture.save(barred / path.name)
    for _ in range(2):  # a field that an earlier run finished is said too
        caplog.clear()
        pipeline.score_patients(barred.parent, model=model, out=tmp_path / "out")
        (sentence,) = caplog.messages
        assert all(part in sentence for part in ("81 px", "2 fields", "p1_02", "--scale-bar-um"))
    # The report has the same sentence, with a capital letter.
    page = html.unescape((tmp_path / "out" / "reports" / "p1.html").read_text())
    assert f"{sentence[1:]}." in page
    caplog.clear()
    pipeline.score_patients(barred.parent, model=model, out=tmp_path / "out", scale_bar_um=15.6)
    assert caplog.messages == []
    quality = (tmp_path / "out" / "quality.csv").read_text()
    assert quality.count("scale bar") == 2
    assert (
        "from the scale bar in 2 fields (standard error 0.62 %)"
        in (tmp_path / "out/reports/p1.html").read_text()
    )
    caplog.clear()
    pipeline.score_patients(smears / "p1", model=model, out=tmp_path / "none", scale_bar_um=15.6)
    (message,) = caplog.messages
    assert " and 1 more: " in message and "none" in message
    caplog.clear()
    pipeline.score_patients(barred.parent, model=model, out=tmp_path / "out", scale_bar_um=40)
    (message,) = caplog.messages  # though their cells would not be equally wide
    assert " and 1 more: " in message and "0.494 µm" in message


@pytest.mark.parametrize(("dpi", "source"), [(25_400 / 0.193, "file"), (300, "cells")])
def test_the_pixel_size_in_the_file_is_used_if_it_is_that_of_a_microscope(
    dpi, source, smears, model, tmp_path, caplog
):
    tagged = tmp_path / "tagged" / "p1"
    tagged.mkdir(parents=True)
    for path in sorted((smears / "p1").iterdir()):
        Image.open(path).save(tagged / path.name, dpi=(dpi, dpi))
    pipeline.score_patients(tagged, model=model, out=tmp_path / "out")
    with open(tmp_path / "out" / "quality.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["um_per_px_source"] for row in rows] == [source] * 2
    if source == "file":
        assert [float(row["um_per_px"]) for row in rows] == [pytest.approx(0.193, rel=1e-3)] * 2
    assert caplog.messages == []


class Killed(BaseException):
    """Nothing in the package may catch it, as nothing catches a kill."""


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_write_resumes_and_never_looks_complete(
    step, smears, model, tmp_path, monkeypatch
):
    whole = tmp_path / "whole"
    pipeline.score_patients(smears, model=model, out=whole)
    expected, replaced = _bytes(whole), os.replace
    for writes in itertools.count(0, step):
        out, left = tmp_path / str(writes), iter(range(writes))
        model.seen.clear()

        def dying(source, target, left=left):
            if next(left, None) is None:
                raise Killed
            replaced(source, target)

        monkeypatch.setattr(os, "replace", dying)
        try:
            pipeline.score_patients(smears, model=model, out=out)
        except Killed:
            assert not writes or (out / MARKER).is_file()
            assert "index.html" not in _bytes(out) or (out / MARKER).is_file()
            finished = len(list((out / HIDDEN / "fields").glob("[0-9a-f]*.npz")))
        else:
            break
        finally:
            monkeypatch.setattr(os, "replace", replaced)
        model.seen.clear()
        pipeline.score_patients(smears, model=model, out=out)
        assert len(model.seen) == 4 - finished
        assert _bytes(out) == expected
    assert writes > 40


_RUN = """
import sys, time
from pathlib import Path
from spherodetect.pipeline import run as pipeline
from tests.test_pipeline_examine import StandIn
model = StandIn(Path(sys.argv[3]))
detect = model.detect

def slowly(*args):
    time.sleep(0.2)
    return detect(*args)

model.detect = slowly
pipeline.score_patients(sys.argv[1], model=model, out=sys.argv[2])
"""


def test_a_process_that_is_killed_loses_no_finished_field(smears, model, tmp_path, bundled_model):
    out = tmp_path / "out"
    argv = [sys.executable, "-c", _RUN, str(smears), str(out), str(bundled_model / "model.json")]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=root) as process:
        while (
            len(list((out / HIDDEN / "fields").glob("[0-9a-f]*.npz"))) < 2
            and process.poll() is None
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (out / MARKER).is_file()
    assert not (out / "index.html").exists()
    kept = len(list((out / HIDDEN / "fields").glob("[0-9a-f]*.npz")))
    assert kept in (2, 3)
    pipeline.score_patients(smears, model=model, out=out)
    assert len(model.seen) == 4 - kept
    pipeline.score_patients(smears, model=model, out=tmp_path / "whole")
    assert _bytes(out) == _bytes(tmp_path / "whole")


def test_copies_of_an_image_one_after_the_other_are_detected_once(smears, model, tmp_path):
    source = sorted((smears / "p1").iterdir())[0]
    folder = tmp_path / "in" / "p"
    folder.mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        (folder / f"{name}.png").write_bytes(source.read_bytes())
    # The one that was found waits to be stored while its copies come.
    store = _SlowStore(tmp_path / "store")
    fields = list(examine(find_fields([folder.parent]), model, store=store))
    assert [one.field_id for one in fields] == [f"p/{name}.png" for name in "abcd"]
    assert len(model.seen) == 1
    assert len({len(one.cells) for one in fields}) == 1 and len(fields[0].cells) > 0
    # Without a store nobody knows of the first one.
    list(examine(find_fields([folder.parent]), model))
    assert len(model.seen) == 5


class _SlowStore(FieldStore):
    def save(self, key, finished):
        time.sleep(0.2)
        super().save(key, finished)


def test_what_fails_after_detection_is_a_problem_of_its_field_alone(smears, model, tmp_path):
    fields = find_fields([smears / "p1"])
    wrong = tmp_path / "labels.tif"
    Image.fromarray(np.ones((9, 9), np.uint8)).save(wrong)
    first, second = examine(fields, model, label_images={next(iter(fields)).path: wrong})
    assert "labels.tif" in first.problem or "9" in first.problem
    assert not second.problem and len(second.cells)


def test_a_store_that_cannot_be_written_ends_the_run(smears, model, tmp_path):
    class Full(FieldStore):
        def save(self, key, finished):
            raise SpherodetectError("the disk is full")

    with pytest.raises(SpherodetectError, match="disk is full"):
        list(examine(find_fields([smears / "p1"]), model, store=Full(tmp_path / "store")))
