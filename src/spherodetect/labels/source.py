"""Opens a source of labels: the data set of a recipe, or a downloaded export folder or zip."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

from spherodetect.errors import BadLabelsError
from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.labels.file_names import patient_folder
from spherodetect.labels.foreign import refuse_foreign
from spherodetect.labels.formats import format_of, is_labelme_file, label_files_of
from spherodetect.labels.photographs import tell_apart
from spherodetect.labels.readers.centred import read_centred
from spherodetect.labels.readers.coco import read_coco
from spherodetect.labels.readers.drawn import read_drawn
from spherodetect.labels.readers.files import common_folder, list_files
from spherodetect.labels.readers.labelme import read_labelme
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.readers.points import read_points
from spherodetect.labels.readers.voc import read_voc
from spherodetect.labels.readers.yolo import is_data_yaml, read_yolo
from spherodetect.labels.recipe import Recipe, SplitRule, load_recipe
from spherodetect.safety import extract_zip, quoted

_READERS = {
    "coco": read_coco,
    "yolo": read_yolo,
    "labelme": read_labelme,
    "voc": read_voc,
    "points": read_points,
    "centred": read_centred,
    "synthetic": read_drawn,
}
#: Finds the patient in a file name if no pattern is given.
PATIENT_PATTERN = r"(?P<patient>(?:patient|pat|subject|case)[-_ ]?[0-9]+)"


def read_labels(recipe: Recipe) -> LabelSet:
    """Read every label of a recipe's data set; the recipe must know every class name.

    Raises:
        BadLabelsError: there is nothing to read, a label file cannot be read at all, or a name is
            neither in the recipe nor a known synonym.
    """
    labels = read_unmapped(recipe)
    if labels.broken:
        why = next(f.message for f in labels.findings if f.file in labels.broken)
        raise BadLabelsError(f"{quoted(labels.broken[0])}: {why}; export it again")
    for name in dict.fromkeys(a.name for f in labels.fields for a in f.annotations):
        recipe.meaning(name)
    return labels


def read_unmapped(recipe: Recipe) -> LabelSet:
    """Read every label of a recipe's data set with any class names.

    A zip is unpacked into a temporary folder that lives as long as the result.

    Raises:
        BadLabelsError: there is nothing to read.
    """
    return read_export(recipe)[1]


def read_export(recipe: Recipe) -> tuple[Recipe, LabelSet]:
    """Read a data set as `read_unmapped` does; return its recipe too.

    The recipe differs from the given one if it was made for a zip: the format of a zip and its
    folders show only when it is unpacked.

    Raises:
        BadLabelsError: there is nothing to read.
    """
    given = recipe.root
    root, keep = _unpacked(given)
    try:
        if keep and recipe.file is None:
            # The format of a zip shows only when it is unpacked.
            inner = recipe_for(root)
            recipe = dataclasses.replace(
                recipe, format=inner.format, images=inner.images, labels=inner.labels
            )
        labels = _READERS[recipe.format](dataclasses.replace(recipe, root=root))
    except BadLabelsError as error:
        # The user knows the zip and not the temporary folder.
        raise BadLabelsError(str(error).replace(str(root), str(given))) from None
    if not labels.fields and not labels.findings:
        raise BadLabelsError(
            f"{quoted(given)}: expected images and {recipe.format} labels, got none"
        )
    fields = tell_apart(labels.fields)
    found = dataclasses.replace(
        labels, fields=fields, keep=keep or labels.keep, format=recipe.format
    )
    return recipe, found


def recipe_for(source: str | Path) -> Recipe:
    """The recipe of a source: read from a YAML file, or made for the format found in a folder.

    Raises:
        BadLabelsError: no label format is recognised.
    """
    source = Path(source)
    if source.suffix.lower() in (".yaml", ".yml"):
        if not is_data_yaml(source):
            return load_recipe(source)
        source = source.parent
    if not source.exists():
        raise BadLabelsError(
            f"{quoted(source)}: expected an export folder, zip or recipe, got no such file; "
            "check the path"
        )
    recipe = Recipe(
        "source",
        "coco",
        source,
        patients=re.compile(PATIENT_PATTERN),
        split=SplitRule("export"),
        patient_folders=True,
    )
    if not source.is_dir():
        refuse_foreign([source])
        if source.suffix.lower() in (".xml", ".txt", ".csv"):
            raise BadLabelsError(
                f"{quoted(source)}: expected an export folder, zip, .json or recipe, got the "
                "labels of one image; name the folder that holds it"
            )
        if is_labelme_file(source):
            return dataclasses.replace(recipe, format="labelme", root=source.parent)
        return recipe
    kind = format_of(source)
    if kind not in ("voc", "points"):
        return dataclasses.replace(recipe, format=kind)
    labels = label_files_of(kind, source)
    images = list_files(source, IMAGE_SUFFIXES, source)
    return dataclasses.replace(
        recipe, format=kind, images=common_folder(images), labels=common_folder(labels)
    )


def _unpacked(root: Path) -> tuple[Path, object]:
    """The folder of a source, and the temporary folder of a zip that must be kept."""
    if root.suffix.lower() != ".zip" or not root.is_file():
        return root, None
    keep = tempfile.TemporaryDirectory(prefix="spherodetect-", ignore_cleanup_errors=True)
    extract_zip(root, Path(keep.name), error=BadLabelsError)
    return _without_wrapper(Path(keep.name)), keep


def _without_wrapper(folder: Path) -> Path:
    """The folder itself, or its only sub-folder: people zip a whole folder.

    A folder that names a split, a patient or the images is kept, for it says something.
    """
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return folder
    name = entries[0].name
    means_something = re.search(PATIENT_PATTERN, name) or not patient_folder(f"{name}/file")
    return folder if means_something else _without_wrapper(entries[0])
