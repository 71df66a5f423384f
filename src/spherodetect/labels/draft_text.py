"""Writes a drafted recipe as YAML, with comments that say what was found and what may be added."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spherodetect.labels.draft import Draft
from spherodetect.labels.recipe import PATIENTS_BY_FOLDER, Recipe
from spherodetect.safety import atomic_write, quoted


def write_recipe(draft: Draft, path: str | Path) -> Path:
    """Write a draft as a recipe and return its path; the path of the export is absolute.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    path = Path(path)
    with atomic_write(path, text=True) as file:
        file.write("\n".join(_lines(draft)) + "\n")
    return path


def _lines(draft: Draft) -> Iterator[str]:
    recipe = draft.recipe
    yield f"# What `spherodetect recipe` found in {quoted(recipe.root.name)}."
    yield "# Check it, and change what is wrong; tfrecords/README.md explains every key."
    yield f"name: {_value(recipe.name)}"
    yield f"format: {recipe.format}"
    yield f"root: {_value(str(recipe.root.resolve()))}"
    for key, folder in (("images", recipe.images), ("labels", recipe.labels)):
        if folder:
            yield f"{key}: {_value(folder)}"
    yield "# The stain of the smears, such as May-Grünwald-Giemsa; a model names the stains it was"
    yield "# trained on."
    yield 'stain: ""'
    yield from _names(draft)
    yield from _patients(recipe)
    yield "# The size of a pixel in µm, if it is known and the same for all photographs:"
    yield "# um_per_px: 0.1"
    if recipe.native_size_hw:
        yield "# The export stretched the photographs. Only the aspect ratio of this size is used."
        yield f"native_size_hw: {_value(list(recipe.native_size_hw))}"
    yield from _unlabelled(draft)
    yield from _split(recipe)


def _names(draft: Draft) -> Iterator[str]:
    recipe = draft.recipe
    if recipe.classes:
        yield "# Name of the labels: class (rbc, spherocyte, wbc, platelet), and their number."
        yield "classes:"
        for name, class_name in recipe.classes.items():
            yield f"  {_value(name)}: {class_name}  # {draft.n_labels[name]:,}"
    if recipe.red_cells:
        yield "# Red cells of which it is not known whether they are spherocytes."
        yield f"red_cells: {_value(sorted(recipe.red_cells))}"
    if recipe.unknown:
        yield "# Names without a known class. Move a name to classes if it has one."
        yield f"unknown: {_value(sorted(recipe.unknown))}"


def _patients(recipe: Recipe) -> Iterator[str]:
    if recipe.patients:
        yield "# A regular expression that finds the patient in the path of a photograph."
        yield f"patients: {_value(recipe.patients.pattern)}"
    elif recipe.patient_folders:
        yield "# The folder of a photograph is its patient."
        yield f"patients: {PATIENTS_BY_FOLDER}"
    else:
        yield "# A regular expression that finds the patient in the path of a photograph, as in:"
        yield '# patients: "(?P<patient>patient_[0-9]+)"'


def _unlabelled(draft: Draft) -> Iterator[str]:
    n_unlabelled, n_cells = draft.coverage
    if n_cells:
        counts = f"{n_unlabelled:,} of {n_cells:,} whole cells"
        yield f"# In a sample of photographs {counts} carry no label."
    else:
        yield "# Without photographs it is not known whether every cell has a label."
    yield f"unlabelled_cells: {draft.recipe.unlabelled_cells}"


def _split(recipe: Recipe) -> Iterator[str]:
    rule = recipe.split
    what = "patients" if rule.by == "patient" else "photographs"
    yield f"# Whole {what} are held out, with every copy and near-duplicate of their photographs."
    yield "split:"
    yield f"  by: {rule.by}"
    if rule.val:
        yield f"  val: {_value(list(rule.val))}"
    else:
        yield f"  val_fraction: {rule.val_fraction}"


def _value(value: Any) -> str:
    """A value as YAML on one line."""
    import yaml

    shown = yaml.safe_dump(value, allow_unicode=True, width=2**20, default_flow_style=True)
    return str(shown).removesuffix("...\n").strip()


__all__ = ["write_recipe"]
