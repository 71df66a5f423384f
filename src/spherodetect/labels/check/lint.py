"""Says what is wrong with labels, in one list of findings.

An error is what ruins a model without a sound where nobody mends it: labels that get lost, that
point at the wrong place, that teach rectangles or squashed cells, or that let a model be tried on
what it was trained on. A warning is what deserves a look, or what the recipe takes care of. A
finding's count is the number of what it names: annotations (whose ids it lists), or else images,
sources, patients or cells.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import touches_border
from spherodetect.constants import RBC_DIAMETER_UM
from spherodetect.geometry import box_iou
from spherodetect.labels.annotations import Annotation, Finding, LabelledField
from spherodetect.labels.check.coverage import fields_to_look_at, lint_images
from spherodetect.labels.check.duplicates import near_duplicates
from spherodetect.labels.readers.files import listed, read_header
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.source import read_unmapped, recipe_for
from spherodetect.labels.splits import assign_splits, leaks

#: The codes that findings may have; programs may rely on them.
CODES = (
    "box-outside-image", "box-polygon-mismatch", "rectangle-mask", "stretched-image", "augmented-copies",
    "source-in-two-splits", "patient-in-two-splits", "near-duplicate-images", "root-category", "gapped-category-ids",
    "duplicate-annotation-id", "duplicate-box", "degenerate-polygon", "point-beside-cell", "unlabelled-cells",
    "image-without-labels", "labels-without-image", "exif-rotation", "malformed",
)  # fmt: skip

BOX_TOLERANCE_PX = 0.1  # exports round to a tenth of this or better
DUPLICATE_IOU = 0.9
DUPLICATE_POINTS = (
    0.35  # of a red cell's diameter; labels/masks.py takes two such points for one cell too
)
_UNKNOWN_SCALE_POINTS_PX = 3.0
MIN_STRETCH = 1.1  # the median of round cells stays within a few per cent of 1
_RATIO_TOLERANCE = 0.05  # cells are not quite round: Dataset A's 1.33 reads 1.28 to 1.30
_MIN_CELLS = 30
_CAMERA_RATIOS = {"4:3": 4 / 3, "3:2": 3 / 2, "16:9": 16 / 9, "5:4": 5 / 4}
_ORDER = {"error": 0, "warning": 1}

Group = tuple[str, str | None]
Progress = Callable[[int, int], None]


def lint(
    source: str | Path | Recipe,
    *,
    segmentation: bool = True,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> list[Finding]:
    """Everything that is wrong with a source, errors first.

    Args:
        source: an export folder or zip, a recipe file, or a recipe.
        segmentation: also look at the images, for points beside cells and cells without a label;
            takes most of the time.
        workers: processes that look at the images.
        progress: called with steps done and in all; an image is compared with all others, and
            looked at.

    Raises:
        BadLabelsError: there is nothing that could be linted.
    """
    recipe = source if isinstance(source, Recipe) else recipe_for(source)
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
    """Everything that is wrong with labels that were read, errors first; duplicate_groups are of
    `near_duplicates`."""
    paths = {f.file: f.path for f in labels.fields if f.path} if duplicate_groups is None else {}
    n_steps = len(paths) + (len(fields_to_look_at(labels)) if segmentation else 0)
    if duplicate_groups is None:
        duplicate_groups = near_duplicates(paths, progress=lambda done, _: progress(done, n_steps))
    found = list(labels.findings)
    groups: dict[Group, list[LabelledField]] = defaultdict(list)
    for field in labels.fields:
        groups[labels.label_files.get(field.file, field.file), field.split].append(field)
    for (file, split), fields in groups.items():
        found += _geometry(file, split, fields)
    by_split: dict[str | None, list[LabelledField]] = defaultdict(list)
    for field in labels.fields:
        by_split[field.split].append(field)
    for split, fields in by_split.items():
        found += _stretch(labels, split, fields)
        found += _copies(labels, split, fields)
    found += _duplicates(labels.fields, duplicate_groups)
    found += _leaks(labels.fields, recipe, duplicate_groups)
    known = {f.file for f in labels.findings if f.code == "exif-rotation"}
    found += _orientations(f for f in labels.fields if f.file not in known)
    if segmentation:
        found += lint_images(
            labels,
            recipe,
            workers=workers,
            progress=lambda done, _: progress(len(paths) + done, n_steps),
        )
    return sorted(found, key=lambda f: _ORDER.get(f.severity, 2))


def findings_json(findings: Iterable[Finding]) -> dict[str, Any]:
    """The findings as `lint --json` writes them."""
    return {"findings": [asdict(f) | {"annotation_ids": list(f.annotation_ids)} for f in findings]}


def _geometry(file: str, split: str | None, fields: Sequence[LabelledField]) -> Iterator[Finding]:
    """What is wrong with single outlines and boxes, one finding a kind for a label file."""
    ids: dict[str, list[str]] = defaultdict(list)
    worst: dict[str, float] = defaultdict(float)
    outlined = 0
    for field in fields:
        ids["duplicate-box"] += _doubles(field)
        for a in field.annotations:
            if (out := _outside_px(a, field.size_hw)) > 0:
                ids["box-outside-image"].append(a.annotation_id)
                worst["box-outside-image"] = max(worst["box-outside-image"], out)
            if (off := _mismatch_px(a)) > BOX_TOLERANCE_PX:
                ids["box-polygon-mismatch"].append(a.annotation_id)
                worst["box-polygon-mismatch"] = max(worst["box-polygon-mismatch"], off)
            has_outline = bool(a.polygons) or a.mask is not None
            outlined += has_outline
            if has_outline and a.is_rectangle:
                ids["rectangle-mask"].append(a.annotation_id)
    mostly = len(ids["rectangle-mask"]) * 2 > outlined
    for code, severity, message, mend in (
        (
            "box-outside-image",
            "error",
            f"boxes stick out of the image by up to {worst['box-outside-image']:.2f} px; some converters drop them",
            "take the box from the outline and clip what still sticks out, as spherodetect tfrecords does",
        ),
        (
            "box-polygon-mismatch",
            "warning",
            f"stated boxes differ from their outlines by up to {worst['box-polygon-mismatch']:.2f} px",
            "take the box from the outline, as spherodetect tfrecords does",
        ),
        (
            "rectangle-mask",
            "error" if mostly else "warning",
            f"outlines are rectangles, {len(ids['rectangle-mask']):,} of {outlined:,}; a mask head learns rectangles",
            "treat them as boxes and refine them by segmentation, as spherodetect tfrecords does",
        ),
        (
            "duplicate-box",
            "warning",
            "cells are labelled again where a label already lies",
            "delete one of the two; they may differ in class",
        ),
    ):
        if ids[code]:
            yield Finding(
                code, severity, file, split, len(ids[code]), tuple(ids[code]), message, mend
            )


def _outside_px(a: Annotation, size_hw: tuple[int, int]) -> float:
    """How far a box, as stated or as its outline has it, sticks out of the image; 0 if it does
    not."""
    limits = (*size_hw, *size_hw)
    boxes = [box for box in (a.box_yxyx, a.outline_box_yxyx if a.polygons else None) if box]
    return max(
        (max(-v, v - limit) for box in boxes for v, limit in zip(box, limits, strict=True)),
        default=0.0,
    )


def _mismatch_px(a: Annotation) -> float:
    if not a.polygons or a.box_yxyx is None or a.outline_box_yxyx is None:
        return 0.0
    return max(abs(s - o) for s, o in zip(a.box_yxyx, a.outline_box_yxyx, strict=True))


def _doubles(field: LabelledField) -> list[str]:
    """Ids of annotations that lie where an earlier one of the field lies."""
    found = []
    boxed = [a for a in field.annotations if a.outline_box_yxyx and not a.iscrowd]
    box = np.array([a.outline_box_yxyx for a in boxed]).reshape(-1, 4)
    for k in range(1, len(boxed)):
        if (box_iou(box[k : k + 1], box[:k]) > DUPLICATE_IOU).any():
            found.append(boxed[k].annotation_id)
    points = [a for a in field.annotations if a.point_yx]
    at = np.array([a.point_yx for a in points]).reshape(-1, 2)
    apart = (
        DUPLICATE_POINTS * RBC_DIAMETER_UM / field.um_per_px
        if field.um_per_px
        else _UNKNOWN_SCALE_POINTS_PX
    )
    found += [
        points[k].annotation_id
        for k in range(1, len(points))
        if (np.hypot(*(at[:k] - at[k]).T) < apart).any()
    ]
    return found


def _stretch(
    labels: LabelSet, split: str | None, fields: Sequence[LabelledField]
) -> Iterator[Finding]:
    """Whether cells are taller than wide, or wider than tall, as a population: smears have no up
    and down."""
    for size_hw in sorted({f.size_hw for f in fields}):
        members = [f for f in fields if f.size_hw == size_hw]
        ratio = _height_to_width(members)
        known = members[0].native_size_hw
        stretch = known[1] * size_hw[0] / (known[0] * size_hw[1]) if known else ratio
        if not max(stretch, 1 / stretch) > MIN_STRETCH:
            continue
        height, width = size_hw
        seen = (
            f"whole cells are {ratio:.2f} times as tall as wide"
            if math.isfinite(ratio)
            else "cells are squashed"
        )
        if known:
            why = f"{known[1]}x{known[0]} photographs were stretched to {width}x{height} ({stretch:.2f})"
        else:
            off = {
                k: abs(math.log(r / max(stretch, 1 / stretch))) for k, r in _CAMERA_RATIOS.items()
            }
            near = sorted(
                (k for k in off if off[k] <= max(min(off.values()), _RATIO_TOLERANCE)),
                key=off.__getitem__,
            )
            ratios = " or ".join(f"{k} ({_CAMERA_RATIOS[k]:.2f})" for k in near)
            why = f"as if photographs of {ratios} were stretched to {width}x{height}"
        yield Finding(
            "stretched-image",
            "warning" if known else "error",
            labels.where(members),
            split,
            len(members),
            (),
            f"{seen}: {why}",
            "the recipe's native_size_hw undoes it"
            if known
            else "give native_size_hw: [height, width] of the photographs in a recipe, or export without stretching",
        )


def _height_to_width(fields: Sequence[LabelledField]) -> float:
    """Median height to width of the boxes that the image's edge does not cut; NaN for fewer than
    30."""
    ratios: list[float] = []
    for field in fields:
        box = np.array(
            [a.outline_box_yxyx for a in field.annotations if a.outline_box_yxyx]
        ).reshape(-1, 4)
        box = box[~touches_border(box, field.size_hw)]
        ratios += ((box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1])).tolist()
    return float(np.median(ratios)) if len(ratios) >= _MIN_CELLS else float("nan")


def _copies(
    labels: LabelSet, split: str | None, fields: Sequence[LabelledField]
) -> Iterator[Finding]:
    times = {source: n for source, n in Counter(f.source_id for f in fields).items() if n > 1}
    where = labels.where(f for f in fields if f.source_id in times)
    if times:
        each = " or ".join(str(n) for n in sorted(set(times.values())))
        yield Finding(
            "augmented-copies",
            "warning",
            where,
            split,
            len(times),
            (),
            f"{len(times)} sources are there in {each} copies each, {sum(times.values())} images in all",
            "keep copies of a source in one split and judge by one of them; their pixel size may differ",
        )


def _duplicates(
    fields: Sequence[LabelledField], groups: Sequence[Sequence[str]]
) -> Iterator[Finding]:
    source = {f.file: f.source_id for f in fields}
    for group in groups:
        if (
            len({source.get(file, file) for file in group}) > 1
        ):  # copies of one source are another finding
            yield Finding(
                "near-duplicate-images",
                "warning",
                group[0],
                None,
                len(group),
                (),
                f"shows the same cells as {listed(group[1:])}",
                "keep them in one split, and count their cells once",
            )


def _leaks(
    fields: Sequence[LabelledField], recipe: Recipe, groups: Sequence[Sequence[str]]
) -> list[Finding]:
    """Leaks of the recipe's split, and of the export's own folders, which only warn where a recipe
    splits anew."""
    found = leaks(fields, {f.file: f.split or "train" for f in fields}, duplicate_groups=groups)
    if recipe.file is None:
        return found
    mend = f"nothing, the recipe splits anew, by {recipe.split.by}; whoever uses the export's folders should not"
    anew = leaks(
        fields, assign_splits(fields, recipe, duplicate_groups=groups), duplicate_groups=groups
    )
    return anew + [
        replace(f, severity="warning", mend=mend)
        for f in found
        if f.code not in {a.code for a in anew}
    ]


def _orientations(fields: Iterable[LabelledField]) -> Iterator[Finding]:
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
                f"EXIF turns the image (orientation {header[1]}); labelling tools differ in whether they turn it: its "
                "labels may lie elsewhere",
                "save the image upright without EXIF, and look whether its labels still fit",
            )
