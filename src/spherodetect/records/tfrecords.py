"""Labelled fields to sharded tf.Examples, and the manifest in which every label is accounted for.

A record has Model Garden's keys (image/encoded, image/object/bbox/..., normalised) and beside them
    image/object/class/set   int64, bits of the classes a cell may be (labels/masks.py)
    image/object/mask/bits   one string: for each cell MASK_SIZE x MASK_SIZE bits, row by row, stretched over its box
    image/object/mask/known  int64, 0 where a cell has no mask
    image/object/mask/quality  float, 0 to 1, how sure the mask is (labels/refine.py)
    image/rbc_diameter_px    float, a red cell's diameter in this image
Masks are kept in their boxes because a full frame a cell is what makes the stock input slow;
`full_masks` writes the stock form (image/object/mask, a PNG a cell) into shards of their own. There
a cell without class or mask is a crowd, which the stock input passes over: it knows no other way of
not teaching.

Output is deterministic, shards are written beside and renamed, and each finished shard leaves its
account, so that a killed run resumes after its last whole shard.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect import __version__
from spherodetect.errors import BadLabelsError, SpherodetectError
from spherodetect.geometry import stretch_mask
from spherodetect.labels.annotations import LabelledField
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.recipe import SPLITS, Recipe, SplitRule
from spherodetect.records.account import Account, Part
from spherodetect.records.convert import Converted, converting, prepare
from spherodetect.safety import atomic_write, file_sha256, quoted, sha256

if TYPE_CHECKING:
    import tensorflow as tf

MASK_SIZE = 56
FIELDS_PER_SHARD = 48
#: Part of each shard's fingerprint: raise it when the same input must give other records.
_FORMAT = 5
_SHARD = re.compile(rf"(full-)?.+-({'|'.join(SPLITS)})-\d{{5}}-of-\d{{5}}\.tfrecord")


def build(
    recipe: Recipe,
    out: Path,
    *,
    force: bool = False,
    full_masks: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """A recipe's data set from label files to records: read, split without leaks, write; returns
    the manifest.

    Raises:
        BadLabelsError: nothing to read, or the recipe's own split leaks and force is not given.
    """
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
    out: Path,
    *,
    labels: LabelSet,
    splits: Mapping[str, str],
    findings: Sequence[Any] = (),
    full_masks: bool = False,
    force: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write the shards of every split and manifest.json, and return the manifest.

    Args:
        recipe: the data set.
        out: folder, made if need be.
        labels: what the reader found.
        splits: field's file to its split; a field that is missing here is dropped, reason
            augmented-copy.
        findings: Finding objects for the manifest.
        full_masks: also write the stock form.
        force: passed on to the manifest: the split was written although it leaks.
        workers: processes that convert fields.
        progress: called with fields done and in all.

    Raises:
        BadLabelsError: there is no field with an image.
    """
    out.mkdir(parents=True, exist_ok=True)
    for told in (
        "manifest.json",
        "DATA_CARD.md",
    ):  # until everything is written, nothing says that it is
        (out / told).unlink(missing_ok=True)
    fields = [f for f in labels.fields if f.path is not None]
    if not fields:
        raise BadLabelsError(
            f"{quoted(recipe.root)}: expected labelled images, got none; "
            "say with --root where the export with its images lies"
        )
    account, checksums = Account(recipe, labels, splits), {}
    shards = _shards(recipe, fields, splits)
    total, done = sum(len(shard.members) for shard in shards), 0
    with converting(workers) as convert_all:
        for shard in shards:
            key = _fingerprint(recipe, shard.members, full_masks)
            finished = _finished(out / shard.name, key)
            if finished is None:
                converted = _telling(convert_all(recipe, shard.members), progress, done, total)
                finished = _write_shard(
                    out / shard.name, key, shard.split, converted, recipe, full_masks
                )
            part, checksums[shard.name] = finished
            account.add(part)
            done += len(shard.members)
            progress(done, total)
    _remove_strays(out, {*checksums, *(f"full-{name}" for name in checksums if full_masks)})
    manifest = account.manifest(findings, forced=force) | {"checksums": checksums}
    with atomic_write(out / "manifest.json") as file:
        file.write(json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")
    return manifest


def read_examples(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Records back as numpy values, one dict a field: image, boxes in pixels, class ids and sets,
    masks, names, field.

    Masks are (N, MASK_SIZE, MASK_SIZE) bool over their boxes.

    Raises:
        BadLabelsError: records that another version wrote, or others wrote.
    """
    import tensorflow as tf

    for path in paths:
        for raw in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
            try:
                yield _read(raw)
            except (KeyError, IndexError, ValueError) as problem:
                raise BadLabelsError(
                    f"{quoted(path)}: expected records of this version, got some without {problem}; "
                    "write them again with `spherodetect tfrecords`"
                ) from problem


def _read(raw: bytes) -> dict[str, Any]:
    import tensorflow as tf

    feature = tf.train.Example.FromString(raw).features.feature
    floats = {k: np.array(v.float_list.value, np.float32) for k, v in feature.items()}
    height, width = (
        int(feature[f"image/{side}"].int64_list.value[0]) for side in ("height", "width")
    )
    box = np.stack(
        [floats[f"image/object/bbox/{k}"] for k in ("ymin", "xmin", "ymax", "xmax")], axis=-1
    )
    bits = np.frombuffer(feature["image/object/mask/bits"].bytes_list.value[0], np.uint8)
    return {
        "field": feature["image/field"].bytes_list.value[0].decode(),
        "patient": feature["image/patient"].bytes_list.value[0].decode(),
        "image": tf.io.decode_png(feature["image/encoded"].bytes_list.value[0]).numpy(),
        "box_yxyx": box * np.array([height, width, height, width], np.float32),
        "class_id": np.array(feature["image/object/class/label"].int64_list.value, int),
        "class_set": np.array(feature["image/object/class/set"].int64_list.value, int),
        "name": [v.decode() for v in feature["image/object/class/text"].bytes_list.value],
        "point_yx": np.reshape(floats["image/object/point"], (-1, 2)),
        "mask_quality": floats["image/object/mask/quality"],
        "mask_known": np.array(feature["image/object/mask/known"].int64_list.value, bool),
        "masks": np.unpackbits(bits).reshape(-1, MASK_SIZE, MASK_SIZE).astype(bool),
        "rbc_diameter_px": float(floats["image/rbc_diameter_px"][0]),
        "um_per_px": float(floats["image/um_per_px"][0]),
    }


def _example(converted: Converted, *, full_masks: bool) -> tf.train.Example:
    import tensorflow as tf

    labelled, instances, (height, width) = (
        converted.labelled,
        converted.found.instances,
        converted.size_hw,
    )
    box = np.array([i.box_yxyx for i in instances], np.float32).reshape(-1, 4) / [
        height,
        width,
        height,
        width,
    ]
    # Annotators' points survive: they are the truth that partial labels are judged against.
    points = {a.annotation_id: a.point_yx for a in labelled.annotations if a.point_yx is not None}
    point = [points.get(i.annotation_id, (-1.0, -1.0)) for i in instances]
    masks = [np.zeros((1, 1), bool) if i.mask is None else i.mask for i in instances]
    bits = np.packbits(np.array([stretch_mask(m, MASK_SIZE) for m in masks], bool).reshape(-1))

    def ints(values: Iterable[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(v) for v in values]))

    def floats(values: Iterable[float]) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=[float(v) for v in values]))

    def texts(values: Iterable[str | bytes]) -> tf.train.Feature:
        return tf.train.Feature(
            bytes_list=tf.train.BytesList(
                value=[v if isinstance(v, bytes) else v.encode() for v in values]
            )
        )

    # Model Garden wants a source_id that reads as a number.
    number = int(sha256(labelled.file.encode())[:12], 16)
    features = {
        "image/encoded": texts([converted.png or b""]),
        "image/format": texts(["png"]),
        "image/height": ints([height]),
        "image/width": ints([width]),
        "image/source_id": texts([str(number)]),
        "image/field": texts([labelled.file]),
        "image/patient": texts([labelled.patient_id or ""]),
        "image/rbc_diameter_px": floats([converted.found.rbc_diameter_px]),
        "image/um_per_px": floats([labelled.um_per_px or 0.0]),
        "image/object/bbox/ymin": floats(box[:, 0]),
        "image/object/bbox/xmin": floats(box[:, 1]),
        "image/object/bbox/ymax": floats(box[:, 2]),
        "image/object/bbox/xmax": floats(box[:, 3]),
        "image/object/class/label": ints(i.class_id for i in instances),
        "image/object/class/set": ints(i.class_set for i in instances),
        "image/object/class/text": texts(i.name for i in instances),
        "image/object/is_crowd": ints(
            full_masks and not (i.class_id and i.mask is not None) for i in instances
        ),
        "image/object/area": floats(
            m.sum() if i.mask is not None else 0 for i, m in zip(instances, masks, strict=True)
        ),
        "image/object/annotation_id": texts(i.annotation_id for i in instances),
        "image/object/point": floats(v for yx in point for v in yx),
        "image/object/mask/known": ints(i.mask is not None for i in instances),
        "image/object/mask/quality": floats(i.quality for i in instances),
        "image/object/mask/bits": texts([bits.tobytes()]),
    }
    if full_masks:
        features["image/object/mask"] = texts(_full_frame(i, (height, width)) for i in instances)
    return tf.train.Example(features=tf.train.Features(feature=features))


def _full_frame(instance: Any, size_hw: tuple[int, int]) -> bytes:
    from PIL import Image

    frame = np.zeros(size_hw, np.uint8)
    y0, x0, y1, x1 = np.round(instance.box_yxyx).astype(int)
    if instance.mask is not None:
        frame[y0:y1, x0:x1] = instance.mask
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def _telling(
    converted: Iterable[Converted], progress: Callable[[int, int], None], done: int, total: int
) -> Iterator[Converted]:
    for number, one in enumerate(converted, done + 1):
        yield one
        progress(number, total)


@dataclass(frozen=True)
class _Shard:
    name: str
    split: str
    members: Sequence[LabelledField]


def _shards(
    recipe: Recipe, fields: Sequence[LabelledField], splits: Mapping[str, str]
) -> list[_Shard]:
    shards = []
    for split in sorted(set(splits.values())):
        members = [f for f in fields if splits.get(f.file) == split]
        parts = [
            members[i : i + FIELDS_PER_SHARD] for i in range(0, len(members), FIELDS_PER_SHARD)
        ]
        names = (
            f"{recipe.name}-{split}-{i:05d}-of-{len(parts):05d}.tfrecord" for i in range(len(parts))
        )
        shards += [_Shard(name, split, part) for name, part in zip(names, parts, strict=True)]
    return shards


def _write_shard(
    target: Path,
    key: str,
    split: str,
    converted: Iterable[Converted],
    recipe: Recipe,
    full_masks: bool,
) -> tuple[Part, str]:
    """Write a shard and, once it is whole, its account; returns the account and the shard's
    SHA-256."""
    import tensorflow as tf

    part, files = (
        Part(split),
        [target, *([target.with_name(f"full-{target.name}")] if full_masks else [])],
    )
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(tf.io.TFRecordWriter(str(file.with_suffix(".part"))))
            for file in files
        ]
        for one in converted:
            part.add(one, recipe)
            if one.png is not None:
                for writer, full in zip(writers, (False, True), strict=False):
                    writer.write(
                        _example(one, full_masks=full).SerializeToString(deterministic=True)
                    )
    for file in files:
        file.with_suffix(".part").replace(file)
    digests = [file_sha256(file) for file in files]
    told = {"key": key, "sha256": digests, "part": asdict(part)}
    with atomic_write(target.with_suffix(".json")) as account:
        account.write(json.dumps(told, sort_keys=True).encode())
    return part, digests[0]


def _finished(target: Path, key: str) -> tuple[Part, str] | None:
    """The account and checksum of a shard that an earlier run finished from the same input, or
    None."""
    try:
        told = json.loads(target.with_suffix(".json").read_bytes())
        files = (target, target.with_name(f"full-{target.name}"))
        digests = [file_sha256(file) for file, _ in zip(files, told["sha256"], strict=False)]
        return (
            (Part(**told["part"]), digests[0])
            if (told["key"], told["sha256"]) == (key, digests)
            else None
        )
    except (SpherodetectError, OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _fingerprint(recipe: Recipe, members: Sequence[LabelledField], full_masks: bool) -> str:
    """A checksum of everything that a shard is made from: the same input need not be converted
    again."""
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
    """A recipe's values in an order that does not change from run to run."""
    return {
        key: sorted(value) if isinstance(value, frozenset) else value
        for key, value in asdict(recipe).items()
    }


def _remove_strays(out: Path, names: Collection[str]) -> None:
    """Shards of an earlier recipe must not be read with these; what was not written here stays."""
    for path in out.glob("*.tfrecord"):
        if _SHARD.fullmatch(path.name) and path.name not in names:
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
    for path in out.glob("*.part"):
        path.unlink()
