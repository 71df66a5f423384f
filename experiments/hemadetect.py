"""Writes a few images of BCCD with masks, in the form of a makesense.ai export, for a few-shot run.

    python experiments/hemadetect.py --root ../shared/data/bccd --out runs/hemadetect-export

The images are the training split of tfrecords/hemadetect_bccd.yaml, 14 of 364. Segmentation makes
masks from the boxes (labels/repair/refine.py). OUT gets the images and labels_my-project.json, as
in a download from makesense.ai.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
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
    cells = [find_instances(read_image(field.path), field, recipe).instances for field in fields]
    pictures = [(field.path.name, field.path.read_bytes(), field.size_hw) for field in fields]
    n_cells = write_export(args.out, recipe.class_names, pictures, cells)
    print(f"{len(fields)} images, {n_cells} outlined cells: {args.out}")


def write_export(
    out: Path,
    class_names: Sequence[str],
    pictures: Sequence[tuple[str, bytes, tuple[int, int]]],
    cells: Sequence[Iterable[Instance]],
) -> int:
    """Write images and labels_my-project.json to out; return the number of outlined cells.

    Args:
        out: the folder.
        class_names: in the order of the class ids, from 1.
        pictures: name, content, and height and width of each image file.
        cells: of each image; those without class or mask are left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, ((name, content, (height, width)), found) in enumerate(
        zip(pictures, cells, strict=True), 1
    ):
        images.append({"id": number, "width": width, "height": height, "file_name": name})
        with atomic_write(out / name) as file:
            file.write(content)
        for cell in found:
            if cell.class_id and cell.mask is not None:
                annotations.append(outlined(cell, number, len(annotations)))
    export = {
        "info": {"description": "my-project"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(class_names, 1)],
    }
    with atomic_write(out / "labels_my-project.json") as file:
        file.write(json.dumps(export).encode())
    return len(annotations)


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
