"""Writes a few images of BCCD with masks, in the form of a makesense.ai export, for a few-shot run.

    python experiments/hemadetect.py --root ../shared/data/bccd --out runs/hemadetect-export

The images are the training split of tfrecords/hemadetect_bccd.yaml, 14 of 364. Segmentation makes
masks from the boxes (labels/repair/refine.py). OUT gets the images and labels_my-project.json, as
in a download from makesense.ai.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from skimage.measure import find_contours

from spherodetect.fields.image import read_image
from spherodetect.labels.check.duplicates import near_duplicates
from spherodetect.labels.recipe import load_recipe
from spherodetect.labels.repair.instances import Instance
from spherodetect.labels.repair.masks import find_instances
from spherodetect.labels.source import read_labels
from spherodetect.labels.splits import assign_splits
from spherodetect.safety import atomic_write

RECIPE = Path(__file__).parents[1] / "tfrecords" / "hemadetect_bccd.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, help="folder of BCCD, with images/ and annotations/")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = load_recipe(RECIPE, root=args.root)
    labels = read_labels(recipe)
    groups = near_duplicates({field.file: field.path for field in labels.fields})
    splits = assign_splits(labels.fields, recipe, duplicate_groups=groups)
    fields = [field for field in labels.fields if splits[field.file] == "train"]
    args.out.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, field in enumerate(fields, 1):
        height, width = field.size_hw
        images.append(
            {"id": number, "width": width, "height": height, "file_name": field.path.name}
        )
        shutil.copy(field.path, args.out / field.path.name)
        for cell in find_instances(read_image(field.path), field, recipe).instances:
            if cell.class_id and cell.mask is not None:
                annotations.append(outlined(cell, number, len(annotations)))
    export = {
        "info": {"description": "my-project"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(recipe.class_names, 1)],
    }
    with atomic_write(args.out / "labels_my-project.json") as file:
        file.write(json.dumps(export).encode())
    print(f"{len(images)} images, {len(annotations)} outlined cells: {args.out}")


def outlined(cell: Instance, image_id: int, number: int) -> dict[str, Any]:
    """The annotation of a cell, with its outline as a polygon."""
    (y0, x0), (height, width) = cell.box_yxyx[:2], np.array(cell.mask.shape)
    outline = max(find_contours(np.pad(cell.mask, 1).astype(float), 0.5), key=len)
    stretch = (cell.box_yxyx[2:] - cell.box_yxyx[:2]) / (height, width)
    polygon = (outline - 0.5) * stretch + (y0, x0)
    (top, left), (bottom, right) = polygon.min(axis=0), polygon.max(axis=0)
    return {
        "id": number,
        "iscrowd": 0,
        "image_id": image_id,
        "category_id": cell.class_id,
        "segmentation": [[round(float(v), 2) for v in polygon[:-1, ::-1].ravel()]],
        "bbox": [round(float(v), 2) for v in (left, top, right - left, bottom - top)],
        "area": round(float(cell.mask.sum() * stretch.prod()), 1),
    }


if __name__ == "__main__":
    main()
