"""fields.find: paths become the fields of patients; what cannot be used is reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spherodetect.errors import BadImageError, SpherodetectError
from spherodetect.fields.find import find_fields, find_images
from spherodetect.fields.image import read_image
from spherodetect.fields.names import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, natural_key


def _files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not read here")
    return root


def _ids(found) -> list[tuple[str, str]]:
    return [(field.patient_id, field.field_id) for field in found]


def test_folders_are_patients_and_the_rest_is_passed_over(tmp_path):
    root = _files(
        tmp_path / "smears",
        "p1/10.JPG",
        "p1/2.jpg",
        "p1/deep/er/1.tIf",
        "p2/1.png",
        "loose.jpeg",
        "notes.txt",
        ".DS_Store",
        "p1/Thumbs.db",
        "p1/._2.jpg",
        ".hidden/1.jpg",
        "__MACOSX/p1/1.jpg",
        "p1/@eaDir/1.jpg",
        "p1/2.json",
    )
    found = find_fields(root)
    assert _ids(found) == [
        ("smears", "loose.jpeg"),
        ("p1", "p1/2.jpg"),
        ("p1", "p1/10.JPG"),
        ("p1", "p1/deep/er/1.tIf"),
        ("p2", "p2/1.png"),
    ]
    assert found.problems == ()
    assert [len(group) for group in found.patients.values()] == [1, 3, 1]
    assert all(field.path.read_bytes() for field in found)
    assert found == find_fields([str(root)])


def test_a_patient_of_the_current_folder_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(_files(tmp_path / "patient 3", "a.jpg"))
    for path in (".", "a.jpg", Path("../patient 3")):
        assert _ids(find_fields(path)) == [("patient 3", "a.jpg")]


def test_single_images_belong_to_their_folder(tmp_path):
    root = _files(tmp_path, "p1/1.jpg", "p1/2.jpg", "p2/1.jpg")
    assert _ids(find_fields([root / "p1/1.jpg", root / "p1/2.jpg"])) == [
        ("p1", "1.jpg"),
        ("p1", "2.jpg"),
    ]
    both = find_fields([root / "p1/1.jpg", root / "p2/1.jpg"])
    assert _ids(both) == [("p1", "p1/1.jpg"), ("p2", "p2/1.jpg")]


def test_field_ids_of_several_paths_are_never_two_alike(tmp_path):
    root = _files(tmp_path, "a/x/1.jpg", "b/x/1.jpg", "b/x/2.jpg", "c/3.jpg")
    assert _ids(find_fields([root / "a", root / "c"])) == [("x", "x/1.jpg"), ("c", "3.jpg")]
    both = [("x", "a/x/1.jpg"), ("x", "b/x/1.jpg"), ("x", "b/x/2.jpg")]
    assert _ids(find_fields([root / "a", root / "b"])) == both
    assert _ids(find_fields([root / "a/x", root / "b/x"])) == both


def test_images_to_detect_are_named_from_the_common_parent(tmp_path):
    root = _files(tmp_path, "p1/1.jpg", "p2/1.jpg", "p2/2.jpg")
    assert [f.field_id for f in find_images(root)] == ["p1/1.jpg", "p2/1.jpg", "p2/2.jpg"]
    assert [f.field_id for f in find_images(root / "p2")] == ["1.jpg", "2.jpg"]
    assert [f.field_id for f in find_images([root / "p1", root / "p2/2.jpg"])] == [
        "p1/1.jpg",
        "p2/2.jpg",
    ]
    assert [f.field_id for f in find_images([root / "p2/1.jpg", root / "p2/2.jpg"])] == [
        "1.jpg",
        "2.jpg",
    ]


def test_a_file_reached_twice_counts_once(tmp_path):
    root = _files(tmp_path / "r", "p1/1.jpg", "p2/1.jpg")
    once = find_fields([root, root / "p1", root, root / "p2/1.jpg"])
    assert _ids(once) == [("p1", "p1/1.jpg"), ("p2", "p2/1.jpg")]
    assert once.problems == ()
    (root / "p3").symlink_to(root / "p1")
    (problem,) = find_fields(root).problems
    assert "p3/1.jpg" in problem
    assert "counted for 'p1'" in problem


def test_links_are_followed_and_loops_are_not(tmp_path):
    away = _files(tmp_path / "away", "7.jpg")
    root = _files(tmp_path / "r", "p1/1.jpg", "p2/2.jpg")
    (root / "p1/up").symlink_to(root)
    (root / "p1/self").symlink_to(".")
    (root / "p9").symlink_to(away)
    found = find_fields(root)
    assert _ids(found) == [("p1", "p1/1.jpg"), ("p2", "p2/2.jpg"), ("p9", "p9/7.jpg")]
    assert found.problems == ()
    (root / "p1/other").symlink_to(root / "p2")
    (root / "p2/other").symlink_to(root / "p1")
    assert _ids(find_fields(root)) == _ids(found)


def test_a_dangling_link_is_a_field_that_reading_names(tmp_path):
    root = _files(tmp_path, "p/1.jpg")
    (root / "p/2.jpg").symlink_to("nowhere")
    assert _ids(find_fields(root))[1] == ("p", "p/2.jpg")
    with pytest.raises(BadImageError):
        read_image(root / "p/2.jpg")


def test_results_and_excluded_folders_are_no_patients(tmp_path):
    root = _files(tmp_path, "p1/1.jpg", "results/cells.csv", "results/overlays/1.png", "out/1.png")
    assert _ids(find_fields(root, exclude=[root / "out"])) == [("p1", "p1/1.jpg")]


def test_images_of_other_kinds_are_named_as_left_out(tmp_path):
    found = find_fields(_files(tmp_path, "p1/1.jpg", "p1/2.JXL", "p1/slide.svs"))
    assert len(found) == 1
    assert ".jxl" in found.problems[0]
    assert ".svs" in found.problems[1]


def test_links_to_themselves_are_passed_over(tmp_path):
    root = _files(tmp_path / "smears", "p1/1.jpg")
    (root / "self").symlink_to("self")
    (root / "p1" / "up").symlink_to("..")
    assert _ids(find_fields(root)) == [("p1", "p1/1.jpg")]
    with pytest.raises(SpherodetectError, match="nothing there"):
        find_fields(root / "self")


def test_a_patient_has_one_name_whatever_the_form_of_its_accents(tmp_path):
    composed, decomposed = "M\u00fcller", "Mu\u0308ller"
    found = find_fields(_files(tmp_path, f"{composed}/1.jpg", f"{decomposed}/2.jpg"))
    assert {field.patient_id for field in found} == {composed}
    assert len({field.field_id for field in found}) == len(found) == 2


def test_names_that_are_no_utf8_become_text(tmp_path):
    (tmp_path / "p").mkdir()
    with open(os.fsencode(tmp_path) + b"/p/\xff.jpg", "wb"):
        pass
    (field,) = find_fields(_files(tmp_path, "p/\\udcff.jpg")).fields[1:]
    assert field.field_id.encode()
    assert len({f.field_id for f in find_fields(tmp_path)}) == 2


def test_patient_regex(tmp_path):
    root = _files(
        tmp_path,
        "patient_03_11_jpg.rf.ab.jpg",
        "patient_03_12.jpg",
        "patient_04_1.jpg",
        "x/none.jpg",
    )
    found = find_fields(root, patient_regex=r"patient_(\d+)_")
    assert [field.patient_id for field in found] == ["03", "03", "04"]
    (problem,) = found.problems
    assert "none.jpg" in problem
    named = find_fields(root, patient_regex=r"(t_)(?P<patient>\d+)|(?P<other>none)")
    assert [field.patient_id for field in named] == ["03", "03", "04"]
    assert len(named.problems) == 1


@pytest.mark.parametrize(
    ("regex", "expected"),
    [("(", "got an invalid one"), ("p1", "brackets"), ("(zzz)", "finds no patient")],
)
def test_an_unusable_patient_regex_is_one_line(tmp_path, regex, expected):
    with pytest.raises(SpherodetectError, match=expected) as caught:
        find_fields(_files(tmp_path, "p1/1.jpg"), patient_regex=regex)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("um_per_px", [0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_above_zero(tmp_path, um_per_px):
    with pytest.raises(SpherodetectError, match="above 0"):
        find_fields(_files(tmp_path, "p1/1.jpg"), um_per_px=um_per_px)


def test_a_path_without_fields_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    _files(tmp_path, "texts/a.txt", "a.txt", "empty.csv", "none.csv")
    (tmp_path / "none.csv").write_text("patient_id,field\np,none.jpg\n")
    for name, expected in [
        ("missing\n", "got nothing there"),
        ("empty", "expected JPEG"),
        ("texts", "expected JPEG"),
        ("a.txt", "got a .txt"),
        ("empty.csv", "patient_id and field"),
        ("none.csv", "no such file"),
    ]:
        with pytest.raises(SpherodetectError, match=expected) as caught:
            find_fields([_files(tmp_path / "good", "1.jpg"), tmp_path / name])
        assert str(caught.value).isprintable()
        assert repr(name)[1:-1] in str(caught.value)
    with pytest.raises(SpherodetectError, match="no path"):
        find_fields([])


def _manifest(tmp_path: Path, data: bytes):
    (tmp_path / "manifest.csv").write_bytes(data)
    return find_fields(tmp_path / "manifest.csv", um_per_px=0.5)


def test_a_manifest_says_patients_and_scales(tmp_path):
    _files(tmp_path, "a.jpg", "sub/b.jpg", "c.odd")
    found = _manifest(
        tmp_path,
        b"Field,note,patient_id,um_per_px\nsub/b.jpg,x,P1,0.1\n./a.jpg,,P2\nc.odd,,P1,0.2\n",
    )
    assert _ids(found) == [("P1", "sub/b.jpg"), ("P2", "a.jpg"), ("P1", "c.odd")]
    assert [field.um_per_px for field in found] == [0.1, 0.5, 0.2]
    assert list(found.patients) == ["P1", "P2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    ("line", "sep"),
    [("{};{};{}", ""), ("{}\t{}\t{}", ""), ('{},{},"{}"', ""), ("{};{};{}", "sep=;\r\n")],
)
def test_a_manifest_as_european_excel_writes_it(tmp_path, encoding, line, sep):
    _files(tmp_path, "Müller/1.jpg")
    rows = [
        ("patient_id", "field", "um_per_px"),
        ("Müller", "Müller\\1.jpg", "0,193"),
        ("", "", ""),
    ]
    text = sep + "".join(line.format(*row) + "\r\n" for row in rows)
    (field,) = _manifest(tmp_path, text.encode(encoding)).fields
    assert (field.patient_id, field.field_id, field.um_per_px) == ("Müller", "Müller/1.jpg", 0.193)


def test_rows_that_cannot_be_used_are_named_and_the_rest_goes_on(tmp_path):
    root = _files(tmp_path / "root", "a.jpg", "b.jpg", "dir/c.jpg")
    _files(tmp_path, "secret.jpg")
    (root / "out").symlink_to(tmp_path)
    found = _manifest(
        root,
        b"patient_id,field,um_per_px\n"
        b"p,a.jpg,0.1\n"
        b"p,../secret.jpg\n"
        b"p,out/secret.jpg\n"
        b"p,/etc/hostname\n"
        b"p,missing.jpg\n"
        b"p,dir\n"
        b",b.jpg\n"
        b"p\n"
        b"p,b.jpg,0,2\n"
        b"q,a.jpg\n"
        b"p,b.jpg,none\n",
    )
    assert [(f.field_id, f.um_per_px) for f in found] == [("a.jpg", 0.1), ("b.jpg", None)]
    assert len(found.problems) == 10
    for number in (*range(3, 11), 12):
        assert sum(f"line {number}:" in problem for problem in found.problems) == 1
    assert all(problem.isprintable() for problem in found.problems)


def test_natural_order():
    names = ["p2/1", "p10/2", "p10/10", "p010/3", "P3/1", "a", "a/b", "a-b", "", "9" * 5000]
    ordered = ["", "9" * 5000, "a", "a/b", "a-b", "p2/1", "P3/1", "p10/2", "p010/3", "p10/10"]
    assert sorted(names, key=natural_key) == ordered


def test_no_suffix_is_both_readable_and_foreign():
    assert not IMAGE_SUFFIXES & FOREIGN_SUFFIXES
