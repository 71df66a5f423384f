"""Images and patients: a file becomes pixels safely, and paths become the fields of patients.

Images are uint8 RGB (H, W, 3), turned upright as their EXIF says; colour profiles are not applied.
16-bit samples keep their upper 8 bits, transparency lies on white. A patient is a folder, a column
of a manifest, or what a pattern finds in a path. One image that cannot be used is named and left
out; a path without any image is an error.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spherodetect.errors import SpherodetectError
from spherodetect.fields.image import _FORMAT_NAMES
from spherodetect.safety import inside, quoted, read_csv

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp"}
)
#: Images too, but not for this reader: named as left out, where other files are passed over in
#: silence.
FOREIGN_SUFFIXES = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".psd", ".svs", ".ndpi", ".scn", ".mrxs", ".czi",
     ".nd2", ".lif", ".lsm", ".oib", ".vsi", ".dcm", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
)  # fmt: skip
#: What to do with what is given in the place of images.
_MENDS = {
    ".zip": "unpack it first",
    ".xlsx": "save it as CSV",
    ".xls": "save it as CSV",
    ".ods": "save it as CSV",
}
_DEBRIS = frozenset(
    {"__MACOSX", "@eaDir"}
)  # what a Mac leaves in zips and a NAS beside photographs (thumbnails!)

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what Pillow logs


@dataclass(frozen=True)
class Field:
    """One image of a patient; field_id is the file's relative path with forward slashes, never two
    alike in a list."""

    patient_id: str
    field_id: str
    path: Path
    um_per_px: float | None = None


@dataclass(frozen=True)
class FieldList:
    """The fields that were found, in order, and a line for each thing that was left out."""

    fields: tuple[Field, ...]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.fields)

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    @property
    def patients(self) -> dict[str, tuple[Field, ...]]:
        """The fields of each patient, patients in order of appearance."""
        groups: dict[str, list[Field]] = {}
        for field in self.fields:
            groups.setdefault(field.patient_id, []).append(field)
        return {patient_id: tuple(fields) for patient_id, fields in groups.items()}


def find_fields(
    paths: str | Path | Iterable[str | Path],
    *,
    patient_regex: str | None = None,
    um_per_px: float | None = None,
    exclude: Sequence[str | Path] = (),
) -> FieldList:
    """Find the fields of patients in folders, images and manifests.

    A folder's sub-folders are patients, deeper folders belong to the first level, and images that
    lie directly in it are one patient of the folder's name; a single image belongs to a patient of
    its folder's name. patient_regex overrides that: its group `patient`, or its first, found in the
    path relative to PATH, is the patient. A manifest is a CSV with the columns patient_id, field (a
    path relative to it) and, if known, um_per_px; it wins over the options. Patients of the same
    name in several paths are one patient.

    field_id is relative to PATH; where two would be alike, all are relative to what the paths have
    in common. Hidden files, exclude (folders) and the results of an earlier run are passed over,
    and a file reached twice counts once.

    Raises:
        SpherodetectError: a path is missing, holds no image, or is no folder, image or manifest; an
            unusable option.

    >>> for patient_id, fields in find_fields("smears").patients.items():  # doctest: +SKIP
    ...     images = [read_image(field.path) for field in fields]
    """
    return _Search(patient_regex, um_per_px, exclude).run(paths)


def find_images(
    paths: str | Path | Iterable[str | Path],
    *,
    um_per_px: float | None = None,
    exclude: Sequence[str | Path] = (),
) -> FieldList:
    """As find_fields, but where several paths are given, field_id is always relative to what they
    have in common.

    Raises:
        SpherodetectError: as find_fields.
    """
    return _Search(None, um_per_px, exclude).run(paths, in_common=True)


def is_label_source(path: str | Path) -> bool:
    """Whether a path is COCO: a .json file, or a folder with _annotations.coco.json in it or in one
    of its folders."""
    path = Path(path)
    if path.is_dir():
        return any(
            True for level in ("", "*/") for _ in path.glob(f"{level}_annotations.coco.json")
        )
    return path.suffix.lower() == ".json" and path.is_file()


def natural_key(text: str) -> tuple[tuple[Any, ...], str]:
    """A sort key by which 2.jpg comes before 10.jpg, and paths are compared folder by folder."""
    chunks = re.split("([0-9]+)", text.casefold().replace("/", "\0"))
    digits = [number.lstrip("0") for number in chunks[1::2]]  # not int(): it refuses very long ones
    return tuple(zip(chunks[::2], [*((len(n), n) for n in digits), ()], strict=True)), text


class _Search:
    """Collects fields from paths; `tops` are the folders that names in common start below."""

    def __init__(
        self, patient_regex: str | None, um_per_px: float | None, exclude: Sequence[str | Path]
    ) -> None:
        self.pattern = patient_pattern(patient_regex)
        if um_per_px is not None and not (math.isfinite(um_per_px) and um_per_px > 0):
            raise SpherodetectError(
                f"expected µm per pixel above 0, got {um_per_px}; leave it out if it is not known"
            )
        self.um_per_px = um_per_px
        self.exclude = {os.path.realpath(folder) for folder in exclude}
        self.problems: list[str] = []
        self.tops: list[Path] = []
        self._patient_of_file: dict[str, str] = {}

    def run(
        self, paths: str | Path | Iterable[str | Path], *, in_common: bool = False
    ) -> FieldList:
        paths = [paths] if isinstance(paths, str | Path) else list(paths)
        if not paths:
            raise SpherodetectError(
                "expected a folder of images, an image or a manifest .csv, got no path"
            )
        unique = {os.path.abspath(path): Path(path) for path in paths}
        fields = [field for path in unique.values() for field in self._of_path(path)]
        if (in_common and len(unique) > 1) or len({field.field_id for field in fields}) < len(
            fields
        ):
            fields = self._named_in_common(fields)
        return FieldList(_distinct(fields), tuple(self.problems))

    def _named_in_common(self, fields: list[Field]) -> list[Field]:
        levels = zip(*map(_parts, self.tops), strict=False)
        depth = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, levels)))
        return [
            replace(f, field_id=_text("/".join(p.strip("/\\:") for p in _parts(f.path)[depth:])))
            for f in fields
        ]

    def _of_path(self, path: Path) -> list[Field]:
        folder = Path(os.path.abspath(path))
        if path.is_dir():
            self.tops.append(folder.parent)
            found = self._folder(path, folder.name or "patient")
            expected = f"{_FORMAT_NAMES} images, or a folder of them for each patient"
        elif not path.exists():
            raise SpherodetectError(
                f"{quoted(path)}: expected a folder, image or manifest, got nothing there"
            )
        elif path.suffix.lower() == ".csv":
            self.tops.append(folder.parent.parent)
            found, expected = self._manifest(path), "rows that name images beside the manifest"
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            self.tops.append(folder.parent)
            found = self._field(folder.parent.name or "patient", path.name, path)
            expected = "an image whose name the pattern matches"
        else:
            got = f"a {path.suffix.lower()} file" if path.suffix else "another file"
            raise SpherodetectError(
                f"{quoted(path)}: expected a folder of images, a {_FORMAT_NAMES} image or a manifest .csv, got {got}; "
                f"{_MENDS.get(path.suffix.lower(), 'save its pictures as PNG, JPEG or TIFF')}"
            )
        known = len(self.problems)
        fields = list(found)
        if not fields:
            why = f"; {self.problems[known]}" if len(self.problems) > known else ""
            raise SpherodetectError(
                f"{quoted(path)}: expected {expected}, got none{why or '; is it the right path?'}"
            )
        fields = [field for field in fields if self._is_new(field)]
        return (
            sorted(fields, key=lambda field: natural_key(field.field_id))
            if path.is_dir()
            else fields
        )

    def _folder(self, root: Path, name: str) -> Iterator[Field]:
        for parts in self._walk(root):
            path = root.joinpath(*parts)
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield from self._field(parts[0] if len(parts) > 1 else name, "/".join(parts), path)
            elif path.suffix.lower() in FOREIGN_SUFFIXES:
                kind = path.suffix.lower()
                self.problems.append(
                    f"{quoted(path)}: left out, a {kind} file; save it as PNG, JPEG or TIFF"
                )

    def _field(self, patient_id: str, relative: str, path: Path) -> Iterator[Field]:
        if self.pattern:
            patient_id = patient_in(relative, self.pattern)
            if not patient_id:
                why = f"the pattern {quoted(self.pattern.pattern)} finds no patient in {quoted(relative)}"
                self.problems.append(f"{quoted(path)}: left out, {why}")
                return
        yield Field(_text(patient_id), _text(relative), path, self.um_per_px)

    def _walk(self, root: Path) -> Iterator[tuple[str, ...]]:
        """Path parts of the files below root; linked folders come last, so that a file is found
        where it lies first."""
        folders: deque[tuple[str, ...]] = deque([()])
        linked: deque[tuple[str, ...]] = deque()
        visited: set[tuple[str, tuple[str, ...]]] = set()
        while folders or linked:
            parts = (folders or linked).popleft()
            folder = root.joinpath(*parts)
            real = os.path.realpath(folder)
            is_loop = parts and Path(os.path.realpath(folder.parent)).is_relative_to(real)
            if is_loop or (real, parts[:1]) in visited or real in self.exclude:
                continue
            visited.add((real, parts[:1]))
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
            except OSError as problem:
                self.problems.append(
                    f"{quoted(folder)}: left out, the folder cannot be read ({problem.strerror})"
                )
                continue
            if {"cells.csv", "overlays"} <= {
                entry.name for entry in entries
            }:  # results of an earlier run, not fields
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.name in _DEBRIS:
                    continue
                if entry.is_dir():
                    (linked if entry.is_symlink() else folders).append((*parts, entry.name))
                else:
                    yield (*parts, entry.name)

    def _manifest(self, path: Path) -> Iterator[Field]:
        header: list[str] = []
        for line, cells in read_csv(path):
            if not header:
                header = [cell.lower() for cell in cells]
                if not {"patient_id", "field"} <= set(header):
                    got = quoted(", ".join(cells))
                    raise SpherodetectError(
                        f"{quoted(path)}: expected columns patient_id and field, got {got}; name them in the first line"
                    )
                continue
            row = dict(zip(header, cells, strict=False))
            where = f"{quoted(path)}, line {line}"
            try:
                if len(cells) > len(header) or not (row.get("patient_id") and row.get("field")):
                    raise SpherodetectError(
                        f"expected the cells {', '.join(header)}, got {quoted('; '.join(cells))}"
                    )
                relative = row["field"].replace("\\", "/")
                file = inside(path.parent, relative)
                if not file.is_file():
                    raise SpherodetectError(
                        f"no such file {quoted(file)}; a field's path is relative to the manifest"
                    )
            except SpherodetectError as problem:
                self.problems.append(f"{where}: left out, {problem}")
                continue
            um_per_px = self.um_per_px
            if scale := row.get("um_per_px"):
                um_per_px = _number(scale)
                if um_per_px is None:
                    self.problems.append(
                        f"{where}: expected um_per_px above 0, got {quoted(scale)}; left empty"
                    )
            yield Field(_text(row["patient_id"]), _text(Path(relative).as_posix()), file, um_per_px)

    def _is_new(self, field: Field) -> bool:
        """Whether a file comes for the first time; a second patient who claims it is named."""
        real = os.path.realpath(field.path)
        owner = self._patient_of_file.get(real)
        if owner is None:
            self._patient_of_file[real] = field.patient_id
        elif owner != field.patient_id:
            who = f"{quoted(owner)}, left out for {quoted(field.patient_id)}"
            self.problems.append(
                f"{quoted(field.path)}: one file was found for two patients; counted for {who}"
            )
        return owner is None


def patient_pattern(patient_regex: str | None) -> re.Pattern[str] | None:
    """The pattern for `patient_in`; SpherodetectError if it is none, or has no group for the
    patient."""
    if patient_regex is None:
        return None
    expected = f"patient pattern {quoted(patient_regex)}: expected a regular expression with a group for the patient"
    try:
        pattern = re.compile(patient_regex)
    except (re.error, RecursionError, OverflowError) as problem:
        raise SpherodetectError(
            f"{expected}, got one that is wrong ({quoted(problem)})"
        ) from problem
    if not pattern.groups:
        raise SpherodetectError(f"{expected}, got none; put round brackets around the patient")
    return pattern


def patient_in(path: str, pattern: re.Pattern[str]) -> str:
    """The patient that a path speaks of: the pattern's group `patient`, or its first; empty if
    there is none."""
    match = pattern.search(path)
    return (
        (match["patient" if "patient" in pattern.groupindex else 1] or "").strip() if match else ""
    )


def _number(text: str) -> float | None:
    """A number above 0, with a decimal point or comma, or None."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _parts(path: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(path)).parts


def _text(name: str) -> str:
    """A file system's name as text that every writer takes: bytes that are no UTF-8 are escaped."""
    return name.encode(errors="backslashreplace").decode()


def _distinct(fields: Iterable[Field]) -> tuple[Field, ...]:
    """The fields with ids never two alike, should the escaping of odd bytes have made them so."""
    taken: dict[str, Field] = {}
    for field in fields:
        field_id, n = field.field_id, 1
        while field_id in taken:
            field_id, n = f"{field.field_id}~{n + 1}", n + 1
        taken[field_id] = replace(field, field_id=field_id)
    return tuple(taken.values())
