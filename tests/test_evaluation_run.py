"""evaluate: drawn smears with known truth, and a stand-in for the model that makes known errors."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.measure import find_contours

from spherodetect.cells import CLASS_NAMES, Cells
from spherodetect.detect.model_folder import ErrorRates, ModelCard, Thresholds
from spherodetect.detect.provenance import Provenance
from spherodetect.errors import SpherodetectError
from spherodetect.evaluation.bootstrap import compare
from spherodetect.evaluation.rows import figures, read_rows
from spherodetect.labels.recipe import load_recipe
from spherodetect.labels.source import read_labels
from spherodetect.synthetic import SyntheticField, draw_field

pytest.importorskip("pycocotools", reason="the extra [train] is not installed")
from spherodetect.evaluation import run as module
from tests.test_architecture import _GUARDED, _python

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "<script>alert(1)<script>"
RECIPE = """
name: drawn
format: coco
root: .
patients: "(?P<patient>p[0-9])"
split: {by: export}
"""


class StandIn:
    """Knows the truth of every field and makes errors: in each field some cells are missed, some
    have the wrong class, and one is detected twice."""

    name, class_names = f"model {HOSTILE}", CLASS_NAMES

    def __init__(self, recipe: Path, *, errs: bool = True, trained: bool = False) -> None:
        self.errs = errs
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.fields = {f.file: f for f in read_labels(load_recipe(recipe)).fields}
        pattern = "drawn-train-*.tfrecord" if trained else "other-train-*.tfrecord"
        manifest = {"checksums": {}, "splits": {}}
        provenance = {
            "data": {"drawn": manifest},
            "params": {"task": {"train_data": {"input_path": pattern}}},
        }
        self.card = ModelCard(
            name=self.name,
            class_names=CLASS_NAMES,
            rbc_px=32.0,
            thresholds=Thresholds(),
            rates=ErrorRates(),
            stains_seen=("drawn",),
            provenance=Provenance(provenance),
            checksums={"saved_model.pb": "0" * 64},
        )

    def detect(
        self, image: np.ndarray, um_per_px: float | None = None, *, field_id: str = ""
    ) -> Cells:
        self.calls.append((field_id, image.shape))
        field = self.fields[field_id]
        factor = image.shape[0] / field.size_hw[0]
        boxes = np.array([a.outline_box_yxyx for a in field.annotations]) * factor
        ids = np.array([self.class_names.index(a.name) + 1 for a in field.annotations])
        p = np.where(ids == 2, 0.9, 0.1) * (ids <= 2)
        if self.errs:
            spheres, others = np.flatnonzero(ids == 2), np.flatnonzero(ids == 1)
            wrong = np.concatenate([spheres[:1], others[:2]])
            ids[wrong] = 3 - ids[wrong]
            p[wrong] = np.linspace(0.2, 0.8, len(wrong))
            keep = np.setdiff1d(np.arange(len(ids)), others[2:5])
            boxes, ids, p = (np.concatenate([x[keep], x[keep[-1:]]]) for x in (boxes, ids, p))
            ids[-1], p[-1] = 2, 0.7
        at = np.arange(20) + 0.5 - 10
        masks = np.repeat(
            (np.hypot(at[:, None], at) < 10).astype(np.float32)[None], len(ids), axis=0
        )
        cells = Cells.from_labels(
            boxes, ids, masks, image_size_hw=image.shape[:2], field_id=field_id
        )
        return replace(cells, p_spherocyte=p.astype(np.float32), rbc_diameter_px=40.0 * factor)


def annotations(field: SyntheticField, image_id: int) -> list[dict]:
    """COCO annotations of a drawn field's cells."""
    labels = []
    for name, mask, (y0, x0) in zip(
        field.cells.names, *zip(*field.cells.pixel_masks(), strict=True), strict=True
    ):
        outline = max(find_contours(np.pad(mask, 1).astype(float), 0.5), key=len) - 0.5 + [y0, x0]
        (ymin, xmin), (ymax, xmax) = outline.min(axis=0), outline.max(axis=0)
        labels.append(
            {
                "image_id": image_id,
                "category_id": CLASS_NAMES.index(name) + 1,
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
                "segmentation": [outline[:, ::-1].ravel().tolist()],
            }
        )
    return labels


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """Four fields of two patients, drawn, with every outline."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "train").mkdir()
    images, labels = [], []
    for number in range(4):
        field = draw_field(
            np.random.default_rng(number),
            size_hw=(240, 320),
            n_cells=34,
            spherocyte_fraction=0.3,
            um_per_px=0.25,
            n_platelets=2,
        )
        file = f"p{number // 2}_{number}{HOSTILE}.png"
        Image.fromarray(field.image).save(folder / "train" / file)
        images.append({"id": number, "file_name": file, "width": 320, "height": 240})
        labels += annotations(field, number)
    labels = [{"id": k} | label for k, label in enumerate(labels)]
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASS_NAMES, 1)]
    coco = {"images": images, "categories": categories, "annotations": labels}
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(coco))
    (folder / "drawn.yaml").write_text(RECIPE)
    return folder / "drawn.yaml"


@pytest.fixture(scope="module")
def judged(recipe, tmp_path_factory):
    """The stand-in's evaluation with all options, and its folder."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        model = StandIn(recipe)
        patch.setattr(module, "load_model", lambda folder: model)
        result = module.evaluate(Path("m"), recipe, split="train", out=out, robustness=2)
    return result, out, model


