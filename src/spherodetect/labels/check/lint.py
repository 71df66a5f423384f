"""Lint: the problems of labels as one list of findings.

An error spoils a model without any message at training: labels are lost, lie at the wrong place,
teach rectangles or squashed cells, or leak between training and evaluation. A warning needs a
person's attention. A note needs nothing: the recipe or `tfrecords` repairs the cause. A finding's
count is the number of annotations (whose ids it lists), or else of images, sources, patients or
cells.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spherodetect.errors import BadLabelsError
from spherodetect.labels.annotations import Finding, LabelledField
from spherodetect.labels.check.copies import (
    augmented_copies,
    duplicate_images,
    leaking_splits,
    same_names,
)
from spherodetect.labels.check.coverage import examinable, lint_images
from spherodetect.labels.check.duplicates import near_duplicates
from spherodetect.labels.check.repaired import repaired
from spherodetect.labels.check.shapes import shape_findings
from spherodetect.labels.check.stretching import stretched_images
from spherodetect.labels.readers.files import read_header
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.source import read_unmapped, recipe_for
from spherodetect.safety import quoted

#: The codes of findings, a contract with other programs.
CODES = (
    "box-outside-image",
    "box-polygon-mismatch",
    "rectangle-mask",
    "stretched-image",
    "augmented-copies",
    "same-name-images",
    "source-in-two-splits",
    "patient-in-two-splits",
    "near-duplicate-images",
    "root-category",
    "gapped-category-ids",
    "duplicate-annotation-id",
    "duplicate-box",
    "degenerate-polygon",
    "point-beside-cell",
    "box-beside-cell",
    "unlabelled-cells",
    "image-without-labels",
    "labels-without-image",
    "exif-rotation",
    "malformed",
    "unknown-class",
)

_ORDER = {"error": 0, "warning": 1, "note": 2}

Progress = Callable[[int, int], None]


def lint(
    source: str | Path | Recipe,
    *,
    segmentation: bool = True,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    classes: Mapping[str, str] | None = None,
) -> list[Finding]:
    """The problems of a source of labels, errors first.

    Args:
        source: an export folder or zip, a recipe file, or a recipe.
        segmentation: also segment the images, to find points beside cells and cells without a
            label; this takes most of the time.
        workers: processes that segment images.
        progress: called with the number of steps done and the total. Each image is one step of the
            comparison for duplicates, and one of segmentation.
        classes: names to classes, in addition to those of the recipe.

    Raises:
        BadLabelsError: there are no labels.
    """
    recipe = source if isinstance(source, Recipe) else recipe_for(source)
    recipe = replace(recipe, classes={**recipe.classes, **(classes or {})})
    return lint_labels(
        read_unmapped(recipe), recipe, segmentation=segmentation, workers=workers, progress=progress
    )


def lint_labels(
    labels: LabelSet,
    recipe: Recipe,
    *,
    duplicate_groups: Sequence[Sequence[str]] | None = None,
    segmentation: bool = False,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> list[Finding]:
    """The problems of labels that were read, errors first.

    Args:
        labels: the labels read.
        recipe: their recipe.
        duplicate_groups: the result of `near_duplicates` if the caller has it.
        segmentation: as for `lint`.
        workers: as for `lint`.
        progress: as for `lint`.
    """
    paths = {f.file: f.path for f in labels.fields if f.path} if duplicate_groups is None else {}
    n_steps = len(paths) + (len(examinable(labels)) if segmentation else 0)
    if duplicate_groups is None:
        duplicate_groups = near_duplicates(paths, progress=lambda done, _: progress(done, n_steps))
    has_recipe = recipe.file is not None
    found = [repaired(f, by_reader=True) if has_recipe else f for f in labels.findings]
    by_label_file: dict[tuple[str, str | None], list[LabelledField]] = defaultdict(list)
    by_split: dict[str | None, list[LabelledField]] = defaultdict(list)
    for field in labels.fields:
        by_label_file[labels.label_files.get(field.file, field.file), field.split].append(field)
        by_split[field.split].append(field)
    for (file, split), fields in by_label_file.items():
        found += shape_findings(file, split, fields)
    for split, fields in by_split.items():
        found += stretched_images(labels, split, fields)
        found += augmented_copies(labels, split, fields)
        found += same_names(labels, split, fields)
    found += _unknown_classes(labels, recipe)
    found += duplicate_images(labels.fields, duplicate_groups)
    found += leaking_splits(labels.fields, recipe, duplicate_groups)
    noted = {f.file for f in labels.findings if f.code == "exif-rotation"}
    found += _turned_images(f for f in labels.fields if f.file not in noted)
    if segmentation:
        found += lint_images(
            labels,
            recipe,
            workers=workers,
            progress=lambda done, _: progress(len(paths) + done, n_steps),
        )
    if has_recipe:
        found = [repaired(f) for f in found]
    return sorted(found, key=lambda f: _ORDER[f.severity])


def findings_json(findings: Iterable[Finding]) -> dict[str, Any]:
    """The findings as `lint --json` writes them."""
    return {"findings": [asdict(f) | {"annotation_ids": list(f.annotation_ids)} for f in findings]}


def _unknown_classes(labels: LabelSet, recipe: Recipe) -> Iterator[Finding]:
    """One finding for each class name that the recipe does not know."""
    n_labels: Counter[str] = Counter()
    fields: dict[str, list[LabelledField]] = defaultdict(list)
    for field in labels.fields:
        for annotation in field.annotations:
            n_labels[annotation.name] += 1
            fields[annotation.name].append(field)
    for name, count in n_labels.items():
        try:
            recipe.meaning(name)
        except BadLabelsError:
            yield Finding(
                "unknown-class",
                "error",
                labels.where(fields[name]),
                None,
                count,
                (),
                f"the class name {quoted(name)} is not known; "
                f"known: {', '.join(recipe.class_names)}, their usual names and finer red cells",
                _mend_of_a_name(name),
            )


def _mend_of_a_name(name: str) -> str:
    mend = "map it in a recipe (classes, red_cells or unknown) or with --classes FILE"
    if not name.isdecimal():
        return f"rename it, or {mend}"
    return f"put the data.yaml, classes.txt or *.names of the export beside the labels, or {mend}"


def _turned_images(fields: Iterable[LabelledField]) -> Iterator[Finding]:
    for field in fields:
        header = read_header(field.path) if field.path else None
        if header and header[1] not in (0, 1):
            yield Finding(
                "exif-rotation",
                "error",
                field.file,
                field.split,
                1,
                (),
                f"EXIF turns the image (orientation {header[1]}); some labelling tools turn it and "
                "some do not, so its labels may lie elsewhere",
                "save the image upright without EXIF, and check that its labels still fit",
            )
