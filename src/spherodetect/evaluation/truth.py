"""The labelled fields on which a model is evaluated: a split of a recipe, or of records.

Images are uint8 RGB (H, W, 3) as in their files, except that a stretch by an export is undone.
Points are (y, x) and boxes (ymin, xmin, ymax, xmax) in their pixels. Labels may be partial. A field
counts as fully labelled if nearly every whole cell that segmentation finds has a label, or if the
recipe says that every cell has one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import Cells, touches_border
from spherodetect.errors import SpherodetectError
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.check.coverage import MIN_UNLABELLED_SHARE
from spherodetect.labels.recipe import Recipe
from spherodetect.safety import quoted

#: A label of unknown class: a red cell of unknown kind, or a cell of unknown kind.
RED_CELL, UNKNOWN = "red cell", ""
_POINTS = "the labels are points"
_REFINED = (
    "the records' boxes and masks are refined by segmentation, nobody drew them; "
    "evaluate the recipe instead"
)
_RECTANGLES = "most outlines are the boxes themselves, and a mask is more than its box"
#: Records that are read to find out whether their labels are points.
_SAMPLE_RECORDS = 5

Progress = Callable[..., None]


@dataclass(frozen=True, eq=False)
class Labelled:
    """One field with its M labelled cells.

    Attributes:
        field, patient: names; patient is empty if it is not known.
        image: (H, W, 3) uint8.
        points_yx: (M, 2) the labelled point, or the centre of the box.
        classes: (M,) class name, RED_CELL or UNKNOWN.
        fine: (M,) the annotator's own class name.
        n_cells, n_unlabelled: whole cells that segmentation finds, and those without a label.
        box_yxyx: (M, 4) as drawn; NaN without a drawn box.
        outlines: (M,) COCO run lengths of the drawn outline, None where only a box was drawn; empty
            for a field that is not fully labelled.
        um_per_px: pixel size in µm, or None if the data set does not state it.
    """

    field: str
    patient: str
    image: np.ndarray
    points_yx: np.ndarray
    classes: np.ndarray
    fine: np.ndarray
    n_cells: int
    n_unlabelled: int
    box_yxyx: np.ndarray
    outlines: tuple[dict[str, Any] | None, ...]
    um_per_px: float | None = None

    @property
    def full(self) -> bool:
        """Whether the field is fully labelled: an unmatched detection is a false positive."""
        return self.n_unlabelled <= MIN_UNLABELLED_SHARE * self.n_cells


@dataclass(frozen=True, eq=False)
class Truth:
    """One split of a data set, read field by field.

    Attributes:
        name, split: of the data set.
        n_fields: number of fields, at most. Records may have fields without a label, which are
            skipped.
        digests: `records.account.file_digest` of the image files; empty if the records have none.
        patients: the patients that are known.
        read: yields the fields with the given names, or all.
        checksums: of the records; empty for a recipe.
        no_boxes, no_masks: why boxes and masks cannot be evaluated; empty if they can.
        keep: an object that must live as long as the files are read.
    """

    name: str
    split: str
    n_fields: int
    digests: frozenset[str]
    patients: frozenset[str]
    read: Callable[[Collection[str] | None], Iterator[Labelled]]
    checksums: frozenset[str] = frozenset()
    no_boxes: str = ""
    no_masks: str = ""
    keep: object = field(default=None, repr=False)


def open_truth(
    data: Path, split: str, *, progress: Progress = lambda done, total, label="": None
) -> Truth:
    """Open a recipe (a .yaml file) or a folder of records.

    Raises:
        SpherodetectError: no such data, or no labelled field in this split.
    """
    is_recipe = data.suffix.lower() in (".yaml", ".yml")
    truth = _from_recipe(data, split, progress) if is_recipe else _from_records(data, split)
    if not truth.n_fields:
        raise SpherodetectError(
            f"{quoted(data)}: expected labelled fields in split {split!r}, got none; "
            "name another with --split"
        )
    return truth


def _from_recipe(path: Path, split: str, progress: Progress) -> Truth:
    from spherodetect.labels.check.duplicates import near_duplicates
    from spherodetect.labels.recipe import load_recipe
    from spherodetect.labels.source import read_labels
    from spherodetect.labels.splits import assign_splits, spare_copies
    from spherodetect.records.account import file_digest

    recipe = load_recipe(path)
    labels = read_labels(recipe)
    groups = near_duplicates(
        {f.file: f.path for f in labels.fields if f.path is not None},
        progress=lambda done, total: progress(done, total, "comparing images"),
    )
    splits = assign_splits(labels.fields, recipe, duplicate_groups=groups)
    spare = spare_copies(labels.fields, splits)
    chosen = [
        f
        for f in labels.fields
        if splits[f.file] == split and f.file not in spare and f.path and f.annotations
    ]

    def read(only: Collection[str] | None) -> Iterator[Labelled]:
        return (_labelled(f, recipe) for f in chosen if only is None or f.file in only)

    annotations = [a for f in chosen for a in f.annotations]
    no_boxes = _POINTS if any(a.outline_box_yxyx is None for a in annotations) else ""
    flat = sum(a.is_rectangle for a in annotations)
    return Truth(
        recipe.name,
        split,
        len(chosen),
        frozenset(file_digest(f.path) for f in chosen if f.path),
        frozenset(f.patient_id for f in chosen if f.patient_id),
        read,
        no_boxes=no_boxes,
        no_masks=no_boxes or (_RECTANGLES if 2 * flat > len(annotations) else ""),
        keep=labels,
    )


def _labelled(field: LabelledField, recipe: Recipe) -> Labelled:
    from spherodetect.fields.image import read_image
    from spherodetect.labels.check.coverage import examine
    from spherodetect.labels.repair.stretch import unstretch

    assert field.path is not None, "only fields with an image are read"
    coverage = examine(field) if recipe.unlabelled_cells_unknown else None
    image, field, _ = unstretch(read_image(field.path, name=field.file), field)
    meanings = [recipe.meaning(a.name) for a in field.annotations]
    drawn = np.array(
        [a.outline_box_yxyx or [np.nan] * 4 for a in field.annotations], float
    ).reshape(-1, 4)
    n_cells, n_unlabelled = len(drawn), 0
    if coverage is not None:
        n_cells, n_unlabelled = coverage.n_cells, coverage.n_unlabelled
    full = n_unlabelled <= MIN_UNLABELLED_SHARE * n_cells
    return Labelled(
        field.file,
        field.patient_id or "",
        image,
        np.array(
            [a.point_yx or _center(box) for a, box in zip(field.annotations, drawn, strict=True)],
            float,
        ),
        np.array([m.class_name or (RED_CELL if m.red_cell else UNKNOWN) for m in meanings], object),
        np.array([m.fine_name for m in meanings], object),
        n_cells,
        n_unlabelled,
        drawn,
        tuple(_run_lengths(a, image.shape[:2]) for a in field.annotations) if full else (),
        field.um_per_px,
    )


def _center(box_yxyx: np.ndarray) -> np.ndarray:
    return (box_yxyx[:2] + box_yxyx[2:]) / 2


def _run_lengths(annotation: Annotation, size_hw: tuple[int, int]) -> dict[str, Any] | None:
    from pycocotools import mask as coco_masks

    if annotation.is_rectangle:
        return None
    if annotation.mask is not None:
        return dict(coco_masks.encode(np.asfortranarray(np.asarray(annotation.mask), np.uint8)))
    parts = [p[:, ::-1].ravel().tolist() for p in annotation.polygons if len(p) >= 3]
    return dict(coco_masks.merge(coco_masks.frPyObjects(parts, *size_hw)))


def _from_records(folder: Path, split: str) -> Truth:
    from spherodetect.records.examples import read_examples
    from spherodetect.safety import read_json

    manifest = read_json(folder / "manifest.json")
    try:
        name, splits, classes = manifest["name"], manifest["splits"], ("", *manifest["class_names"])
        repaired, checksums = manifest["annotations"]["repaired"], manifest["checksums"]
    except (KeyError, TypeError) as problem:
        raise SpherodetectError(
            f"{quoted(folder / 'manifest.json')}: expected the manifest of records, got "
            f"{problem!r:.60}; write them with `spherodetect tfrecords`"
        ) from problem
    shards = sorted(folder.glob(f"{name}-{split}-*.tfrecord"))
    if not shards or split not in splits:
        raise SpherodetectError(
            f"{quoted(folder)}: expected records of split {split!r}, got none; known: "
            f"{', '.join(splits)}"
        )

    def read(only: Collection[str] | None) -> Iterator[Labelled]:
        labelled = (e for e in read_examples(shards) if any(e["name"]))
        return (_of_record(e, classes) for e in labelled if only is None or e["field"] in only)

    refined = _REFINED if "box-to-mask" in repaired else ""
    pointed = any((example["point_yx"] >= 0).any() for example in _first(read_examples(shards)))
    return Truth(
        name,
        split,
        splits[split]["images"],
        frozenset(splits[split].get("fields", ())),
        frozenset(splits[split]["patients"]),
        read,
        frozenset(checksums[s.name] for s in shards if s.name in checksums),
        no_boxes=_POINTS if pointed else refined,
        no_masks=_POINTS if pointed else refined,
    )


def _first(examples: Iterable[Any], n: int = _SAMPLE_RECORDS) -> Iterator[Any]:
    return (example for example, _ in zip(examples, range(n), strict=False))


def _of_record(example: dict[str, Any], classes: tuple[str, ...]) -> Labelled:
    from spherodetect.report.interop import to_coco

    box = example["box_yxyx"]
    known = np.array([bool(name) for name in example["name"]], bool)
    points = np.where(example["point_yx"] >= 0, example["point_yx"], (box[:, :2] + box[:, 2:]) / 2)
    # In class/set, bit 0 (background) is set for a cell of unknown kind, and not for a red cell of
    # unknown kind.
    unknown = np.where(example["class_set"] & 1, UNKNOWN, RED_CELL)
    names = np.where(
        example["class_id"] > 0, np.array(classes, object)[example["class_id"]], unknown
    )
    size_hw = example["image"].shape[:2]
    whole = ~touches_border(box, size_hw)
    cells = Cells.from_labels(
        box, np.ones(len(box)), example["masks"].astype(np.float32), image_size_hw=size_hw
    )
    masked = zip(to_coco([cells[known]])["annotations"], example["mask_known"][known], strict=True)
    return Labelled(
        example["field"],
        example["patient"],
        example["image"],
        points[known],
        names[known],
        np.array(example["name"], object)[known],
        int(whole.sum()),
        int((whole & ~known).sum()),
        box[known],
        tuple(a["segmentation"] if drawn else None for a, drawn in masked),
        example["um_per_px"] or None,
    )
