"""datasets: TFDS builds from local data what the records hold, accounts for every label, and checks
its downloads."""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadLabelsError
from spherodetect.labels.recipe import load_recipe
from spherodetect.records.examples import read_examples
from spherodetect.records.tfrecords import build
from spherodetect.synthetic import draw_field

pytestmark = pytest.mark.train
tfds = pytest.importorskip("tensorflow_datasets")

RECIPES = Path(__file__).resolve().parents[1] / "tfrecords"


@pytest.fixture(scope="module")
def datasets():
    from spherodetect.records import tfds as datasets

    return datasets


def picture(path: Path, seed: int, *, squash: float = 1.0) -> np.ndarray:
    """Draws a field of 200 x 260 pixels, its width squashed; returns the boxes of four of its red
    cells."""
    drawn = draw_field(
        np.random.default_rng(seed), size_hw=(200, 260), n_cells=16, n_white=0, n_platelets=0
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn.image).resize((round(260 * squash), 200)).save(path, quality=95)
    boxes = drawn.cells.box_yxyx[drawn.cells.countable][:4] * [1, squash, 1, squash]
    assert len(boxes) == 4
    return np.round(boxes, 2)


def write_chula(root: Path, images: str = "images", labels: str = "labels") -> None:
    (root / labels).mkdir(parents=True)
    for number in (1, 2, 61):
        boxes = picture(root / images / f"{number}.jpg", number)
        centers = (boxes[:3, :2] + boxes[:3, 2:]) / 2
        lines = [
            f"{x:.0f} {y:.0f} {code}" for (y, x), code in zip(centers, (0, 3, 10), strict=True)
        ]
        (root / labels / f"{number}.txt").write_text("\n".join([*lines, "not a label"]))


def write_bccd(root: Path, images: str = "images", labels: str = "annotations") -> None:
    (root / labels).mkdir(parents=True)
    for number in range(5):
        boxes = picture(root / images / f"BloodImage_{number:05d}.jpg", 50 + number)
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x0:.0f}</xmin><ymin>{y0:.0f}</ymin>"
            f"<xmax>{x1:.0f}</xmax><ymax>{y1:.0f}</ymax></bndbox></object>"
            for (y0, x0, y1, x1), name in zip(
                boxes, ("RBC", "RBC", "WBC", "Platelets"), strict=True
            )
        )
        size = "<size><width>260</width><height>200</height><depth>3</depth></size>"
        name = f"BloodImage_{number:05d}"
        xml = f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        (root / labels / f"{name}.xml").write_text(xml)


def write_dataset_a(root: Path) -> None:
    """Two patients, a photograph each in three copies; stretched, so cells are taller than wide."""
    for split, patient in (("train", "patient_01"), ("valid", "patient_02")):
        images, annotations = [], []
        for copy in range(3):
            name = f"{patient}_7_jpg.rf.{'abc'[copy] * 32}.jpg"
            boxes = picture(root / split / name, ord(patient[-1]), squash=0.75)
            images.append({"id": copy, "file_name": name, "height": 200, "width": 195})
            for k, (y0, x0, y1, x1) in enumerate(boxes.tolist()):
                annotations.append(
                    {
                        "id": 10 * copy + k,
                        "image_id": copy,
                        "category_id": 1 + k % 2,
                        "iscrowd": 0,
                        "bbox": [round(x0), round(y0), x1 - x0, y1 - y0],
                        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1, x0, y0]],
                    }
                )
        categories = [{"id": 0, "name": "smears", "supercategory": "none"}] + [
            {"id": k, "name": name, "supercategory": "smears"}
            for k, name in ((1, "RBC"), (2, "Spherocyte"))
        ]
        export = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(export))


def write_txl_pbc(root: Path) -> None:
    (root / "labels").mkdir(parents=True)
    for number in range(5):
        boxes = picture(root / "images" / f"{number}.jpg", 80 + number) / [200, 260, 200, 260]
        lines = [
            f"{code} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}"
            for (y0, x0, y1, x1), code in zip(boxes, (0, 1, 1, 2), strict=True)
        ]
        (root / "labels" / f"{number}.txt").write_text("\n".join(lines))


def write_pbc(root: Path) -> None:
    for number in range(5):
        picture(root / ("monocyte", "platelet")[number % 2] / f"{number}.jpg", 70 + number)


WRITERS = {
    "chula": write_chula,
    "bccd": write_bccd,
    "dataset_a": write_dataset_a,
    "txl_pbc": write_txl_pbc,
    "pbc": write_pbc,
}
#: labels read and dropped; the four labels a copy of validation's two further copies are the spare
#: ones.
ACCOUNTS = {
    "chula": (12, {"malformed": 3}),
    "bccd": (20, {}),
    "dataset_a": (24, {"augmented-copy": 8}),
    "txl_pbc": (20, {}),
    "pbc": (5, {}),
}


def built(name: str, folder: Path, **options):
    """The builder after TFDS's own download_and_prepare."""
    builder = tfds.builder(name, data_dir=str(folder / "tfds"))
    builder.download_and_prepare(
        download_dir=str(folder / "downloads"),
        download_config=tfds.download.DownloadConfig(try_download_gcs=False, **options),
    )
    return builder


