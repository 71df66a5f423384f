"""recipe: what an export shows becomes a recipe that loads, and says what it could not find."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spherodetect import cli
from spherodetect.errors import BadLabelsError
from spherodetect.labels.check.lint import lint
from spherodetect.labels.draft import Draft, draft_recipe
from spherodetect.labels.draft_text import write_recipe
from spherodetect.labels.example import write_example
from spherodetect.labels.recipe import Recipe, load_recipe
from spherodetect.labels.source import read_labels
from spherodetect.training.draft import plan_experiment

NAMES = ("RBC", "Spherocyte")


def write_labels(
    folder: Path,
    files: list[str],
    *,
    names: tuple[str, ...] = NAMES,
    tall: float = 1.0,
    size_hw: tuple[int, int] = (480, 640),
) -> Path:
    """A COCO export without images: ten cells of each name on each photograph."""
    entries, cells = [], []
    for number, file in enumerate(files):
        height, width = size_hw
        entries.append({"id": number, "file_name": file, "height": height, "width": width})
        for k in range(10 * len(names)):
            x, y = 20 + 25 * (k % 20), 20 + 40 * (k // 20)
            ring = np.linspace(0, 6, 9)
            polygon = np.stack([x + 8 * np.cos(ring), y + 8 * tall * np.sin(ring)], axis=1)
            low, high = polygon.min(axis=0), polygon.max(axis=0)
            cells.append(
                {
                    "id": len(cells),
                    "image_id": number,
                    "category_id": 1 + k % len(names),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "segmentation": [polygon.ravel().tolist()],
                }
            )
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    folder.mkdir(parents=True, exist_ok=True)
    data = {"images": entries, "annotations": cells, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(data))
    return folder


def loaded(draft: Draft, tmp_path: Path) -> Recipe:
    return load_recipe(write_recipe(draft, tmp_path / "mine.yaml"))


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """An export with the faults of a real one, and its drafted recipe beside it."""
    folder = tmp_path_factory.mktemp("example")
    export = write_example(folder / "export.zip", n_patients=2, n_fields=2, n_cells=20)
    write_recipe(draft_recipe(export, name="mine"), folder / "mine.yaml")
    return export


def test_an_export_shows_its_recipe(example):
    recipe = load_recipe(example.parent / "mine.yaml")
    assert recipe.classes == {
        "RBC": "rbc", "Spherocyte": "spherocyte", "WBC": "wbc", "Platelets": "platelet"
    }  # fmt: skip
    height, width = recipe.native_size_hw
    assert width / height == pytest.approx(4 / 3, abs=0.01)
    assert recipe.split.by == "patient" and len(recipe.split.val) == 1
    assert recipe.unlabelled_cells == "none", "every drawn cell has a label"
    patients = {f.patient_id for f in read_labels(recipe).fields}
    assert patients == {"patient_01", "patient_02"}


def test_lint_of_the_drafted_recipe_has_no_error(example):
    exported = {f.code for f in lint(example, segmentation=False) if f.severity == "error"}
    assert {"rectangle-mask", "stretched-image", "patient-in-two-splits"} <= exported
    findings = lint(example.parent / "mine.yaml", segmentation=False)
    assert exported <= {f.code for f in findings}
    assert {f.severity for f in findings} == {"note"}


@pytest.mark.parametrize(
    ("files", "key", "patients"),
    [
        (["patient_01_1.jpg", "patient_02_1.jpg"], "pattern", {"patient_01", "patient_02"}),
        (["Anna/1.jpg", "Bert/1.jpg"], "folder", {"Anna", "Bert"}),
        (["1.jpg", "2.jpg"], "none", {None}),
    ],
)
def test_patients_are_found_in_names_or_folders(files, key, patients, tmp_path):
    draft = draft_recipe(write_labels(tmp_path / "export", files))
    recipe = loaded(draft, tmp_path)
    assert {recipe.patient_of(file) for file in files} == patients
    assert recipe.patient_folders == (key == "folder")
    assert (recipe.split.by == "patient") == (key != "none")
    assert any("--patient-regex" in note for note in draft.notes) == (key == "none")


def test_a_pattern_of_the_user_gives_the_patients(tmp_path):
    export = write_labels(tmp_path / "export", ["A1_1.jpg", "A1_2.jpg", "B7_1.jpg"])
    recipe = loaded(draft_recipe(export, patient_regex=r"\b([A-Z][0-9]+)_"), tmp_path)
    assert [recipe.patient_of(f"{name}_9.jpg") for name in ("A1", "B7")] == ["A1", "B7"]
    assert recipe.split.by == "patient"
    for wrong in ("[A-Z]", "(["):
        with pytest.raises(BadLabelsError, match="--patient-regex"):
            draft_recipe(export, patient_regex=wrong)


def test_one_patient_alone_is_split_by_photograph_and_says_so(tmp_path):
    draft = draft_recipe(write_labels(tmp_path, [f"patient_01_{k}.jpg" for k in range(8)]))
    assert draft.recipe.split.by == "source"
    assert any("one patient" in note for note in draft.notes)


def test_a_name_that_nobody_knows_is_unknown_and_reported(tmp_path, capsys):
    export = write_labels(tmp_path / "export", ["p.jpg", "q.jpg"], names=(*NAMES, "Blob", "Dirt"))
    (tmp_path / "classes.yaml").write_text("Dirt: none\n")
    words = ["recipe", str(export), "--out", str(tmp_path / "mine.yaml")]
    assert cli.main([*words, "--classes", str(tmp_path / "classes.yaml")]) == 3
    said = capsys.readouterr().err
    assert "'Blob': 20 labels" in said and "Dirt" not in said
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.unknown == {"Blob", "Dirt"}
    assert read_labels(recipe).n_read == 80


def test_without_spherocytes_red_cells_are_of_unknown_kind(tmp_path):
    draft = draft_recipe(write_labels(tmp_path, ["1.jpg", "2.jpg"], names=("RBC", "WBC")))
    assert draft.recipe.red_cells == {"RBC"} and draft.recipe.classes == {"WBC": "wbc"}
    assert any("spherocyte" in note for note in draft.notes)


@pytest.mark.parametrize(
    ("size_hw", "tall", "ratio"),
    [((640, 640), 1.3, 4 / 3), ((480, 640), 0.75, None), ((640, 640), 1.0, None)],
)
def test_a_stretch_is_undone_only_where_a_camera_explains_it(size_hw, tall, ratio, tmp_path):
    """Cells of 0.75 on 640x480 fit photographs of 1:1, which no camera makes."""
    export = write_labels(tmp_path, ["1.jpg", "2.jpg"], tall=tall, size_hw=size_hw)
    native = draft_recipe(export).recipe.native_size_hw
    assert native is None if ratio is None else native[1] / native[0] == pytest.approx(ratio, 0.01)
    given = draft_recipe(export, native_size_hw=(1800, 2400)).recipe
    assert given.native_size_hw == (1800, 2400)


def test_labels_without_photographs_leave_unlabelled_cells_unknown(tmp_path):
    draft = draft_recipe(write_labels(tmp_path, ["1.jpg", "2.jpg"]))
    assert (draft.coverage, draft.recipe.unlabelled_cells) == ((0, 0), "unknown")


def test_names_that_yaml_would_misread_come_back(tmp_path):
    names = ("RBC", "Spherocyte", "no", "1", "a: b #c", "-", "Sphärozyt")
    export = write_labels(tmp_path / "export", ["p_1.jpg", "q_1.jpg"], names=names)
    recipe = loaded(draft_recipe(export, patient_regex="(?P<patient>[pq])_"), tmp_path)
    assert recipe.classes == {
        "RBC": "rbc", "Spherocyte": "spherocyte", "Sphärozyt": "spherocyte"
    }  # fmt: skip
    assert recipe.unknown == {"no", "1", "a: b #c", "-"}
    assert read_labels(recipe).n_read == 20 * len(names)


def test_the_command_writes_both_files_and_the_next_commands(tmp_path, capsys):
    export = write_labels(tmp_path / "export", ["p_1.jpg", "q_1.jpg"])
    words = ["recipe", str(export), "--out", str(tmp_path / "mine.yaml")]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    commands = [line.split() for line in printed.splitlines() if line.startswith("    ")]
    assert [command[1] for command in commands] == ["tfrecords", "train", "export"]
    for command in commands:
        cli.parser().parse_args(command[1:])
    assert commands[0][2] == str(tmp_path / "mine.yaml")
    assert Path(commands[1][2]).is_file()
    assert cli.main(words) == 2
    assert "mine.yaml" in capsys.readouterr().err, "a recipe that was edited is not overwritten"


def test_a_recipe_in_place_of_an_export_is_refused(tmp_path):
    export = write_labels(tmp_path / "export", ["p_1.jpg", "q_1.jpg"])
    path = write_recipe(draft_recipe(export), tmp_path / "mine.yaml")
    with pytest.raises(BadLabelsError, match="expected an export, got a recipe"):
        draft_recipe(path)


@pytest.mark.parametrize(("n_train", "steps"), [(1, 400), (88, 400), (300, 1200), (5000, 3000)])
def test_more_photographs_get_more_steps(n_train, steps, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    plan = plan_experiment("some/mine.yaml", "mine", n_train=n_train, n_patients=0)
    assert plan.steps == steps and "minutes" in plan.time and "--folds" not in plan.commands[1]
    assert plan.records == Path("some/records/mine")


def test_two_patients_are_left_out_in_turn(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    plans = [plan_experiment("a.yaml", "a", n_train=9, n_patients=n) for n in (1, 2, 5)]
    assert ["--folds patient" in plan.commands[1] for plan in plans] == [False, True, True]
    assert plans[2].time.startswith("6 trainings of 200 steps")
