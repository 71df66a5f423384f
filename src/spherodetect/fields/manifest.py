"""manifest.csv: a table of fields with their patients and, if known, their pixel sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from spherodetect.errors import SpherodetectError
from spherodetect.fields.field import Field
from spherodetect.fields.names import valid_text
from spherodetect.safety import inside, quoted, read_csv


def read_manifest(path: Path, um_per_px: float | None, problems: list[str]) -> Iterator[Field]:
    """The fields of a manifest, in its order.

    The columns are patient_id, field (a path relative to the manifest) and, optionally, um_per_px.
    Other columns are ignored.

    Args:
        path: the CSV file.
        um_per_px: pixel size in µm for rows that state none.
        problems: gets a line for each row that cannot be used; the other rows are read.

    Raises:
        SpherodetectError: the file cannot be read, or a column is missing.
    """
    header: list[str] = []
    for line, cells in read_csv(path):
        if not header:
            header = [cell.lower() for cell in cells]
            if not {"patient_id", "field"} <= set(header):
                raise SpherodetectError(
                    f"{quoted(path)}: expected columns patient_id and field, "
                    f"got {quoted(', '.join(cells))}; name them in the first line"
                )
            continue
        where = f"{quoted(path)}, line {line}"
        row = dict(zip(header, cells, strict=False))
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
            problems.append(f"{where}: left out, {problem}")
            continue
        scale = um_per_px
        if stated := row.get("um_per_px"):
            scale = _positive(stated)
            if scale is None:
                problems.append(
                    f"{where}: expected um_per_px above 0, got {quoted(stated)}; "
                    "the field is treated as one without a stated pixel size"
                )
        yield Field(
            valid_text(row["patient_id"]), valid_text(Path(relative).as_posix()), file, scale
        )


def _positive(text: str) -> float | None:
    """A number above 0, with a decimal point or comma, or None."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
