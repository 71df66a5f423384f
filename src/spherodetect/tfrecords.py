"""Labelled fields to sharded tf.Examples, and the manifest in which every label is accounted for.

A record has Model Garden's keys (image/encoded, image/object/bbox/..., normalised) and beside them
    image/object/class/set   int64, bits of the classes a cell may be (labels/masks.py)
    image/object/mask/bits   one string: for each cell MASK_SIZE x MASK_SIZE bits, row by row, stretched over its box
    image/object/mask/known  int64, 0 where a cell has no mask
    image/rbc_diameter_px    float, a red cell's diameter in this image
Masks are kept in their boxes because a full frame a cell is what makes the stock input slow; `full_masks` writes the
stock form (image/object/mask, a PNG a cell) into shards of their own.

Output is deterministic, shards are written beside and renamed, and each finished shard leaves its account, so that a
killed run resumes after its last whole shard.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spherodetect.errors import BadImageError, BadLabelsError
from spherodetect.labels.annotations import Annotation, LabelledField
from spherodetect.labels.ledger import LabelSet, Unread
from spherodetect.labels.masks import FieldInstances, find_instances, resample_mask
from spherodetect.labels.recipe import Recipe
from spherodetect.safety import atomic_write, quoted

if TYPE_CHECKING:
    import tensorflow as tf

MASK_SIZE = 56
FIELDS_PER_SHARD = 48
#: Part of each shard's fingerprint: raise it when the same input must give other records.
_FORMAT = 2


@dataclass(frozen=True, eq=False)
class _Converted:
    """One field on its way to a record; image is None where it could not be read."""

    labelled: LabelledField
    png: bytes | None
    size_hw: tuple[int, int]
    found: FieldInstances
    problem: str = ""


def build(
    recipe: Recipe, out: Path, *, force: bool = False, full_masks: bool = False, workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:  # fmt: skip
    """A recipe's data set from label files to records: read, split without leaks, write; returns the manifest.

    Raises:
        BadLabelsError: nothing to read, or the recipe's own split leaks and force is not given.
    """
    from spherodetect.labels.duplicates import near_duplicates
    from spherodetect.labels.source import read_labels
    from spherodetect.labels.splits import assign_splits, leaks, spare_copies

    labels = read_labels(recipe)
    groups = near_duplicates({f.file: f.path for f in labels.fields if f.path is not None})
    splits = assign_splits(labels.fields, recipe, duplicate_groups=groups)
    leaking = leaks(labels.fields, splits, duplicate_groups=groups)
    if leaking and not force:
        raise BadLabelsError(
            f"{quoted(recipe.file or recipe.name)}: expected a split without leaks, got {leaking[0].message}; "
            f"{leaking[0].mend}, or write it all the same with --force"
        )
    spare = spare_copies(labels.fields, splits)
    return write_tfrecords(
        recipe, out, labels=labels, splits={f: s for f, s in splits.items() if f not in spare},
        findings=(*labels.findings, *leaking), force=force and bool(leaking), full_masks=full_masks, workers=workers,
        progress=progress,
    )  # fmt: skip


def write_tfrecords(
    recipe: Recipe, out: Path, *, labels: LabelSet, splits: Mapping[str, str], findings: Sequence[Any] = (),
    full_masks: bool = False, force: bool = False, workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:  # fmt: skip
    """Write the shards of every split and manifest.json, and return the manifest.

    Args:
        recipe: the data set.
        out: folder, made if need be.
        labels: what the reader found.
        splits: field's file to its split; a field that is missing here is dropped, reason augmented-copy.
        findings: Finding objects for the manifest.
        full_masks: also write the stock form.
        force: passed on to the manifest: the split was written although it leaks.
        workers: processes that convert fields.
        progress: called with fields done and in all.

    Raises:
        BadLabelsError: there is no field with an image.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)
    fields = [f for f in labels.fields if f.path is not None]
    if not fields:
        raise BadLabelsError(
            f"{quoted(recipe.root)}: expected labelled images, got none; "
            "say with --root where the export with its images lies"
        )
    account = _Account(recipe, labels, splits)
    shards = _shards(recipe, fields, splits)
    total, done = sum(len(s) for _, s in shards), 0
    names: list[str] = []
    with _pool(workers) as convert:
        for name, members in shards:
            target = out / name
            key = _fingerprint(recipe, members, full_masks)
            part = _finished(target, key)
            if part is None:
                part = _write_shard(target, key, convert(recipe, members), recipe, full_masks)
            account.add(part)
            names.append(name)
            done += len(members)
            progress(done, total)
    _remove_strays(out, {*names, *(f"full-{name}" for name in names if full_masks)})
    manifest = account.manifest(out, names, findings, force)
    with atomic_write(out / "manifest.json") as file:
        file.write(json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")
    return manifest


def unstretch(image: np.ndarray, labelled: LabelledField) -> tuple[np.ndarray, LabelledField, int]:
    """Give a squashed field its aspect ratio back, image and labels together; the longer shrunken side is kept.

    Returns:
        The image, the field in its pixels, and how many annotations were scaled.
    """
    if labelled.native_size_hw is None:
        return image, labelled, 0
    height, width = image.shape[:2]
    native_height, native_width = labelled.native_size_hw
    scale = np.array([native_height / height, native_width / width])
    scale /= scale.max()
    if np.allclose(scale, 1, atol=0.005):
        return image, labelled, 0
    from PIL import Image

    size_hw = (round(height * scale[0]), round(width * scale[1]))
    resized = np.asarray(Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.LANCZOS))
    factor = np.array(size_hw) / [height, width]
    annotations = tuple(_scaled(a, factor) for a in labelled.annotations)
    return resized, replace(labelled, annotations=annotations, size_hw=size_hw, um_per_px=None), len(annotations)


