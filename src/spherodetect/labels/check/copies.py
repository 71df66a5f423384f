"""Findings on images that belong together, or only seem to: copies, equal names, leaking splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from spherodetect.labels.annotations import Finding, LabelledField
from spherodetect.labels.readers.files import listed
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.splits import assign_splits, leaks


def augmented_copies(
    labels: LabelSet, split: str | None, fields: Sequence[LabelledField]
) -> Iterator[Finding]:
    """A finding if several files of a split were made from one photograph."""
    n_files = Counter(f.view for f in fields)
    copied = {source: n for source, n in n_files.items() if n > 1}
    if copied:
        times = " or ".join(str(n) for n in sorted(set(copied.values())))
        yield Finding(
            "augmented-copies",
            "warning",
            labels.where(f for f in fields if f.view in copied),
            split,
            len(copied),
            (),
            f"{len(copied)} sources are there in {times} copies each, "
            f"{sum(copied.values())} images in all",
            "keep copies of a source in one split and evaluate on one of them; "
            "their pixel size may differ",
        )


def same_names(
    labels: LabelSet, split: str | None, fields: Sequence[LabelledField]
) -> Iterator[Finding]:
    """A finding if different photographs of a split have one name."""
    shared = {f.source_id for f in fields if f.view_id}
    members = [f for f in fields if f.source_id in shared]
    if members:
        yield Finding(
            "same-name-images",
            "warning",
            labels.where(members),
            split,
            len(members),
            (),
            f"{len(members)} images have the names of {listed(sorted(shared), most=3)} and are not "
            "alike: they count as different photographs",
            "give each photograph its own name, with the patient in it",
        )


def duplicate_images(
    fields: Sequence[LabelledField], groups: Sequence[Sequence[str]]
) -> Iterator[Finding]:
    """A finding for each group of near-duplicates of several sources."""
    source = {f.file: f.source_id for f in fields}
    for group in groups:
        if len({source.get(file, file) for file in group}) > 1:
            yield Finding(
                "near-duplicate-images",
                "warning",
                group[0],
                None,
                len(group),
                (),
                f"shows the same cells as {listed(group[1:])}",
                "keep them in one split, and count their cells once",
            )


def leaking_splits(
    fields: Sequence[LabelledField], recipe: Recipe, groups: Sequence[Sequence[str]]
) -> list[Finding]:
    """The leaks of the recipe's split, and those of the export's own folders.

    The latter are notes if a recipe file splits anew.
    """
    found = leaks(fields, {f.file: f.split or "train" for f in fields}, duplicate_groups=groups)
    if recipe.file is None:
        return found
    splits = assign_splits(fields, recipe, duplicate_groups=groups)
    anew = leaks(fields, splits, duplicate_groups=groups)
    mend = f"nothing: the recipe splits anew, by {recipe.split.by}; do not use the export's folders"
    of_the_recipe = {a.code for a in anew}
    return anew + [
        replace(f, severity="note", mend=mend) for f in found if f.code not in of_the_recipe
    ]
