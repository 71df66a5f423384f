"""Point labels: text lines and ImageJ tables, malformed lines, and images and labels without each
other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherodetect.errors import BadLabelsError
from spherodetect.labels.readers.points import read_points
from spherodetect.labels.recipe import Recipe, load_recipe

REPOSITORY = Path(__file__).parents[1]
CHULA = REPOSITORY.parent / "shared/data/chula-rbc-12"


def folder(
    tmp_path: Path, labels: dict[str, str | bytes], images: tuple[str, ...] = ("1.jpg",)
) -> Recipe:
    for name in images:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path)
    (tmp_path / "labels").mkdir()
    for name, text in labels.items():
        path = tmp_path / "labels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Recipe("mine", "points", tmp_path, "images", "labels", um_per_px=0.2)


def test_x_comes_first_in_the_file_and_y_first_here(tmp_path):
    labels = read_points(folder(tmp_path, {"1.txt": "10 20 3\n63.5 0 burr cell\n"}))
    (field,) = labels.fields
    assert [(a.point_yx, a.name, a.annotation_id) for a in field.annotations] == [
        ((20.0, 10.0), "3", "1"),
        ((0.0, 63.5), "burr cell", "2"),
    ]
    assert (field.file, field.size_hw, field.source_id, field.um_per_px) == (
        "images/1.jpg",
        (48, 64),
        "1",
        0.2,
    )
    assert field.labelled
    assert not labels.findings


@pytest.mark.parametrize(
    "line",
    ["10 20", "x 20 3", "nan 20 3", "10 inf 3", "10", "65 20 3", "10 49 3", "-1 20 3", "1e999 2 3"],
)
def test_a_bad_line_is_found_and_the_others_stay(tmp_path, line):
    labels = read_points(folder(tmp_path, {"1.txt": f"1 2 0\n\n{line}\n3 4 0\n"}))
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["1", "4"]
    assert [(u.file, u.annotation_id, u.reason) for u in labels.unread] == [
        ("labels/1.txt", "3", "malformed")
    ]
    (finding,) = labels.findings
    assert (finding.code, finding.severity, finding.annotation_ids) == (
        "malformed",
        "error",
        ("3",),
    )
    assert labels.n_read == 3


def test_bytes_that_are_no_text_do_no_harm(tmp_path):
    labels = read_points(folder(tmp_path, {"1.txt": b"\x81\xfe\x00\xff 1 2\n\xef\xbb\xbf"}))
    assert labels.n_read == len(labels.unread) >= 1


@pytest.mark.parametrize(
    "table",
    [
        " ,X,Y,Counter\n1,10.5,20,2\n2,30,40,0\n",
        "X;Y;Counter\r\n10.5;20;2\r\n30;40;0\r\n",
        "\ufeffCounter\ty\tx\n2\t20\t10.5\n0\t40\t30\n",
        " ,Area,Mean,X,Y,Ch,Slice,Counter,Count\n1,0,212.3,10.5,20,1,1,2,1\n"
        "2,0,198,30,40,1,1,0,1\n",
        "sep=;\r\nX;Y;Counter\r\n10,5;20,0;2\r\n30;40;0\r\n",
    ],
)
def test_imagej_tables(tmp_path, table):
    labels = read_points(folder(tmp_path, {"1.csv": table}))
    assert [(a.point_yx, a.name) for a in labels.fields[0].annotations] == [
        ((20.0, 10.5), "2"),
        ((40.0, 30.0), "0"),
    ]


def test_a_cell_without_end_is_named(tmp_path):
    labels = read_points(folder(tmp_path, {"1.csv": 'X,Y,Counter\n1,2,0\n"' + "x" * 200_000}))
    assert [a.annotation_id for a in labels.fields[0].annotations] == ["2"]
    assert [(f.code, f.file) for f in labels.findings] == [("malformed", "labels/1.csv")]
    assert "field larger" in labels.findings[0].message
    assert str(tmp_path) not in labels.findings[0].message


def test_what_roboflow_lays_beside_is_no_label_file(tmp_path):
    labels = read_points(
        folder(tmp_path, {"1.txt": "1 2 0\n", "README.roboflow.txt": "hi\n", "classes.txt": "0\n"})
    )
    assert not labels.findings
    assert labels.n_read == 1


def test_a_table_without_its_columns_is_malformed(tmp_path):
    labels = read_points(folder(tmp_path, {"1.csv": "a,b\n1,2\n"}))
    (finding,) = labels.findings
    assert (finding.code, finding.annotation_ids) == ("malformed", ("1",))
    assert "Counter" in finding.message


def test_an_image_without_labels_is_not_an_image_without_cells(tmp_path):
    labels = read_points(folder(tmp_path, {"2.txt": ""}, ("1.jpg", "2.jpg", "10.jpg")))
    assert [(f.file, f.labelled) for f in labels.fields] == [
        ("images/1.jpg", False),
        ("images/2.jpg", True),
        ("images/10.jpg", False),
    ]
    assert {f.file for f in labels.findings if f.code == "image-without-labels"} == {
        f.file for f in labels.fields
    }


def test_labels_without_an_image_are_accounted_for(tmp_path):
    labels = read_points(folder(tmp_path, {"1.txt": "1 2 0\n", "2.txt": "1 2 0\n3 4 0\n"}))
    assert [f.code for f in labels.findings] == ["labels-without-image"]
    assert [u.annotation_id for u in labels.unread] == ["1", "2"]
    assert labels.n_read == 3


def test_a_file_that_is_no_image_is_named_and_its_labels_accounted_for(tmp_path):
    recipe = folder(tmp_path, {"1.txt": "1 2 0\n"})
    (tmp_path / "images/1.jpg").write_bytes(b"no image")
    labels = read_points(recipe)
    assert (labels.findings[0].code, labels.findings[0].file) == ("malformed", "images/1.jpg")
    assert len(labels.unread) == labels.n_read == 1


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    recipe = folder(
        tmp_path, {"1.txt": "1 2 0\n", "._1.txt": "x", ".DS_Store": "x"}, ("1.jpg", "._1.jpg")
    )
    assert not read_points(recipe).findings


def test_images_in_folders_keep_their_own_labels(tmp_path):
    recipe = folder(tmp_path, {"a/1.txt": "1 2 0\n", "b/1.txt": "3 4 0\n"}, ("a/1.jpg", "b/1.jpg"))
    points = {f.source_id: f.annotations[0].point_yx for f in read_points(recipe).fields}
    assert points == {"a/1": (2.0, 1.0), "b/1": (4.0, 3.0)}


def test_a_missing_folder_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(BadLabelsError, match="--root"):
        read_points(Recipe("mine", "points", tmp_path / "none"))
    with pytest.raises(BadLabelsError, match="labels:"):
        read_points(Recipe("mine", "points", tmp_path, labels="none"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_points_in_any_encoding(tmp_path, encoding):
    recipe = folder(tmp_path, {"1.txt": ""})
    (tmp_path / "labels" / "1.txt").write_bytes("10 20 Sphärozyt\n".encode(encoding))
    assert [a.name for a in read_points(recipe).fields[0].annotations] == ["Sphärozyt"]


@pytest.mark.skipif(not CHULA.is_dir(), reason="the Chula RBC-12 fields are not here")
def test_chula_is_read_whole():
    labels = read_points(load_recipe(REPOSITORY / "tfrecords/chula.yaml", root=CHULA))
    assert len(labels.fields) == 577
    assert sum(f.labelled for f in labels.fields) == 484
    assert labels.n_read == sum(
        len(path.read_text().splitlines()) for path in (CHULA / "labels").iterdir()
    )
    assert not labels.unread
    assert sum(a.name == "3" for f in labels.fields for a in f.annotations) == 2622
