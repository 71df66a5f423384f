"""Writes 14 MGG photographs with HemaDetect's six classes as a makesense.ai export.

    python experiments/hemadetect_mgg.py --root ../shared/data --out runs/hemadetect-mgg

ROOT has txl-pbc/ (boxes, and pbc_names.csv with the class of the white cell) and pbc-mgg/ (a folder
for each class). OUT gets three exports:

- train/: 12 photographs of TXL-PBC (four each with a neutrophil, a basophil and a lymphocyte) and
  two of PBC with platelets, and copies of four of them with drawn stippling;
- test/: the other photographs of TXL-PBC with one white cell of these classes;
- drawn/: copies of 24 of them with drawn stippling.

No photograph at hand shows basophilic stippling, so it is drawn: dark dots in a third of the red
cells. Segmentation makes the masks from the boxes (labels/repair/refine.py). Photographs that
overlap with one of train/ are left out of test/.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from hemadetect import write_export
from PIL import Image
from scipy import ndimage

from spherodetect.fields.image import read_image
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.check.duplicates import near_duplicates
from spherodetect.labels.recipe import Recipe, load_recipe
from spherodetect.labels.repair.instances import Instance
from spherodetect.labels.repair.masks import find_instances
from spherodetect.labels.source import read_labels

RECIPES = Path(__file__).parents[1] / "tfrecords"
NAMES = ("erythrocyte", "neutrophil", "basophil", "lymphocyte", "basophilic stippling", "platelet")
ERYTHROCYTE, STIPPLING, PLATELET = 1, 5, 6
WHITE = {"neutrophil": 2, "basophil": 3, "lymphocyte": 4}
#: Photographs of each white cell, photographs of PBC with platelets, and copies with stippling.
N_WHITE, N_PLATELETS, N_DRAWN, N_DRAWN_TEST = 4, 2, 4, 24
#: Every so many red cells get stippling.
_EVERY = 3

Picture = tuple[str, np.ndarray, tuple[Instance, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="with txl-pbc/ and pbc-mgg/")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    boxed = load_recipe(RECIPES / "txl_pbc.yaml", root=args.root / "txl-pbc")
    centred = load_recipe(RECIPES / "pbc.yaml", root=args.root / "pbc-mgg")
    by_white = fields_by_white(boxed, args.root / "txl-pbc" / "pbc_names.csv")
    chosen = [field for name in WHITE for field in by_white[name][:N_WHITE]]
    with_platelets = [
        field for field in read_labels(centred).fields if field.annotations[0].name == "platelet"
    ][:N_PLATELETS]
    groups = near_duplicates(
        {field.file: field.path for fields in by_white.values() for field in fields}
        | {f"pbc/{field.file}": field.path for field in with_platelets}
    )
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    taken = {group_of.get(field.file, field.file) for field in chosen} | {
        group_of.get(f"pbc/{field.file}", f"pbc/{field.file}") for field in with_platelets
    }
    train = [boxed_picture(field, boxed, by_white) for field in chosen]
    train += [centred_picture(field, centred) for field in with_platelets]
    test = [
        boxed_picture(field, boxed, by_white)
        for name in WHITE
        for field in by_white[name][N_WHITE:]
        if group_of.get(field.file, field.file) not in taken
    ]
    rng = np.random.default_rng(1)
    step = len(train[: 3 * N_WHITE]) // N_DRAWN
    drawn = [stippled(picture, rng) for picture in train[: 3 * N_WHITE : step]]
    step = len(test) // N_DRAWN_TEST
    drawn_test = [stippled(picture, rng) for picture in test[::step]][:N_DRAWN_TEST]
    for name, pictures in {"train": train + drawn, "test": test, "drawn": drawn_test}.items():
        n_cells = write(args.out / name, pictures)
        print(f"{name}: {len(pictures)} images, {n_cells} outlined cells")


def fields_by_white(recipe: Recipe, names: Path) -> dict[str, list[LabelledField]]:
    """Return the photographs with one white cell by its class, those with most platelets first."""
    with names.open(newline="") as file:
        classes = {
            row["txl_image"]: PurePosixPath(row["pbc_original"]).parent.name
            for row in csv.DictReader(file)
        }
    found: dict[str, list[LabelledField]] = defaultdict(list)
    for field in read_labels(recipe).fields:
        labels = [annotation.name for annotation in field.annotations]
        if (name := classes.get(field.path.name, "")) in WHITE and labels.count("0") == 1:
            found[name].append(field)
    for fields in found.values():
        fields.sort(key=lambda field: -sum(a.name == "2" for a in field.annotations))
    return found


def boxed_picture(
    field: LabelledField, recipe: Recipe, by_white: dict[str, list[LabelledField]]
) -> Picture:
    """Return name, image and cells of a photograph of TXL-PBC."""
    white = next(WHITE[name] for name, fields in by_white.items() if field in fields)
    classes = {"WBC": white, "RBC": ERYTHROCYTE, "Platelet": PLATELET}
    image = read_image(field.path)
    cells = find_instances(image, field, recipe).instances
    return (
        field.path.name,
        image,
        tuple(replace(cell, class_id=classes.get(cell.name, 0)) for cell in cells),
    )


def centred_picture(field: LabelledField, recipe: Recipe) -> Picture:
    """Return name, image and cells of a photograph of PBC."""
    image = read_image(field.path)
    classes = {"rbc": ERYTHROCYTE, "platelet": PLATELET}
    cells = find_instances(image, field, recipe).instances
    names = [recipe.class_names[c.class_id - 1] if c.class_id else "" for c in cells]
    return (
        field.path.name,
        image,
        tuple(
            replace(cell, class_id=classes.get(name, 0))
            for cell, name in zip(cells, names, strict=True)
        ),
    )


def stippled(picture: Picture, rng: np.random.Generator) -> Picture:
    """Return a copy in which every third red cell has drawn dots and the class of stippling."""
    name, image, cells = picture
    image, changed, n_red = image.copy(), [], 0
    for cell in cells:
        if cell.class_id == ERYTHROCYTE and cell.mask is not None:
            n_red += 1
            if n_red % _EVERY == 0:
                draw_dots(image, cell, rng)
                cell = replace(cell, class_id=STIPPLING)
        changed.append(cell)
    return f"drawn_{Path(name).stem}.png", image, tuple(changed)


def draw_dots(image: np.ndarray, cell: Instance, rng: np.random.Generator) -> None:
    """Draw dots of 2 to 5 pixels in a cell, in the colour of basophilic stippling."""
    assert cell.mask is not None
    y0, x0 = np.round(cell.box_yxyx[:2]).astype(int)
    inner = ndimage.binary_erosion(cell.mask, iterations=max(2, cell.mask.shape[0] // 12))
    places = np.argwhere(inner)
    if not len(places):
        return
    cover = np.zeros(image.shape[:2])
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    for dot_y, dot_x in np.add(rng.choice(places, size=rng.integers(18, 36)), (y0, x0)):
        radius, depth = rng.uniform(0.9, 2.2), rng.uniform(0.5, 0.85)
        distance = np.hypot(y - dot_y, x - dot_x)
        cover = np.maximum(cover, depth * np.clip(radius + 0.5 - distance, 0, 1))
    ink = np.array([88, 74, 132])
    image[:] = np.round(image + (ink - image.astype(float)) * cover[..., None]).astype(np.uint8)


def write(out: Path, pictures: Sequence[Picture]) -> int:
    files = []
    for name, image, _ in pictures:
        content = io.BytesIO()
        Image.fromarray(image).save(content, "PNG" if name.endswith(".png") else "JPEG", quality=95)
        files.append((name, content.getvalue(), (image.shape[0], image.shape[1])))
    return write_export(out, NAMES, files, [cells for _, _, cells in pictures])


if __name__ == "__main__":
    main()