def file_digest(path: Path) -> str:
    """What stands for an image file where a model says what it was trained on: 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def read_examples(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Records back as numpy values, one dict a field: image, boxes in pixels, class ids and sets, masks, names, field.

    Masks are (N, MASK_SIZE, MASK_SIZE) bool over their boxes.
    """
    import tensorflow as tf

    for raw in tf.data.TFRecordDataset([str(p) for p in paths]).as_numpy_iterator():
        feature = tf.train.Example.FromString(raw).features.feature
        floats = {k: np.array(v.float_list.value, np.float32) for k, v in feature.items()}
        height, width = (int(feature[f"image/{side}"].int64_list.value[0]) for side in ("height", "width"))
        box = np.stack([floats[f"image/object/bbox/{k}"] for k in ("ymin", "xmin", "ymax", "xmax")], axis=-1)
        bits = np.frombuffer(feature["image/object/mask/bits"].bytes_list.value[0], np.uint8)
        yield {
            "field": feature["image/field"].bytes_list.value[0].decode(),
            "patient": feature["image/patient"].bytes_list.value[0].decode(),
            "image": tf.io.decode_png(feature["image/encoded"].bytes_list.value[0]).numpy(),
            "box_yxyx": box * np.array([height, width, height, width], np.float32),
            "class_id": np.array(feature["image/object/class/label"].int64_list.value, int),
            "class_set": np.array(feature["image/object/class/set"].int64_list.value, int),
            "name": [v.decode() for v in feature["image/object/class/text"].bytes_list.value],
            "point_yx": np.reshape(floats["image/object/point"], (-1, 2)),
            "mask_known": np.array(feature["image/object/mask/known"].int64_list.value, bool),
            "masks": np.unpackbits(bits).reshape(-1, MASK_SIZE, MASK_SIZE).astype(bool),
            "rbc_diameter_px": float(floats["image/rbc_diameter_px"][0]),
        }


def _scaled(annotation: Annotation, factor_yx: np.ndarray) -> Annotation:
    mask = annotation.mask
    if mask is not None:
        from PIL import Image

        size = np.round(np.array(mask.shape) * factor_yx).astype(int)
        mask = np.asarray(Image.fromarray(np.asarray(mask)).resize((size[1], size[0]), Image.Resampling.NEAREST))
    box, point = annotation.box_yxyx, annotation.point_yx
    return replace(
        annotation,
        box_yxyx=None if box is None else tuple(np.array(box) * np.tile(factor_yx, 2)),
        point_yx=None if point is None else tuple(np.array(point) * factor_yx),
        polygons=tuple(p * factor_yx for p in annotation.polygons),
        mask=mask,
    )


def _convert(recipe: Recipe, labelled: LabelledField) -> _Converted:
    from PIL import Image

    from spherodetect.fields import read_image
    from spherodetect.labels.marks import hide_marks

    assert labelled.path is not None, "only fields with an image are converted"
    try:
        image = read_image(labelled.path, name=labelled.file)
    except BadImageError as error:
        dropped = tuple(Unread(labelled.file, a.annotation_id, "bad-image") for a in labelled.annotations)
        return _Converted(labelled, None, labelled.size_hw, FieldInstances((), float("nan"), dropped), str(error))
    image, labelled, unstretched = unstretch(image, labelled)
    image, _ = hide_marks(image)
    found = find_instances(image, labelled, recipe)
    found.repaired.update({"unstretched": unstretched} if unstretched else {})
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=6)
    return _Converted(labelled, buffer.getvalue(), image.shape[:2], found)


