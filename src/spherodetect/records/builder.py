"""A TFDS builder of any recipe. TFDS is imported when the builder is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spherodetect.labels.recipe import load_recipe

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def tfds_builder(
    recipe: str | Path,
    *,
    root: str | Path | None = None,
    data_dir: str | Path | None = None,
    workers: int = 1,
) -> tfds.core.DatasetBuilder:
    """The TFDS builder of a recipe, with the content of `spherodetect tfrecords`.

    It needs the extra [train].

    Args:
        recipe: the recipe's YAML.
        root: where the data set lies, if not where the recipe says.
        data_dir: the folder of TFDS; by default its own.
        workers: processes that convert fields; above 1 the calling script needs the usual
            `__main__` guard.

    Raises:
        BadLabelsError: an unusable recipe.

    >>> builder = tfds_builder("mine.yaml", data_dir="tfds")  # doctest: +SKIP
    >>> builder.download_and_prepare()  # doctest: +SKIP
    >>> fields = builder.as_dataset(split="train")  # doctest: +SKIP
    """
    from spherodetect.records.tfds import own_builder

    loaded = load_recipe(recipe, root=root)
    folder = None if data_dir is None else str(data_dir)
    return own_builder(loaded, workers=workers, data_dir=folder)


__all__ = ["tfds_builder"]
