"""Dataset A's real label boxes with cells drawn into them, as the zip that Roboflow gives.

The photographs are 2400x1800 and come out stretched to 640x640; each training source comes as three
zoomed copies with boxes of their own. A cell fills its box: so every label of the export is true of
the picture.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from spherodetect.labels.file_names import source_of

_NATIVE_HW = (1800, 2400)
#: Optical density a channel of an eosin-stained cell, of a nucleus and of a platelet, relative to
#: its green.
_STAIN = {
    "RBC": (0.35, 1.0, 0.75),
    "Spherocyte": (0.35, 1.0, 0.75),
    "WBC": (1.1, 1.2, 0.5),
    "Platelets": (0.8, 1.0, 0.4),
}
_DEPTH = {"RBC": 0.16, "Spherocyte": 0.27, "WBC": 0.5, "Platelets": 0.3}


def write_export(
    source: Path, target: Path, *, patients: tuple[str, ...], sources_each: int
) -> dict[str, int]:
    """Write a zip of some sources of each patient (with all their copies, in both splits); returns
    labels a split."""
    counts = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for split in ("train", "valid"):
            export = json.loads((source / f"{split}.json").read_bytes())
            images = list(_chosen(export["images"], patients, sources_each))
            ids = {image["id"] for image in images}
            annotations = [a for a in export["annotations"] if a["image_id"] in ids]
            names = {c["id"]: c["name"] for c in export["categories"]}
            for image in images:
                own = [a for a in annotations if a["image_id"] == image["id"]]
                archive.writestr(f"{split}/{image['file_name']}", _photograph(image, own, names))
            part = {**export, "images": images, "annotations": annotations}
            archive.writestr(f"{split}/_annotations.coco.json", json.dumps(part))
            counts[split] = len(annotations)
    return counts


def _chosen(images: list[dict], patients: tuple[str, ...], sources_each: int) -> Iterator[dict]:
    for patient in patients:
        own = sorted(
            (i for i in images if i["file_name"].startswith(patient)), key=lambda i: i["file_name"]
        )
        sources = sorted({source_of(i["file_name"]) for i in own})[:sources_each]
        yield from (i for i in own if source_of(i["file_name"]) in sources)


def _photograph(image: dict, annotations: list[dict], names: dict[int, str]) -> bytes:
    height, width = _NATIVE_HW
    rng = np.random.default_rng(image["id"])
    density = np.zeros((height, width, 3), np.float32)
    for annotation in annotations:
        scale_xy = [width / image["width"], height / image["height"]]
        corners = np.reshape(annotation["segmentation"][0], (-1, 2)) * scale_xy
        (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
        _paint(density, (y0, x0, y1, x1), names[annotation["category_id"]], rng)
    slide = np.array([225, 222, 228]) * (1 + 0.04 * np.linspace(-1, 1, width)[None, :, None])
    picture = slide * 10**-density + rng.normal(0, 2, density.shape)
    stretched = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).resize(
        (image["width"], image["height"])
    )
    buffer = io.BytesIO()
    stretched.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _paint(
    density: np.ndarray, box_yxyx: tuple[float, ...], name: str, rng: np.random.Generator
) -> None:
    y0, x0, y1, x1 = box_yxyx
    top, left = max(0, int(y0)), max(0, int(x0))
    window = density[top : int(np.ceil(y1)), left : int(np.ceil(x1))]
    y, x = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]] + 0.5
    radius = np.hypot((y - (y0 + y1) / 2) / ((y1 - y0) / 2), (x - (x0 + x1) / 2) / ((x1 - x0) / 2))
    depth = _DEPTH[name] * rng.uniform(0.9, 1.1) * np.clip((1 - radius) * 12, 0, 1)
    if name == "RBC":
        depth *= 1 - rng.uniform(0.5, 0.8) * np.exp(-((radius / 0.4) ** 2))
    if name == "WBC":
        depth *= np.where(radius < 0.75, 1, 0.35)
    np.maximum(window, depth[..., None] * np.array(_STAIN[name], np.float32), out=window)
