"""The shards of a data set: their names, writing one, and recognising a finished one.

A shard is written under a temporary name and renamed. Beside it lies its account as JSON, with a
checksum of its input, so that an interrupted run continues after its last finished shard.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spherodetect import __version__
from spherodetect.errors import SpherodetectError
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.recipe import SPLITS, Recipe, SplitRule
from spherodetect.records.account import Part
from spherodetect.records.convert import Converted
from spherodetect.records.examples import to_example
from spherodetect.safety import atomic_write, file_sha256, naming, sha256

FIELDS_PER_SHARD = 48
#: Part of the checksum of a shard's input; raise it when the same input must give other records.
_FORMAT = 7
_NAME = re.compile(rf"(full-)?.+-({'|'.join(SPLITS)})-\d{{5}}-of-\d{{5}}\.tfrecord")


@dataclass(frozen=True)
class Shard:
    """One shard: its file name, its split and its fields."""

    name: str
    split: str
    members: Sequence[LabelledField]


def plan_shards(
    recipe: Recipe, fields: Sequence[LabelledField], splits: Mapping[str, str]
) -> list[Shard]:
    """The shards of a data set, FIELDS_PER_SHARD fields in each, split by split."""
    shards = []
    for split in sorted(set(splits.values())):
        members = [f for f in fields if splits.get(f.file) == split]
        starts = range(0, len(members), FIELDS_PER_SHARD)
        for number, start in enumerate(starts):
            name = f"{recipe.name}-{split}-{number:05d}-of-{len(starts):05d}.tfrecord"
            shards.append(Shard(name, split, members[start : start + FIELDS_PER_SHARD]))
    return shards


def write_shard(
    target: Path,
    key: str,
    split: str,
    converted: Iterable[Converted],
    recipe: Recipe,
    *,
    full_masks: bool,
) -> tuple[Part, dict[str, str]]:
    """Write a shard, then its account.

    Args:
        target: the shard's file.
        key: the checksum of its input, from `input_key`.
        split: its split.
        converted: its fields.
        recipe: their recipe.
        full_masks: also write the stock form, into the file full-NAME.

    Returns:
        The account, and name to SHA-256 of the shard's files.
    """
    import tensorflow as tf

    part = Part(split)
    files = [target, *([_full(target)] if full_masks else [])]
    unfinished = [file.with_suffix(".part") for file in files]
    try:
        with naming(target), contextlib.ExitStack() as stack:
            writers = [stack.enter_context(tf.io.TFRecordWriter(str(one))) for one in unfinished]
            for one in converted:
                part.add(one, recipe)
                if one.png is None:
                    continue
                for writer, full in zip(writers, (False, True), strict=False):
                    example = to_example(one, full_masks=full)
                    writer.write(example.SerializeToString(deterministic=True))
        for file, written in zip(files, unfinished, strict=True):
            written.replace(file)
    finally:
        for written in unfinished:
            written.unlink(missing_ok=True)
    checksums = [file_sha256(file) for file in files]
    account = {"key": key, "sha256": checksums, "part": asdict(part)}
    with atomic_write(target.with_suffix(".json")) as out:
        out.write(json.dumps(account, sort_keys=True).encode())
    return part, {file.name: checksum for file, checksum in zip(files, checksums, strict=True)}


def finished_shard(target: Path, key: str) -> tuple[Part, dict[str, str]] | None:
    """The result of `write_shard` for a shard that was written from the same input, or None."""
    try:
        account = json.loads(target.with_suffix(".json").read_bytes())
        both = (target, _full(target))
        files = [file for file, _ in zip(both, account["sha256"], strict=False)]
        checksums = {file.name: file_sha256(file) for file in files}
        if (account["key"], account["sha256"]) != (key, list(checksums.values())):
            return None
        return Part(**account["part"]), checksums
    except (SpherodetectError, OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def input_key(recipe: Recipe, members: Sequence[LabelledField], *, full_masks: bool) -> str:
    """A checksum of everything that a shard is made from."""
    return sha256(_shard_input(recipe, members, full_masks))


def _shard_input(
    recipe: Recipe, members: Sequence[LabelledField], full_masks: bool
) -> Iterator[bytes]:
    meant = replace(recipe, root=Path(), file=None, split=SplitRule(), patients=None)
    yield repr((_FORMAT, __version__, full_masks, sorted(_plain(meant).items()))).encode()
    for labelled in members:
        assert labelled.path is not None, "only fields with an image are converted"
        native = (labelled.native_size_hw, labelled.um_per_px, labelled.patient_id)
        yield repr((labelled.file, native)).encode() + labelled.path.read_bytes()
        for a in labelled.annotations:
            yield repr((a.annotation_id, a.name, a.box_yxyx, a.point_yx, a.iscrowd)).encode()
            if a.mask is not None:
                yield np.packbits(np.asarray(a.mask)).tobytes()
            for polygon in a.polygons:
                yield polygon.tobytes()


def _plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe's values in an order that is the same at every run."""
    return {
        key: sorted(value) if isinstance(value, frozenset) else value
        for key, value in asdict(recipe).items()
    }


def remove_strays(out: Path, names: Collection[str]) -> None:
    """Remove shards of an earlier recipe and unfinished ones; other files stay.

    A pattern such as NAME-train-*.tfrecord would otherwise read them too.
    """
    for path in out.glob("*.tfrecord"):
        if _NAME.fullmatch(path.name) and path.name not in names:
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
    for path in out.glob("*.part"):
        path.unlink()


def _full(target: Path) -> Path:
    return target.with_name(f"full-{target.name}")