def _example(converted: _Converted, *, full_masks: bool) -> tf.train.Example:
    import tensorflow as tf

    labelled, instances, (height, width) = converted.labelled, converted.found.instances, converted.size_hw
    box = np.array([i.box_yxyx for i in instances], np.float32).reshape(-1, 4) / [height, width, height, width]
    # Annotators' points survive: they are the truth that partial labels are judged against.
    points = {a.annotation_id: a.point_yx for a in labelled.annotations if a.point_yx is not None}
    point = [points.get(i.annotation_id, (-1.0, -1.0)) for i in instances]
    masks = [np.zeros((1, 1), bool) if i.mask is None else i.mask for i in instances]
    bits = np.packbits(np.array([resample_mask(m, MASK_SIZE) for m in masks], bool).reshape(-1))

    def ints(values: Iterable[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(v) for v in values]))

    def floats(values: Iterable[float]) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=[float(v) for v in values]))

    def texts(values: Iterable[str | bytes]) -> tf.train.Feature:
        return tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[v if isinstance(v, bytes) else v.encode() for v in values])
        )

    # Model Garden wants a source_id that reads as a number.
    number = int(hashlib.sha256(labelled.file.encode()).hexdigest()[:12], 16)
    features = {
        "image/encoded": texts([converted.png or b""]), "image/format": texts(["png"]),
        "image/height": ints([height]), "image/width": ints([width]), "image/source_id": texts([str(number)]),
        "image/field": texts([labelled.file]), "image/patient": texts([labelled.patient_id or ""]),
        "image/rbc_diameter_px": floats([converted.found.rbc_diameter_px]),
        "image/um_per_px": floats([labelled.um_per_px or 0.0]),
        "image/object/bbox/ymin": floats(box[:, 0]), "image/object/bbox/xmin": floats(box[:, 1]),
        "image/object/bbox/ymax": floats(box[:, 2]), "image/object/bbox/xmax": floats(box[:, 3]),
        "image/object/class/label": ints(i.class_id for i in instances),
        "image/object/class/set": ints(i.class_set for i in instances),
        "image/object/class/text": texts(i.name for i in instances),
        "image/object/is_crowd": ints(0 for _ in instances),
        "image/object/area": floats(
            m.sum() if i.mask is not None else 0 for i, m in zip(instances, masks, strict=True)
        ),
        "image/object/annotation_id": texts(i.annotation_id for i in instances),
        "image/object/point": floats(v for yx in point for v in yx),
        "image/object/mask/known": ints(i.mask is not None for i in instances),
        "image/object/mask/bits": texts([bits.tobytes()]),
    }  # fmt: skip
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


def _shards(
    recipe: Recipe, fields: Sequence[LabelledField], splits: Mapping[str, str]
) -> list[tuple[str, list[LabelledField]]]:
    shards = []
    for split in sorted(set(splits.values())):
        members = [f for f in fields if splits.get(f.file) == split]
        parts = [members[i : i + FIELDS_PER_SHARD] for i in range(0, len(members), FIELDS_PER_SHARD)]
        shards += [(f"{recipe.name}-{split}-{i:05d}-of-{len(parts):05d}.tfrecord", p) for i, p in enumerate(parts)]
    return shards


def _write_shard(
    target: Path, key: str, converted: Iterable[_Converted], recipe: Recipe, full_masks: bool
) -> dict[str, Any]:
    import tensorflow as tf

    part: dict[str, Any] = {"key": key, "written": 0, "clipped": 0, "images": 0, "unlabelled": 0}
    repaired, classes, dropped, problems = Counter[str](), Counter[str](), [], []
    temporary = target.with_suffix(".part")
    full = target.with_name(f"full-{target.name}")
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        stock = tf.io.TFRecordWriter(str(full.with_suffix(".part"))) if full_masks else None
        for one in converted:
            dropped += [asdict(item) for item in one.found.dropped]
            repaired.update(one.found.repaired)
            if one.png is None:
                problems.append(one.problem)
                continue
            part["images"] += 1
            part["clipped"] += one.found.clipped
            part["written"] += sum(1 for i in one.found.instances if i.annotation_id)
            part["unlabelled"] += sum(1 for i in one.found.instances if not i.annotation_id)
            classes.update(_class_text(i, recipe) for i in one.found.instances)
            writer.write(_example(one, full_masks=False).SerializeToString(deterministic=True))
            if stock:
                stock.write(_example(one, full_masks=True).SerializeToString(deterministic=True))
        if stock:
            stock.close()
            full.with_suffix(".part").replace(full)
    temporary.replace(target)
    part |= {"repaired": dict(repaired), "classes": dict(classes), "dropped": dropped, "problems": problems}
    part["sha256"] = hashlib.sha256(target.read_bytes()).hexdigest()
    with atomic_write(target.with_suffix(".json")) as file:
        file.write(json.dumps(part, sort_keys=True).encode())
    return part


def _class_text(instance: Any, recipe: Recipe) -> str:
    if instance.class_id:
        return recipe.class_names[instance.class_id - 1]
    return "unknown" if instance.class_set & 1 else "red cell of unknown kind"


