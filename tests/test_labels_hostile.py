"""Whatever an export holds, it is read, or refused in one line: no uncaught error, and no label
lost in silence."""

from __future__ import annotations

import contextlib
import io
import json
import random
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile_exports import HEIGHT, PICTURES, WIDTH, WRAPPER, Files, exports, whole, zipped
from spherodetect.cli import main
from spherodetect.console import print_findings
from spherodetect.errors import SpherodetectError
from spherodetect.labels.annotations import Annotation
from spherodetect.labels.check.beside import misread_conventions
from spherodetect.labels.check.lint import CODES, findings_json, lint_labels
from spherodetect.labels.coco_writer import to_coco
from spherodetect.labels.file_names import ROBOFLOW_FILE
from spherodetect.labels.readers.coco import find_coco_files, read_coco
from spherodetect.labels.readers.ledger import LabelSet
from spherodetect.labels.readers.yolo import find_yolo_files, is_yolo_line
from spherodetect.labels.recipe import Recipe
from spherodetect.labels.source import read_unmapped, recipe_for
from spherodetect.safety import read_text, write_json

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)


def lay_out(root: Path, files: Files, as_zip: bool) -> Path:
    for name, data in files.items():
        path = root / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if not as_zip:
        return root / "export"
    (root / "export.zip").write_bytes(zipped(files))
    return root / "export.zip"


def n_entries(folder: Path) -> int | None:
    """The annotations in the COCO files of an export, or None where one is no COCO, which is an
    error by itself."""
    total = 0
    for path in find_coco_files(folder):
        try:
            found = json.loads(path.read_bytes().decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None
        lists = (
            [found.get(key) for key in ("images", "annotations", "categories")]
            if isinstance(found, dict)
            else [0]
        )
        if not all(isinstance(value, list) for value in lists):
            return None
        total += len(lists[1])
    return total


def examine(files: Files, as_zip: bool) -> None:
    """Lint an export: one line of refusal, or findings as the contract has them and an account that
    adds up."""
    with tempfile.TemporaryDirectory() as folder:
        source = lay_out(Path(folder), files, as_zip)
        try:
            recipe = recipe_for(source)
            labels = read_unmapped(recipe)
        except SpherodetectError as error:
            refusal = str(error)
        else:
            refusal = ""
        if refusal:
            assert refusal.isprintable()
            assert str(source) in refusal
            return
        findings = lint_labels(labels, recipe)
        write_json(findings_json(findings), Path(folder) / "findings.json")
        with contextlib.redirect_stdout(io.StringIO()):
            print_findings(findings)
        for finding in findings:
            assert finding.code in CODES
            assert finding.severity in {"error", "warning", "note"}
            assert finding.count >= 1 and len(finding.annotation_ids) in {0, finding.count}
            assert finding.message and finding.mend
        list(misread_conventions(labels))
        root = Path(folder) / "export"
        root = root / WRAPPER if as_zip and (root / WRAPPER).is_dir() else root
        if labels.format == "yolo":
            assert_every_line_is_accounted_for(root, labels)
        if labels.format == "coco" and (expected := n_entries(root)) is not None:
            assert labels.n_read == expected
        account(labels)


def assert_every_line_is_accounted_for(folder: Path, labels: LabelSet) -> None:
    """A file with a line of YOLO describes a field, or a finding names it."""
    named = {PurePosixPath(f.file).name for f in labels.findings}
    # An image that cannot be opened is named in place of its label file.
    named |= {PurePosixPath(f.file).with_suffix(".txt").name for f in labels.findings}
    described = {PurePosixPath(f).name for f in labels.label_files.values()}
    for name, path in find_yolo_files(folder, folder).items():
        lines = read_text(path, any_encoding=True).splitlines()
        if any(map(is_yolo_line, lines)):
            assert PurePosixPath(name).name in named | described


def account(labels: LabelSet) -> None:
    """What is in no field is named, and what is in one has a place."""
    named = {i for f in labels.findings for i in f.annotation_ids}
    silent = [u for u in labels.unread if u.annotation_id not in named and u.reason == "malformed"]
    assert not silent, "labels are lost in silence"
    for annotation in (a for f in labels.fields for a in f.annotations):
        box = annotation.outline_box_yxyx or annotation.point_yx
        assert box is not None and np.isfinite(box).all()


@settings(PATIENT, max_examples=200)
@given(exports())
def test_hostile_exports_raise_nothing_unforeseen(export):
    examine(*export)


@pytest.mark.slow
@settings(PATIENT, max_examples=10_000)
@given(exports())
def test_ten_thousand_hostile_exports_raise_nothing_unforeseen(export):
    examine(*export)


@settings(PATIENT, max_examples=20)
@given(exports())
def test_the_command_ends_with_an_exit_code(export):
    with tempfile.TemporaryDirectory() as folder:
        assert main(["lint", str(lay_out(Path(folder), *export))]) in {0, 1, 2}


@settings(PATIENT, max_examples=100)
@given(st.integers(0, 2**64), st.booleans())
def test_coco_in_coco_out_gives_the_same_labels(seed, with_images):
    data = whole(random.Random(seed))
    with tempfile.TemporaryDirectory() as folder:
        first, second = read(Path(folder, "1"), data, with_images), None
        assert (
            first.n_read
            == len(data["annotations"])
            == sum(len(f.annotations) for f in first.fields)
        )
        written = to_coco(first.fields)
        second = read(
            Path(folder, "2"), json.loads(json.dumps(written, allow_nan=False)), with_images
        )
    assert [(f.file, f.size_hw) for f in first.fields] == [
        (f.file, f.size_hw) for f in second.fields
    ]
    for before, after in zip(first.fields, second.fields, strict=True):
        assert sorted(map(_told, before.annotations)) == sorted(map(_told, after.annotations))
    assert not {f.code for f in second.findings} & {
        "malformed",
        "box-polygon-mismatch",
        "root-category",
    }
    assert to_coco(second.fields)["annotations"] == written["annotations"]


def read(root: Path, data: dict, with_images: bool) -> LabelSet:
    root.mkdir()
    (root / ROBOFLOW_FILE).write_text(json.dumps(data))
    for image in data["images"] if with_images else ():
        path = root / image["file_name"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PICTURES[0])
        assert (image["height"], image["width"]) == (HEIGHT, WIDTH)
    return read_coco(Recipe("mine", "coco", root))


def _told(a: Annotation) -> tuple:
    """All that a label says, in a form that compares."""
    box = tuple(round(v, 6) for v in a.outline_box_yxyx or ())
    mask = None if a.mask is None else np.packbits(np.asarray(a.mask)).tobytes()
    return (
        a.annotation_id,
        a.name,
        a.iscrowd,
        box,
        tuple(p.tobytes() for p in a.polygons),
        mask or b"",
    )
