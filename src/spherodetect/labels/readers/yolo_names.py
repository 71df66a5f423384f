"""The class names of a YOLO export, which stand apart from its label files.

They are in a YAML file with the key `names` (data.yaml of Roboflow and Ultralytics), in classes.txt
(LabelImg) or in *.names (darknet). Several exports may lie side by side with names of their own, so
a label file takes the names of the nearest folder above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spherodetect.errors import BadLabelsError
from spherodetect.safety import quoted, read_text, read_yaml

#: A number of more digits is no class.
_MAX_DIGITS = 9


@dataclass(frozen=True)
class ClassTable:
    """The classes of one export.

    Attributes:
        names: class number to name.
        n_key_values: values of key points after a box, as pose estimation has them.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    n_key_values: int = 0


@dataclass(frozen=True)
class ClassTables:
    """The classes of all exports below a folder.

    Attributes:
        by_folder: the folder of the names to the classes.
        problems: file of names, relative to the folder searched, to the reason why it has none.
    """

    by_folder: Mapping[Path, ClassTable]
    problems: Mapping[str, str]

    def near(self, path: Path) -> ClassTable:
        """The classes of a label file: of the nearest folder above it, or the only ones."""
        for folder in path.parents:
            if folder in self.by_folder:
                return self.by_folder[folder]
        tables = list(self.by_folder.values())
        return tables[0] if tables and all(table == tables[0] for table in tables) else ClassTable()


def find_class_tables(root: Path) -> ClassTables:
    """The classes below a folder. In one folder, YAML precedes classes.txt, and that *.names."""
    tables: dict[Path, ClassTable] = {}
    problems: dict[str, str] = {}
    for pattern, read in (
        ("*.y*ml", read_data_yaml),
        ("classes.txt", _read_lines),
        ("*.names", _read_lines),
    ):
        for path in sorted(root.rglob(pattern)):
            try:
                table = read(path) if path.is_file() else None
            except BadLabelsError as error:
                name = path.relative_to(root).as_posix()
                problems[name] = str(error).removeprefix(f"{quoted(path)}: ")
                continue
            if table is not None:
                tables.setdefault(path.parent, table)
    return ClassTables(tables, problems)


def read_data_yaml(path: Path) -> ClassTable | None:
    """The classes of a data.yaml; None for another YAML file.

    Raises:
        BadLabelsError: a data.yaml that cannot be read or has no names.
    """
    is_export = path.stem.lower() == "data"
    try:
        data = read_yaml(path, error=BadLabelsError)
    except BadLabelsError:
        if is_export:
            raise
        return None
    names = data.get("names") if isinstance(data, dict) else None
    if isinstance(names, list) and names:
        table = {number: str(name).strip() for number, name in enumerate(names)}
    elif isinstance(names, dict):
        table = {int(k): str(n).strip() for k, n in names.items() if _is_number(str(k))}
    else:
        table = {}
    if table:
        return ClassTable(table, _n_key_values(data.get("kpt_shape")))
    if is_export:
        raise BadLabelsError("expected the class names as a list or mapping `names`, got none")
    return None


def _read_lines(path: Path) -> ClassTable | None:
    lines = read_text(path, error=BadLabelsError, any_encoding=True).splitlines()
    names = {number: line.strip() for number, line in enumerate(lines) if line.strip()}
    return ClassTable(names) if names else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < _MAX_DIGITS


def _n_key_values(shape: Any) -> int:
    """Values of all key points, from [number, values of each]."""
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape):
        return max(0, shape[0] * shape[1])
    return 0
