"""A recipe: where a data set's labels and images are, what its names mean, and how it is split.

One YAML file a data set (`tfrecords/README.md` explains the keys). Unknown keys and wrong types are
errors, so that a typing mistake never becomes a default. Names of the label file become one of
three things: a class, a red cell of unknown class, or a cell of unknown class; whatever is in none
of them is looked up among the synonyms of cells.py, and a name that nobody knows is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spherodetect.cells import CLASS_NAMES, RED_CELLS, SYNONYMS, canonical_name
from spherodetect.errors import BadLabelsError
from spherodetect.safety import quoted, read_yaml

FORMATS = ("coco", "voc", "points", "synthetic")
SPLITS = ("train", "val", "test")
SPLITS_BY = ("number-run", "patient", "source", "export")
_TEXT_LIMIT = 200


@dataclass(frozen=True)
class Meaning:
    """What one name of a label file teaches.

    Attributes:
        class_id: 1-based place in the recipe's class_names, or 0 where the class is unknown.
        class_name: the class, or None where it is unknown.
        fine_name: the annotator's own name for it, kept beside.
        red_cell: whether it is known to be a red cell, of known class or not.
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
        val_fraction: instead of val, the share of patients' or sources' cells that goes to
            validation, 0 to 1.
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
        format: coco, voc, points or synthetic.
        root: the folder (or, for coco, the zip) that holds it.
        images: folder of the images, relative to root.
        labels: folder or file of the labels, relative to root; empty to look for them.
        classes: name or code in the label file to class name.
        fine_classes: name or code to the annotator's full name.
        red_cells: names that mean a red cell without saying which.
        unknown: names that mean a cell of unknown class.
        unlabelled_cells_unknown: whether cells that nobody labelled become cells of unknown class.
        patients: a pattern with a group `patient`, searched in the file name; None where nobody
            knows the patient.
        native_size_hw: size of the photographs before an export stretched them.
        um_per_px: pixel size of the files as they are.
        split: how the fields are split.
        class_names: the classes that the records have, in the order of their ids.
        stain: of the smears; models that are taught by them say that they know it.
        licence, origin: for the data set card.
        n_fields, seed: for the synthetic format, how many fields are drawn, and from which seed.
        file: the recipe's own file, or None.
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
    unlabelled_cells_unknown: bool = False
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

    def meaning(self, name: str) -> Meaning:
        """What a name of the label file means; BadLabelsError lists the known names if nobody knows
        it.

        >>> Recipe("a", "coco", Path(".")).meaning("Red Blood Cells")
        Meaning(class_id=1, class_name='rbc', fine_name='Red Blood Cells', red_cell=True)
        """
        fine = self.fine_classes.get(name, name)
        if name in self.unknown or name in self.red_cells:
            return Meaning(0, None, fine, name in self.red_cells)
        class_name = self.classes.get(name) or canonical_name(name)
        if class_name not in self.class_names:
            known = sorted({*self.classes, *self.red_cells, *self.unknown}) or sorted(SYNONYMS)
            where = quoted(self.file) if self.file else f"recipe {quoted(self.name)}"
            raise BadLabelsError(
                f"{where}: expected a known class name, got {quoted(name)}; known: {', '.join(map(quoted, known))}; "
                "add it under classes, red_cells or unknown"
            )
        return Meaning(
            self.class_names.index(class_name) + 1, class_name, fine, class_name in RED_CELLS
        )

    def patient_of(self, file: str) -> str | None:
        """The patient that a file name speaks of, or None."""
        found = self.patients.search(file) if self.patients else None
        return found["patient"] if found else None


def load_recipe(path: str | Path, *, root: str | Path | None = None) -> Recipe:
    """Read a recipe; root overrides where its data set lies.

    Raises:
        BadLabelsError: no such file, not YAML, an unknown key, or a value that the key cannot have.
    """
    path = Path(path)
    data = read_yaml(path, error=BadLabelsError)
    if not isinstance(data, dict):
        raise BadLabelsError(
            f"{quoted(path)}: expected keys and values, got {_kind(data)}; see tfrecords/README.md"
        )
    keys = _Keys(path, data)
    given = keys.text("root", "")
    class_names = keys.names("class_names") or CLASS_NAMES
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
        unlabelled_cells_unknown=keys.choice("unlabelled_cells", ("unknown", "none"), "none")
        == "unknown",
        patients=keys.pattern("patients"),
        native_size_hw=keys.size("native_size_hw"),
        um_per_px=keys.number("um_per_px", low=0.0),
        split=keys.split("split"),
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
    both = recipe.unknown & recipe.red_cells | set(recipe.classes) & (
        recipe.unknown | recipe.red_cells
    )
    if both:
        keys.refuse("classes, red_cells, unknown", "each name in one of them", sorted(both))
    return recipe


