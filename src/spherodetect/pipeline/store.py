"""Finished fields, kept in the folder of the results: a run that was cut off goes on, and a second
run need not look.

A field is known by what its cells follow from: the bytes of its image (and label image), the
model's checksums, the settings, this package's code and the libraries that compute. Its name and
patient are not in it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect.cells import Cells
from spherodetect.errors import SpherodetectError
from spherodetect.quality import FieldQuality
from spherodetect.report.results import HIDDEN, ResultsFolder
from spherodetect.safety import atomic_write, read_bytes, sha256
from spherodetect.scale.find import Scale

_MAX_BYTES = 2**30
_MEASURED = "measured "
_MODULES = (
    "cells.py", "constants.py", "detect", "fields", "geometry.py", "measure", "photograph.py",
    "pipeline/examine.py", "pipeline/examine_scan.py", "pipeline/label_images.py",
    "pipeline/store.py", "quality", "report/overlays.py", "scale", "segment",
)  # fmt: skip
_LIBRARIES = ("tensorflow", "numpy", "scipy", "scikit-image", "pillow", "rapidocr", "tifffile")


@dataclass(frozen=True, eq=False)
class FinishedField:
    """What looking at one image came to.

    Attributes:
        cells: found and measured; without the field's name.
        quality: whether they may be counted.
        scale: the pixel size, by the cells too.
        overlay_sha256: of the picture as it was written.
        parts: whether the cells of each part of a slide scan may be counted.
    """

    cells: Cells
    quality: FieldQuality
    scale: Scale
    overlay_sha256: str
    parts: tuple[bool, ...] = ()


class FieldCache:
    """Finished fields of a folder of results.

    Args:
        results: the folder.
        settings: what beside the image a field's cells follow from, such as the model's checksums;
            JSON types.
    """

    def __init__(self, results: ResultsFolder, settings: Mapping[str, Any]) -> None:
        self._results, self._settings = results, settings

    def key(self, *digests: str, **settings: Any) -> str:
        """The key of a field: the SHA-256 of its image, of its label image if it has one, and
        settings of its own."""
        everything = [digests, settings, dict(self._settings), _code(), _libraries()]
        return sha256(json.dumps(everything, sort_keys=True).encode())

    def load(self, key: str) -> FinishedField | None:
        """A field that an earlier run finished, or None: there is none, or it cannot be read."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            with np.load(
                io.BytesIO(read_bytes(path, max_bytes=_MAX_BYTES)), allow_pickle=False
            ) as arrays:
                return _unpacked(dict(arrays))
        except (
            SpherodetectError,
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ):
            return None  # damaged by something else than us, for it was written whole: look again

    def save(self, key: str, finished: FinishedField) -> None:
        """Keep a field.

        Raises:
            SpherodetectError: the file cannot be written.
        """
        with atomic_write(self._path(key)) as file:
            np.savez_compressed(file, **_packed(finished))

    def _path(self, key: str) -> Path:
        return self._results.path(HIDDEN, "fields", f"{key}.npz")


def _packed(finished: FinishedField) -> dict[str, Any]:
    cells = finished.cells
    values = {f.name: getattr(cells, f.name) for f in dataclasses.fields(cells)}
    masks, measured = values.pop("masks"), values.pop("measurements")
    arrays = {
        name: values.pop(name) for name in list(values) if isinstance(values[name], np.ndarray)
    }
    arrays |= {f"{_MEASURED}{name}": column for name, column in measured.items()}
    if isinstance(masks, np.ndarray):
        arrays["masks"] = masks
    else:
        arrays["mask_shapes"] = np.array([mask.shape for mask in masks], np.int64).reshape(-1, 2)
        arrays["mask_bits"] = np.packbits(
            np.concatenate([np.zeros(0, bool), *(mask.ravel() for mask in masks)])
        )
    head = {
        "cells": values | {"field_id": ""},
        "quality": dataclasses.asdict(finished.quality),
        "scale": dataclasses.asdict(finished.scale),
        "overlay_sha256": finished.overlay_sha256,
        "parts": finished.parts,
    }
    return {"head": np.frombuffer(json.dumps(head, default=_plain).encode(), np.uint8), **arrays}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected a number or text, got {type(value).__name__}")


def _unpacked(arrays: dict[str, Any]) -> FinishedField:
    head = json.loads(arrays.pop("head").tobytes())
    if "masks" in arrays:
        masks = arrays.pop("masks")
    else:
        shapes, bits = arrays.pop("mask_shapes"), arrays.pop("mask_bits")
        ends = np.cumsum(shapes.prod(axis=1))
        flat = np.unpackbits(bits, count=int(ends[-1]) if len(ends) else 0).astype(bool)
        masks = [
            part.reshape(shape)
            for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=False)
        ]
    measured = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_MEASURED)}
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in head["cells"].items()
    }
    measurements = {name.removeprefix(_MEASURED): column for name, column in measured.items()}
    cells = Cells(**arrays, **known, masks=masks, measurements=measurements)
    quality, scale = FieldQuality(**head["quality"]), Scale(**head["scale"])
    return FinishedField(cells, quality, scale, head["overlay_sha256"], tuple(head["parts"]))


@cache
def _code() -> str:
    """A checksum of the modules that a field's cells and picture follow from: they change without a
    new version."""
    package = Path(__file__).parents[1]
    paths = [package / name for name in _MODULES]
    files = [f for path in paths for f in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return sha256(b"".join(file.read_bytes() for file in files))


@cache
def _libraries() -> tuple[str, ...]:
    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:  # an extra, or tensorflow under another name
            return ""

    return tuple(f"{name} {version(name)}" for name in _LIBRARIES)


__all__ = ["FieldCache", "FinishedField"]
