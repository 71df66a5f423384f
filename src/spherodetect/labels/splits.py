"""Splits without leakage: fields of one patient, slide or photograph stay in one split.

A field's unit is its run of file numbers, its patient or its source photograph, as the recipe says.
Copies of a source and near-duplicate images join their units. If one member of a joined group
belongs to validation or test, the whole group does, so that training never saw it. Splits are named
train, val and test. Nothing is random: the same fields give the same split.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from spherodetect.errors import BadLabelsError
from spherodetect.labels.annotations import Finding, LabelledField
from spherodetect.labels.readers.files import listed
from spherodetect.labels.recipe import SPLITS, Recipe, SplitRule
from spherodetect.safety import quoted, sha256

#: Fields whose file numbers are in one block of this many count as one slide.
BLOCK_FIELDS = 20


def assign_splits(
    fields: Sequence[LabelledField],
    recipe: Recipe,
    *,
    duplicate_groups: Iterable[Sequence[str]] = (),
) -> dict[str, str]:
    """The split of every field, by its file.

    Args:
        fields: all fields of the data set.
        recipe: its split rule decides; with val_fraction the classes keep their proportions.
        duplicate_groups: files that show the same cells, from `duplicates.near_duplicates`.

    Raises:
        BadLabelsError: val or test names a unit that no field has, or a field has no number or
            patient to split by.

    >>> from pathlib import Path
    >>> assign_splits([], Recipe("a", "coco", Path(".")))
    {}
    """
    groups = _groups(fields, recipe, duplicate_groups)
    rule = recipe.split
    if rule.val_fraction:
        chosen = _stratified(groups, recipe, rule.val_fraction)
        return {
            f.file: "val" if k in chosen else "train"
            for k, group in enumerate(groups)
            for f in group
        }
    index_of = _split_indices(fields, recipe, rule)
    # max, because test takes precedence over val and val over train.
    return {f.file: SPLITS[max(index_of[m.file] for m in group)] for group in groups for f in group}


def leaks(
    fields: Sequence[LabelledField],
    splits: Mapping[str, str],
    *,
    duplicate_groups: Iterable[Sequence[str]] = (),
) -> list[Finding]:
    """Sources, patients and near-duplicate images that are in more than one split, as errors."""
    found = []
    for code, noun, key in (
        ("source-in-two-splits", "sources", lambda f: f.view_id or f.source_id),
        ("patient-in-two-splits", "patients", lambda f: f.patient_id),
    ):
        members: dict[Hashable, list[LabelledField]] = defaultdict(list)
        for field in fields:
            if key(field) is not None:
                members[key(field)].append(field)
        torn = {name: fs for name, fs in members.items() if len({splits[f.file] for f in fs}) > 1}
        if torn:
            found.append(
                Finding(
                    code,
                    "error",
                    next(iter(torn.values()))[0].file,
                    None,
                    len(torn),
                    (),
                    f"{len(torn)} {noun if len(torn) > 1 else noun[:-1]} in more than one split: "
                    f"{listed(torn)}",
                    f"split by {noun[:-1]}: "
                    "otherwise the model is evaluated on data that it was trained on",
                )
            )
    for group in duplicate_groups:
        known = [file for file in group if file in splits]
        if len({splits[file] for file in known}) > 1:
            found.append(
                Finding(
                    "near-duplicate-images",
                    "error",
                    known[0],
                    None,
                    len(known),
                    (),
                    f"the same photograph is in more than one split: {listed(known)}",
                    "keep near-duplicates in one split",
                )
            )
    return found


def spare_copies(fields: Sequence[LabelledField], splits: Mapping[str, str]) -> frozenset[str]:
    """Files of validation and test that are further copies of a view of a source.

    Evaluation uses the first copy of each view only; tiles of a photograph are different views.
    """
    first = set[tuple[str, str]]()
    spare = set()
    for field in fields:
        key = (splits[field.file], field.view)
        if key in first and key[0] != "train":
            spare.add(field.file)
        first.add(key)
    return frozenset(spare)


def file_number(file: str) -> int | None:
    """The last number in a file's name without its suffix; None if there is none.

    >>> file_number("images/smear2_0117.jpg")
    117
    """
    numbers = re.findall(r"\d{1,18}", PurePosixPath(file).stem)
    return int(numbers[-1]) if numbers else None


def block_of(field: str, patient: str = "") -> str:
    """The patient of a field if it is known, otherwise its block of BLOCK_FIELDS file numbers.

    >>> block_of("images/85.jpg")
    '81-100'
    """
    number = file_number(field)
    if patient or number is None:
        return patient or field
    first = max(number - 1, 0) // BLOCK_FIELDS * BLOCK_FIELDS + 1
    return f"{first}-{first + BLOCK_FIELDS - 1}"


def _groups(
    fields: Sequence[LabelledField], recipe: Recipe, duplicate_groups: Iterable[Sequence[str]]
) -> list[list[LabelledField]]:
    """Fields that must stay together: those that share a source, a patient or their content."""
    parent = list(range(len(fields)))  # a union-find forest

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    ties: dict[Hashable, list[int]] = defaultdict(list)
    place = {field.file: k for k, field in enumerate(fields)}
    for k, field in enumerate(fields):
        ties["source", field.source_id].append(k)
        if recipe.split.by == "patient":
            if field.patient_id is None:
                raise BadLabelsError(
                    f"{quoted(field.file)}: expected a patient in its name or folder to split by, "
                    "got none; mend patients: in the recipe, or split by source"
                )
            ties["patient", field.patient_id].append(k)
    for number, group in enumerate(duplicate_groups):
        ties["duplicate", number] = [place[file] for file in group if file in place]
    for members in ties.values():
        for k in members[1:]:
            parent[root(k)] = root(members[0])
    groups: dict[int, list[LabelledField]] = defaultdict(list)
    for k, field in enumerate(fields):
        groups[root(k)].append(field)
    return list(groups.values())


def _split_indices(
    fields: Sequence[LabelledField], recipe: Recipe, rule: SplitRule
) -> dict[str, int]:
    """For each file the index in SPLITS that the rule gives to it, regardless of its group."""
    if rule.by == "export":
        return {f.file: SPLITS.index(f.split or "train") for f in fields}
    if rule.by == "number-run":
        return {f.file: _index_of_run(f.file, rule) for f in fields}
    names = {f.file: (f.patient_id if rule.by == "patient" else f.source_id) for f in fields}
    missing = sorted({*rule.val, *rule.test} - {*names.values()}, key=str)
    if missing and fields:
        raise BadLabelsError(
            f"{quoted(recipe.file or recipe.name)}: split: expected names of a {rule.by} that the "
            f"data set has, got {listed(missing)}; it has "
            f"{listed(sorted({str(n) for n in names.values()}))}; name some of these, or write a "
            "recipe for this export with `spherodetect recipe EXPORT --out FILE.yaml`"
        )
    return {
        file: 2 if name in rule.test else 1 if name in rule.val else 0
        for file, name in names.items()
    }


def _index_of_run(file: str, rule: SplitRule) -> int:
    number = file_number(file)
    if number is None:
        raise BadLabelsError(
            f"{quoted(file)}: expected a number in its name to split by, got none; split by source"
        )
    for index, runs in ((2, rule.test), (1, rule.val)):
        if any(first <= number <= last for first, last in runs):
            return index
    return 0


def _stratified(
    groups: Sequence[Sequence[LabelledField]], recipe: Recipe, fraction: float
) -> set[int]:
    """Indices of groups that together hold about this fraction of every class and of the images.

    Groups are added greedily, as long as the squared distance to the wanted fractions shrinks.
    """
    counts = [
        Counter(recipe.meaning(a.name).class_name for f in group for a in f.annotations)
        for group in groups
    ]
    names = sorted({name for count in counts for name in count}, key=str)
    rows = [[len(g), *(c[name] for name in names)] for g, c in zip(groups, counts, strict=True)]
    table = np.array(rows, float)
    share = table / np.maximum(table.sum(axis=0, initial=0), 1)
    # The order of a hash stands for a random one, so that validation resembles the data set.
    order = sorted(range(len(groups)), key=lambda k: _digest(groups[k]))
    chosen: set[int] = set()
    total = np.zeros(share.shape[1:])
    for k in order:
        if np.square(total + share[k] - fraction).sum() < np.square(total - fraction).sum():
            chosen.add(k)
            total = total + share[k]
    # If even the smallest group exceeds the fraction, it is better than no validation at all.
    if len(groups) > 1 and not chosen:
        chosen.add(min(order, key=lambda k: share[k].sum()))
    return chosen if len(chosen) < len(groups) else set()


def _digest(group: Sequence[LabelledField]) -> str:
    return sha256("\0".join(sorted(f.file for f in group)).encode(errors="replace"))
