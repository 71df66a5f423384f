"""Reads COCO: Roboflow's exports, makesense.ai's single file, and generic instances files.

COCO's boxes are (x, y, width, height) and its outlines x, y, x, y, ...; only this module knows.
Polygons of several parts, run-length masks and iscrowd are kept. The stated box is kept too,
rounded as it may be, for lint to compare; the outline is what counts. Annotation ids are the
file's, made unique by `#2`, `#3` where it gives one twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from spherodetect.errors import BadLabelsError
from spherodetect.fields.find import IMAGE_SUFFIXES
from spherodetect.fields.image import MAX_PIXELS
from spherodetect.geometry import polygon_area
from spherodetect.labels.annotations import Annotation, LabelledField, turned
from spherodetect.labels.file_names import source_of, split_in
from spherodetect.labels.readers.files import list_files, listed, read_header
from spherodetect.labels.readers.ledger import LabelSet, Ledger
from spherodetect.labels.recipe import Recipe
from spherodetect.rle import RunLengthMask, read_rle
from spherodetect.safety import inside, quoted, read_json

ROBOFLOW_FILE = "_annotations.coco.json"
MAX_SIDE_PX = 100_000
_FAR_PX = 1e6
_LISTS = ("images", "annotations", "categories")
_ID_LIMIT, _PATH_LIMIT = 200, 1000


def read_coco(recipe: Recipe) -> LabelSet:
    """Read every COCO file of the root (or the one that is recipe.labels), each with its images.

    Raises:
        BadLabelsError: there is no COCO file.
    """
    files = find_coco_files(recipe.root, recipe.labels)
    if not files:
        raise BadLabelsError(
            f"{quoted(recipe.root)}: expected {ROBOFLOW_FILE} in it or its folders, or another COCO .json, got none; "
            "name the folder or zip of the export (of a recipe's with --root)"
        )
    root = recipe.root if recipe.root.is_dir() else recipe.root.parent
    images = list_files(root, IMAGE_SUFFIXES, root)
    by_name: dict[str, list[str]] = {}
    for name in images:
        by_name.setdefault(PurePosixPath(name).name, []).append(name)
    ledger = Ledger()
    for path in files:
        _File(path, root, recipe, ledger, images, by_name).read()
    folders = {PurePosixPath(file).parent for file in ledger.files}
    for file in images:
        if file not in ledger.files and PurePosixPath(file).parent in folders:
            ledger.find(
                "image-without-labels",
                file,
                "no label file lists the image",
                [],
                mend="label it and export again; as it is, it teaches nothing",
            )
    return ledger.close()


def parse_coco(data: Any, path: Path) -> LabelSet:
    """The labels in the content of a COCO file that was read already; no image is looked for, no
    patient known."""
    ledger = Ledger()
    _File(path, path.parent, Recipe("source", "coco", path.parent), ledger, {}, {}).parse(data)
    return ledger.close()


def find_coco_files(root: Path, labels: str = "") -> list[Path]:
    """The COCO files of a source: itself, the named one, Roboflow's in any folder, or else what may
    be one."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".json" else []
    place = inside(root, labels, error=BadLabelsError) if labels else root
    if place.is_file():
        return [place]
    found = list_files(place, {".json"}, root) if place.is_dir() else {}
    roboflow = [path for path in found.values() if path.name == ROBOFLOW_FILE]
    return roboflow or [
        path for path in found.values() if path.parent == place or path.parent.name == "annotations"
    ]


@dataclass(eq=False)
class _Image:
    """An entry of `images` on its way to a field; header is what the file itself says: size, EXIF
    orientation."""

    file: str
    path: Path | None
    size_hw: tuple[int, int]
    header: tuple[tuple[int, int], int] | None
    annotations: list[Annotation] = field(default_factory=list)
    trusted: bool = True

    @property
    def turned(self) -> bool:
        """Whether the labels are of the image as it is stored, and EXIF turns that on its side."""
        return (
            self.misfits
            and self.header is not None
            and self.header[1] > 4
            and self.header[0] == self.size_hw[::-1]
        )

    @property
    def misfits(self) -> bool:
        return self.header is not None and self.header[0] != self.size_hw


