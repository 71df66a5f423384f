"""A field as the model found it, with what people corrected: classes, outlines, and what is gone.

Corrected classes and outlines are those of the active label set. A label of the meaning ignore, or
a deleted outline, removes a cell; a label of an unknown class leaves it as it is. An outline that a
person drew, cut or joined is a cell if it has a label of the model's classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spherodetect.app.project import Project
from spherodetect.app.store.fields import FieldRow
from spherodetect.app.store.labels import active_set, labels_of
from spherodetect.app.store.objects import objects_in
from spherodetect.app.store.outlines import Outline
from spherodetect.cells import Cells
from spherodetect.corrections import Correction
from spherodetect.examined import Examined
from spherodetect.pipeline.patient import corrected
from spherodetect.vocabulary import canonical_name


def corrected_field(project: Project, field: FieldRow, one: Examined) -> tuple[Examined, int]:
    """The field with the corrections made, and the number of drawn outlines without a class."""
    changes = corrections_of(project, field, one)
    outlines, names, ids, n_left = _drawn(project, field, one)
    kept = corrected(one, changes)
    if not outlines:
        return kept, n_left
    added = _cells(one.cells, outlines, names, ids)
    cells = Cells.concatenate([kept.cells, added], keep_ids=True)
    return replace(kept, cells=cells), n_left


def corrections_of(project: Project, field: FieldRow, one: Examined) -> list[Correction]:
    """What people changed about the cells that the model found in a field."""
    base = project.base
    labels = {label.id: label for label in labels_of(base, active_set(base))}
    rows = base.rows(
        "SELECT t.cell_id, o.visible, o.drawn, c.label_id FROM outline t "
        "JOIN object o ON o.id = t.object_id "
        "LEFT JOIN current_label c ON c.object_id = o.id AND c.set_id = ? "
        "WHERE o.field_id = ? AND t.run_id = ? ORDER BY t.cell_id",
        (active_set(base), field.id, field.model_run_id),
    )
    there = set(one.cells.cell_id.tolist())
    found = []
    for row in rows:
        label = labels.get(row["label_id"])
        name = canonical_name(label.name) if label else None
        if row["cell_id"] not in there:
            continue
        # The outline that a person drew of the same cell takes its place.
        if not row["visible"] or row["drawn"] or (label and label.meaning == "ignore"):
            found.append(Correction(row["cell_id"], removed=True))
        elif label and label.meaning == "class" and name in one.cells.class_names:
            found.append(Correction(row["cell_id"], class_name=name))
    return found


def _drawn(
    project: Project, field: FieldRow, one: Examined
) -> tuple[list[Outline], list[str], list[int], int]:
    """The outlines that people drew, their classes and cell ids; how many have no class."""
    base = project.base
    labels = {label.id: label for label in labels_of(base, active_set(base))}
    given = {
        row["object_id"]: labels.get(row["label_id"])
        for row in base.rows(
            "SELECT c.object_id, c.label_id FROM current_label c JOIN object o "
            "ON o.id = c.object_id WHERE o.field_id = ? AND c.set_id = ?",
            (field.id, active_set(base)),
        )
    }
    by_model = {
        row["object_id"]: row
        for row in base.rows(
            "SELECT t.object_id, t.cell_id, t.class_name FROM outline t "
            "JOIN object o ON o.id = t.object_id WHERE o.field_id = ? AND t.run_id = ?",
            (field.id, field.model_run_id),
        )
    }
    next_id = int(one.cells.cell_id.max(initial=0)) + 1
    outlines, names, ids, n_left = [], [], [], 0
    for row in objects_in(base, field.id):
        if not row.drawn:
            continue
        label, known = given.get(row.id), by_model.get(row.id)
        if label is not None and label.meaning == "ignore":
            continue
        name = canonical_name(label.name) if label and label.meaning == "class" else None
        if name not in one.cells.class_names and known is not None:
            name = known["class_name"]
        if name is None or name not in one.cells.class_names:
            n_left += 1
            continue
        outlines.append(row.outline())
        names.append(name)
        if known is not None:
            ids.append(int(known["cell_id"]))
        else:
            ids.append(next_id)
            next_id += 1
    return outlines, names, ids, n_left


def _cells(like: Cells, outlines: list[Outline], names: list[str], ids: list[int]) -> Cells:
    """Drawn outlines as cells of a field, with the measurements that its cells have."""
    cells = Cells.from_labels(
        np.array([outline.box_yxyx for outline in outlines], np.float32),
        np.array([like.class_names.index(name) + 1 for name in names]),
        [np.asarray(outline.mask, bool) for outline in outlines],
        image_size_hw=like.image_size_hw,
        field_id=like.field_id,
        um_per_px=like.um_per_px,
        class_names=like.class_names,
    )
    columns = {}
    for name, values in like.measurements.items():
        missing = np.nan if np.issubdtype(values.dtype, np.floating) else 0
        measured = [outline.measurements.get(name, missing) for outline in outlines]
        columns[name] = np.array(measured, values.dtype)
    return replace(cells, cell_id=np.array(ids, np.int32), measurements=columns)


__all__ = ["corrected_field", "corrections_of"]
