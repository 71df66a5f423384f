"""results: a folder belongs to one run and shows if it is not complete; other files stay."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spherodetect.errors import SpherodetectError
from spherodetect.report.results import HIDDEN, MARKER, ResultsFolder


def _files(root) -> set[str]:
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith(HIDDEN)}


def _run(root, *names: str) -> None:
    with ResultsFolder(root) as results:
        for name in names:
            path = results.path(*name.split("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)


def test_while_a_run_is_on_the_folder_says_so(tmp_path):
    with ResultsFolder(tmp_path / "new" / "out") as results:
        assert "not complete" in (results.root / MARKER).read_text()
    assert _files(tmp_path / "new" / "out") == set()


def test_a_run_that_fails_leaves_the_marker_and_no_table_of_the_run_before(tmp_path):
    _run(tmp_path, "patients.csv", "reports/a.html", "overlays/a/1.png")
    with pytest.raises(ZeroDivisionError), ResultsFolder(tmp_path) as results:
        assert _files(tmp_path) == {MARKER, "overlays/a/1.png"}
        results.path("cells.csv").write_text("half of it")
        raise ZeroDivisionError
    assert _files(tmp_path) == {MARKER, "overlays/a/1.png", "cells.csv"}
    _run(tmp_path, "patients.csv")
    assert _files(tmp_path) == {"patients.csv"}
    assert not (tmp_path / "overlays").exists()


def test_what_others_put_there_is_left_alone(tmp_path):
    for name in ("reports/mine.html", "notes.txt", "pseudonym_key.csv", "overlays/a/mine.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    _run(tmp_path, "reports/a.html", "overlays/a/1.png")
    _run(tmp_path, "reports/b.html")
    assert _files(tmp_path) == {
        "reports/mine.html",
        "reports/b.html",
        "notes.txt",
        "pseudonym_key.csv",
        "overlays/a/mine.png",
    }


def test_a_journal_that_was_cut_short_or_names_a_place_outside_harms_nothing(tmp_path):
    out, other = tmp_path / "out", tmp_path / "other.txt"
    other.write_text("mine")
    (out / HIDDEN).mkdir(parents=True)
    (out / "cells.csv").write_text("")
    lines = ['"../other.txt"', f'"{other}"', '"cells.csv"', "17", '{"a": 1}', '"cells']
    (out / HIDDEN / "written.txt").write_text("\n".join(lines))
    _run(out)
    assert other.read_text() == "mine"
    assert _files(out) == set()


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    _run(tmp_path, "overlays/a/1.png")
    for place in (tmp_path, tmp_path / "overlays" / "a"):
        (place / ".0123456789abcdef.part").write_text("half")
        (place / ".mine.part").write_text("mine")
    _run(tmp_path, "overlays/a/1.png")
    assert _files(tmp_path) == {"overlays/a/1.png", ".mine.part", "overlays/a/.mine.part"}


def test_a_second_run_at_the_same_time_is_refused_and_harms_nothing(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from spherodetect.report.results import ResultsFolder\n"
        "with ResultsFolder(Path(sys.argv[1])) as r: print('on', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(SpherodetectError, match=r"another run.*--out"), ResultsFolder(tmp_path):
            pass
        assert (tmp_path / MARKER).exists()
        other.communicate(timeout=60)
    assert not (tmp_path / MARKER).exists()
    _run(tmp_path, "a.csv")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SpherodetectError, match=r"file.*written.*--out"),
        ResultsFolder(tmp_path / "file"),
    ):
        pass


def test_names_of_fields_stay_inside(tmp_path):
    with ResultsFolder(tmp_path) as results:
        assert (
            results.field_path("overlays", "p1/f 1.jpg", ".png")
            == tmp_path / "overlays" / "p1" / "f 1.png"
        )
        for hostile in ("../../x.jpg", "/etc/passwd", "a/../../b", "\x00", "a\\..\\b"):
            path = results.field_path("overlays", hostile, ".png").resolve()
            assert path.is_relative_to(tmp_path.resolve() / "overlays")


def test_a_field_has_one_name_and_no_two_fields_have_the_same(tmp_path):
    with ResultsFolder(tmp_path) as results:
        names = [
            "p/a.png",
            "p/a.JPG",
            "p/A.tif",
            "p/a",
            "p/a.png.png",
            "p/b.ome.tif",
            "p/patient_1",
        ]
        paths = [results.field_path("masks", name, ".tif") for name in names]
        assert [path.name for path in paths[:2]] == ["a.tif", "a.JPG.tif"]
        assert paths[-2].name == "b.ome.tif" and paths[-1].name == "patient_1.tif"
        assert len({str(path).casefold() for path in paths}) == len(names)
        assert results.field_path("overlays", "p/a.JPG", ".png").name == "a.JPG.png"
        assert paths == [results.field_path("masks", name, ".tif") for name in names]