class _Keys:
    """Takes values out of a mapping, checks each, and refuses what is left over."""

    def __init__(self, path: Path, data: Mapping[Any, Any], prefix: str = "") -> None:
        self.path, self.data, self.prefix, self.known = path, data, prefix, set[str]()

    def refuse(self, key: str, expected: str, got: object) -> None:
        raise BadLabelsError(
            f"{quoted(self.path)}: {self.prefix}{key}: expected {expected}, got {quoted(str(got))}; mend it there "
            "(tfrecords/README.md explains the keys)"
        )

    def take(self, key: str) -> Any:
        self.known.add(key)
        return self.data.get(key)

    def finish(self) -> None:
        for key in self.data:
            if key not in self.known:
                self.refuse("unknown key", f"one of {', '.join(sorted(self.known))}", key)

    def text(self, key: str, default: str | None, *, pattern: str = r"[^\x00]*") -> str:
        value = self.take(key)
        value = default if value is None else value
        if (
            not isinstance(value, str)
            or len(value) > _TEXT_LIMIT
            or not re.fullmatch(pattern, value)
        ):
            self.refuse(
                key, "a short text" if default is not None else f"a text like {pattern}", value
            )
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self.take(key)
        value = default if value is None else value
        if value not in choices:
            self.refuse(key, f"one of {', '.join(choices)}", value)
        return value

    def inner_path(self, key: str) -> str:
        value = self.text(key, "")
        if Path(value).is_absolute() or ".." in Path(value).parts or "\\" in value:
            self.refuse(key, "a path inside root", value)
        return value

    def mapping(self, key: str) -> Mapping[str, str]:
        value = {} if (given := self.take(key)) is None else given
        if not isinstance(value, dict) or not all(
            _is_name(k) and _is_name(v) for k, v in value.items()
        ):
            self.refuse(key, "names with a name each", value)
        return {str(k): str(v) for k, v in value.items()}

    def names(self, key: str) -> tuple[str, ...]:
        value = [] if (given := self.take(key)) is None else given
        if not isinstance(value, list) or not all(map(_is_name, value)):
            self.refuse(key, "a list of names", value)
        return tuple(str(v) for v in value)

    def pattern(self, key: str) -> re.Pattern[str] | None:
        if not (value := self.text(key, "")):
            return None
        try:
            pattern = re.compile(value)
        except re.error as error:
            self.refuse(key, f"a regular expression ({error})", value)
        if "patient" not in pattern.groupindex:
            self.refuse(key, "a pattern with a group (?P<patient>...)", value)
        return pattern

    def size(self, key: str) -> tuple[int, int] | None:
        if (value := self.take(key)) is None:
            return None
        if not _is_pair(value) or min(value) < 1:
            self.refuse(key, "[height, width] in pixels", value)
        return value[0], value[1]

    def number(self, key: str, *, low: float, high: float = float("inf")) -> float | None:
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
            self.refuse(
                key,
                f"a number above {low:g}" + (f" and below {high:g}" if high < float("inf") else ""),
                value,
            )
        return float(value)

    def split(self, key: str) -> SplitRule:
        value = {} if (given := self.take(key)) is None else given
        if not isinstance(value, dict):
            self.refuse(key, "keys and values", value)
        keys = _Keys(self.path, value, prefix=f"{key}: ")
        by = keys.choice("by", SPLITS_BY, "source")
        members = keys.runs if by == "number-run" else keys.names
        rule = SplitRule(
            by, members("val"), members("test"), keys.number("val_fraction", low=0.0, high=1.0)
        )
        keys.finish()
        if by == "export" and (rule.val or rule.test or rule.val_fraction):
            keys.refuse(
                "val", "nothing beside by: export, which takes the export's own folders", value
            )
        if rule.val and rule.val_fraction:
            keys.refuse("val_fraction", "either val or val_fraction", rule.val_fraction)
        return rule

    def runs(self, key: str) -> tuple[tuple[int, int], ...]:
        value = [] if (given := self.take(key)) is None else given
        if not isinstance(value, list) or not all(_is_pair(v) and v[0] <= v[1] for v in value):
            self.refuse(key, "a list of [first, last] file numbers", value)
        return tuple((v[0], v[1]) for v in value)


def _is_name(value: object) -> bool:
    return (
        isinstance(value, str | int)
        and not isinstance(value, bool)
        and 0 < len(str(value)) <= _TEXT_LIMIT
    )


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(v) is int and v >= 0 for v in value)
    )


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