class _File:
    """One COCO file being read."""

    def __init__(
        self,
        path: Path,
        root: Path,
        recipe: Recipe,
        ledger: Ledger,
        images: Mapping[str, Path],
        by_name: Mapping[str, list[str]],
    ) -> None:
        self.path, self.root, self.recipe, self.ledger = path, root, recipe, ledger
        self.on_disk, self.by_name = images, by_name
        self.name = path.relative_to(root).as_posix()
        place = PurePosixPath(self.name).parent.name if path.name == ROBOFLOW_FILE else path.stem
        self.split = split_in(place)

    def read(self) -> None:
        try:
            data = read_json(self.path, error=BadLabelsError)
        except BadLabelsError as error:
            why = (
                str(error).removeprefix(f"{quoted(self.path)}: ").removesuffix("; export it again")
            )
            self.ledger.broken(self.name, why, split=self.split)
            return
        self.parse(data)

    def parse(self, data: Any) -> None:
        if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in _LISTS):
            what = f"expected COCO with the lists {', '.join(_LISTS)}, got something else"
            self.ledger.broken(self.name, what, split=self.split)
            return
        entries = data["annotations"]
        ids = self._unique_ids(entries)
        names = self._categories(data["categories"], entries)
        images, listed_images = self._images(data["images"])
        for entry, annotation_id in zip(entries, ids, strict=True):
            try:
                image, annotation = self._annotation(entry, annotation_id, names, images)
            except ValueError as problem:
                self._malformed([annotation_id], str(problem))
                continue
            if annotation is not None:
                image.annotations.append(annotation)
        for image in listed_images:
            self._finish(image)

    def _malformed(self, ids: list[str], what: str) -> None:
        self.ledger.malformed(self.name, ids, what, split=self.split)

    def _unique_ids(self, entries: list[Any]) -> list[str]:
        """The annotations' ids as text, a running number behind those that come again."""
        seen, taken = Counter[str](), set[str]()
        ids, again = [], []
        for number, entry in enumerate(entries):
            given = entry.get("id") if isinstance(entry, dict) else None
            unique = name = str(given) if _is_id(given) else f"at {number}"
            while unique in taken:
                seen[name] += 1
                unique = f"{name}#{seen[name] + 1}"
            taken.add(unique)
            ids.append(unique)
            if unique != name:
                again.append(unique)
        if again:
            self.ledger.find(
                "duplicate-annotation-id",
                self.name,
                "ids are given to more than one annotation",
                again,
                mend="give each annotation its own id; here they were told apart by #2, #3",
                split=self.split,
                severity="error",
            )
        return ids

    def _categories(self, categories: list[Any], entries: list[Any]) -> dict[Any, str]:
        """Category id to name; what is odd about the table is noted."""
        names: dict[Any, str] = {}
        parents: dict[Any, str] = {}
        for category in categories:
            key = category.get("id") if isinstance(category, dict) else None
            name = category.get("name") if isinstance(category, dict) else None
            if (
                not _is_id(key)
                or not isinstance(name, str)
                or not 0 < len(name.strip()) <= _ID_LIMIT
            ):
                self._malformed([], "expected a category with id and name")
            elif names.setdefault(key, name.strip()) != name.strip():
                self._malformed(
                    [],
                    f"category id {key} has two names, {listed((names[key], name))}; the first counts",
                )
            else:
                parents[key] = str(category.get("supercategory", ""))
        used = {
            e.get("category_id")
            for e in entries
            if isinstance(e, dict) and _is_id(e.get("category_id"))
        }
        above = {parents.get(key) for key in names}
        root = next((key for key, name in names.items() if key not in used and name in above), None)
        if root is not None:
            what = (
                f"category {root} {quoted(names[root])} is the root of the others and marks nothing"
            )
            self.ledger.find(
                "root-category",
                self.name,
                what,
                [],
                split=self.split,
                mend="leave it out of the classes, and do not count it in num_classes",
            )
        real = sorted((key for key in names if key != root), key=lambda k: (str(type(k)), k))
        if real and real != list(range(1, len(real) + 1)):
            self.ledger.find(
                "gapped-category-ids",
                self.name,
                f"category ids are {listed(real)}, not 1 to {len(real)}",
                [],
                mend="map classes by name: ids with gaps or from 0 shift classes in programs that count on them",
                split=self.split,
            )
        return names

    def _images(self, entries: list[Any]) -> tuple[dict[Any, _Image], list[_Image]]:
        """Image id to image, and all images; what cannot be used is noted, and its annotations will
        not find it."""
        images: dict[Any, _Image] = {}
        by_file: dict[str, _Image] = {}
        for entry in entries:
            key = entry.get("id") if isinstance(entry, dict) else None
            name = entry.get("file_name") if isinstance(entry, dict) else None
            if not _is_id(key) or not isinstance(name, str) or not 0 < len(name) <= _PATH_LIMIT:
                self._malformed([], "expected an image with id and file_name")
                continue
            try:
                image = self._image(name, entry)
            except (ValueError, BadLabelsError) as problem:
                self._malformed([], f"image {quoted(key)}: {problem}")
                continue
            image = by_file.setdefault(image.file, image)
            if key in images and images[key] is not image:
                self._malformed(
                    [],
                    f"image id {quoted(key)} stands for {listed((images[key].file, image.file))}",
                )
                images[key].trusted = image.trusted = False
            images.setdefault(key, image)
        return images, list(by_file.values())

    def _image(self, name: str, entry: Mapping[str, Any]) -> _Image:
        file = self._locate(name)
        path = self.on_disk.get(file)
        header = read_header(path) if path else None
        stated = (
            _size_hw(entry) if {"height", "width"} & set(entry) else header[0] if header else None
        )
        if stated is None or math.prod(stated) > MAX_PIXELS:
            raise ValueError(f"expected height and width in pixels, {MAX_PIXELS:,} of them at most")
        if path and header is None:
            self.ledger.bad_image(file, [], split=self.split)
        elif header is None:
            self.ledger.without_image(file, [], split=self.split)
        return _Image(file, path if header else None, stated, header)

    def _locate(self, name: str) -> str:
        """The image's path below the root: beside the labels, in a folder of the split, or the only
        one of its name."""
        inside(self.path.parent, name, error=BadLabelsError)
        tidy = PurePosixPath(name.replace("\\", "/")).as_posix()
        here = PurePosixPath(self.name).parent
        folders = [
            here / self.path.stem,
            here,
            here / "images",
            here.parent / "images",
            here.parent / self.path.stem,
        ]
        if self.recipe.images:
            folders.insert(0, PurePosixPath(self.recipe.images))
        if self.path.name == ROBOFLOW_FILE:
            folders.insert(0, here)
        for folder in folders:
            if (file := (folder / tidy).as_posix()) in self.on_disk:
                return file
        alike = self.by_name.get(PurePosixPath(tidy).name, [])
        return alike[0] if len(alike) == 1 else (folders[0] / tidy).as_posix()

    def _annotation(
        self, entry: Any, annotation_id: str, names: Mapping[Any, str], images: Mapping[Any, _Image]
    ) -> tuple[_Image, Annotation | None]:
        """The annotation, or None where its outline encloses nothing, and its image; ValueError
        says what is wrong."""
        if not isinstance(entry, dict):
            raise ValueError("expected an annotation with keys and values, got something else")
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        if not _is_id(image_id) or image_id not in images:
            raise ValueError("image_id points to no usable image of the file")
        if not _is_id(category_id) or category_id not in names:
            raise ValueError("category_id points to no category of the file")
        image = images[image_id]
        if not image.trusted:
            raise ValueError("belongs to an image whose id stands for another one too")
        box = _box(entry.get("bbox"))
        polygons, mask, degenerate = _outline(entry.get("segmentation"), image.size_hw)
        if degenerate:
            self.ledger.find(
                "degenerate-polygon",
                self.name,
                "outlines, or parts of them, enclose nothing",
                [annotation_id],
                mend="draw them again; the box stands in where there is one",
                split=self.split,
                severity="error",
            )
        if mask is not None:
            box = self._mask_box(mask, box, annotation_id)
        if box is None and not polygons:
            if not degenerate:
                raise ValueError("expected a box of some size or an outline")
            self.ledger.unread(self.name, [annotation_id], "degenerate-polygon")
            return image, None
        return image, Annotation(
            annotation_id=annotation_id,
            name=names[category_id],
            box_yxyx=box,
            polygons=tuple(polygons),
            mask=mask,
            iscrowd=bool(entry.get("iscrowd", 0)),
        )

    def _mask_box(
        self, mask: RunLengthMask, stated: tuple[float, ...] | None, annotation_id: str
    ) -> Any:
        box = mask.box_yxyx()
        if (
            stated is not None
            and box is not None
            and max(abs(a - b) for a, b in zip(box, stated, strict=True)) > 1.5
        ):
            self.ledger.find(
                "box-polygon-mismatch",
                self.name,
                "stated boxes differ from their masks by more than a pixel",
                [annotation_id],
                mend="take the box from the mask, as is done here",
                split=self.split,
            )
        return box

    def _finish(self, image: _Image) -> None:
        if not image.annotations and image.trusted and image.path:
            self.ledger.without_labels(image.file, self.name, split=self.split)
        annotations, size_hw, labelled = image.annotations, image.size_hw, image.trusted
        if image.header and image.turned:
            size_hw, orientation = image.header
            annotations = [turned(a, orientation, image.size_hw) for a in annotations]
            self.ledger.turned(image.file, orientation, split=self.split)
        elif image.header and image.misfits:
            size_hw, ids = image.header[0], [a.annotation_id for a in annotations]
            self.ledger.wrong_size(
                image.file, ids, image.size_hw, size_hw, label_file=self.name, split=self.split
            )
            annotations, labelled = [], False
        self.ledger.add(
            LabelledField(
                file=image.file,
                path=image.path,
                size_hw=size_hw,
                annotations=tuple(annotations),
                source_id=source_of(image.file),
                patient_id=self.recipe.patient_of(image.file),
                split=self.split,
                native_size_hw=self.recipe.native_size_hw,
                um_per_px=self.recipe.um_per_px,
                labelled=labelled,
            ),
            label_file=self.name,
        )


