"""An example export: synthetic smears with labels in the form of a Roboflow export.

It has the faults of real exports. Photographs of 640x480 pixels are stretched to 640x640, every
outline is a rectangle, category 0 has no annotation, each photograph of train/ is there in three
copies that share its name, and every patient is in both train/ and valid/.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.labels.file_names import roboflow_name
from spherodetect.labels.recipe import Recipe, SplitRule
from spherodetect.safety import atomic_write, sha256

if TYPE_CHECKING:
    from spherodetect.synthetic import SyntheticField

#: Sizes of the photographs and of the export's files.
NATIVE_SIZE_HW, EXPORT_SIZE_HW = (480, 640), (640, 640)
_PROJECT = "Blood smear images"  # Roboflow lists it as category 0
_NAMES = {"platelet": "Platelets", "rbc": "RBC", "spherocyte": "Spherocyte", "wbc": "WBC"}
#: Fractions of spherocytes; the patients take them in turn.
_FRACTIONS = (0.35, 0.2, 0.08)
#: Standard deviation of the sides of a box drawn by hand.
_BY_HAND_PX = 0.7
#: Nobody draws a box around a cell of which so little is inside the image.
_MIN_VISIBLE_PX = 2


def write_example(
    out: str | Path, *, n_patients: int = 3, n_fields: int = 4, n_cells: int = 70, seed: int = 1
) -> Path:
    """Write the zip of an export and return its path; valid/ has each patient's last photograph.

    Args:
        out: the file.
        n_patients: patients.
        n_fields: photographs of each.
        n_cells: red cells on a photograph.
        seed: the same seed gives the same export.

    Raises:
        SpherodetectError: the file cannot be written.

    >>> write_example("export.zip")  # doctest: +SKIP
    PosixPath('export.zip')
    """
    from spherodetect.synthetic import draw_patient, random_style

    rng = np.random.default_rng(seed)
    splits: dict[str, list[tuple[str, SyntheticField]]] = {"train": [], "valid": []}
    for number in range(n_patients):
        style = replace(random_style(np.random.default_rng([seed, number])), overlays=0.0)
        drawn = draw_patient(
            seed + number,
            spherocyte_fraction=_FRACTIONS[number % len(_FRACTIONS)],
            n_fields=n_fields,
            n_cells=n_cells,
            size_hw=NATIVE_SIZE_HW,
            style=style,
        )
        for k, one in enumerate(drawn, 1):
            split = "valid" if k == n_fields else "train"
            splits[split].append((f"patient_{number + 1:02d}_{k:02d}", one))
    with atomic_write(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for split, photographs in splits.items():
            for path, data in _files(photographs, copies=3 if split == "train" else 1, rng=rng):
                archive.writestr(zipfile.ZipInfo(f"{split}/{path}"), data)
    return Path(out)


def example_recipe(root: str | Path) -> Recipe:
    """A recipe for the export of `write_example`: undoes the stretch and splits by patient."""
    return Recipe(
        "example",
        "coco",
        Path(root),
        classes={theirs: ours for ours, theirs in _NAMES.items()},
        patients=re.compile("(?P<patient>patient_[0-9]+)"),
        native_size_hw=NATIVE_SIZE_HW,
        unlabelled_cells="none",
        split=SplitRule("patient", val_fraction=0.3),
        stain="drawn",
        origin="drawn by spherodetect.labels.example",
    )


def _files(
    photographs: Sequence[tuple[str, SyntheticField]], *, copies: int, rng: np.random.Generator
) -> Iterator[tuple[str, bytes]]:
    """The images of one folder of the export, then its labels."""
    from PIL import Image

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    ids = {name: k for k, name in enumerate(_NAMES, 1)}
    height, width = EXPORT_SIZE_HW
    stretch = np.tile(np.divide(EXPORT_SIZE_HW, NATIVE_SIZE_HW), 2)
    for name, drawn in photographs:
        for copy in range(copies):
            image, boxes = _mirrored(drawn, copy)
            boxes = boxes + rng.normal(0, _BY_HAND_PX, boxes.shape)
            boxes = np.clip(boxes * stretch, 0, [height, width] * 2)
            visible = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) > _MIN_VISIBLE_PX
            names = drawn.cells.names[visible]
            labelled = zip(names, boxes[visible].round(3).tolist(), strict=True)
            buffer = io.BytesIO()
            stretched = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
            stretched.save(buffer, "JPEG", quality=92)
            file = roboflow_name(name, sha256(buffer.getvalue())[:32])
            yield file, buffer.getvalue()
            annotations += [
                {
                    "id": len(annotations) + k,
                    "image_id": len(images),
                    "category_id": ids[kind],
                    **_rectangle(box),
                }
                for k, (kind, box) in enumerate(labelled)
            ]
            images.append(
                {
                    "id": len(images),
                    "license": 1,
                    "file_name": file,
                    "height": height,
                    "width": width,
                }
            )
    categories = [{"id": 0, "name": _PROJECT, "supercategory": "none"}]
    categories += [
        {"id": k, "name": _NAMES[name], "supercategory": _PROJECT} for name, k in ids.items()
    ]
    labels = {
        "info": {"description": "Drawn by spherodetect in the form of an export of roboflow.com"},
        "licenses": [{"id": 1, "url": "", "name": "drawn"}],
        "categories": categories,
        "images": images,
        "annotations": annotations,
    }
    yield "_annotations.coco.json", json.dumps(labels).encode()


def _mirrored(drawn: SyntheticField, copy: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and boxes of a copy: 0 as it is, 1 mirrored, 2 turned upside down."""
    image, box = drawn.image, drawn.cells.box_yxyx.astype(float)
    height, width = image.shape[:2]
    if copy >= 1:
        image = image[:, ::-1]
        box = np.stack([box[:, 0], width - box[:, 3], box[:, 2], width - box[:, 1]], axis=1)
    if copy >= 2:
        image = image[::-1]
        box = np.stack([height - box[:, 2], box[:, 1], height - box[:, 0], box[:, 3]], axis=1)
    return np.ascontiguousarray(image), box


def _rectangle(box_yxyx: Sequence[float]) -> dict[str, Any]:
    y0, x0, y1, x1 = box_yxyx
    width, height = round(x1 - x0, 3), round(y1 - y0, 3)
    return {
        "bbox": [x0, y0, width, height],
        "area": round(width * height, 3),
        "iscrowd": 0,
        "segmentation": [[x1, y0, x0, y0, x0, y1, x1, y1, x1, y0]],
    }
