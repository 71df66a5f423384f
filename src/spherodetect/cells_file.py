"""Cells as a file: one .npz of plain arrays, without pickle.

The array `head` is JSON text with all that is no array: names, sizes and the version of the
layout. Boolean masks of different sizes are stored as one string of bits and their shapes.
Measurements carry the prefix `measured `.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.safety import atomic_write, quoted, read_bytes

FORMAT = 1
#: Largest file that is read.
MAX_BYTES = 2**30
_MEASURED = "measured "
#: What reading a damaged or foreign .npz raises.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def write_cells(cells: Cells, path: str | Path) -> None:
    """Write cells, whole or not at all.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    head, arrays = to_arrays(cells)
    write_npz({"format": FORMAT, "cells": head}, arrays, path)


def read_cells(path: str | Path) -> Cells:
    """Read what `write_cells` wrote.

    Raises:
        SpherodetectError: the file cannot be read, or holds something else.
    """
    head, arrays = read_npz(path)
    try:
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']}")
        return from_arrays(head["cells"], arrays)
    except _UNREADABLE as problem:
        raise SpherodetectError(
            f"{quoted(path)}: expected cells of format {FORMAT}, got {quoted(problem)}; "
            "write them again with write_cells"
        ) from problem


def to_arrays(cells: Cells) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The cells as values that JSON can hold, and arrays by name."""
    values = {f.name: getattr(cells, f.name) for f in dataclasses.fields(cells)}
    masks, measured = values.pop("masks"), values.pop("measurements")
    arrays = {n: values.pop(n) for n in list(values) if isinstance(values[n], np.ndarray)}
    arrays |= {f"{_MEASURED}{name}": column for name, column in measured.items()}
    if isinstance(masks, np.ndarray):
        arrays["masks"] = masks
    else:
        flat = [np.zeros(0, bool), *(mask.ravel() for mask in masks)]
        arrays["mask_shapes"] = np.array([mask.shape for mask in masks], np.int64).reshape(-1, 2)
        arrays["mask_bits"] = np.packbits(np.concatenate(flat))
    return values, arrays


def from_arrays(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Cells:
    """The cells of `to_arrays`; arrays of other names are passed over.

    Raises:
        ValueError, KeyError, TypeError: values that are no cells.
    """
    columns = dict(arrays)
    if "masks" in columns:
        masks: Any = columns.pop("masks")
    else:
        shapes, bits = columns.pop("mask_shapes"), columns.pop("mask_bits")
        ends = np.cumsum(shapes.prod(axis=1))
        flat = np.unpackbits(bits, count=int(ends[-1]) if len(ends) else 0).astype(bool)
        parts = zip(np.split(flat, ends[:-1]), shapes, strict=False)
        masks = [part.reshape(shape) for part, shape in parts]
    measured = {n.removeprefix(_MEASURED): c for n, c in columns.items() if n.startswith(_MEASURED)}
    known = {f.name for f in dataclasses.fields(Cells)}
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in head.items()}
    values |= {n: column for n, column in columns.items() if n in known}
    return Cells(**values, masks=masks, measurements=measured)


def write_npz(
    head: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    sync: bool = True,
) -> None:
    """Write arrays and a JSON head to one .npz, whole or not at all; sync as for `atomic_write`.

    Each array has a checksum, which `read_npz` compares.

    Raises:
        SpherodetectError: the file cannot be written.
    """
    text = json.dumps(head, default=_plain).encode()
    contents: dict[str, Any] = {"head": np.frombuffer(text, np.uint8), **arrays}
    with atomic_write(path, sync=sync) as file:
        np.savez_compressed(file, **contents)


def read_npz(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON head and the arrays of a file that `write_npz` wrote.

    Raises:
        SpherodetectError: the file cannot be read.
    """
    data = read_bytes(Path(path), max_bytes=MAX_BYTES)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
        return json.loads(arrays.pop("head").tobytes()), arrays
    except _UNREADABLE as problem:
        raise SpherodetectError(
            f"{quoted(path)}: expected an .npz of this program, got a damaged or foreign file"
        ) from problem


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a number or text, got {type(value).__name__}")


__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "from_arrays",
    "read_cells",
    "read_npz",
    "to_arrays",
    "write_cells",
    "write_npz",
]
