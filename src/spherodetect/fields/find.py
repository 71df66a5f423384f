"""Find the fields of patients in folders, single images and manifests.

A patient is a folder, a value of a manifest's column, or the match of a pattern in a path. An image
that cannot be used is left out and reported. A path without any image is an error.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from spherodetect.errors import SpherodetectError
from spherodetect.fields.field import Field, FieldList
from spherodetect.fields.folder import files_below
from spherodetect.fields.image import FORMAT_NAMES
from spherodetect.fields.manifest import MANIFEST_SUFFIXES, read_manifest
from spherodetect.fields.names import (
    FOREIGN_SUFFIXES,
    IMAGE_SUFFIXES,
    natural_key,
    patient_name,
    valid_text,
)
from spherodetect.fields.patients import patient_in, patient_pattern
from spherodetect.safety import quoted

#: What to do with files that users pass by mistake.
_NEXT_STEPS = {".zip": "unpack it first", ".xls": "save it as CSV", ".ods": "save it as CSV"}


def find_fields(
    paths: str | Path | Iterable[str | Path],
    *,
    patient_regex: str | None = None,
    um_per_px: float | None = None,
    exclude: Sequence[str | Path] = (),
) -> FieldList:
    """The fields of all patients in folders, images and manifests.

    Each sub-folder of a folder is a patient, and deeper folders belong to the first level. Images
    directly in the folder belong to one patient with the folder's name. A single image belongs to a
    patient with the name of its folder. Patients of the same name in several paths are one patient.

    field_id is relative to the path. If two fields would get the same field_id, all of them are
    relative to the common parent of the paths. Hidden files and the results of an earlier run are
    ignored, and a file that is reached twice counts once.

    Args:
        paths: folders, images or manifests. A manifest is a CSV or .xlsx file with the columns
            patient_id, field (a path relative to the manifest) and, optionally, um_per_px. It takes
            precedence over the options.
        patient_regex: a pattern for the path relative to the given path. Its group `patient`, or
            its first group, is the patient.
        um_per_px: pixel size in µm, for all fields whose manifest states none.
        exclude: folders that are not searched.

    Raises:
        SpherodetectError: a path is missing, contains no image, or is no folder, image or manifest;
            or an option is invalid.

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
    """The images in folders and manifests, as `find_fields` finds them.

    If several paths are given, field_id is always relative to their common parent.

    Raises:
        SpherodetectError: as find_fields.
    """
    return _Search(None, um_per_px, exclude).run(paths, from_common_parent=True)


class _Search:
    """Collects the fields of several paths, with the problems met on the way."""

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
        self._parents: list[Path] = []
        self._patient_of_file: dict[str, str] = {}

    def run(
        self, paths: str | Path | Iterable[str | Path], *, from_common_parent: bool = False
    ) -> FieldList:
        paths = [paths] if isinstance(paths, str | Path) else list(paths)
        if not paths:
            raise SpherodetectError(
                "expected a folder of images, an image or a manifest .csv, got no path"
            )
        unique = {os.path.abspath(path): Path(path) for path in paths}
        fields = [field for path in unique.values() for field in self._in_path(path)]
        ambiguous = len({field.field_id for field in fields}) < len(fields)
        if ambiguous or (from_common_parent and len(unique) > 1):
            fields = self._named_from_common_parent(fields)
        return FieldList(_with_unique_ids(fields), tuple(self.problems))

    def _named_from_common_parent(self, fields: list[Field]) -> list[Field]:
        levels = zip(*map(_parts, self._parents), strict=False)
        depth = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, levels)))
        named = []
        for field in fields:
            field_id = "/".join(part.strip("/\\:") for part in _parts(field.path)[depth:])
            named.append(replace(field, field_id=valid_text(field_id)))
        return named

    def _in_path(self, path: Path) -> list[Field]:
        folder = Path(os.path.abspath(path))
        if path.is_dir():
            self._parents.append(folder.parent)
            found = self._in_folder(path, folder.name or "patient")
            expected = f"{FORMAT_NAMES} images, or a folder of them for each patient"
        elif not path.exists():
            raise SpherodetectError(
                f"{quoted(path)}: expected a folder, image or manifest, got nothing there"
            )
        elif path.suffix.lower() in MANIFEST_SUFFIXES:
            self._parents.append(folder.parent.parent)
            found = read_manifest(path, self.um_per_px, self.problems)
            expected = "rows that name images beside the manifest"
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            self._parents.append(folder.parent)
            found = self._field(folder.parent.name or "patient", path.name, path)
            expected = "an image whose name the pattern matches"
        else:
            suffix = path.suffix.lower()
            raise SpherodetectError(
                f"{quoted(path)}: expected a folder of images, a {FORMAT_NAMES} image or a "
                f"manifest .csv, got {f'a {suffix} file' if suffix else 'another file'}; "
                f"{_NEXT_STEPS.get(suffix, 'save its pictures as PNG, JPEG or TIFF')}"
            )
        n_problems = len(self.problems)
        fields = list(found)
        if not fields:
            why = self.problems[n_problems:] or ["is it the right path?"]
            raise SpherodetectError(f"{quoted(path)}: expected {expected}, got none; {why[0]}")
        fields = [field for field in fields if self._is_new(field)]
        if path.is_dir():
            fields.sort(key=lambda field: natural_key(field.field_id))
        return fields

    def _in_folder(self, root: Path, name: str) -> Iterator[Field]:
        for parts in files_below(root, self.exclude, self.problems):
            path = root.joinpath(*parts)
            suffix = path.suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                yield from self._field(parts[0] if len(parts) > 1 else name, "/".join(parts), path)
            elif suffix in FOREIGN_SUFFIXES:
                self.problems.append(
                    f"{quoted(path)}: left out, a {suffix} file; save it as PNG, JPEG or TIFF"
                )

    def _field(self, patient_id: str, relative: str, path: Path) -> Iterator[Field]:
        if self.pattern:
            patient_id = patient_in(relative, self.pattern)
            if not patient_id:
                self.problems.append(
                    f"{quoted(path)}: left out, the pattern {quoted(self.pattern.pattern)} "
                    f"finds no patient in {quoted(relative)}"
                )
                return
        yield Field(patient_name(patient_id), valid_text(relative), path, self.um_per_px)

    def _is_new(self, field: Field) -> bool:
        """Whether the file was not found before; a second patient for it is a problem."""
        real = os.path.realpath(field.path)
        owner = self._patient_of_file.get(real)
        if owner is None:
            self._patient_of_file[real] = field.patient_id
        elif owner != field.patient_id:
            self.problems.append(
                f"{quoted(field.path)}: one file was found for two patients; "
                f"counted for {quoted(owner)}, left out for {quoted(field.patient_id)}"
            )
        return owner is None


def _parts(path: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(path)).parts


def _with_unique_ids(fields: Iterable[Field]) -> tuple[Field, ...]:
    """The fields, with a number appended to an id that occurs again.

    Only `valid_text` can make two ids equal: a file may have the escaped name of another.
    """
    taken: dict[str, Field] = {}
    for field in fields:
        field_id, n = field.field_id, 1
        while field_id in taken:
            field_id, n = f"{field.field_id}~{n + 1}", n + 1
        taken[field_id] = replace(field, field_id=field_id)
    return tuple(taken.values())


__all__ = ["find_fields", "find_images"]
