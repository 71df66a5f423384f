"""Recipes: strict keys, and what a name of a label file means."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from spherodetect.errors import BadLabelsError
from spherodetect.labels.recipe import Meaning, Recipe, load_recipe

RECIPES = Path(__file__).parents[1] / "tfrecords"
GOOD = """
name: mine
format: points
images: pictures
labels: points
root: data
um_per_px: 0.1
classes: {0: rbc, "3": spherocyte}
fine_classes: {0: normal}
red_cells: [RBC]
unknown: ["10"]
unlabelled_cells: unknown
patients: "(?P<patient>patient_[0-9]+)"
native_size_hw: [1800, 2400]
split: {by: number-run, val: [[61, 100], [161, 180]]}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_arrives(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert (recipe.name, recipe.format, recipe.images, recipe.labels) == (
        "mine",
        "points",
        "pictures",
        "points",
    )
    assert recipe.root == tmp_path / "data"
    assert recipe.classes == {"0": "rbc", "3": "spherocyte"}
    assert recipe.um_per_px == 0.1
    assert recipe.native_size_hw == (1800, 2400)
    assert recipe.unlabelled_cells_unknown
    assert recipe.split.by == "number-run"
    assert recipe.split.val == ((61, 100), (161, 180))
    assert recipe.patient_of("train/patient_03_11_jpg.rf.abc.jpg") == "patient_03"
    assert recipe.patient_of("a.jpg") is None


def test_root_is_overridden(tmp_path):
    assert load_recipe(write(tmp_path, GOOD), root=tmp_path / "there").root == tmp_path / "there"


def test_meanings(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.meaning("0") == Meaning(1, "rbc", "normal", True)
    assert recipe.meaning("3") == Meaning(2, "spherocyte", "3", True)
    # The recipe has precedence over the synonyms.
    assert recipe.meaning("RBC") == Meaning(0, None, "RBC", True)
    assert recipe.meaning("10") == Meaning(0, None, "10", False)
    assert recipe.meaning("Red Blood Cells") == Meaning(1, "rbc", "Red Blood Cells", True)
    assert recipe.meaning("Thrombocyte").class_id == 4
    assert not recipe.meaning("Thrombocyte").red_cell


def test_an_unmapped_name_lists_the_known_ones(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    with pytest.raises(
        BadLabelsError, match=r"mine\.yaml.*got 'Zelle\\n'; known: '0', '10', '3', 'RBC'"
    ):
        recipe.meaning("Zelle\n")


def test_a_recipe_travels_to_worker_processes(tmp_path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301  (our own bytes)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("colour: red", "colour"),
        ("format: pickle", "format"),
        ("name: ../up", "name"),
        ("images: ../../etc", "images"),
        ("images: /etc", "images"),
        ("um_per_px: -1", "um_per_px"),
        ("um_per_px: .nan", "um_per_px"),
        ("um_per_px: true", "um_per_px"),
        ("classes: [rbc]", "classes"),
        ("classes: {0: leucoblast}", "classes: 0"),
        ("classes: {10: rbc}", "classes, red_cells, unknown"),
        ("unknown: x", "unknown"),
        ("patients: '('", "patients"),
        ("patients: 'patient'", "patients"),
        ("native_size_hw: [0, 5]", "native_size_hw"),
        ("native_size_hw: 5", "native_size_hw"),
        ("unlabelled_cells: maybe", "unlabelled_cells"),
        ("split: {by: chance}", "split: by"),
        ("split: {by: number-run, val: [[5, 3]]}", "split: val"),
        ("split: {by: number-run, val: [5]}", "split: val"),
        ("split: {by: source, val: [a], val_fraction: 0.2}", "split: val_fraction"),
        ("split: {by: source, val_fraction: 1.5}", "split: val_fraction"),
        ("split: {by: export, val: [a]}", "split: val"),
        ("split: {by: source, vall: [a]}", "vall"),
    ],
)
def test_a_bad_value_is_named(tmp_path, line, key):
    kept = [old for old in GOOD.strip().splitlines() if old.split(":")[0] != line.split(":")[0]]
    path = write(tmp_path, "\n".join([*kept, line]))
    with pytest.raises(BadLabelsError) as caught:
        load_recipe(path)
    assert "mine.yaml" in str(caught.value)
    assert key in str(caught.value)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_healthy_red_cells_need_their_class(tmp_path):
    text = "name: a\nformat: centred\nunlabelled_cells: healthy\nclass_names: "
    assert load_recipe(write(tmp_path, text + "[rbc, wbc]")).healthy
    with pytest.raises(BadLabelsError, match="unlabelled_cells: expected rbc"):
        load_recipe(write(tmp_path, text + "[spherocyte, wbc]"))


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "just text", "a: [", "name: !!python/object/apply:os.getcwd []"]
)
def test_what_is_no_recipe_is_refused(tmp_path, text):
    with pytest.raises(BadLabelsError, match=r"mine\.yaml"):
        load_recipe(write(tmp_path, text))


def test_no_such_file(tmp_path):
    with pytest.raises(BadLabelsError, match=r"none\.yaml"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["chula", "bccd", "dataset_a", "dataset_a_mgg", "txl_pbc", "pbc"])
def test_the_recipes_of_the_repository_load(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.name == name
    assert isinstance(recipe, Recipe)


def test_chula_codes_mean_what_the_data_set_says():
    recipe = load_recipe(RECIPES / "chula.yaml")
    meanings = {code: recipe.meaning(str(code)) for code in range(13)}
    assert [code for code, m in meanings.items() if m.class_name == "spherocyte"] == [3]
    assert [code for code, m in meanings.items() if m.class_id == 0] == [10]
    assert meanings[8].fine_name == "burr cell"
    assert meanings[8].class_name == "rbc"
