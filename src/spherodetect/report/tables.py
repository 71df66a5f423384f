"""The tables of a result as CSV and Parquet.

The table cells has one row a cell, patients one row a patient, quality one row a field, and counts
one row a class of a field. The table objects has the columns of HemaDetect's
output_recognized_objects.csv. The columns, their order, their units and their decimals are a
contract with other programs. Percentages are 0 to 100, probabilities 0 to 1. An unknown value is an
empty cell. A CSV file is UTF-8 with commas and decimal points; its numbers are rounded to the
decimals stated here, and its texts cannot act as formulas of a spreadsheet. A Parquet file holds
the unrounded values. The same result gives the same bytes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.measure.textures import FEATURES, cell_features
from spherodetect.safety import atomic_write, csv_cell

if TYPE_CHECKING:
    import pandas as pd

    from spherodetect.cells import Cells

TEXT, COUNT = "text", "count"
#: The kind of each column: TEXT, COUNT (a whole number), or the number of decimals.
CELL_COLUMNS: Mapping[str, str | int] = {
    "patient_id": TEXT, "field_id": TEXT, "cell_id": COUNT, "class_name": TEXT, "confidence": 4,
    "p_spherocyte": 4, "x_px": 2, "y_px": 2, "xmin_px": 2, "ymin_px": 2, "xmax_px": 2, "ymax_px": 2,
    "area_px": 1, "diameter_px": 2, "diameter_um": 3, "relative_diameter": 4, "circularity": 4,
    "solidity": 4, "aspect_ratio": 4, "perimeter_px": 2, "major_axis_px": 2, "minor_axis_px": 2,
    "integrated_od": 2, "nearest_px": 2, "pallor_fraction": 4, "center_rim_ratio": 4, "mean_od": 4,
    "relative_od": 4, "countable": COUNT, "exclusion_reason": TEXT,
}  # fmt: skip
PATIENT_COLUMNS: Mapping[str, str | int] = {
    "patient_id": TEXT, "status": TEXT, "hs_score": 4, "hs_score_low": 4, "hs_score_high": 4,
    "raw_percent": 4, "grade": TEXT, "grade_scheme": TEXT, "p_above_5_percent": 4,
    "p_above_20_percent": 4, "n_fields": COUNT, "n_fields_rejected": COUNT, "n_cells": COUNT,
    "n_countable": COUNT, "n_spherocytes": COUNT, "model": TEXT, "version": TEXT,
    "basis": TEXT, "n_reviewed": COUNT, "n_reviewed_spherocytes": COUNT, "model_score": 4,
    "model_score_low": 4, "model_score_high": 4,
}  # fmt: skip
QUALITY_COLUMNS: Mapping[str, str | int] = {
    "patient_id": TEXT, "field_id": TEXT, "accepted": COUNT, "reason": TEXT, "n_cells": COUNT,
    "focus": 4, "exposure": 4, "density": 4, "um_per_px": 5, "um_per_px_source": TEXT,
    "um_per_px_error_percent": 1, "rbc_diameter_px": 2,
}  # fmt: skip
COUNT_COLUMNS: Mapping[str, str | int] = {
    "patient_id": TEXT, "field_id": TEXT, "class_name": TEXT, "n_cells": COUNT,
    "n_countable": COUNT, "mean_area_px": 1,
}  # fmt: skip
OBJECT_COLUMNS: Mapping[str, str | int] = {
    "File": TEXT, "Class": TEXT, "Object Number": COUNT, "Area": COUNT, "Centroid": TEXT,
    "BoundingBox": TEXT,
}  # fmt: skip
FEATURE_COLUMNS: Mapping[str, str | int] = {
    "patient_id": TEXT, "field_id": TEXT, "cell_id": COUNT, **dict.fromkeys(FEATURES, 6),
}  # fmt: skip
_KINDS = {
    **CELL_COLUMNS,
    **PATIENT_COLUMNS,
    **QUALITY_COLUMNS,
    **COUNT_COLUMNS,
    **OBJECT_COLUMNS,
    **FEATURE_COLUMNS,
}
_DTYPES: Mapping[str | int, str] = {TEXT: "str", COUNT: "Int64"}


def cells_frame(
    cells: Cells, *, patient_id: str, accepted: bool | np.ndarray = True
) -> pd.DataFrame:
    """Return one row a cell of one field, with CELL_COLUMNS; a missing measurement is empty.

    Args:
        cells: the cells of one field.
        patient_id: of all rows.
        accepted: whether the field passed quality control; for a slide scan (N,) whether the part
            of each cell did. Cells of what failed are not countable, with reason `field`.

    >>> write_csv(cells_frame(cells, patient_id="07"), "cells.csv")  # doctest: +SKIP
    """
    ymin, xmin, ymax, xmax = cells.box_yxyx.T
    unknown = np.full(len(cells), np.nan)
    diameter_px = np.asarray(cells.measurements.get("diameter_px", unknown), float)
    columns = {
        **cells.measurements,
        "patient_id": patient_id,
        "field_id": cells.field_id,
        "cell_id": cells.cell_id,
        "class_name": cells.names,
        "confidence": cells.confidence,
        "p_spherocyte": cells.p_spherocyte,
        "xmin_px": xmin,
        "ymin_px": ymin,
        "xmax_px": xmax,
        "ymax_px": ymax,
        "diameter_um": diameter_px * cells.um_per_px if cells.um_per_px else unknown,
        "countable": cells.countable & accepted,
        "exclusion_reason": cells.reason_in(accepted),
    }
    return _frame({name: columns.get(name, unknown) for name in CELL_COLUMNS}, len(cells))


def no_cells_frame() -> pd.DataFrame:
    """Return a table with CELL_COLUMNS and without rows."""
    return _frame_of_rows([], CELL_COLUMNS)


def patients_frame(scores: Iterable[Any]) -> pd.DataFrame:
    """Return one row a patient, with PATIENT_COLUMNS.

    Args:
        scores: mappings with these keys, or objects with these attributes (`PatientScore`).
    """
    return _frame_of_rows(scores, PATIENT_COLUMNS)


def quality_frame(rows: Iterable[Any]) -> pd.DataFrame:
    """Return one row a field, with QUALITY_COLUMNS, from mappings or objects that have them."""
    return _frame_of_rows(rows, QUALITY_COLUMNS)


def counts_frame(
    cells: Cells, *, patient_id: str, accepted: bool | np.ndarray = True
) -> pd.DataFrame:
    """Return one row a class of one field, with COUNT_COLUMNS, also for classes without cells."""
    countable = cells.countable & accepted
    areas = np.asarray(cells.measurements.get("area_px", np.full(len(cells), np.nan)), float)
    rows = [
        {
            "patient_id": patient_id,
            "field_id": cells.field_id,
            "class_name": name,
            "n_cells": (cells.names == name).sum(),
            "n_countable": (countable & (cells.names == name)).sum(),
            "mean_area_px": mean_of_known(areas[cells.names == name]),
        }
        for name in cells.class_names
    ]
    return _frame_of_rows(rows, COUNT_COLUMNS)


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean of the finite values, or NaN if there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def objects_frame(cells: Cells) -> pd.DataFrame:
    """Return one row a cell of one field, with OBJECT_COLUMNS; Object Number is cell_id.

    Area is in pixels. Centroid and BoundingBox are written as scikit-image does: Centroid is (row,
    column), with (0, 0) at the centre of the first pixel, and BoundingBox is (first row, first
    column, last row + 1, last column + 1). Both are empty for a cell without pixels.
    """
    rows = []
    for number, name, (mask, (y0, x0)) in zip(
        cells.cell_id, cells.names, cells.pixel_masks(), strict=True
    ):
        y, x = np.nonzero(mask)
        y, x = y + y0, x + x0
        rows.append(
            {
                "File": cells.field_id,
                "Class": name,
                "Object Number": number,
                "Area": len(y),
                "Centroid": f"({y.mean():.2f}, {x.mean():.2f})" if len(y) else "",
                "BoundingBox": f"({y.min()}, {x.min()}, {y.max() + 1}, {x.max() + 1})"
                if len(y)
                else "",
            }
        )
    return _frame_of_rows(rows, OBJECT_COLUMNS)


def features_frame(cells: Cells, image: np.ndarray, *, patient_id: str) -> pd.DataFrame:
    """Return one row a cell of one field, with FEATURE_COLUMNS; see `measure.textures`.

    Args:
        cells: the cells of one field.
        image: (H, W, 3) uint8, the field.
        patient_id: of all rows.
    """
    from PIL import Image

    grey = np.asarray(Image.fromarray(image).convert("L"))
    rows = []
    for cell_id, (mask, (y, x)) in zip(cells.cell_id, cells.pixel_masks(), strict=True):
        window = grey[y : y + mask.shape[0], x : x + mask.shape[1]]
        names = {"patient_id": patient_id, "field_id": cells.field_id, "cell_id": cell_id}
        rows.append(names | cell_features(window, mask))
    return _frame_of_rows(rows, FEATURE_COLUMNS)


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several tables of one kind; at least one table."""
    import pandas as pd

    # Tables without rows are left out, because pandas warns of them. If none has a row, the first
    # one has the columns.
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def _frame_of_rows(rows: Iterable[Any], columns: Mapping[str, str | int]) -> pd.DataFrame:
    rows = list(rows)
    values = {name: [_value(row, name) for row in rows] for name in columns}
    return _frame(values, len(rows))


