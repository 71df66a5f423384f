"""Writes labelled fields as sharded TFRecords, with a manifest that accounts for every label.

The output is deterministic. examples.py describes a record, shards.py a shard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spherodetect.errors import BadLabelsError
from spherodetect.labels.annotations import Finding
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe, load_recipe
from spherodetect.records.account import Account
from spherodetect.records.card import write_card
from spherodetect.records.convert import Converted, converting, prepare
from spherodetect.records.shards import (
    finished_shard,
    input_key,
    plan_shards,
    remove_strays,
    write_shard,
)
from spherodetect.safety import atomic_write, quoted

Progress = Callable[[int, int], None]


def tfrecords(
    recipe: str | Path | Recipe,
    out: str | Path,
    *,
    root: str | Path | None = None,
    force: bool = False,
    full_masks: bool = False,
    card: bool = False,
    classes: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Write a recipe's data set as TFRecords; return the manifest, which accounts for every label.

    It is the command `spherodetect tfrecords`.

    Args:
        recipe: the recipe's YAML, or a loaded recipe.
        out: folder of the records.
        root: where the data set lies, if not where the recipe says; not for a loaded recipe.
        force: write them even if the recipe's own split leaks.
        full_masks: also write the form that the stock Mask R-CNN reads.
        card: also write DATA_CARD.md.
        classes: names to classes, in addition to those of the recipe.
        workers: processes that convert fields; above 1 the calling script needs the usual
            `__main__` guard.
        progress: called with the number of fields done and the total.

    Raises:
        BadLabelsError: an unusable recipe, nothing to read, or a split that leaks.

    >>> tfrecords("mine.yaml", "records")["annotations"]["written"]  # doctest: +SKIP
    4481
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, root=root)
    loaded = replace(loaded, classes={**loaded.classes, **(classes or {})})
    out = Path(out)
    manifest = build(
        loaded, out, force=force, full_masks=full_masks, workers=workers, progress=progress
    )
    if card:
        write_card(manifest, loaded, out / "DATA_CARD.md")
    return manifest


def build(
    recipe: Recipe,
    out: str | Path,
    *,
    force: bool = False,
    full_masks: bool = False,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Read a recipe's labels, split them without leaks, write the records; return the manifest.

    Args:
        recipe: the data set.
        out: folder of the records.
        force: write them even if the recipe's own split leaks.
        full_masks: as for `write_tfrecords`.
        workers: as for `write_tfrecords`.
        progress: as for `write_tfrecords`.

    Raises:
        BadLabelsError: there is nothing to read, or the split leaks and force is not set.
    """
    out = Path(out)
    ready = prepare(recipe, force=force)
    return write_tfrecords(
        recipe,
        out,
        labels=ready.labels,
        splits=ready.splits,
        findings=ready.findings,
        force=ready.forced,
        full_masks=full_masks,
        workers=workers,
        progress=progress,
    )


def write_tfrecords(
    recipe: Recipe,
    out: str | Path,
    *,
    labels: LabelSet,
    splits: Mapping[str, str],
    findings: Sequence[Finding] = (),
    full_masks: bool = False,
    force: bool = False,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Write the shards of every split and manifest.json, and return the manifest.

    Args:
        recipe: the data set.
        out: the folder, which is made if it does not exist.
        labels: the labels read.
        splits: field's file to its split; a field that is not in it is dropped as augmented-copy.
        findings: for the manifest.
        full_masks: also write the stock form.
        force: for the manifest, whether the split leaks and is written nevertheless.
        workers: processes that convert fields.
        progress: called with the number of fields done and the total.

    Raises:
        BadLabelsError: there is no field with an image.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # A manifest exists only beside complete records.
    for name in ("manifest.json", "DATA_CARD.md"):
        (out / name).unlink(missing_ok=True)
    fields = [f for f in labels.fields if f.path is not None]
    if not any(f.file in splits for f in fields):
        raise BadLabelsError(
            f"{quoted(recipe.root)}: expected labelled images, got none; "
            "name the folder of the export with its images with --root"
        )
    account = Account(recipe, labels, splits)
    checksums: dict[str, str] = {}
    shards = plan_shards(recipe, fields, splits)
    total, done = sum(len(shard.members) for shard in shards), 0
    with converting(workers) as convert_all:
        for shard in shards:
            target = out / shard.name
            key = input_key(recipe, shard.members, full_masks=full_masks)
            finished = finished_shard(target, key)
            if finished is None:
                converted = _reporting(convert_all(recipe, shard.members), progress, done, total)
                finished = write_shard(
                    target, key, shard.split, converted, recipe, full_masks=full_masks
                )
            part, of_files = finished
            checksums |= of_files
            account.add(part)
            done += len(shard.members)
            progress(done, total)
    remove_strays(out, set(checksums))
    manifest = account.manifest(findings, forced=force) | {"checksums": checksums}
    with atomic_write(out / "manifest.json") as file:
        file.write(json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")
    return manifest


def _reporting(
    converted: Iterable[Converted], progress: Progress, done: int, total: int
) -> Iterator[Converted]:
    """The same fields, with progress reported after each."""
    for number, one in enumerate(converted, done + 1):
        yield one
        progress(number, total)
