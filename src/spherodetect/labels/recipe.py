"""A recipe: where a data set's labels and images are, what its names mean, and how it is split.

A data set has one YAML file; `tfrecords/README.md` explains its keys. A name of the label file maps
to a class, to a red cell of unknown class, or to a cell of unknown class. A name that is in none of
these lists is looked up among the synonyms of cells.py, and an unknown name is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spherodetect.errors import BadLabelsError
from spherodetect.labels.file_names import SPLITS as SPLITS
from spherodetect.labels.file_names import patient_folder
from spherodetect.labels.recipe_keys import Keys
from spherodetect.safety import quoted, read_yaml
from spherodetect.vocabulary import (
    CLASS_NAMES,
    NO_CELL,
    RED_CELLS,
    class_of,
    same_name,
    unknown_name_error,
)

FORMATS = ("coco", "yolo", "labelme", "voc", "points", "centred", "synthetic")
#: The value of `patients` where each folder is a patient.
PATIENTS_BY_FOLDER = "folder"
SPLITS_BY = ("number-run", "patient", "source", "export")


@dataclass(frozen=True)
class Meaning:
    """What one name of a label file says about the cell.

    Attributes:
        class_id: 1-based place in the recipe's class_names, or 0 where the class is unknown.
        class_name: the class, or None where it is unknown.
        fine_name: the annotator's own name, which is kept beside the class.
        red_cell: whether it is a red cell, of known class or not.
    """

    class_id: int
    class_name: str | None
    fine_name: str
    red_cell: bool


@dataclass(frozen=True)
class SplitRule:
    """How the fields are split: what stays together, and what goes to validation and test.

    Attributes:
        by: number-run, patient, source, or export (the export's own folders).
        val: runs (first, last) of file numbers, or the names of patients or sources.
        test: the same for the test split.
        val_fraction: instead of val, the fraction of the cells that goes to validation, 0 to 1.
    """

    by: str = "source"
    val: tuple[Any, ...] = ()
    test: tuple[Any, ...] = ()
    val_fraction: float | None = None


@dataclass(frozen=True)
class Recipe:
    """One data set, as its YAML file describes it; `load_recipe` reads it.

    Attributes:
        name: short name of the data set, used in file names.
        format: coco, yolo, labelme, voc, points, centred or synthetic.
        root: the folder (or, for coco, the zip) that holds it.
        images: folder of the images, relative to root.
        labels: folder or file of the labels, relative to root; empty to search for them.
        classes: name or code in the label file to class name.
        fine_classes: name or code to the annotator's full name.
        red_cells: names of red cells of unknown class.
        unknown: names of cells of unknown class.
        unlabelled_cells: `unknown` if cells without a label become cells of unknown class;
            `healthy` if the people had healthy red cells, and whole, separate red cells without a
            label get the class rbc; `none` if every cell has a label; empty where nothing is
            said, which means none.
        patients: a pattern with a group `patient`, searched in the file name; None where the
            patient is not known.
        native_size_hw: size of the photographs before an export stretched them.
        um_per_px: pixel size of the files as they are.
        split: how the fields are split.
        class_names: the classes of the records, in the order of their ids.
        stain: of the smears; a model that is trained on them lists it as a known stain.
        licence: for the data set card.
        origin: for the data set card.
        n_fields: for the synthetic format, how many fields are drawn.
        seed: for the synthetic format, the seed of the drawing.
        file: the recipe's own file, or None.
        patient_folders: whether a folder is a patient where the pattern finds none.
    """

    name: str
    format: str
    root: Path
    images: str = ""
    labels: str = ""
    classes: Mapping[str, str] = field(default_factory=dict)
    fine_classes: Mapping[str, str] = field(default_factory=dict)
    red_cells: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    unlabelled_cells: str = ""
    patients: re.Pattern[str] | None = None
    native_size_hw: tuple[int, int] | None = None
    um_per_px: float | None = None
    split: SplitRule = SplitRule()
    class_names: tuple[str, ...] = CLASS_NAMES
    stain: str = ""
    licence: str = ""
    origin: str = ""
    n_fields: int = 0
    seed: int = 0
    file: Path | None = None
    patient_folders: bool = False

    @property
    def unlabelled_cells_unknown(self) -> bool:
        """Whether cells without a label become cells of unknown class, or red cells."""
        return self.unlabelled_cells in ("unknown", "healthy")

    @property
    def healthy(self) -> bool:
        """Whether the people had healthy red cells."""
        return self.unlabelled_cells == "healthy"

    def meaning(self, name: str) -> Meaning:
        """What a name of the label file says about the cell.

        Raises:
            BadLabelsError: the name is unknown; the message lists the known names.

        >>> Recipe("a", "coco", Path(".")).meaning("Red Blood Cells")
        Meaning(class_id=1, class_name='rbc', fine_name='Red Blood Cells', red_cell=True)
        """
        fine = self.fine_classes.get(name, name)
        if name in self.unknown or name in self.red_cells:
            return Meaning(0, None, fine, name in self.red_cells)
        # A recipe with finer classes has the name itself among them.
        own = next((c for c in self.class_names if same_name(c, name)), None)
        class_name = self.classes.get(name) or own or class_of(name, {})
        if class_name == NO_CELL:
            return Meaning(0, None, fine, False)
        if class_name not in self.class_names:
            where = quoted(self.file) if self.file else f"recipe {quoted(self.name)}"
            mend = "add it under classes, red_cells or unknown of a recipe"
            listed = sorted({*self.classes, *self.red_cells, *self.unknown})
            if not listed:
                raise unknown_name_error(where, [name], f"{mend}, or map it with --classes")
            raise BadLabelsError(
                f"{where}: expected a known class name, got {quoted(name)}; "
                f"known: {', '.join(map(quoted, listed))}; {mend}"
            )
        class_id = self.class_names.index(class_name) + 1
        return Meaning(class_id, class_name, fine, class_name in RED_CELLS)

    def patient_of(self, file: str) -> str | None:
        """The patient in a file's path, or None."""
        found = self.patients.search(file) if self.patients else None
        if found:
            return found["patient"]
        return patient_folder(file) if self.patient_folders else None


def load_recipe(path: str | Path, *, root: str | Path | None = None) -> Recipe:
    """Read a recipe; root replaces the folder that the recipe names.

    Raises:
        BadLabelsError: no such file, not YAML, an unknown key, or an invalid value.
    """
    path = Path(path)
    data = read_yaml(path, error=BadLabelsError)
    if not isinstance(data, dict):
        got = "nothing" if data is None else f"a {type(data).__name__}"
        raise BadLabelsError(
            f"{quoted(path)}: expected keys and values, got {got}; see tfrecords/README.md"
        )
    keys = Keys(path, data)
    given = keys.text("root", "")
    class_names = keys.names("class_names") or CLASS_NAMES
    split = _split_rule(keys, "split")
    by_folder = keys.text("patients", "") == PATIENTS_BY_FOLDER
    patients = None if by_folder else keys.pattern("patients", group="patient")
    recipe = Recipe(
        name=keys.text("name", None, pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]*"),
        format=keys.choice("format", FORMATS),
        root=Path(root) if root is not None else path.parent / given,
        images=keys.inner_path("images"),
        labels=keys.inner_path("labels"),
        classes=keys.mapping("classes"),
        fine_classes=keys.mapping("fine_classes"),
        red_cells=frozenset(keys.names("red_cells")),
        unknown=frozenset(keys.names("unknown")),
        unlabelled_cells=keys.choice("unlabelled_cells", ("unknown", "healthy", "none"), ""),
        patients=patients,
        # As in folders of photographs, where a patient is a folder.
        patient_folders=by_folder or (patients is None and split.by == "patient"),
        native_size_hw=keys.size("native_size_hw"),
        um_per_px=keys.number("um_per_px", low=0.0),
        split=split,
        class_names=class_names,
        stain=keys.text("stain", ""),
        licence=keys.text("licence", ""),
        origin=keys.text("origin", ""),
        n_fields=int(keys.number("n_fields", low=0.0) or 0),
        seed=int(keys.number("seed", low=0.0) or 0),
        file=path,
    )
    keys.finish()
    for name, class_name in recipe.classes.items():
        if class_name not in class_names:
            keys.refuse(f"classes: {name}", f"one of {', '.join(class_names)}", class_name)
    if recipe.healthy and "rbc" not in class_names:
        expected = "rbc among class_names beside healthy"
        keys.refuse("unlabelled_cells", expected, recipe.unlabelled_cells)
    of_unknown_class = recipe.unknown | recipe.red_cells
    repeated = recipe.unknown & recipe.red_cells | set(recipe.classes) & of_unknown_class
    if repeated:
        keys.refuse("classes, red_cells, unknown", "each name in one of them", sorted(repeated))
    return recipe


def _split_rule(keys: Keys, key: str) -> SplitRule:
    inner = keys.inner(key)
    by = inner.choice("by", SPLITS_BY, "source")
    members = inner.runs if by == "number-run" else inner.names
    val_fraction = inner.number("val_fraction", low=0.0, high=1.0)
    rule = SplitRule(by, members("val"), members("test"), val_fraction)
    inner.finish()
    if by == "export" and (rule.val or rule.test or rule.val_fraction):
        inner.refuse(
            "val", "nothing beside by: export, which takes the export's own folders", inner.data
        )
    if rule.val and rule.val_fraction:
        inner.refuse("val_fraction", "either val or val_fraction", rule.val_fraction)
    return rule
