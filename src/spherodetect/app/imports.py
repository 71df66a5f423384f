"""Labels of another program: a COCO file, taken in as one step a field.

An outline that overlaps an object of the field names that object; any other becomes an object of
its own. A file that is taken in twice changes nothing the second time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from spherodetect.app.edit_fields import Measurer
from spherodetect.app.project import Project
from spherodetect.app.store.edits import import_objects
from spherodetect.app.store.fields import FieldRow, all_fields
from spherodetect.app.store.labels import active_set, add_label, label_named, labels_of
from spherodetect.app.store.outlines import Outline, trimmed
from spherodetect.app.store.steps import STORED, Who
from spherodetect.errors import BadLabelsError
from spherodetect.geometry import fill_polygon
from spherodetect.labels.annotations import Annotation
from spherodetect.labels.readers.coco import parse_coco
from spherodetect.safety import quoted, sha256

#: Colours of labels that an import adds (Okabe and Ito 2008).
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_SHOWN = 20
#: The reader looks for photographs beside the file; those of the project lie elsewhere.
_NO_IMAGE = "labels-without-image"
_FILE = Path("import.json")


def import_coco(project: Project, measurer: Measurer, data: bytes, reviewer: str) -> dict[str, Any]:
    """Take in the labels of a COCO file.

    Raises:
        BadLabelsError: it is no COCO, or none of its images is in the project.
    """
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as problem:
        raise BadLabelsError("expected JSON in UTF-8, got something else") from problem
    read = parse_coco(_by_people(content), _FILE)
    by_name = _by_name(all_fields(project.base))
    digest = sha256(data)[:24]
    problems, unknown = [], []
    n_new = n_attached = 0
    for labelled in read.fields:
        # The reader takes a file for a folder of images where these are not there.
        name = labelled.file.removeprefix(f"{_FILE.stem}/")
        field = by_name.get(name) or by_name.get(PurePosixPath(name).name)
        if field is None:
            unknown.append(name)
            continue
        if tuple(labelled.size_hw) != field.size_hw:
            problems.append(
                f"{quoted(name)}: expected an image of {field.size_hw} (height, width), "
                f"got {tuple(labelled.size_hw)}; it is left out"
            )
            continue
        outlines, label_ids = [], []
        for annotation in labelled.annotations:
            outline = _outline(annotation, field)
            if outline is None:
                problems.append(
                    f"{quoted(name)}: annotation {quoted(annotation.annotation_id)} has "
                    "no outline inside of the image; it is left out"
                )
            else:
                outlines.append(outline)
                label_ids.append(_label_id(project, annotation.name))
        who = Who(reviewer, f"import-{digest}-{field.id}", "import")
        items = list(zip(measurer.all(field.id, outlines), label_ids, strict=True))
        done, new = import_objects(project.base, who, field.id, items, size_hw=field.size_hw)
        if done.status == STORED:
            n_new += new
            n_attached += len(items) - new
    if unknown and len(unknown) == len(read.fields):
        raise BadLabelsError(
            f"expected images of this project, got others, first {quoted(unknown[0])}"
        )
    found = (one.message for one in read.findings if one.code != _NO_IMAGE)
    problems += [
        f"{quoted(name)}: left out, the project has no such photograph" for name in unknown
    ]
    return {
        "n_new": n_new,
        "n_attached": n_attached,
        "n_labelled": n_new + n_attached,
        "problems": [*problems, *found][:_SHOWN],
    }


def _by_people(content: Any) -> Any:
    """The file without annotations that it says a program made."""
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        return content
    kept = [
        one
        for one in content["annotations"]
        if not isinstance(one, dict) or one.get("labelled_by", "human") == "human"
    ]
    return content | {"annotations": kept}


def _by_name(fields: Sequence[FieldRow]) -> dict[str, FieldRow]:
    """Fields by their names, and by those of their files where these are unique."""
    files = [PurePosixPath(field.name).name for field in fields]
    by_file = {
        name: field for name, field in zip(files, fields, strict=True) if files.count(name) == 1
    }
    return by_file | {field.name: field for field in fields}


def _outline(annotation: Annotation, field: FieldRow) -> Outline | None:
    """The outline of an annotation, the box where there is no other; None without pixels."""
    height, width = field.size_hw
    if annotation.mask is not None:
        mask, corner = np.asarray(annotation.mask), (0, 0)
        if mask.shape != field.size_hw:
            return None
    elif annotation.polygons:
        polygons = [np.clip(one, 0, [height, width]) for one in annotation.polygons]
        # Only the box is filled: a field may hold thousands of outlines.
        low = np.floor(np.min([one.min(axis=0) for one in polygons], axis=0)).astype(int)
        high = np.ceil(np.max([one.max(axis=0) for one in polygons], axis=0)).astype(int)
        mask, corner = np.zeros(high - low, bool), (int(low[0]), int(low[1]))
        for polygon in polygons:
            mask ^= fill_polygon(polygon - low, mask.shape)
    elif annotation.box_yxyx is not None:
        y0, x0, y1, x1 = np.clip(annotation.box_yxyx, 0, [height, width, height, width])
        corner = (round(y0), round(x0))
        mask = np.ones((round(y1) - corner[0], round(x1) - corner[1]), bool)
    else:
        return None
    if not mask.any():
        return None
    box, tight = trimmed(mask, corner)
    return Outline(box, tight.copy())


def _label_id(project: Project, name: str) -> int:
    """The label of the active set with this name; a new one where there is none."""
    base, set_id = project.base, active_set(project.base)
    labels = labels_of(base, set_id)
    exact = [label for label in labels if label.name.casefold() == name.casefold()]
    known = exact[0] if exact else label_named(labels, name)
    if known is not None:
        return known.id
    colour = _COLOURS[len(labels) % len(_COLOURS)]
    return add_label(base, set_id, name=name, colour=colour, key=None, meaning="class")


__all__ = ["import_coco"]
