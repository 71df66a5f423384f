"""TFDS builders of the data sets in tfrecords/, with the content of `spherodetect tfrecords`.

    import spherodetect.records.tfds  # registers the builders
    import tensorflow_datasets as tfds
    fields = tfds.load("chula", split="train")

Boxes are normalised (ymin, xmin, ymax, xmax). Masks are (MASK_SIZE, MASK_SIZE) bool, stretched over
their boxes. Points are (y, x) in pixels of the image, and -1 for a label without one. Label 0 is a
cell of unknown class; class_set has the bits of the classes that it may be.
`builder.info.metadata["manifest"]` accounts for every label.

The data is in TFDS's manual folder, or is downloaded from its origin at a fixed commit. TFDS
compares the download with checksums.tsv beside this file. A missing checksum is recorded with
`tfds.download.DownloadConfig(register_checksums=True)`. The module needs the extra [train].
"""

from __future__ import annotations

import dataclasses
import io
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from spherodetect.errors import BadLabelsError
from spherodetect.geometry import stretch_mask
from spherodetect.labels.readers.coco import find_coco_files
from spherodetect.labels.recipe import Recipe, load_recipe
from spherodetect.records.account import Account, Part
from spherodetect.records.convert import Converted, Prepared, converting, prepare
from spherodetect.records.examples import MASK_SIZE
from spherodetect.safety import extract_zip, quoted

_RECIPES = Path(__file__).resolve().parents[3] / "tfrecords"
_log = logging.getLogger(__name__)


