"""Every public entry takes a text or a Path, and a model as folder, loaded or as an object."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spherodetect
from spherodetect.cells import Cells
from spherodetect.synthetic import SmearStyle, draw_patient

#: Public function to its arguments that are paths, and those that are models.
PATHS = {
    "evaluate": ("data", "out"),
    "examine": ("fields", "store", "label_images"),
    "export": ("run", "out", "folds"),
    "find_fields": ("paths", "exclude"),
    "lint": ("source",),
    "load_model": ("folder",),
    "load_recipe": ("path", "root"),
    "read_cells": ("path",),
    "read_image": ("source",),
    "score_patients": ("paths", "out", "rates"),
    "tfds_builder": ("recipe", "root", "data_dir"),
    "tfrecords": ("recipe", "out", "root"),
    "train": ("experiment", "run", "start"),
    "write_cells": ("path",),
}
MODELS = {"evaluate": "model", "examine": "detector", "score_patients": "model"}


class Nothing:
    """A detector that finds no cell."""

    def detect(self, image: np.ndarray, um_per_px: float | None = None) -> Cells:
        return Cells.empty(field_id="", image_size_hw=image.shape[:2])


@pytest.fixture(scope="module")
def smears(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("smears") / "p1"
    folder.mkdir()
    for field in draw_patient(
        1,
        spherocyte_fraction=0.2,
        n_fields=1,
        n_cells=20,
        size_hw=(200, 260),
        style=SmearStyle(),
        patient_id="p1",
    ):
        Image.fromarray(field.image).save(folder / field.cells.field_id)
    return folder.parent


def _functions() -> dict[str, inspect.Signature]:
    values = {name: getattr(spherodetect, name) for name in spherodetect.__all__}
    return {name: inspect.signature(v) for name, v in values.items() if inspect.isfunction(v)}


def test_every_argument_that_is_a_path_is_known_here():
    for name, signature in _functions().items():
        paths = tuple(k for k, p in signature.parameters.items() if "Path" in str(p.annotation))
        paths = tuple(k for k in paths if k not in {MODELS.get(name), "grade_scheme"})
        assert paths == PATHS.get(name, ()), f"{name}: add the new path to PATHS"
        for argument in paths:
            assert "str" in str(signature.parameters[argument].annotation), (name, argument)


@pytest.mark.parametrize("kind", [str, Path])
def test_texts_and_paths_do_alike(kind, smears, tmp_path):
    (image,) = sorted((smears / "p1").iterdir())
    assert spherodetect.read_image(kind(image)).shape == (200, 260, 3)
    assert len(spherodetect.find_fields(kind(smears))) == 1
    assert len(spherodetect.find_fields([kind(smears)])) == 1
    cells = Cells.empty(field_id="a", image_size_hw=(9, 9))
    spherodetect.write_cells(cells, kind(tmp_path / "cells.npz"))
    assert spherodetect.read_cells(kind(tmp_path / "cells.npz")).field_id == "a"
    (one,) = spherodetect.examine(kind(smears), Nothing(), store=kind(tmp_path / "store"))
    assert one.field_id == f"p1/{image.name}" and not one.problem
    out = tmp_path / "out"
    result = spherodetect.score_patients(kind(smears), model=Nothing(), out=kind(out))
    assert (out / "patients.csv").is_file() and result.report == out / "index.html"


def test_a_model_may_be_a_folder_loaded_or_an_object(smears, bundled_model, loaded_model):
    assert isinstance(loaded_model, spherodetect.Detector)
    found = [
        len(one.cells)
        for model in (str(bundled_model), bundled_model, loaded_model, None, Nothing())
        for one in spherodetect.examine(smears, model)
    ]
    assert found[0] > 10 and found == [found[0]] * 4 + [0]
    result = spherodetect.score_patients([smears], model=loaded_model)
    assert result.patients["model"].tolist() == [loaded_model.name]
    assert len(result.cells) == found[0]
    (one,) = spherodetect.examine(smears, loaded_model)
    assert spherodetect.score_patient([one], loaded_model) == result.scores[0]


def test_what_is_no_model_is_refused(smears):
    with pytest.raises(spherodetect.SpherodetectError, match=r"detect\(image, um_per_px\).*int"):
        next(spherodetect.examine(smears, 3))


def test_a_detector_that_returns_something_else_is_a_problem_of_the_field(smears):
    class Wrong:
        def detect(self, image, um_per_px=None):
            return []

    (one,) = spherodetect.examine(smears, Wrong())
    assert "list" in one.problem and len(one.cells) == 0 and not one.quality.accepted


def test_the_working_set_of_a_run_is_one_patient(smears, tmp_path):
    """Fields are yielded one by one: what the consumer drops is freed."""
    import gc
    import weakref

    seen = []
    for one in spherodetect.examine([smears] * 1, Nothing()):
        seen.append(weakref.ref(one.photograph))
        del one
        gc.collect()
    assert all(ref() is None for ref in seen)


def test_records_print_in_a_line(smears):
    (one,) = spherodetect.examine(smears, Nothing())
    result = spherodetect.score_patients(smears, model=Nothing())
    records = (one, one.cells, one.photograph, result, spherodetect.FieldStore("x"))
    assert all("\n" not in repr(record) and len(repr(record)) < 400 for record in records)
