"""Reads, splits and converts a recipe's data set, field by field, for records and TFDS builders.

Nothing is random and the order is kept, so any number of processes gives the same fields.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from spherodetect.errors import BadImageError, BadLabelsError
from spherodetect.labels.annotations import Finding, LabelledField
from spherodetect.labels.readers.files import listed
from spherodetect.labels.readers.ledger import LabelSet, Unread
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.repair.instances import FieldInstances
from spherodetect.labels.repair.masks import find_instances
from spherodetect.safety import quoted
from spherodetect.workers import working

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set before its images are converted.

    Attributes:
        labels: the labels read.
        splits: field's file to its split, without further copies of a photograph in validation and
            test, and without images that have no labels.
        findings: of the reader, of misread boxes, of the leaks of the split, and unlabelled cells
            of which the recipe says nothing.
        forced: whether there are misread boxes or leaks, and it is written nevertheless.
    """

    labels: LabelSet
    splits: Mapping[str, str]
    findings: tuple[Finding, ...]
    forced: bool


@dataclass(frozen=True, eq=False)
class Converted:
    """One field, repaired and ready to be written.

    Attributes:
        labelled: its labels, in the pixels of the image as it is written.
        png: the image, upright, with stretch undone and burnt-in marks hidden; None if it could not
            be read.
        size_hw: its height and width.
        found: its instances.
        problem: why the image could not be read.
    """

    labelled: LabelledField
    png: bytes | None
    size_hw: tuple[int, int]
    found: FieldInstances
    problem: str = ""


def prepare(recipe: Recipe, *, force: bool = False) -> Prepared:
    """Read a recipe's labels and split them.

    If the recipe says nothing of cells without a label and there are some, the log has a warning,
    and so have the findings.

    Raises:
        BadLabelsError: nothing to read; or boxes that fit another convention, or a split that
            leaks, and force is not given.
    """
    from spherodetect.labels.check.beside import misread_conventions
    from spherodetect.labels.check.coverage import unstated_unlabelled
    from spherodetect.labels.check.duplicates import near_duplicates
    from spherodetect.labels.source import read_labels
    from spherodetect.labels.splits import assign_splits, leaks, spare_copies

    labels = read_labels(recipe)
    misread = list(misread_conventions(labels))
    if misread and not force:
        raise BadLabelsError(
            f"{quoted(misread[0].file)}: expected boxes on cells, got {misread[0].message}; "
            f"{misread[0].mend}, or write them nevertheless with --force"
        )
    # In drawn fields every cell has a label.
    is_stated = bool(recipe.unlabelled_cells) or recipe.format == "synthetic"
    unstated = [] if is_stated else unstated_unlabelled(labels)
    for finding in unstated:
        where = quoted(recipe.file or recipe.name)
        logger.warning("%s: %s; %s", where, finding.message, finding.mend)
    groups = near_duplicates({f.file: f.path for f in labels.fields if f.path is not None})
    splits = assign_splits(labels.fields, recipe, duplicate_groups=groups)
    leaking = leaks(labels.fields, splits, duplicate_groups=groups)
    if leaking and not force:
        raise BadLabelsError(
            f"{quoted(recipe.file or recipe.name)}: expected a split without leaks, "
            f"got {leaking[0].message}; {leaking[0].mend}, or write it nevertheless with --force"
        )
    left_out = spare_copies(labels.fields, splits)
    if not recipe.unlabelled_cells_unknown:
        # Training would take the cells of an image without labels for background.
        unlabelled = [f.file for f in labels.fields if f.path and not f.labelled]
        left_out |= set(unlabelled)
        labels = _without_unlabelled(labels, unlabelled)
    kept = {file: split for file, split in splits.items() if file not in left_out}
    findings = (*labels.findings, *misread, *leaking, *unstated)
    return Prepared(labels, kept, findings, bool(misread or leaking))


def _without_unlabelled(labels: LabelSet, files: Sequence[str]) -> LabelSet:
    """The labels, with a line about images that are left out because they have no labels."""
    if not files:
        return labels
    line = (
        f"{len(files):,} images have no usable labels and are left out: {listed(files, most=3)}; "
        "an empty label file says that a photograph shows no cell"
    )
    return replace(labels, unreadable=(*labels.unreadable, line))


def convert(recipe: Recipe, labelled: LabelledField) -> Converted:
    """Read a field's image, undo its stretch, hide its marks and find its instances."""
    from PIL import Image

    from spherodetect.fields.image import read_image
    from spherodetect.labels.check.beside import labels_on_slide
    from spherodetect.labels.repair.marks import hide_marks
    from spherodetect.labels.repair.stretch import unstretch

    assert labelled.path is not None, "only fields with an image are converted"
    try:
        image = read_image(labelled.path, name=labelled.file)
    except BadImageError as error:
        dropped = tuple(
            Unread(labelled.file, a.annotation_id, "bad-image") for a in labelled.annotations
        )
        return Converted(
            labelled, None, labelled.size_hw, FieldInstances((), float("nan"), dropped), str(error)
        )
    beside = set(labels_on_slide(image, labelled))
    on_cells = tuple(a for a in labelled.annotations if a.annotation_id not in beside)
    dropped = tuple(Unread(labelled.file, i, "box-beside-cell") for i in sorted(beside))
    image, labelled, unstretched = unstretch(image, replace(labelled, annotations=on_cells))
    image, _ = hide_marks(image)
    found = find_instances(image, labelled, recipe)
    found = replace(found, dropped=(*dropped, *found.dropped))
    found.repaired.update({"unstretched": unstretched} if unstretched else {})
    buffer = io.BytesIO()
    # Level 6 saves an eighth of the size and takes five times as long.
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return Converted(labelled, buffer.getvalue(), image.shape[:2], found)


ConvertAll = Callable[[Recipe, Sequence[LabelledField]], Iterator[Converted]]


@contextlib.contextmanager
def converting(workers: int) -> Iterator[ConvertAll]:
    """Yields a function (recipe, fields) -> iterator of Converted, in the order of the fields.

    With more than one worker, processes convert the fields.

    >>> from pathlib import Path
    >>> with converting(workers=1) as convert_all:
    ...     list(convert_all(Recipe("a", "coco", Path(".")), []))
    []
    """
    with working(workers) as mapped:
        yield lambda recipe, fields: mapped(partial(convert, recipe), fields)
