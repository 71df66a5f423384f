"""Reads one COCO file into a ledger: its images, categories and annotations.

Polygons of several parts, run-length masks and iscrowd are kept. The stated box is kept beside the
outline, so that lint can compare the two; everything else uses the outline. Annotation ids are
those of the file. If the file gives an id twice, `#2`, `#3` ... is appended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from spherodetect.errors import BadLabelsError
from spherodetect.fields.image import MAX_PIXELS
from spherodetect.labels.annotations import Annotation, LabelledField, turned
from spherodetect.labels.file_names import ROBOFLOW_FILE, source_of, split_in
from spherodetect.labels.readers.coco_lists import (
    problem_of_lists,
    read_categories,
    unique_ids,
    wrong_value,
)
from spherodetect.labels.readers.coco_values import (
    PATH_LIMIT,
    box_of,
    by_rows,
    id_of,
    is_crowd,
    is_near,
    outline_of,
    size_hw,
)
from spherodetect.labels.readers.files import ON_ITS_SIDE, listed, read_header
from spherodetect.labels.readers.images import ImageIndex
from spherodetect.labels.readers.ledger import Ledger
from spherodetect.labels.recipe import Recipe
from spherodetect.rle import RunLengthMask
from spherodetect.safety import inside, quoted, read_json


@dataclass(eq=False)
class _Image:
    """An image entry while its annotations are collected.

    Attributes:
        file: as in LabelledField.
        path: as in LabelledField.
        size_hw: as the entry states it.
        header: what the image file itself states: its upright size and EXIF orientation.
        trusted: False if the entry's id is also the id of another image.
    """

    file: str
    path: Path | None
    size_hw: tuple[int, int]
    header: tuple[tuple[int, int], int] | None
    annotations: list[Annotation] = field(default_factory=list)
    trusted: bool = True

    @property
    def has_wrong_size(self) -> bool:
        return self.header is not None and self.header[0] != self.size_hw

    @property
    def is_turned(self) -> bool:
        """Whether EXIF turns the image and the labels are in the pixels of the stored image."""
        return (
            self.has_wrong_size
            and self.header is not None
            and self.header[1] in ON_ITS_SIDE
            and self.header[0] == self.size_hw[::-1]
        )


class CocoFile:
    """The reading of one COCO file."""

    def __init__(
        self, path: Path, root: Path, recipe: Recipe, ledger: Ledger, index: ImageIndex
    ) -> None:
        self.path, self.root, self.recipe, self.ledger = path, root, recipe, ledger
        self.index = index
        self.name = path.relative_to(root).as_posix()
        is_roboflow = path.name == ROBOFLOW_FILE
        self.split = split_in(PurePosixPath(self.name).parent.name if is_roboflow else path.stem)

    def read(self) -> None:
        try:
            data = read_json(self.path, error=BadLabelsError)
        except BadLabelsError as error:
            why = str(error).removeprefix(f"{quoted(self.path)}: ")
            self.ledger.broken(self.name, why.removesuffix("; export it again"), split=self.split)
            return
        self.parse(data)

    def parse(self, data: Any) -> None:
        if (no_coco := problem_of_lists(data)) is not None:
            self.ledger.broken(self.name, no_coco, split=self.split)
            return
        entries = data["annotations"]
        ids = self._unique_ids(entries)
        names = self._categories(data["categories"], entries)
        image_of_id, images = self._images(data["images"])
        for entry, annotation_id in zip(entries, ids, strict=True):
            try:
                image, annotation = self._annotation(entry, annotation_id, names, image_of_id)
            except ValueError as problem:
                self._malformed([annotation_id], str(problem))
                continue
            if annotation is not None:
                image.annotations.append(annotation)
        for image in images:
            self._add_field(image)

    def _malformed(self, ids: list[str], message: str) -> None:
        self.ledger.malformed(self.name, ids, message, split=self.split)

    def _unique_ids(self, entries: list[Any]) -> list[str]:
        ids, repeated = unique_ids(entries)
        if repeated:
            self.ledger.note(
                "duplicate-annotation-id",
                self.name,
                "ids are given to more than one annotation",
                repeated,
                mend="give each annotation its own id; here they were told apart by #2, #3",
                split=self.split,
                severity="error",
            )
        return ids

    def _categories(self, entries: list[Any], annotations: list[Any]) -> Mapping[int | str, str]:
        """Category id to name."""
        categories = read_categories(entries, annotations)
        names, root = categories.names, categories.root
        for problem in categories.problems:
            self._malformed([], problem)
        if root is not None:
            self.ledger.note(
                "root-category",
                self.name,
                f"category {root} {quoted(names[root])} is the parent of the others "
                "and has no annotation",
                [],
                split=self.split,
                mend="leave it out of the classes, and do not count it in num_classes",
            )
        if gapped := categories.gapped:
            self.ledger.note(
                "gapped-category-ids",
                self.name,
                f"category ids are {listed(gapped)}, not 1 to {len(gapped)}",
                [],
                mend="map classes by name: programs that use the ids as class numbers get them "
                "wrong if ids have gaps or start at 0",
                split=self.split,
            )
        return names

    def _images(self, entries: list[Any]) -> tuple[dict[int | str, _Image], list[_Image]]:
        """Image id to image, and all images in order, one for each file."""
        images: dict[int | str, _Image] = {}
        by_file: dict[str, _Image] = {}
        names = [entry.get("file_name") for entry in entries if isinstance(entry, dict)]
        usable = [name for name in names if isinstance(name, str) and 0 < len(name) <= PATH_LIMIT]
        located = self.index.locate(usable, self._folders())
        for number, entry in enumerate(entries):
            place = f"images[{number}]"
            key = id_of(entry.get("id")) if isinstance(entry, dict) else None
            name = entry.get("file_name") if isinstance(entry, dict) else None
            if key is None:
                self._malformed([], wrong_value(place, "id", "a whole number or short text", entry))
                continue
            if not isinstance(name, str) or not 0 < len(name) <= PATH_LIMIT:
                self._malformed([], wrong_value(place, "file_name", "a short text", entry))
                continue
            try:
                image = self._image(name, entry, located[name])
            except (ValueError, BadLabelsError) as problem:
                self._malformed([], f"image {quoted(key)}: {problem}")
                continue
            image = by_file.setdefault(image.file, image)
            if key in images and images[key] is not image:
                both = listed((images[key].file, image.file))
                self._malformed([], f"image id {quoted(key)} stands for {both}")
                images[key].trusted = image.trusted = False
            images.setdefault(key, image)
        return images, list(by_file.values())

    def _image(self, name: str, entry: Mapping[str, Any], located: str | None) -> _Image:
        file = located or self._missing(name)
        path = self.index.files.get(file)
        header = read_header(path) if path else None
        if {"height", "width"} & set(entry):
            stated = size_hw(entry)
        else:
            stated = header[0] if header else None
        if stated is None or math.prod(stated) > MAX_PIXELS:
            raise ValueError(f"expected height and width in pixels, {MAX_PIXELS:,} of them at most")
        if path and header is None:
            self.ledger.bad_image(file, [], split=self.split)
        elif header is None:
            self.ledger.without_image(file, [], split=self.split, near=self.index.near(name))
        return _Image(file, path if header else None, stated, header)

    def _missing(self, name: str) -> str:
        """The path below the root at which an image that is not there is expected."""
        inside(self.path.parent, name, error=BadLabelsError)
        return (self._folders()[0] / PurePosixPath(name.replace("\\", "/"))).as_posix()

    def _folders(self) -> list[PurePosixPath]:
        """The folders that file names may be relative to, the likely ones first.

        CVAT puts the images into images/SUBSET, beside annotations/instances_SUBSET.json.
        """
        here = PurePosixPath(self.name).parent
        subset = self.path.stem.removeprefix("instances_")
        folders = [
            here / self.path.stem,
            here,
            here / "images",
            here.parent / "images",
            here.parent / self.path.stem,
            here.parent / "images" / subset,
        ]
        if self.recipe.images:
            folders.insert(0, PurePosixPath(self.recipe.images))
        if self.path.name == ROBOFLOW_FILE:
            folders.insert(0, here)
        return folders

    def _annotation(
        self,
        entry: Any,
        annotation_id: str,
        names: Mapping[int | str, str],
        images: Mapping[int | str, _Image],
    ) -> tuple[_Image, Annotation | None]:
        """The image and the annotation, or None for an annotation whose outline has no area.

        Raises:
            ValueError: the annotation cannot be used; the message says why.
        """
        image_id, category_id = (
            id_of(entry.get(key)) if isinstance(entry, dict) else None
            for key in ("image_id", "category_id")
        )
        if image_id is None:
            expected = "an id of the list images"
            raise ValueError(wrong_value("annotations", "image_id", expected, entry))
        if image_id not in images:
            raise ValueError("image_id is not the id of a usable entry of the list images")
        if category_id is None:
            expected = "an id of the list categories"
            raise ValueError(wrong_value("annotations", "category_id", expected, entry))
        if category_id not in names:
            raise ValueError("category_id is not the id of a usable entry of the list categories")
        image = images[image_id]
        if not image.trusted:
            raise ValueError("belongs to an image whose id stands for another one too")
        box = box_of(entry.get("bbox"))
        polygons, mask, degenerate = outline_of(entry.get("segmentation"), image.size_hw)
        if degenerate:
            self.ledger.note(
                "degenerate-polygon",
                self.name,
                "outlines, or parts of them, have no area",
                [annotation_id],
                mend="draw them again; the box is used instead where there is one",
                split=self.split,
                severity="error",
            )
        if mask is not None:
            mask, box = self._oriented(mask, box, annotation_id)
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
            iscrowd=is_crowd(entry.get("iscrowd", 0)),
        )

    def _oriented(
        self, mask: RunLengthMask, stated: tuple[float, ...] | None, annotation_id: str
    ) -> tuple[RunLengthMask, tuple[float, float, float, float] | None]:
        """The mask, which some tools write along rows, and its box."""
        if (other := by_rows(mask, stated)) is not None:
            self.ledger.note(
                "box-polygon-mismatch",
                self.name,
                "run lengths go along rows, and COCO's along columns; only rows give cells",
                [annotation_id],
                mend="nothing, they are read along rows here; mend the program that wrote them",
                split=self.split,
            )
            return other, other.box_yxyx()
        box = mask.box_yxyx()
        if box is not None and stated is not None and not is_near(box, stated):
            self.ledger.note(
                "box-polygon-mismatch",
                self.name,
                "stated boxes differ from their masks by more than a pixel",
                [annotation_id],
                mend="take the box from the mask, as is done here",
                split=self.split,
            )
        return mask, box

    def _add_field(self, image: _Image) -> None:
        if not image.annotations and image.trusted and image.path:
            self.ledger.without_labels(image.file, self.name, split=self.split)
        annotations, field_hw, labelled = image.annotations, image.size_hw, image.trusted
        if image.header and image.is_turned:
            field_hw, orientation = image.header
            annotations = [turned(a, orientation, image.size_hw) for a in annotations]
            self.ledger.turned(image.file, orientation, split=self.split)
        elif image.header and image.has_wrong_size:
            field_hw, ids = image.header[0], [a.annotation_id for a in annotations]
            self.ledger.wrong_size(
                image.file, ids, image.size_hw, field_hw, label_file=self.name, split=self.split
            )
            annotations, labelled = [], False
        self.ledger.add(
            LabelledField(
                file=image.file,
                path=image.path,
                size_hw=field_hw,
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