def _box(value: Any) -> tuple[float, float, float, float] | None:
    """(ymin, xmin, ymax, xmax) of COCO's (x, y, width, height); None if there is none or it has no
    area."""
    if value is None or value == []:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_coordinate, value)):
        raise ValueError("expected bbox as four finite numbers x, y, width, height")
    x, y, width, height = map(float, value)
    if width < 0 or height < 0:
        raise ValueError("expected a bbox of positive width and height")
    return (y, x, y + height, x + width) if width > 0 and height > 0 else None


def _outline(value: Any, size_hw: tuple[int, int]) -> tuple[list[np.ndarray], Any, bool]:
    """Polygons, or a mask, of a segmentation, and whether some part of it encloses nothing."""
    if value is None or value == []:
        return [], None, False
    if isinstance(value, dict):
        mask = read_rle(value, size_hw)
        return [], (mask if mask.area_px else None), not mask.area_px
    parts = [value] if isinstance(value, list) and not isinstance(value[0], list) else value
    if not isinstance(parts, list):
        raise ValueError("expected segmentation as polygons or a run-length mask")
    polygons = list(_polygons(parts))
    return polygons, None, len(polygons) < len(parts)


def _polygons(parts: list[Any]) -> Iterator[np.ndarray]:
    for part in parts:
        if not isinstance(part, list) or len(part) % 2 or not all(map(_is_coordinate, part)):
            raise ValueError("expected a polygon as finite numbers x, y, x, y, ...")
        polygon = np.array(part, np.float64).reshape(-1, 2)[:, ::-1]
        if polygon_area(polygon) > 0:
            yield polygon


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= _ID_LIMIT
    return type(value) is int and abs(value) < 2**63


def _size_hw(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that an image's entry states, or None if they are no whole numbers of
    pixels."""
    height, width = (entry.get(side, 0) for side in ("height", "width"))
    if all(
        type(side) in (int, float) and 1 <= side <= MAX_SIDE_PX and side == int(side)
        for side in (height, width)
    ):
        return int(height), int(width)
    return None


def _is_coordinate(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -_FAR_PX <= value <= _FAR_PX
    )
