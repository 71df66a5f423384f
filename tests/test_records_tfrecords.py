"""tfrecords: records hold what was labelled, every label is accounted for, a killed run goes on
where it stopped."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadLabelsError
from spherodetect.geometry import stretch_mask
from spherodetect.labels.annotations import Annotation, Finding, LabelledField
from spherodetect.labels.readers.ledger import LabelSet, Unread
from spherodetect.labels.recipe import Recipe, SplitRule, load_recipe
from spherodetect.labels.repair.masks import find_instances
from spherodetect.records import convert, shards
from spherodetect.records.examples import MASK_SIZE, read_examples
from spherodetect.records.tfrecords import build, write_tfrecords

UM_PER_PX = 7.5 / 24
HW = (90, 120)
RECIPE = Recipe(
    "mine",
    "points",
    Path("."),
    unlabelled_cells="unknown",
    unknown=frozenset({"?"}),
    um_per_px=UM_PER_PX,
)


def discs(
    *centers: tuple[float, float], radius: float = 12, size_hw: tuple[int, int] = HW
) -> np.ndarray:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    stained = np.any([np.hypot(y - cy, x - cx) <= radius for cy, cx in centers], axis=0)
    return np.repeat(np.where(stained, 130, 200).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def labels(tmp_path) -> LabelSet:
    """Five fields, cells with and without points; a second point, an unread line, a bad file,
    labels without image."""
    fields = []
    rng = np.random.default_rng(3)
    for number in range(5):
        centers = np.array([(25, 25), (25, 75), (65, 30), (65, 95), (88, 60)]) + rng.uniform(
            -3, 3, (5, 2)
        )
        path = tmp_path / f"{number}.png"
        Image.fromarray(discs(*centers)).save(path)
        names = ("rbc", "spherocyte", "?", "platelet")
        points = [
            Annotation(str(k), names[k], point_yx=tuple(centers[k])) for k in range(1 + number % 4)
        ]
        points.append(Annotation("9", "rbc", point_yx=tuple(centers[0] + 2)))
        fields.append(
            LabelledField(
                path.name,
                path,
                HW,
                tuple(points),
                source_id=path.stem,
                patient_id=f"p{number % 2}",
                um_per_px=UM_PER_PX,
            )
        )
    (tmp_path / "bad.png").write_bytes(b"not an image")
    point = (Annotation("1", "rbc", point_yx=(5.0, 5.0)),)
    fields.append(LabelledField("bad.png", tmp_path / "bad.png", HW, point, source_id="bad"))
    fields.append(LabelledField("lost.png", None, HW, point, source_id="lost"))
    finding = Finding(
        "malformed", "error", "4.txt", None, 1, ("3",), "expected x y class", "mend it"
    )
    return LabelSet(tuple(fields), (finding,), (Unread("4.txt", "3", "malformed"),))


SPLITS = {f"{k}.png": "val" if k == 3 else "train" for k in range(5)} | {"bad.png": "train"}


def write(out: Path, labels: LabelSet, recipe: Recipe = RECIPE, **options) -> dict:
    return write_tfrecords(recipe, out, **({"labels": labels, "splits": SPLITS} | options))


def read(out: Path, split: str = "*") -> dict[str, dict]:
    return {e["field"]: e for e in read_examples(sorted(out.glob(f"mine-{split}-*.tfrecord")))}


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.fixture
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(shards, "FIELDS_PER_SHARD", 2)


def test_what_is_read_is_written_or_dropped(tmp_path, labels):
    manifest = write(tmp_path / "out", labels, findings=labels.findings)
    account = manifest["annotations"]
    # 11 points on cells, 5 second points, and one each that is malformed, of a bad image, without
    # image.
    assert account["read"] == 19 == account["written"] + sum(account["dropped"].values())
    assert account["written"] == 11
    assert account["dropped"] == {
        "second-point-of-a-cell": 5,
        "malformed": 1,
        "bad-image": 1,
        "labels-without-image": 1,
    }
    assert len(manifest["dropped_items"]) == 8
    assert {"file": "4.txt", "annotation_id": "3", "reason": "malformed"} in manifest[
        "dropped_items"
    ]
    (problem,) = manifest["problems"]
    assert "bad.png" in problem
    assert manifest["unlabelled_cells"] == 25 - 11
    assert manifest["findings"][0]["code"] == "malformed"
    train, val = manifest["splits"]["train"], manifest["splits"]["val"]
    assert (train["images"], val["images"], train["sources"], val["patients"]) == (4, 1, 5, ["p1"])
    assert val["classes"] == {"platelet": 1, "rbc": 1, "spherocyte": 1, "unknown": 1}
    assert val["classes_by_patient"] == {"p1": val["classes"]} and val["unlabelled_cells"] == 1
    assert (
        sum(sum(split["classes"].values()) for split in manifest["splits"].values())
        == account["written"]
    )
    of_patients = [sum(classes.values()) for classes in train["classes_by_patient"].values()]
    assert (
        sorted(train["classes_by_patient"]) == ["p0", "p1"]
        and sum(of_patients) == account["written"] - 4
    )
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == json.loads(
        json.dumps(manifest)
    )


def test_a_spare_copy_is_dropped_and_named(tmp_path, labels):
    splits = {file: split for file, split in SPLITS.items() if file != "0.png"}
    manifest = write(tmp_path / "out", labels, splits=splits)
    assert manifest["annotations"]["dropped"]["augmented-copy"] == 2
    assert "0.png" not in read(tmp_path / "out")


def test_records_give_back_what_was_found(tmp_path, labels):
    out = tmp_path / "out"
    write(out, labels)
    assert set(read(out, "val")) == {"3.png"}
    examples = read(out)
    assert set(examples) == {f"{k}.png" for k in range(5)}
    for labelled in labels.fields[:5]:
        example = examples[labelled.file]
        with Image.open(labelled.path) as picture:
            image = np.asarray(picture)
        found = find_instances(image, labelled, RECIPE)
        np.testing.assert_array_equal(example["image"], image, err_msg="PNG is lossless")
        boxes = np.array([i.box_yxyx for i in found.instances])
        np.testing.assert_allclose(example["box_yxyx"], boxes, atol=1e-3)
        assert example["class_id"].tolist() == [i.class_id for i in found.instances]
        assert example["class_set"].tolist() == [i.class_set for i in found.instances]
        assert example["name"] == [i.name for i in found.instances]
        assert example["mask_known"].all()
        for mask, instance in zip(example["masks"], found.instances, strict=True):
            np.testing.assert_array_equal(mask, stretch_mask(instance.mask, MASK_SIZE))
        points = {a.annotation_id: a.point_yx for a in labelled.annotations}
        expected = [points.get(i.annotation_id, (-1, -1)) for i in found.instances]
        np.testing.assert_allclose(example["point_yx"], expected, atol=1e-3)
        assert example["patient"] == labelled.patient_id
        assert example["rbc_diameter_px"] == pytest.approx(24)


def test_unlabelled_cells_are_unknown_and_no_crowd(tmp_path, labels):
    import tensorflow as tf

    out = tmp_path / "out"
    write(out, labels)
    n_unknown = 0
    for path in out.glob("*.tfrecord"):
        for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            feature = tf.train.Example.FromString(raw).features.feature
            ids = feature["image/object/annotation_id"].bytes_list.value
            sets = feature["image/object/class/set"].int64_list.value
            classes = feature["image/object/class/label"].int64_list.value
            names = feature["image/object/class/text"].bytes_list.value
            assert set(feature["image/object/is_crowd"].int64_list.value) == {0}
            for annotation_id, bits, label, name in zip(ids, sets, classes, names, strict=True):
                if not annotation_id or name == b"?":
                    # Any class; a whole cell that segmentation found is no background.
                    assert label == 0
                    assert bits == 31 if annotation_id else bits in (30, 31)
                    n_unknown += not annotation_id
                else:
                    assert bits == 1 << label > 1
            for side in ("ymin", "xmin", "ymax", "xmax"):
                values = np.array(feature[f"image/object/bbox/{side}"].float_list.value)
                assert (values >= 0).all() and (values <= 1).all()
            encoded = feature["image/encoded"].bytes_list.value[0]
            with Image.open(io.BytesIO(encoded)) as image:
                assert image.format == "PNG" and image.size == HW[::-1]
            assert int(feature["image/source_id"].bytes_list.value[0]) >= 0, (
                "a number, as Model Garden wants it"
            )
    assert n_unknown == 14


@pytest.mark.usefixtures("small_shards")
def test_the_same_input_gives_the_same_bytes(tmp_path, labels):
    write(tmp_path / "a", labels)
    write(tmp_path / "b", labels)
    a = contents(tmp_path / "a")
    assert contents(tmp_path / "b") == a
    shards = [
        "train-00000-of-00003",
        "train-00001-of-00003",
        "train-00002-of-00003",
        "val-00000-of-00001",
    ]
    expected = {f"mine-{shard}.{suffix}" for shard in shards for suffix in ("tfrecord", "json")}
    assert set(a) == expected | {"manifest.json"}


@pytest.mark.usefixtures("small_shards")
def test_a_killed_run_leaves_no_manifest_and_goes_on_after_its_last_shard(tmp_path, labels):
    whole, out = tmp_path / "whole", tmp_path / "out"
    write(whole, labels)

    def kill(done: int, total: int) -> None:
        if done >= 5:  # one field into the third shard
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(out, labels, progress=kill)
    assert not (out / "manifest.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("*.tfrecord")}
    assert len(finished) == 2
    write(out, labels)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, (
        "kept, not written again"
    )
    assert contents(out) == contents(whole)


@pytest.mark.usefixtures("small_shards")
def test_a_shard_that_was_killed_half_written_is_written_again(tmp_path, labels, monkeypatch):
    out, whole = tmp_path / "out", tmp_path / "whole"
    write(whole, labels)
    converted = convert.convert

    def kill(recipe: Recipe, labelled: LabelledField):
        if labelled.file == "2.png":
            raise KeyboardInterrupt
        return converted(recipe, labelled)

    monkeypatch.setattr(convert, "convert", kill)
    with pytest.raises(KeyboardInterrupt):
        write(out, labels)
    monkeypatch.undo()
    monkeypatch.setattr(shards, "FIELDS_PER_SHARD", 2)
    assert [p.name for p in out.glob("*.tfrecord")] == ["mine-train-00000-of-00003.tfrecord"]
    write(out, labels)
    assert contents(out) == contents(whole), "no part is left over"


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("what", ["shard", "label", "image", "recipe"])
def test_a_shard_of_other_input_is_not_kept(tmp_path, labels, what):
    out = tmp_path / "out"
    write(out, labels)
    shard = out / "mine-train-00000-of-00003.tfrecord"
    other = out / "mine-train-00001-of-00003.tfrecord"
    before, untouched = shard.read_bytes(), other.stat().st_mtime_ns
    recipe = RECIPE
    if what == "shard":
        shard.write_bytes(before[:-1] + b"!")
    elif what == "label":
        moved = replace(labels.fields[0].annotations[0], name="spherocyte")
        first = replace(labels.fields[0], annotations=(moved, *labels.fields[0].annotations[1:]))
        labels = replace(labels, fields=(first, *labels.fields[1:]))
    elif what == "image":
        Image.fromarray(discs((40, 40))).save(labels.fields[0].path)
    else:
        recipe = replace(RECIPE, unlabelled_cells="none")
    write(out, labels, recipe)
    assert (shard.read_bytes() == before) == (what == "shard")
    assert (other.stat().st_mtime_ns == untouched) == (what != "recipe")
    write(tmp_path / "fresh", labels, recipe)
    assert contents(out) == contents(tmp_path / "fresh")


def test_shards_of_an_earlier_run_do_not_stay(tmp_path, labels, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(shards, "FIELDS_PER_SHARD", 2)
    write(out, labels, full_masks=True)
    monkeypatch.setattr(shards, "FIELDS_PER_SHARD", 48)
    write(out, labels)
    names = {"mine-train-00000-of-00001", "mine-val-00000-of-00001"}
    assert {p.name for p in out.glob("*.tfrecord")} == {f"{name}.tfrecord" for name in names}
    assert {p.name for p in out.glob("*.json")} == {f"{name}.json" for name in names} | {
        "manifest.json"
    }
    write(out, labels, full_masks=True)
    assert len(list(out.glob("full-*.tfrecord"))) == 2
    write(out, labels)
    assert not list(out.glob("full-*")), (
        "stock records of an earlier run would belong to other shards"
    )


@pytest.mark.parametrize(
    "key", ["image/object/mask/quality", "image/object/mask/bits", "image/um_per_px"]
)
def test_records_of_another_version_are_named(tmp_path, labels, key):
    import tensorflow as tf

    out = tmp_path / "out"
    write(out, labels)
    shard = out / "mine-val-00000-of-00001.tfrecord"
    (raw,) = tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()
    example = tf.train.Example.FromString(raw)
    del example.features.feature[key]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(example.SerializeToString())
    with pytest.raises(BadLabelsError, match=r"mine-val-00000-of-00001.*this version"):
        list(read_examples([shard]))


def test_full_masks_are_the_stock_form(tmp_path, labels):
    import tensorflow as tf

    out = tmp_path / "out"
    write(out, labels, full_masks=True)
    (compact,) = read_examples([out / "mine-val-00000-of-00001.tfrecord"])
    (raw,) = tf.data.TFRecordDataset(
        str(out / "full-mine-val-00000-of-00001.tfrecord")
    ).as_numpy_iterator()
    masks = tf.train.Example.FromString(raw).features.feature["image/object/mask"].bytes_list.value
    assert len(masks) == len(compact["masks"]) == 5
    for png, box, local in zip(masks, compact["box_yxyx"], compact["masks"], strict=True):
        with Image.open(io.BytesIO(png)) as picture:
            frame = np.asarray(picture)
        assert frame.shape == HW and set(np.unique(frame)) == {0, 1}
        y0, x0, y1, x1 = np.round(box).astype(int)
        assert frame[y0:y1, x0:x1].sum() == frame.sum() > 0
        np.testing.assert_array_equal(stretch_mask(frame[y0:y1, x0:x1] > 0, MASK_SIZE), local)


@pytest.mark.train
def test_the_stock_decoder_reads_the_stock_form(tmp_path, labels):
    import tensorflow as tf
    from official.vision.dataloaders import tf_example_decoder

    out = tmp_path / "out"
    write(out, labels, full_masks=True)
    (compact,) = read_examples([out / "mine-val-00000-of-00001.tfrecord"])
    (raw,) = tf.data.TFRecordDataset(
        str(out / "full-mine-val-00000-of-00001.tfrecord")
    ).as_numpy_iterator()
    decoded = tf_example_decoder.TfExampleDecoder(include_mask=True).decode(tf.constant(raw))
    np.testing.assert_array_equal(decoded["image"], compact["image"])
    boxes = decoded["groundtruth_boxes"].numpy() * [*HW, *HW]
    np.testing.assert_allclose(boxes, compact["box_yxyx"], atol=1e-3)
    np.testing.assert_array_equal(decoded["groundtruth_classes"], compact["class_id"])
    for frame, box, local in zip(
        decoded["groundtruth_instance_masks"].numpy(), boxes, compact["masks"], strict=True
    ):
        y0, x0, y1, x1 = np.round(box).astype(int)
        np.testing.assert_array_equal(stretch_mask(frame[y0:y1, x0:x1] > 0, MASK_SIZE), local)
    # The unlabelled cell and the one of unknown class teach nothing here.
    np.testing.assert_array_equal(decoded["groundtruth_is_crowd"].numpy(), compact["class_id"] == 0)


def test_labels_without_any_image_are_refused(tmp_path, labels):
    with pytest.raises(BadLabelsError, match=r"got none.*--root"):
        write(tmp_path / "out", replace(labels, fields=labels.fields[-1:]))


def write_points(root: Path, n_fields: int = 6) -> Path:
    rng = np.random.default_rng(8)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number in range(1, n_fields + 1):
        centers = rng.uniform(15, 75, (5, 2))
        noise = rng.normal(0, 3, (*HW, 3))
        picture = np.clip(discs(*centers) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(root / "images" / f"{number}.png")
        lines = [f"{x:.1f} {y:.1f} {k % 2 * 3}" for k, (y, x) in enumerate(centers[:3])]
        (root / "labels" / f"{number}.txt").write_text("\n".join(lines))
    recipe = root / "recipe.yaml"
    recipe.write_text(
        "name: mine\nformat: points\nroot: .\nimages: images\nlabels: labels\n"
        f"um_per_px: {UM_PER_PX}\n"
        'classes: {"0": rbc, "3": spherocyte}\nunlabelled_cells: unknown\n'
        "split: {by: number-run, val: [[5, 6]]}\n"
    )
    return recipe


def test_a_recipe_becomes_records(tmp_path):
    calls: list[tuple[int, int]] = []
    recipe = load_recipe(write_points(tmp_path / "source"))
    manifest = build(
        recipe, tmp_path / "out", progress=lambda done, total: calls.append((done, total))
    )
    account = manifest["annotations"]
    assert account["read"] == 18 == account["written"] + sum(account["dropped"].values())
    assert {split: m["images"] for split, m in manifest["splits"].items()} == {"train": 4, "val": 2}
    assert calls[-1] == (6, 6)
    assert set(read(tmp_path / "out", "val")) == {"images/5.png", "images/6.png"}
    assert not manifest["forced"]


_KILLED = """
import sys
from pathlib import Path
from spherodetect.records import shards, tfrecords
from spherodetect.labels.recipe import load_recipe

