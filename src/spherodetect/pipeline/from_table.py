"""Cells from a table (.csv) of another tool, or of cells.csv."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spherodetect.cells import RED_CELLS
from spherodetect.errors import BadLabelsError
from spherodetect.pipeline.counted import (
    UNKNOWN_SIZE,
    CountedField,
    countable_by_boxes,
    known_class_names,
)
from spherodetect.pipeline.label_images import boxes_of, paired, read_label_image
from spherodetect.safety import MAX_JSON_BYTES, quoted, read_csv

_BOX = ("xmin_px", "ymin_px", "xmax_px", "ymax_px")


def from_table(
    path: Path,
    outlines: Mapping[str, Path],
    problems: list[str],
    classes: Mapping[str, str] | None = None,
) -> list[CountedField]:
    """The fields of a table of cells.

    Args:
        path: the .csv file.
        outlines: name to label image.
        problems: gets a line for each kind of row that is left out.
        classes: names to classes, in addition to the known names.

    Raises:
        BadLabelsError: a missing column, an unknown class, or a label image of other cells.
    """
    rows = _rows(path, problems)
    names = known_class_names((row["class_name"] for row in rows), path, classes)
    places: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault((row["patient_id"], row["field_id"]), []).append(i)
    label_images = paired((field_id for _, field_id in places), outlines)
    return [
        _table_field(
            patient, [rows[i] for i in mine], names[mine], label_images.get(field_id), path
        )
        for (patient, field_id), mine in places.items()
    ]


def _rows(path: Path, problems: list[str]) -> list[dict[str, str]]:
    needed = ("patient_id", "field_id", "class_name")
    rows: list[dict[str, str]] = []
    header: list[str] = []
    short: Counter[str] = Counter()
    for _, cells in read_csv(path, max_bytes=MAX_JSON_BYTES, error=BadLabelsError):
        if not header:
            header = [cell.lower() for cell in cells]
            if missing := [name for name in needed if name not in header]:
                raise BadLabelsError(
                    f"{quoted(path)}: expected the columns {', '.join(needed)}, got none of "
                    f"{', '.join(missing)}"
                )
            continue
        row = dict(zip(header, cells, strict=False))
        if empty := [name for name in needed if not row.get(name)]:
            short[empty[0]] += 1
        else:
            rows.append(row)
    problems += [
        f"{quoted(path)}: {n:,} rows left out, they have no {name}" for name, n in short.items()
    ]
    return rows


def _table_field(
    patient: str,
    rows: Sequence[Mapping[str, str]],
    names: np.ndarray,
    label_image: Path | None,
    path: Path,
) -> CountedField:
    size = UNKNOWN_SIZE, UNKNOWN_SIZE
    box = np.array([[_number(row.get(column)) for column in _BOX] for row in rows])
    box = box[:, [1, 0, 3, 2]]
    if label_image is not None:
        labels = read_label_image(label_image)
        outlined, size = boxes_of(labels), (labels.shape[0], labels.shape[1])
        box = np.array(
            [outlined.get(_number(row.get("cell_id")), (np.nan,) * 4) for row in rows], float
        )
        if not np.isfinite(box).all():
            raise BadLabelsError(
                f"{quoted(label_image)}: expected every cell_id of {quoted(path)}, got fewer; "
                "export both again"
            )
    if all(row.get("countable", "") for row in rows):
        counts = np.array(
            [_number(row["countable"]) == 1 or row["countable"].lower() == "true" for row in rows]
        )
        counts &= np.isin(names, list(RED_CELLS))
    else:
        counts = countable_by_boxes(names, box, size)
    rejected = not counts.any() and any(row.get("exclusion_reason") == "field" for row in rows)
    return CountedField(patient, names, counts, rejected)


def _number(text: str | None) -> float:
    try:
        return float((text or "nan").replace(",", "."))
    except ValueError:
        return np.nan