@pytest.mark.usefixtures("datasets")
@pytest.mark.parametrize("name", WRITERS)
def test_a_builder_holds_what_the_records_hold(tmp_path, name):
    root = tmp_path / "manual" / name
    WRITERS[name](root)
    builder = built(name, tmp_path, manual_dir=str(tmp_path / "manual"))
    manifest = build(load_recipe(RECIPES / f"{name}.yaml", root=root), tmp_path / "records")
    read, dropped = ACCOUNTS[name]
    assert manifest["annotations"]["read"] == read
    assert manifest["annotations"]["dropped"] == dropped
    again = tfds.builder(name, data_dir=str(tmp_path / "tfds"))
    checksums = manifest.pop("checksums")
    assert again.info.metadata["manifest"] == json.loads(json.dumps(manifest)), (
        "kept beside the data"
    )
    assert set(builder.info.splits) == set(manifest["splits"]) == {"train", "val"}
    for split in manifest["splits"]:
        shards = [tmp_path / "records" / shard for shard in checksums if f"-{split}-" in shard]
        records = {e["field"]: e for e in read_examples(shards)}
        fields = {e["field"].decode(): e for e in tfds.as_numpy(builder.as_dataset(split=split))}
        assert set(fields) == set(records)
        for file, field in fields.items():
            cells, record = field["cells"], records[file]
            height, width = field["image"].shape[:2]
            np.testing.assert_array_equal(field["image"], record["image"])
            scale = np.array([height, width, height, width])
            np.testing.assert_allclose(cells["bbox"] * scale, record["box_yxyx"], atol=1e-3)
            np.testing.assert_array_equal(cells["label"], record["class_id"])
            np.testing.assert_array_equal(cells["class_set"], record["class_set"])
            np.testing.assert_array_equal(cells["mask"], record["masks"])
            np.testing.assert_array_equal(cells["mask_known"], record["mask_known"])
            np.testing.assert_allclose(cells["mask_quality"], record["mask_quality"], atol=1e-6)
            np.testing.assert_allclose(cells["point_yx"], record["point_yx"], atol=1e-4)
            assert [n.decode() for n in cells["name"]] == record["name"]
            assert field["patient"].decode() == record["patient"]
            assert field["rbc_diameter_px"] == pytest.approx(record["rbc_diameter_px"])


@pytest.mark.usefixtures("datasets")
def test_the_real_data_is_built_from_where_it_lies(tmp_path, shared_data, datasets, monkeypatch):
    monkeypatch.setattr(datasets, "prepare", _first_fields(datasets.prepare, 3))
    builder = built("bccd", tmp_path, manual_dir=str(shared_data / "bccd"))
    manifest = builder.info.metadata["manifest"]
    assert sum(split.num_examples for split in builder.info.splits.values()) == 3
    assert manifest["annotations"]["written"] == manifest["annotations"]["read"] > 20


def _first_fields(prepare, n: int):
    import dataclasses

    def few(recipe, **options):
        ready = prepare(recipe, **options)
        fields = ready.labels.fields[:n]
        labels = dataclasses.replace(ready.labels, fields=fields, unread=())
        return dataclasses.replace(
            ready, labels=labels, splits={f.file: ready.splits[f.file] for f in fields}
        )

    return few


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[Path, str]]:
    """A folder, and where this machine serves it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/archive.zip"
    server.shutdown()
    server.server_close()


def archived(source: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(source.rglob("*")):
            archive.write(file, f"Repository-0123abc/{file.relative_to(source)}")


def test_a_download_is_recorded_once_and_checked_ever_after(
    tmp_path, served, datasets, monkeypatch, caplog
):
    from tensorflow_datasets.core.download import checksums
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    folder, url = served
    write_chula(tmp_path / "origin", "Dataset", "Label")
    archived(tmp_path / "origin", folder / "archive.zip")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(datasets.Chula, "URL", url)
    monkeypatch.setattr(datasets.Chula, "_checksums_path", tmp_path / "checksums.tsv")

    builder = built("chula", tmp_path / "first", register_checksums=True)
    assert f"checksum of {url}" in caplog.text
    assert builder.info.metadata["manifest"]["annotations"]["read"] == 12
    (line,) = (tmp_path / "checksums.tsv").read_text().splitlines()
    assert re.fullmatch(rf"{re.escape(url)}\t\d+\t[0-9a-f]{{64}}\tarchive\.zip", line)

    infos = checksums.load_url_infos(tmp_path / "checksums.tsv")
    monkeypatch.setattr(datasets.Chula, "url_infos", infos)
    caplog.clear()
    same = built("chula", tmp_path / "second", force_checksums_validation=True)
    assert "checksum of" not in caplog.text
    assert same.info.metadata == builder.info.metadata, "the same fields in the same splits"

    (tmp_path / "origin" / "Label" / "1.txt").write_text("1 1 0")
    archived(tmp_path / "origin", folder / "archive.zip")
    with pytest.raises(NonMatchingChecksumError, match="wrong checksum"):
        built("chula", tmp_path / "third")


def test_an_archive_laid_in_the_manual_folder_is_as_good(tmp_path, datasets):
    write_bccd(tmp_path / "origin", "BCCD/JPEGImages", "BCCD/Annotations")
    (tmp_path / "manual").mkdir()
    archived(tmp_path / "origin", tmp_path / "manual" / "bccd.zip")
    builder = built("bccd", tmp_path, manual_dir=str(tmp_path / "manual"))
    assert builder.info.metadata["manifest"]["annotations"]["read"] == 20
    archived(tmp_path / "origin" / "BCCD", tmp_path / "manual" / "bccd.zip")
    with pytest.raises(BadLabelsError, match=r"'bccd\.zip'.*\*/BCCD/JPEGImages, got 0.* http"):
        built("bccd", tmp_path / "other", manual_dir=str(tmp_path / "manual"))


def test_what_is_not_there_is_said(tmp_path, datasets):
    with pytest.raises(BadLabelsError, match=r"dataset_a: .*manual folder.*Roboflow"):
        built("dataset_a", tmp_path)
    with pytest.raises(BadLabelsError, match=r"got none.*recipe=FILE"):
        datasets.Chula(recipe=tmp_path / "none.yaml", data_dir=str(tmp_path))