def test_figures_are_those_of_the_errors_made(judged):
    result, _, model = judged
    truth = [a.name for f in model.fields.values() for a in f.annotations]
    spheres, others = truth.count("spherocyte"), truth.count("rbc")
    with_spheres = sum(
        any(a.name == "spherocyte" for a in f.annotations) for f in model.fields.values()
    )
    assert (result.n_fields, result.n_labels, result.n_spherocytes) == (
        4,
        spheres + others,
        spheres,
    )
    assert result.recall == pytest.approx(1 - 4 * 3 / (spheres + others))
    assert result.sensitivity == pytest.approx(1 - with_spheres / spheres)
    assert result.specificity == pytest.approx(1 - 4 * 2 / (others - 4 * 3))
    # Two others and one double in each field are called spherocytes.
    hits = spheres - with_spheres
    assert result.precision == pytest.approx(hits / (hits + 4 * 3))
    assert result.duplicates == pytest.approx(4 / (len(truth) - 4 * 3 + 4))
    assert result.extras[0] == 4 and result.extras[2] == 0
    assert str(result).startswith("model <script>")
    assert f"  f1                {result.f1:.3f}" in str(result).splitlines()


def test_a_model_without_errors_has_perfect_figures(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_model", lambda folder: StandIn(recipe, errs=False))
    result = module.evaluate(Path("m"), recipe, split="train", out=tmp_path)
    for figure in ("recall", "precision", "sensitivity", "f1", "specificity", "average_precision"):
        assert getattr(result, figure) == pytest.approx(1), figure
    assert result.duplicates == 0
    box = result.details["coco"]["box"]["classes"]
    assert {name: one["ap"] for name, one in box.items()} == dict.fromkeys(
        ("rbc", "spherocyte", "wbc", "platelet", "red cell"), pytest.approx(1)
    )
    assert result.details["coco"]["mask"]["classes"]["rbc"]["ap50"] == pytest.approx(1)
    page = (tmp_path / "evaluation.html").read_text()
    assert page.count(">None.<") == 3 and "Not measured in this run" in page


def test_json_holds_all_figures_and_no_nan(judged):
    result, out, _ = judged
    data = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert data["f1"] == result.f1 and len(data["blocks"]) == len(result.blocks)
    assert {
        "intervals",
        "confusion",
        "confusion_fine",
        "reliability",
        "agreement",
        "within_field",
        "spread",
        "leave_one_out",
        "robustness",
        "coco",
        "worst",
        "fields",
        "provenance",
        "warning",
    } <= set(data)
    assert sum(
        sum(counts) for name, counts in data["confusion"]["rows"] if name != "background"
    ) == sum(f["n_labels"] for f in data["fields"])
    worst = data["worst"]["false spherocytes"]
    assert [w["p_spherocyte"] for w in worst] == sorted(
        (w["p_spherocyte"] for w in worst), reverse=True
    )
    assert (
        len(worst) == 8 and worst[0]["label"] == "rbc" and worst[0]["evidence"]["diameter_px"] > 10
    )
    assert {w["label"] for w in data["worst"]["missed cells"]} == {"rbc"}


def test_the_tables_give_the_same_figures(judged):
    result, out, _ = judged
    rows = read_rows(out / "labelled_cells.csv")
    again = figures(rows)
    assert again["f1"] == pytest.approx(result.f1) and again["n_labels"] == result.n_labels
    assert compare(rows, rows).difference == 0
    with (out / "extra_cells.csv").open() as file:
        assert csv.DictReader(file).fieldnames == list(rows[0])


def test_robustness_tries_every_change_on_the_stated_fields(judged):
    result, _, model = judged
    tried = result.details["robustness"]
    assert len(tried["fields"]) == min(2, tried["n_suitable"]) > 0
    assert [c["kind"] for c in tried["changes"]] == [
        "none",
        *(k for k in ("blur", "tint", "scale", "JPEG") for _ in "123"),
    ]
    # The stand-in ignores the image. If the points keep their cells, no figure changes.
    assert (
        len(
            {
                json.dumps({k: v for k, v in c.items() if isinstance(v, float)})
                for c in tried["changes"]
            }
        )
        == 1
    )
    shapes = {shape for name, shape in model.calls if name == tried["fields"][0]}
    assert len(shapes) == 4


def test_the_page_needs_no_other_file_and_escapes_names(judged):
    _, out, _ = judged
    page = (out / "evaluation.html").read_text()
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:)", page)
    plots = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)
    assert len(plots) == 5
    assert all(base64.b64decode(p).startswith(b"<?xml") for p in plots)
    assert page.count("data:image/png") == sum(
        len(kind) for kind in json.loads((out / "evaluation.json").read_text())["worst"].values()
    )
    assert "Not held out" not in page
    assert not re.search(r"\bnan\b|\bNone\b|Undefined", re.sub(r"base64,[^\"]+", "", page))
    assert "For Research Use Only" in page