if __name__ == "__main__":
    shards.FIELDS_PER_SHARD = 2
    tfrecords.build(load_recipe(sys.argv[1]), Path(sys.argv[2]), workers=2, full_masks=True,
                    progress=lambda done, total: print(done, total, flush=True))
"""


@pytest.mark.slow  # a minute: TensorFlow starts four times
@pytest.mark.usefixtures("small_shards")
def test_a_run_goes_on_after_kill_9_wherever_it_struck(tmp_path):
    recipe, out, script = (
        write_points(tmp_path / "source", 8),
        tmp_path / "out",
        tmp_path / "run.py",
    )
    script.write_text(_KILLED)
    command = [sys.executable, str(script), str(recipe), str(out)]
    for stop in ("1 8", "4 8", "7 8"):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None and f"{stop}\n" in iter(run.stdout.readline, "")
            run.kill()
        assert not (out / "manifest.json").exists()
    assert len(list(out.glob("mine-*.tfrecord"))) >= 2, "what was whole is kept"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    build(load_recipe(recipe), tmp_path / "whole", full_masks=True)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow  # two processes that start TensorFlow
def test_several_workers_write_the_same_bytes(tmp_path):
    recipe = load_recipe(write_points(tmp_path / "source"))
    build(recipe, tmp_path / "one")
    build(recipe, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_split_that_leaks_needs_force(tmp_path):
    recipe = load_recipe(write_points(tmp_path / "source"))
    # Every file is of the patient "png", and one of them goes to validation.
    leaking = replace(
        recipe, patients=re.compile("(?P<patient>png)"), split=SplitRule("source", val=("6",))
    )
    with pytest.raises(BadLabelsError, match="without leaks"):
        build(leaking, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    manifest = build(leaking, tmp_path / "out", force=True)
    assert manifest["forced"]
    assert [f["code"] for f in manifest["findings"]] == ["patient-in-two-splits"]


def test_near_duplicates_stay_together(tmp_path):
    recipe = load_recipe(write_points(tmp_path / "source"))
    images = tmp_path / "source" / "images"
    (images / "6.png").write_bytes((images / "1.png").read_bytes())
    build(replace(recipe, split=SplitRule("source", val=("6",))), tmp_path / "out")
    assert set(read(tmp_path / "out", "val")) == {"images/1.png", "images/6.png"}


def chula(tmp_path: Path, shared_data: Path, numbers: tuple[int, ...]) -> Iterator[dict]:
    recipe = load_recipe(
        Path(__file__).parents[1] / "tfrecords" / "chula.yaml", root=shared_data / "chula-rbc-12"
    )
    from spherodetect.labels.source import read_labels

    labels = read_labels(recipe)
    fields = tuple(f for f in labels.fields if f.source_id in map(str, numbers))
    manifest = write_tfrecords(
        recipe, tmp_path, labels=LabelSet(fields), splits={f.file: "train" for f in fields}
    )
    account = manifest["annotations"]
    assert account["read"] == account["written"] + sum(account["dropped"].values())
    return read_examples(sorted(tmp_path.glob("*.tfrecord")))


def test_real_points_become_masks_around_them(tmp_path, shared_data):
    n_labelled = n_held = n_unknown = 0
    for example in chula(tmp_path, shared_data, (20, 146)):
        labelled = example["point_yx"][:, 0] >= 0
        box, point = example["box_yxyx"][labelled], example["point_yx"][labelled]
        held = ((point >= box[:, :2] - 1) & (point <= box[:, 2:] + 1)).all(axis=1)
        n_labelled, n_held = n_labelled + len(held), n_held + int(held.sum())
        n_unknown += int((~labelled).sum())
        # Any class; whole cells are no background.
        assert np.isin(example["class_set"][~labelled], (30, 31)).all()
        sides = (box[:, 2:] - box[:, :2]) / example["rbc_diameter_px"]
        assert 0.75 < np.median(sides) < 1.2
    assert n_labelled > 40 and n_held >= 0.97 * n_labelled
    assert n_unknown > 20
