"""safety: untrusted text, paths and files become harmless or are refused in one line."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherodetect import safety
from spherodetect.errors import BadLabelsError, SpherodetectError


@given(st.text())
def test_quoted_text_is_one_short_printable_line(text):
    shown = safety.quoted(text)
    assert shown.isprintable()
    assert len(shown) <= 11 * 161 + 2


def test_quoted_names_stay_readable_and_keep_both_ends():
    assert safety.quoted("smear 07/Müller.jpg") == "'smear 07/Müller.jpg'"
    assert safety.quoted("a\n\x1b[31m\u202egpj.\udc80") == r"'a\n\x1b[31m\u202egpj.\udc80'"
    long = safety.quoted("start" + "x" * 1000 + "end.png")
    assert long.startswith("'startx")
    assert long.endswith("end.png'")
    assert len(long) < 170


@given(st.text())
def test_safe_names_are_safe(text):
    name = safety.safe_name(text)
    assert name
    assert not set(name) & set('/\\:*?"<>|\0\n\r\t')
    assert not name.startswith((".", "-", " ", "~~"))
    assert not name.endswith((" ", "."))
    assert len(name.encode()) <= 120
    assert name.isprintable()


@pytest.mark.parametrize("text", ["patient_07", "Müller 3", "a.b-c", "患者1"])
def test_an_id_that_is_a_file_name_is_kept(text):
    assert safety.safe_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        ".a",
        "-rf",
        "CON",
        "con.txt",
        "COM1",
        "x" * 300,
        "a\0b",
        "a ",
        "e\u0301",
    ],
)
def test_any_other_id_is_changed(text):
    assert safety.safe_name(text) != text
    assert safety.safe_name(text).split(".")[0].upper() not in {"CON", "COM1"}


@given(st.sets(st.text(alphabet="ab/\\.~ _:é", max_size=6), max_size=30))
def test_safe_names_do_not_collide_even_with_safe_names_as_ids(texts):
    texts |= {safety.safe_name(text) for text in texts}
    assert len({safety.safe_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "a;=cmd|'x'!A1", "a\n=1", "a,-1", "＝1"],
)
def test_no_part_of_a_csv_cell_starts_a_formula(text):
    safe = safety.csv_cell(text)
    for separator in ",;|\t\r\n":
        assert not [
            part
            for part in safe.split(separator)
            if part.strip().startswith(("=", "+", "-", "@", "＝"))
        ]


def test_harmless_csv_cells_are_kept():
    for value in (-1.5, 3, None, True, "patient-07", "a=b", "x@y", ""):
        assert safety.csv_cell(value) is value


def test_inside_returns_the_path(tmp_path):
    assert safety.inside(tmp_path, "a/b.jpg") == tmp_path / "a/b.jpg"
    assert safety.inside(tmp_path, "a..b") == tmp_path / "a..b"


@pytest.mark.parametrize(
    "relative",
    [
        "../x",
        "a/../../x",
        "a/../x",
        "/etc/passwd",
        "C:\\x",
        "C:x",
        "\\\\server\\x",
        "..\\x",
        "\\x",
        "a\0b",
    ],
)
def test_inside_refuses_a_path_that_leaves_the_root(tmp_path, relative):
    with pytest.raises(BadLabelsError, match=r"leaves it") as caught:
        safety.inside(tmp_path, relative, error=BadLabelsError)
    assert "\n" not in str(caught.value)


def test_inside_refuses_a_link_that_leaves_and_a_loop(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    (root / "own").symlink_to(root / "deeper")
    with pytest.raises(SpherodetectError):
        safety.inside(root, "out/x.jpg")
    assert safety.inside(root, "own/x.jpg") == root / "own/x.jpg"


def test_read_text_accepts_a_bom_and_invalid_bytes(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf1 2 \xff3\r\n")
    assert safety.read_text(tmp_path / "a.txt") == "1 2 \ufffd3\r\n"


def test_reading_is_limited_in_size_and_to_files(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1, 2, 3]")
    assert safety.read_json(path, max_bytes=9) == [1, 2, 3]
    for read in (safety.read_json, safety.read_yaml, safety.read_text):
        with pytest.raises(SpherodetectError, match="at most 8 bytes"):
            read(path, max_bytes=8)
        with pytest.raises(SpherodetectError, match="got a folder"):
            read(tmp_path, max_bytes=8)
        with pytest.raises(BadLabelsError, match="No such file"):
            read(tmp_path / "none", max_bytes=8, error=BadLabelsError)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpherodetectError, match="pipe"):
        safety.read_bytes(tmp_path / "pipe", max_bytes=8)


@pytest.mark.parametrize(
    "text", ["{", "", "[1,]", "[" * 100_000, "1" * 5000, "\udcff"], ids=lambda t: t[:8]
)
def test_an_error_about_json_is_one_line_with_the_file_name(tmp_path, text):
    (tmp_path / "x.json").write_text(text, errors="surrogateescape")
    with pytest.raises(SpherodetectError, match=r"x\.json': expected JSON") as caught:
        safety.read_json(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["a: [", "!!python/object/apply:os.system [ls]", "a: *none", "{" * 50_000, "\udcff"]
)
def test_an_error_about_yaml_is_one_line_with_the_file_name(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text, errors="surrogateescape")
    with pytest.raises(SpherodetectError, match=r"x\.yaml': expected YAML") as caught:
        safety.read_yaml(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


def test_yaml_aliases_are_counted(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n")
    assert safety.read_yaml(tmp_path / "x.yaml", max_aliases=3)["c"] == [{"x": 1}, {"x": 1}]
    with pytest.raises(SpherodetectError, match="at most 2 aliases"):
        safety.read_yaml(tmp_path / "x.yaml", max_aliases=2)


def _rows(tmp_path, data: bytes):
    (tmp_path / "t.csv").write_bytes(data)
    return list(safety.read_csv(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\nx y,\xc3\xa9\n",
        b"\xef\xbb\xbfa;b\r\nx y;\xc3\xa9\r\n",
        "a\tb\r\nx y\té\r\n".encode("utf-16"),
        "a;b;\r\n x y ;é;;\r\n".encode("cp1252"),
    ],
)
def test_csv_is_read_however_excel_wrote_it(tmp_path, data):
    assert _rows(tmp_path, data) == [(1, ["a", "b"]), (2, ["x y", "é"])]


def test_csv_keeps_line_numbers_over_empty_and_sep_lines(tmp_path):
    assert _rows(tmp_path, b"sep=|\r\na|b,c\r\n\r\n||\r\n1|'2'\r\n") == [
        (2, ["a", "b,c"]),
        (5, ["1", "'2'"]),
    ]


def test_a_csv_cell_without_end_is_an_error(tmp_path):
    with pytest.raises(SpherodetectError, match=r"t\.csv': expected a CSV table"):
        _rows(tmp_path, b'a,b\n"' + b"x" * 200_000)


def test_atomic_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "new" / "a.csv"
    for text in ("one", "two"):
        with safety.atomic_write(path, text=True) as file:
            file.write(text)
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), safety.atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_write_leaves_no_visible_file(tmp_path):
    code = (
        "import os, signal, sys; from spherodetect.safety import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.csv")], env=env, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.csv").exists()
    assert all(left.name.startswith(".") for left in tmp_path.iterdir())


@pytest.mark.parametrize("target", ["file/a.csv", "folder"])
def test_an_error_of_writing_names_the_path(tmp_path, target):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    write = safety.atomic_write(tmp_path / target)
    with pytest.raises(SpherodetectError, match=f"{target}': cannot be written"), write as file:
        file.write(b"")


def test_write_json_is_plain_json(tmp_path):
    safety.write_json({"name": "é\udcff"}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text("ascii")) == {"name": "é\udcff"}
    with pytest.raises(ValueError, match="JSON"):
        safety.write_json(float("nan"), tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def _zip(path, members: dict[str, bytes], *, link: str | None = None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc")
    return path


def test_extract_zip(tmp_path):
    members = {
        "train/": b"",
        "train/a.jpg": b"1",
        "b.json": b"2",
        "__MACOSX/._a.jpg": b"3",
        ".DS_Store": b"4",
    }
    path = _zip(tmp_path / "a.zip", members)
    into = tmp_path / "into"
    assert safety.extract_zip(path, into) == [into / "train/a.jpg", into / "b.json"]
    assert (into / "train/a.jpg").read_bytes() == b"1"
    with pytest.raises(SpherodetectError, match="expected an empty folder"):
        safety.extract_zip(path, into)


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil", "a\\..\\..\\evil"]
)
def test_a_zip_member_cannot_leave(tmp_path, name):
    path = _zip(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    with pytest.raises(SpherodetectError, match=r"a\.zip.*inside.*evil"):
        safety.extract_zip(path, tmp_path / "into" / "deep")
    assert list(tmp_path.rglob("*")) == [path]


def test_a_zip_with_a_link_is_refused(tmp_path):
    with pytest.raises(SpherodetectError, match="got the link 'sub'"):
        safety.extract_zip(_zip(tmp_path / "a.zip", {"a": b""}, link="sub"), tmp_path / "into")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_bytes": 2_999_999}, "at most 2,999,999 bytes"),
        ({"max_ratio": 50}, "at most 50 times"),
        ({"max_members": 2}, "at most 2 files"),
    ],
)
def test_a_zip_is_limited(tmp_path, limits, message):
    path = _zip(tmp_path / "a.zip", {"a": bytes(2_000_000), "b": bytes(999_999), "c": b"x"})
    with pytest.raises(SpherodetectError, match=message):
        safety.extract_zip(path, tmp_path / "into", **limits)
    assert not (tmp_path / "into").exists()
    assert len(safety.extract_zip(path, tmp_path / "into", max_ratio=2000)) == 3


def test_a_damaged_zip_leaves_nothing(tmp_path):
    path = _zip(tmp_path / "a.zip", {"a": b"good", "sub/b": bytes(range(256)) * 40})
    data = bytearray(path.read_bytes())
    data[120:150] = bytes(30)
    path.write_bytes(data)
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(SpherodetectError, match=r"a\.zip': cannot be unpacked"):
        safety.extract_zip(path, into)
    assert list(into.iterdir()) == []
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(SpherodetectError, match=r"no\.zip': cannot be unpacked"):
        safety.extract_zip(tmp_path / "no.zip", into)


def test_a_duplicate_member_is_refused(tmp_path):
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "a.zip", "w") as archive,
    ):
        archive.writestr("a", "1")
        archive.writestr("a", "2")
    with pytest.raises(SpherodetectError, match="cannot be unpacked"):
        safety.extract_zip(tmp_path / "a.zip", tmp_path / "into")


def test_written_csv_reads_back(tmp_path):
    with safety.atomic_write(tmp_path / "a.csv", text=True) as file:
        csv.writer(file, lineterminator="\n").writerows([["a", "b\nc"], ["1", 'd"e']])
    assert [row for _, row in safety.read_csv(tmp_path / "a.csv")] == [["a", "b\nc"], ["1", 'd"e']]