class _Smears(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds a recipe's data set.

    Args of the builder, in addition to those of TFDS:
        recipe: the recipe or its file, if it is not in tfrecords/ of a clone of the repository.
        workers: processes that convert fields; above 1 the calling script needs the usual
            `__main__` guard.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    #: The address of an archive, and its folders for the recipe's images and labels.
    URL: ClassVar[str] = ""
    FOLDERS: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, *, recipe: str | Path | Recipe | None = None, workers: int = 1, **options: Any
    ) -> None:
        if not isinstance(recipe, Recipe):
            file = Path(recipe) if recipe else _RECIPES / f"{self.name}.yaml"
            if not file.is_file():
                raise BadLabelsError(
                    f"{quoted(file)}: expected the data set's recipe, got none; "
                    "clone the repository, or pass recipe=FILE"
                )
            recipe = load_recipe(file)
        self._recipe, self._workers = recipe, workers
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        cell = {
            "bbox": features.BBoxFeature(),
            "label": features.ClassLabel(names=["unknown", *self._recipe.class_names]),
            "class_set": np.int64,
            "name": features.Text(
                doc="The annotator's own name; empty for a cell without a label."
            ),
            "annotation_id": features.Text(),
            "point_yx": features.Tensor(shape=(2,), dtype=np.float32),
            "mask": features.Tensor(shape=(MASK_SIZE, MASK_SIZE), dtype=np.bool_),
            "mask_known": np.bool_,
            "mask_quality": np.float32,
        }
        field = {
            "image": features.Image(shape=(None, None, 3), encoding_format="png"),
            "field": features.Text(),
            "patient": features.Text(doc="Empty where the patient is not known."),
            "rbc_diameter_px": np.float32,
            "um_per_px": features.Scalar(np.float32, doc="0 where it is not known."),
            "cells": features.Sequence(cell),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{type(self).__doc__} "
            "For Research Use Only. Not for use in diagnostic procedures.",
            features=features.FeaturesDict(field),
            homepage=self._recipe.origin.partition(",")[0],
            license=self._recipe.licence,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[Any]]:
        recipe = dataclasses.replace(self._recipe, root=self._root(dl_manager))
        ready = prepare(recipe)
        account = Account(recipe, ready.labels, ready.splits)
        return {
            split: self._examples(recipe, ready, account, split)
            for split in sorted(set(ready.splits.values()))
        }

    def _generate_examples(self, *args: Any) -> Iterator[Any]:
        raise NotImplementedError("each split has its own generator")

    def _root(self, dl_manager: tfds.download.DownloadManager) -> Path:
        """The folder that holds the data set as its recipe describes it."""
        try:
            manual = Path(dl_manager.manual_dir)
        except AssertionError:  # TFDS's way to say that there is none
            manual = None
        if manual is not None:
            own = manual / self.name
            if own.is_dir() or self._lies_in(manual):
                return own if own.is_dir() else manual
            if (archive := own.with_name(f"{self.name}.zip")).is_file():
                return self._unpacked(archive)
        if not self.URL:
            raise BadLabelsError(
                f"{self.name}: expected its data in the manual folder; "
                f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        if self.URL not in (self.url_infos or {}):
            _log.warning(
                "%s: the checksum of %s is not known and not verified "
                "(register_checksums=True records it)",
                self.name,
                self.URL,
            )
        return self._unpacked(Path(dl_manager.download(self.URL)))

    def _lies_in(self, folder: Path) -> bool:
        if self._recipe.format == "coco":
            return bool(find_coco_files(folder))
        if self._recipe.format == "centred":
            return any((folder / name).is_dir() for name in self._recipe.classes)
        return all((folder / name).is_dir() for name in (self._recipe.images, self._recipe.labels))

    def _unpacked(self, archive: Path) -> Path:
        """The unpacked archive, with the recipe's folders; it lives as long as the builder."""
        self._keep = tempfile.TemporaryDirectory(prefix="spherodetect-", ignore_cleanup_errors=True)
        root = Path(self._keep.name)
        extract_zip(archive, root / "archive", error=BadLabelsError)
        if not self.FOLDERS:
            return root / "archive"
        for name, inner in self.FOLDERS.items():
            found = [p for p in sorted((root / "archive").glob(f"*/{inner}")) if p.is_dir()]
            if len(found) != 1:
                raise BadLabelsError(
                    f"{quoted(archive.name)}: expected one folder */{inner}, got {len(found)}; "
                    f"download {self.URL}"
                )
            found[0].rename(root / name)
        return root

    def _examples(
        self, recipe: Recipe, ready: Prepared, account: Account, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        members = [
            f
            for f in ready.labels.fields
            if f.path is not None and ready.splits.get(f.file) == split
        ]
        part = Part(split)
        with converting(self._workers) as convert_all:
            for one in convert_all(recipe, members):
                part.add(one, recipe)
                if one.png is None:
                    _log.warning(one.problem)
                else:
                    yield one.labelled.file, _example(one)
        account.add(part)
        if {p.split for p in account.parts} == set(ready.splits.values()):
            self.info.metadata["manifest"] = account.manifest(ready.findings, forced=ready.forced)


def _example(one: Converted) -> dict[str, Any]:
    height, width = one.size_hw
    points = {
        a.annotation_id: a.point_yx for a in one.labelled.annotations if a.point_yx is not None
    }
    cells = []
    for i in one.found.instances:
        ymin, xmin, ymax, xmax = (float(v) for v in i.box_yxyx / [height, width, height, width])
        mask = np.zeros((1, 1), bool) if i.mask is None else i.mask
        cells.append(
            {
                "bbox": tfds.features.BBox(ymin=ymin, xmin=xmin, ymax=ymax, xmax=xmax),
                "label": i.class_id,
                "class_set": i.class_set,
                "name": i.name,
                "annotation_id": i.annotation_id,
                "point_yx": np.array(points.get(i.annotation_id, (-1, -1)), np.float32),
                "mask": stretch_mask(mask, MASK_SIZE),
                "mask_known": i.mask is not None,
                "mask_quality": i.quality,
            }
        )
    return {
        "image": io.BytesIO(one.png or b""),
        "field": one.labelled.file,
        "patient": one.labelled.patient_id or "",
        "rbc_diameter_px": one.found.rbc_diameter_px,
        "um_per_px": one.labelled.um_per_px or 0.0,
        "cells": cells,
    }


class DatasetA(_Smears):
    """Dataset A: MGG smears of five patients with hereditary spherocytosis, a box for each cell."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "put the Roboflow COCO export there as dataset_a/train and dataset_a/valid, "
        "each with _annotations.coco.json and its images, or as dataset_a.zip. "
        "The photographs are at https://data.mendeley.com/datasets/c37wnbbd3c. "
        "The export, whose images are zoomed copies of them, has no public address: "
        "make it in Roboflow, or download it with `spherodetect roboflow`."
    )


class Chula(_Smears):
    """Chula RBC-12: thin-smear fields, a point and one of 13 classes for a third of the cells."""

    URL = "https://github.com/Chula-PIC-Lab/Chula-RBC-12-Dataset/archive/fa130f48135d79bbd69f8e540b533511017d6896.zip"
    FOLDERS: ClassVar = {"images": "Dataset", "labels": "Label"}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"put the data set there as chula/images and chula/labels, or {URL} as chula.zip."
    )


class Bccd(_Smears):
    """BCCD: fields with boxes around red cells, white cells and platelets."""

    URL = "https://github.com/Shenggan/BCCD_Dataset/archive/862b232accac2e8d4ee2d95738d51195f0476395.zip"
    FOLDERS: ClassVar = {"images": "BCCD/JPEGImages", "annotations": "BCCD/Annotations"}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"put the data set there as bccd/images and bccd/annotations, or {URL} as bccd.zip."
    )


class TxlPbc(_Smears):
    """TXL-PBC: MGG photographs of healthy people, boxes of red cells, white cells and platelets."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "put the images and the YOLO labels of https://github.com/lugan113/TXL-PBC_Dataset "
        "there as txl_pbc/images and txl_pbc/labels."
    )


class Pbc(_Smears):
    """PBC: MGG photographs of healthy people, each with a white cell or platelets in its centre."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "put the folders of https://data.mendeley.com/datasets/snkd93bnjr there as pbc/basophil, "
        "pbc/eosinophil and so on; folders of other cells stay out."
    )


class _OfRecipe(_Smears, skip_registration=True):  # type: ignore[call-arg]
    """A recipe's data set, read from where the recipe says that it lies."""

    def _root(self, dl_manager: tfds.download.DownloadManager) -> Path:
        return self._recipe.root


def own_builder(recipe: Recipe, *, workers: int, **options: Any) -> tfds.core.DatasetBuilder:
    """The builder of a loaded recipe; options are those of TFDS."""
    own = re.sub("[^a-z0-9]+", "_", recipe.name.lower()).strip("_")

    class Own(_OfRecipe, skip_registration=True):  # type: ignore[call-arg]
        __doc__ = f"{recipe.name}, from its recipe."
        name = own if own[:1].isalpha() else f"recipe_{own}"

    return Own(recipe=recipe, workers=workers, **options)
