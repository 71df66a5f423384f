"""Reads photographs of one cell each, sorted into a folder for each class.

The cell in the centre of a photograph has the class that its folder names; nothing is known of the
cells around it. PBC (Mendeley snkd93bnjr, Acevedo et al. 2020) has this form. The annotation id is
always 1.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from spherodetect.fields.names import IMAGE_SUFFIXES
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.file_names import source_of
from spherodetect.labels.readers.files import folder_in, header_size_hw, list_files
from spherodetect.labels.readers.ledger import LabelSet, Ledger
from spherodetect.labels.recipe import Recipe

_ID = "1"


def read_centred(recipe: Recipe) -> LabelSet:
    """Read every image of recipe.images, with a point in its centre.

    An image that lies in no folder has no label.

    Raises:
        BadLabelsError: a folder of the recipe is missing.
    """
    root, ledger = recipe.root, Ledger()
    folder = folder_in(root, recipe.images, "images")
    for file, path in list_files(folder, IMAGE_SUFFIXES, root).items():
        inner = PurePosixPath(path.relative_to(folder).as_posix()).parent.name
        if (size_hw := header_size_hw(path)) is None:
            ledger.bad_image(file, [_ID] if inner else [])
            continue
        center = (size_hw[0] / 2, size_hw[1] / 2)
        ledger.add(
            LabelledField(
                file=file,
                path=path,
                size_hw=size_hw,
                annotations=(Annotation(_ID, inner, point_yx=center),) if inner else (),
                source_id=source_of(file),
                patient_id=recipe.patient_of(file),
                um_per_px=recipe.um_per_px,
                labelled=bool(inner),
            )
        )
    return ledger.close()
