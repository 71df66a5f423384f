"""Drafts the recipe of an export from its labels, photographs and file names.

The draft holds what can be found: the meaning of the names, the patients, the stretch of the
export, the split, and whether cells carry no label. What cannot be found is a note for the user.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from spherodetect.errors import BadLabelsError
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.check.coverage import has_unlabelled, sampled_coverage
from spherodetect.labels.check.duplicates import near_duplicates
from spherodetect.labels.check.stretching import probable_native_size
from spherodetect.labels.readers.files import listed
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe, SplitRule
from spherodetect.labels.source import read_export, recipe_for
from spherodetect.labels.splits import assign_splits
from spherodetect.safety import quoted
from spherodetect.vocabulary import NO_CELL, class_of

#: Share of the cells that is held out, in whole patients or photographs.
_VAL_FRACTION = 0.25
_SPHEROCYTE, _RED = "spherocyte", "rbc"
#: The first group of a pattern, to be named.
_FIRST_GROUP = re.compile(r"(?<!\\)\((?!\?)")


@dataclass(frozen=True)
class Draft:
    """A recipe as an export shows it.

    Attributes:
        recipe: the recipe; its root is the export, and it has no file yet.
        n_labels: name of the labels to their number.
        unknown_names: names whose class is not known; the recipe has them among `unknown`.
        n_train: photographs for training, each counted once.
        n_patients: patients of the data set; 0 where they are not known.
        coverage: whole cells without a label and all whole cells, of a sample; zeros without
            photographs.
        notes: what the user should know or decide, as sentences.
    """

    recipe: Recipe
    n_labels: Mapping[str, int]
    unknown_names: tuple[str, ...]
    n_train: int
    n_patients: int
    coverage: tuple[int, int]
    notes: tuple[str, ...] = field(default=())


def draft_recipe(
    source: str | Path,
    *,
    name: str = "mine",
    classes: Mapping[str, str] | None = None,
    patient_regex: str | None = None,
    native_size_hw: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Draft:
    """Draft the recipe of an export.

    Args:
        source: a folder or zip of labels, as for `lint`.
        name: of the data set; other characters than letters, digits, `_`, `.` and `-` are replaced.
        classes: names to classes, as `read_classes` returns them; other names are looked up among
            the synonyms of vocabulary.py.
        patient_regex: a pattern with a group that finds the patient in a file's path.
        native_size_hw: size of the photographs before the export stretched them.
        progress: called with the number of photographs compared for duplicates, and the total.

    Raises:
        BadLabelsError: there are no labels, source is a recipe, or the pattern is invalid.

    >>> draft_recipe("export.zip").recipe.split.val  # doctest: +SKIP
    ('patient_02',)
    """
    recipe = recipe_for(source)
    if recipe.file is not None:
        raise BadLabelsError(
            f"{quoted(source)}: expected an export, got a recipe; use it with "
            "`spherodetect tfrecords`"
        )
    recipe = replace(recipe, name=_name(name), native_size_hw=native_size_hw)
    if patient_regex is not None:
        pattern = _named_group(patient_regex)
        recipe = replace(recipe, patients=pattern, patient_folders=False)
    recipe, labels = read_export(recipe)
    if labels.broken:
        raise BadLabelsError(
            f"{quoted(labels.broken[0])}: cannot be read; `spherodetect lint` says why"
        )
    if not labels.fields:
        raise BadLabelsError(
            f"{quoted(source)}: expected labels of photographs, got none that can be read; "
            "`spherodetect lint` says why"
        )
    notes: list[str] = []
    n_labels = Counter(a.name for f in labels.fields for a in f.annotations)
    recipe, unknown_names = _with_classes(recipe, n_labels, classes or {}, notes)
    recipe = _with_patients(recipe, labels.fields, notes)
    recipe = _with_native_size(recipe, labels, notes)
    recipe, n_train = _with_split(recipe, labels, notes, progress)
    coverage = sampled_coverage(labels)
    unlabelled = "unknown" if has_unlabelled(*coverage) or not coverage[1] else "none"
    recipe = replace(recipe, unlabelled_cells=unlabelled)
    has_patients = bool(recipe.patients or recipe.patient_folders)
    n_patients = len({f.patient_id for f in labels.fields}) if has_patients else 0
    return Draft(recipe, n_labels, unknown_names, n_train, n_patients, coverage, tuple(notes))


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip("_.-") or "mine"


def _named_group(patient_regex: str) -> re.Pattern[str]:
    """The pattern with its first group named `patient`, as a recipe needs it."""
    named = patient_regex
    if "(?P<patient>" not in named:
        named = _FIRST_GROUP.sub("(?P<patient>", named, count=1)
    try:
        pattern = re.compile(named)
    except re.error as error:
        raise BadLabelsError(
            f"--patient-regex {quoted(patient_regex)}: expected a regular expression, got an "
            f"invalid one ({error})"
        ) from error
    if "patient" not in pattern.groupindex:
        raise BadLabelsError(
            f"--patient-regex {quoted(patient_regex)}: expected a group for the patient, got none; "
            "put round brackets around the patient"
        )
    return pattern


def _with_classes(
    recipe: Recipe, n_labels: Counter[str], given: Mapping[str, str], notes: list[str]
) -> tuple[Recipe, tuple[str, ...]]:
    meant = {name: class_of(name, given) for name in n_labels}
    unknown = tuple(name for name, class_name in meant.items() if class_name is None)
    no_cell = {name for name, class_name in meant.items() if class_name == NO_CELL}
    known = {name: c for name, c in meant.items() if c and c != NO_CELL}
    red_cells = frozenset[str]()
    if _SPHEROCYTE not in known.values():
        red_cells = frozenset(name for name, class_name in known.items() if class_name == _RED)
        known = {name: c for name, c in known.items() if name not in red_cells}
        notes.append(
            "no name means spherocyte, so it is not known which red cells are spherocytes: a model "
            "learns to find cells from these labels, and not to tell them apart"
        )
    recipe = replace(
        recipe, classes=known, red_cells=red_cells, unknown=frozenset({*unknown, *no_cell})
    )
    return recipe, unknown


def _with_patients(recipe: Recipe, fields: Sequence[LabelledField], notes: list[str]) -> Recipe:
    """The recipe with the one rule that finds the patient of every photograph, or with none."""
    by_pattern = recipe.patients
    if by_pattern and all(by_pattern.search(f.file) for f in fields):
        return replace(recipe, patient_folders=False)
    if recipe.patient_folders and all(f.patient_id for f in fields):
        return replace(recipe, patients=None)
    without = [f.file for f in fields if f.patient_id is None] or [fields[0].file]
    notes.append(
        f"no patient was found in names such as {listed(without, most=2)}: photographs of one "
        "patient may be in training and in validation, and the figures are then too high; if the "
        "names contain the patient, say how with --patient-regex, such as '([A-Z]+[0-9]+)_'"
    )
    return replace(recipe, patients=None, patient_folders=False)


def _with_native_size(recipe: Recipe, labels: LabelSet, notes: list[str]) -> Recipe:
    if recipe.native_size_hw:
        return recipe
    size_hw = probable_native_size(labels.fields)
    if size_hw:
        notes.append(
            f"the cells look stretched, as if the photographs were {size_hw[0]} pixels high and "
            f"{size_hw[1]} wide or had another size of this ratio; if not, give --native-size HxW"
        )
    return replace(recipe, native_size_hw=size_hw)


def _with_split(
    recipe: Recipe, labels: LabelSet, notes: list[str], progress: Callable[[int, int], None]
) -> tuple[Recipe, int]:
    """The recipe with its split, and the number of photographs for training."""
    fields = labels.fields
    has_patients = bool(recipe.patients or recipe.patient_folders)
    patients = {f.patient_id for f in fields} if has_patients else set()
    if len(patients) == 1:
        notes.append(
            f"all photographs are of one patient, {quoted(next(iter(patients)))}: the figures on "
            "held-out photographs of the same patient are too high for another one"
        )
    by = "patient" if len(patients) > 1 else "source"
    recipe = replace(recipe, split=SplitRule(by, val_fraction=_VAL_FRACTION))
    paths = {f.file: f.path for f in fields if f.path}
    splits = assign_splits(
        fields, recipe, duplicate_groups=near_duplicates(paths, progress=progress)
    )
    if by == "patient":
        held_out = {str(f.patient_id) for f in fields if splits[f.file] == "val"}
        recipe = replace(recipe, split=SplitRule(by, val=tuple(sorted(held_out))))
    return recipe, len({f.source_id for f in fields if splits[f.file] == "train"})


__all__ = ["Draft", "draft_recipe"]