def test_the_same_run_writes_the_same_page(judged, recipe, tmp_path, monkeypatch):
    _, out, _ = judged
    monkeypatch.setattr(module, "load_model", lambda folder: StandIn(recipe))
    module.evaluate(Path("m"), recipe, split="train", out=tmp_path, robustness=2)
    for name in ("evaluation.html", "evaluation.json", "labelled_cells.csv"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name


def test_a_leak_is_refused_and_with_force_marked_on_the_page(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_model", lambda folder: StandIn(recipe, trained=True))
    with pytest.raises(SpherodetectError, match=r"leak: .*'train' of 'drawn'") as error:
        module.evaluate(Path("m"), recipe, split="train", out=tmp_path / "a")
    assert "--force" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "a").exists()
    result = module.evaluate(Path("m"), recipe, split="train", out=tmp_path / "b", force=True)
    assert result.warning and result.warning in str(result)
    assert 'class="banner leak">Not held out' in (tmp_path / "b" / "evaluation.html").read_text()
    assert (
        json.loads((tmp_path / "b" / "evaluation.json").read_text())["provenance"]["held_out"]
        == "trained-on"
    )


def test_extra_detections_count_in_fully_labelled_fields_only(recipe, tmp_path, monkeypatch):
    """An unmatched detection is an extra. In a field where a third of the cells has no label it may
    be one of these cells."""
    real = module.open_truth

    def with_gaps(share: float):
        def opened(*args, **options):
            truth = real(*args, **options)

            def read(only):
                for field in truth.read(only):
                    kept = np.arange(len(field.classes)) >= 2
                    yield replace(
                        field,
                        points_yx=field.points_yx[kept],
                        classes=field.classes[kept],
                        fine=field.fine[kept],
                        box_yxyx=field.box_yxyx[kept],
                        outlines=(),
                        n_unlabelled=int(share * field.n_cells),
                    )

            return replace(
                truth, read=read, no_boxes="the labels are points", no_masks="the labels are points"
            )

        return opened

    monkeypatch.setattr(module, "load_model", lambda folder: StandIn(recipe, errs=False))
    monkeypatch.setattr(module, "open_truth", with_gaps(0.02))
    full = module.evaluate(Path("m"), recipe, split="train", out=tmp_path)
    # Two labels of each field are withheld; those of cells that the border cuts are no extras.
    assert full.extras[0] == 4 and 4 <= full.extras[2] <= 8
    rows = list(csv.DictReader((tmp_path / "extra_cells.csv").open()))
    assert len(rows) == full.extras[2]
    assert dict(full.details["confusion"]["rows"])["background"][4] == 0
    monkeypatch.setattr(module, "open_truth", with_gaps(0.33))
    partial = module.evaluate(Path("m"), recipe, split="train", out=tmp_path)
    assert partial.extras == (0, 0, 0)
    assert partial.recall == full.recall == 1


@pytest.mark.slow
def test_it_runs_without_model_garden(recipe, bundled_model, tmp_path):
    options = ("--split", "train", "--robustness", "0", "--force", "--out", str(tmp_path / "out"))
    command = ["evaluate", str(bundled_model), "--data", str(recipe), *options]
    done = _python(_GUARDED, json.dumps([command]))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["n_fields"] == 4


@pytest.mark.slow
def test_the_bundled_model_on_real_fields(bundled_model, shared_data, tmp_path):
    """Whole files through the real model; every labelled cell has a row."""
    chula = shared_data / "chula-rbc-12"
    n_labels = 0
    for number in (72, 81, 303):
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(chula / kind / f"{number}.{suffix}", tmp_path / kind)
        n_labels += len((tmp_path / "labels" / f"{number}.txt").read_text().split("\n")) - 1
    recipe = (
        (ROOT / "tfrecords" / "chula.yaml")
        .read_text()
        .replace("../../shared/data/chula-rbc-12", ".")
    )
    (tmp_path / "few.yaml").write_text(re.sub(r"val: .*", "val: [[1, 999]]", recipe))
    result = module.evaluate(
        bundled_model, tmp_path / "few.yaml", out=tmp_path / "out", force=True, robustness=1
    )
    assert result.n_fields == 3 and result.recall > 0.95 and result.duplicates < 0.02
    rows = read_rows(tmp_path / "out" / "labelled_cells.csv")
    assert sum(row["label"] != "duplicate" for row in rows) == n_labels
    assert len(result.details["robustness"]["changes"]) == 13
    assert result.details["coco"]["mask"] == {"refused": "the labels are points"}


def test_other_red_cells_are_one_class_whatever_the_classes_of_a_model():
    from spherodetect.evaluation.judge import two_class

    assert [
        two_class(name)
        for name in ("target cell", "erythrocyte", "spherocyte", "wbc", "red cell", "unknown")
    ] == ["rbc", "rbc", "spherocyte", "wbc", "red cell", "unknown"]