def _value(row: Any, name: str) -> Any:
    value = row[name] if isinstance(row, Mapping) else getattr(row, name)
    return value.value if isinstance(value, Enum) else value


def _frame(columns: Mapping[str, Any], n: int) -> pd.DataFrame:
    """Return a table of n rows whose columns have the type of their kind, even for n = 0."""
    import pandas as pd

    index = pd.RangeIndex(n)
    data = {}
    for name, values in columns.items():
        kind = _KINDS[name]
        if kind == TEXT:
            values = (
                _text(values) if isinstance(values, str) else [_text(value) for value in values]
            )
        data[name] = pd.Series(values, index=index).astype(_DTYPES.get(kind, "float64"))
    return pd.DataFrame(data, index=index)


def _text(value: Any) -> str:
    """Return a value as text that can be written as UTF-8; a file name may hold other bytes."""
    return "" if value is None else str(value).encode(errors="backslashreplace").decode()


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table of this module as CSV; the file appears only when it is complete.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    with atomic_write(path, text=True) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(frame.columns)
        writer.writerows(csv_rows(frame))


def column_kind(name: str) -> str | int:
    """Return the kind of a column of this module: TEXT, COUNT or the number of decimals."""
    return _KINDS[name]


def csv_rows(frame: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a table of this module as the texts of a CSV file."""
    columns = [_cells(frame[name], _KINDS[name]) for name in frame.columns]
    yield from zip(*columns, strict=True)


def _cells(values: pd.Series, kind: str | int) -> list[str]:
    """Return the texts of a column; the text of an unknown value is empty."""
    if kind == TEXT:
        return [csv_cell(value) for value in values.fillna("")]
    if not isinstance(kind, int):
        return [
            "" if missing else str(int(value))
            for value, missing in zip(values, values.isna(), strict=True)
        ]
    # Rounding a small negative number gives -0.0; adding 0.0 makes it 0.0.
    return [
        f"{round(value, kind) + 0.0:.{kind}f}" if math.isfinite(value) else ""
        for value in values.astype(float)
    ]


def write_parquet(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as Parquet; the file appears only when it is complete.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    with atomic_write(path) as file:
        frame.to_parquet(file, engine="pyarrow", index=False)