def _finished(target: Path, key: str) -> dict[str, Any] | None:
    """The account of a shard that an earlier run finished from the same input, or None."""
    try:
        part = json.loads(target.with_suffix(".json").read_bytes())
        whole = part["key"] == key and part["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError):
        return None
    return part if whole else None


def _fingerprint(recipe: Recipe, members: Sequence[LabelledField], full_masks: bool) -> str:
    digest = hashlib.sha256(repr((_FORMAT, full_masks, recipe.name, recipe.um_per_px, recipe.class_names)).encode())
    digest.update(repr(sorted(recipe.classes.items())).encode() + repr(sorted(recipe.unknown)).encode())
    digest.update(repr((sorted(recipe.red_cells), recipe.unlabelled_cells_unknown)).encode())
    for labelled in members:
        assert labelled.path is not None, "only fields with an image are converted"
        digest.update(labelled.file.encode() + labelled.path.read_bytes())
        for a in labelled.annotations:
            digest.update(repr((a.annotation_id, a.name, a.box_yxyx, a.point_yx)).encode())
            if a.mask is not None:
                digest.update(np.packbits(np.asarray(a.mask)).tobytes())
            for polygon in a.polygons:
                digest.update(polygon.tobytes())
    return digest.hexdigest()


class _Account:
    """Adds up the shards into the manifest: read = written + dropped, or the writer is wrong."""

    def __init__(self, recipe: Recipe, labels: LabelSet, splits: Mapping[str, str]) -> None:
        self.recipe, self.labels, self.splits = recipe, labels, splits
        self.parts: list[dict[str, Any]] = []

    def add(self, part: dict[str, Any]) -> None:
        self.parts.append(part)

    def manifest(self, out: Path, names: Sequence[str], findings: Sequence[Any], force: bool) -> dict[str, Any]:
        dropped = [asdict(item) for item in self.labels.unread]
        for labelled in self.labels.fields:
            missing = "labels-without-image" if labelled.path is None else "augmented-copy"
            if labelled.path is None or labelled.file not in self.splits:
                dropped += [asdict(Unread(labelled.file, a.annotation_id, missing)) for a in labelled.annotations]
        dropped += [item for part in self.parts for item in part["dropped"]]
        written = sum(part["written"] for part in self.parts)
        if self.labels.n_read != written + len(dropped):
            raise AssertionError(f"{self.labels.n_read} annotations read, {written} written, {len(dropped)} dropped")
        repaired = sum((Counter(part["repaired"]) for part in self.parts), Counter[str]())
        splits = {}
        for split in sorted(set(self.splits.values())):
            members = [f for f in self.labels.fields if self.splits.get(f.file) == split]
            parts = [
                p for name, p in zip(names, self.parts, strict=True) if f"-{split}-" in name[len(self.recipe.name) :]
            ]
            splits[split] = {
                "images": sum(p["images"] for p in parts),
                "patients": sorted({f.patient_id for f in members if f.patient_id}),
                "sources": len({f.source_id for f in members}),
                "fields": sorted({file_digest(f.path) for f in members if f.path is not None}),
                "classes": dict(sorted(sum((Counter(p["classes"]) for p in parts), Counter[str]()).items())),
            }
        return {
            "name": self.recipe.name,
            "class_names": list(self.recipe.class_names),
            "annotations": {
                "read": self.labels.n_read,
                "written": written,
                "clipped": sum(part["clipped"] for part in self.parts),
                "repaired": dict(sorted(repaired.items())),
                "dropped": dict(sorted(Counter(item["reason"] for item in dropped).items())),
            },
            "unlabelled_cells": sum(part["unlabelled"] for part in self.parts),
            "splits": splits,
            "forced": force,
            "dropped_items": dropped,
            "problems": [line for part in self.parts for line in part["problems"]],
            "findings": [asdict(finding) for finding in findings],
            "checksums": {name: part["sha256"] for name, part in zip(names, self.parts, strict=True)},
        }


def _remove_strays(out: Path, names: Collection[str]) -> None:
    """Shards of an earlier recipe must not be read with these."""
    for path in out.glob("*.tfrecord"):
        if path.name not in names:
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
    for path in out.glob("*.part"):
        path.unlink()


class _pool:
    """Converts fields in order, in this process or in several."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __enter__(self) -> Callable[[Recipe, Sequence[LabelledField]], Iterator[_Converted]]:
        if self.workers <= 1:
            self.executor = None
            return lambda recipe, members: (_convert(recipe, f) for f in members)
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        # Forking a process that runs TensorFlow's threads can hang.
        self.executor = executor = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"))
        return lambda recipe, members: executor.map(_convert, [recipe] * len(members), members)

    def __exit__(self, *exception: object) -> None:
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)
