"""cli and console: the names, options and exit codes of the contract, and one line for whatever
goes wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from spherodetect import cli, console
from spherodetect.errors import SpherodetectError
from spherodetect.score.counts import RESEARCH_USE, score_counts

COMMANDS = (
    "lint",
    "roboflow",
    "tfrecords",
    "train",
    "evaluate",
    "export",
    "detect",
    "score",
    "demo",
)


@dataclass
class Result:
    """As pipeline.Result."""

    problems: tuple[str, ...] = ()
    scores: tuple = ()
    tables: dict[str, Path] = field(default_factory=dict)
    report: Path | None = None
    key: Path | None = None


@pytest.fixture
def stand_in(monkeypatch):
    """Puts a function where a handler imports one; its calls are noted, and it returns or raises
    what it is given."""

    def put(module: str, name: str, outcome: object) -> list[tuple[tuple, dict]]:
        calls: list[tuple[tuple, dict]] = []

        def function(*args: object, **options: object) -> object:
            calls.append((args, options))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        stand = types.ModuleType(module)
        setattr(stand, name, function)
        monkeypatch.setitem(sys.modules, module, stand)
        return calls

    return put


def patient(patient_id: str = "p1", spherocytes: int = 10, countable: int = 90):
    return score_counts([spherocytes] * 12, [countable] * 12, patient_id=patient_id)


def test_every_command_of_the_contract_has_help(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert ended.value.code == 0
        assert f"usage: spherodetect {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["draw"],
        ["score", "x"],
        ["detect", "--out", "o"],
        ["detect", "x", "--out", "o", "--um-per-px", "-0.1"],
        ["detect", "x", "--out", "o", "--um-per-px", "nan"],
        ["train", "e.yaml", "--run", "r", "--hardware", "abacus"],
    ],
)
def test_wrong_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_score_hands_its_options_on_and_prints_a_table(stand_in, tmp_path, capsys):
    result = Result(scores=(patient(), patient("p2", 0)), report=tmp_path / "index.html")
    calls = stand_in("spherodetect.pipeline.run", "score_patients", result)
    argv = [
        "score",
        "a",
        "b",
        "--out",
        str(tmp_path),
        "--um-per-px",
        "0.1",
        "--scale-bar-um",
        "20",
        "--model",
        "m",
        "--patient-regex",
        "(.)",
        "--grade-scheme",
        "own.yaml",
        "--rates",
        "LAB.json",
        "--pseudonymise",
        "--excel",
    ]
    assert cli.main(argv) == 0
    ((args, options),) = calls
    assert callable(options.pop("progress"))
    assert not any(vars(options.pop("fhir")).values())
    assert [k for k, on in vars(options.pop("extras")).items() if on] == ["excel"]
    assert options.pop("batch") is False
    assert args == ([Path("a"), Path("b")],)
    assert options == {
        "out": tmp_path,
        "um_per_px": 0.1,
        "scale_bar_um": 20,
        "model": Path("m"),
        "patient_regex": "(.)",
        "grade_scheme": "own.yaml",
        "rates": Path("LAB.json"),
        "pseudonymise": True,
        "convention": None,
        "classes": {},
    }
    out = capsys.readouterr().out
    assert "11.1 [" in out
    assert "at_or_below_limit_of_blank" in out
    assert f"report: {tmp_path / 'index.html'}" in out
    assert RESEARCH_USE in out


def test_the_defaults_are_the_bundled_model_and_the_scale_of_the_cells(stand_in, tmp_path):
    calls = stand_in("spherodetect.pipeline.run", "score_patients", Result())
    cli.main(["score", "a", "--out", str(tmp_path)])
    options = calls[0][1]
    assert (options["model"], options["um_per_px"], options["patient_regex"]) == (None, None, None)
    assert (options["grade_scheme"], options["pseudonymise"]) == ("icsh2015", False)


def test_what_was_left_out_is_named_and_exits_with_3(stand_in, tmp_path, capsys):
    problem = "'broken.jpg': expected an image, got " + "a very long story, " * 30 + "copy it again"
    stand_in(
        "spherodetect.pipeline.run",
        "detect_images",
        Result(problems=(problem,), tables={"cells": Path("cells.csv")}),
    )
    assert cli.main(["detect", "folder", "--out", str(tmp_path)]) == 3
    captured = capsys.readouterr()
    assert captured.err == f"spherodetect: {problem}\n"
    assert "cells: cells.csv" in captured.out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpherodetectError("'x': expected a folder, got nothing; check the path"), 2),
        (PermissionError(13, "Permission denied", "out/cells.csv"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_one_line_and_have_their_code(error, code, stand_in, tmp_path, capsys):
    stand_in("spherodetect.pipeline.demo", "demo", error)
    assert cli.main(["demo", "--out", str(tmp_path)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("spherodetect: ")
    assert captured.err.count("\n") == 1


def test_a_mistake_of_our_own_is_not_called_the_users(stand_in, tmp_path):
    stand_in("spherodetect.pipeline.demo", "demo", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo", "--out", str(tmp_path)])


@pytest.mark.parametrize("out", ["file.txt", "file.txt/deeper", "/proc/nowhere/here"])
def test_an_unwritable_output_is_refused_before_the_work(
    out, stand_in, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("kept")
    refused = stand_in("spherodetect.pipeline.demo", "demo", Result())
    if out.startswith("/proc"):  # root may write anywhere, so that only the attempt shows it
        stand_in(
            "spherodetect.pipeline.demo",
            "demo",
            FileNotFoundError(2, "No such file or directory", out),
        )
    assert cli.main(["demo", "--out", out]) == 2
    assert not refused
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert repr(out) in captured.err
    assert (tmp_path / "file.txt").read_text() == "kept"


def test_hostile_names_reach_the_terminal_harmlessly(stand_in, tmp_path, capsys):
    name = "\x1b[2J[red]p1[/red]\n\u202eexe\udc80"
    stand_in(
        "spherodetect.pipeline.run",
        "score_patients",
        Result(problems=(f"'{name}': bad",), scores=(patient(name),)),
    )
    assert cli.main(["score", "x", "--out", str(tmp_path)]) == 3
    captured = capsys.readouterr()
    assert r"\x1b[2J[red]p1[/red] \u202eexe\udc80" in captured.out
    assert all(c.isprintable() for text in captured for c in text.replace("\n", ""))
    assert captured.err.count("\n") == 1


def test_tables_are_not_folded_in_a_file(capsys):
    console.print_patients([patient("a-patient-with-a-name-that-is-quite-long-for-a-terminal")])
    rows = [line for line in capsys.readouterr().out.splitlines() if "a-patient" in line]
    assert len(rows) == 1
    assert rows[0].split()[1] == "ok"
    assert rows[0].split()[-1] == "12"


def test_training_commands_say_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for extra, argv in (
        ("train", ["train", "e.yaml", "--run", str(tmp_path)]),
        ("evaluate", ["evaluate", "m", "--data", "r.yaml", "--out", str(tmp_path)]),
        ("train", ["export", "run", "--out", str(tmp_path / "m")]),
    ):
        assert cli.main(argv) == 2
        said = capsys.readouterr().err
        assert f"pip install 'spherodetect[{extra}]'" in said
        assert said.count("\n") == 1


def test_train_evaluate_and_export_hand_their_options_on(stand_in, monkeypatch, tmp_path, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: object() if name == "official" else find_spec(name, *rest),
    )
    trained = stand_in("spherodetect.training.api", "train", tmp_path / "ckpt-9")
    argv = [
        "train",
        "e.yaml",
        "--run",
        str(tmp_path),
        "--set",
        "a.b=1",
        "--set",
        "c=x",
        "--hardware",
        "gpu",
        "--resume",
    ]
    assert cli.main(argv) == 0
    assert cli.main([*argv[:4], "--from", "bundled", "--folds", "patient"]) == 0
    (paths, options), (_, of_folds) = trained
    assert callable(options.pop("progress"))
    assert paths == (Path("e.yaml"), tmp_path)
    settings = {"hardware": "gpu", "overrides": ["a.b=1", "c=x"], "resume": True}
    assert options == {"start": None, "folds": None, **settings}
    assert (of_folds["start"], of_folds["folds"]) == ("bundled", "patient")
    with pytest.raises(SystemExit):
        cli.main([*argv[:4], "--folds", "field"])
    evaluated = stand_in("spherodetect.evaluation.run", "evaluate", "recall 0.98")
    assert cli.main(["evaluate", "m", "--data", "r.yaml", "--out", str(tmp_path)]) == 0
    ((paths, options),) = evaluated
    assert callable(options.pop("progress"))
    assert paths == (Path("m"), Path("r.yaml"))
    assert options == {"split": "val", "out": tmp_path, "force": False, "robustness": 0}
    exported = stand_in("spherodetect.training.api", "export", tmp_path / "m")
    assert cli.main(["export", "run", "--fold", "other", "--out", str(tmp_path / "m")]) == 0
    ((paths, options),) = exported
    assert callable(options.pop("progress"))
    assert paths == (Path("run"), tmp_path / "m")
    assert options == {"folds": [Path("other")], "static": None}
    wrapped = stand_in("spherodetect.training.stock", "wrap", tmp_path / "s")
    stock = [
        "export",
        "garden",
        "--classes",
        "rbc, spherocyte",
        "--rbc-px",
        "38",
        "--out",
        str(tmp_path / "s"),
    ]
    assert cli.main(stock) == 0
    ((paths, options),) = wrapped
    assert paths == (Path("garden"), tmp_path / "s")
    assert options == {
        "class_names": ["rbc", "spherocyte"],
        "rbc_px": 38.0,
        "experiment": "maskrcnn_mobilenet_coco",
    }
    assert cli.main([*stock[:4], "--out", str(tmp_path / "s")]) == 2
    out = capsys.readouterr().out
    assert "ckpt-9" in out
    assert "recall 0.98" in out


def coco_export(folder: Path, *, box: list[float], images: dict[str, bytes]) -> Path:
    """A COCO export of 40x40 images with one red cell each."""
    folder.mkdir()
    x, y, w, h = box
    cell = {
        "category_id": 1,
        "bbox": box,
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }
    labels = {
        "images": [
            {"id": n, "file_name": name, "width": 40, "height": 40} for n, name in enumerate(images)
        ],
        "categories": [{"id": 1, "name": "RBC", "supercategory": "none"}],
        "annotations": [{"id": n, "image_id": n, **cell} for n in range(len(images))],
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(labels))
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return folder


def png(seed: int = 1) -> bytes:
    import io

    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(200, 220, (40, 40, 3), np.uint8)
    noise[10:22, 10:22] -= 90
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def test_lint_exits_with_1_for_an_error_and_writes_its_findings(tmp_path, capsys):
    source = coco_export(tmp_path / "export", box=[30, 30, 20, 20], images={"a.png": png()})
    assert cli.main(["lint", str(source), "--json", str(tmp_path / "findings.json")]) == 1
    found = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert "box-outside-image" in {f["code"] for f in found}
    assert set(found[0]) == {
        "code",
        "severity",
        "file",
        "split",
        "count",
        "annotation_ids",
        "message",
        "mend",
    }
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if "box-outside-image" in line)
    assert line.split()[:3] == ["error", "box-outside-image", "1"]
    assert out.splitlines()[-1].split()[1] in {"error,", "errors,"}


def test_many_findings_of_a_kind_do_not_flood(capsys):
    from spherodetect.labels.annotations import Finding

    same = [
        Finding("image-without-labels", "warning", f"{n}.jpg", None, 1, (), "no label", "label it")
        for n in range(9)
    ]
    console.print_findings(same)
    out = capsys.readouterr().out.splitlines()
    (row,) = (line for line in out if "image-without-labels" in line)
    assert row.split(maxsplit=3)[3].strip() == "'0.jpg', '1.jpg', '2.jpg' and 6 more: no label"
    assert [line.strip() for line in out if "->" in line] == ["-> label it"]
    assert out[-1] == "0 errors, 9 warnings"
    console.print_findings([replace(f, message=f"odd {f.file}") for f in same])
    out = capsys.readouterr().out.splitlines()
    assert sum("odd" in line for line in out) == 3
    assert any("6 more like these; --json FILE" in line for line in out)


RECIPE = "name: tiny\nformat: coco\nroot: export\nsplit: {by: source}\n"


def test_tfrecords_writes_the_records_the_manifest_and_the_card(tmp_path, capsys):
    coco_export(tmp_path / "export", box=[10, 10, 12, 12], images={"a.png": png()})
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    out = tmp_path / "records"
    assert cli.main(["tfrecords", str(tmp_path / "tiny.yaml"), "--out", str(out), "--card"]) == 0
    assert "1 label read, 1 written, 0 dropped" in capsys.readouterr().out
    assert json.loads((out / "manifest.json").read_text())["annotations"]["written"] == 1
    assert (out / "DATA_CARD.md").read_text().startswith("# Data set tiny")
    assert list(out.glob("*.tfrecord"))


def test_a_lost_label_is_named_and_exits_with_3(tmp_path, capsys):
    images = {"a.png": png(), "cut.png": png(2)[:-300]}
    coco_export(tmp_path / "export", box=[10, 10, 12, 12], images=images)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    assert (
        cli.main(["tfrecords", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "records")])
        == 3
    )
    said = capsys.readouterr().err
    assert "spherodetect: 'cut.png': 1 label left out: " in said


def test_thousands_of_lost_labels_are_summed_up():
    lost = [
        {"file": f"{n}.jpg", "reason": "malformed", "annotation_id": f"{a}"}
        for n in range(25)
        for a in range(3)
    ]
    spare = [{"file": "0.rf.jpg", "reason": "augmented-copy", "annotation_id": "1"}]
    findings = [{"file": "0.jpg", "code": "malformed", "message": "expected a number"}]
    manifest = {"dropped_items": lost + spare, "findings": findings}
    lines = cli.labels._lost_labels(manifest)
    assert lines[:2] == [
        "'0.jpg': 3 labels left out: malformed (expected a number)",
        "'1.jpg': 3 labels left out: malformed",
    ]
    assert len(lines) == 21
    assert lines[-1] == "5 files more; manifest.json names them all"


def test_unusable_labels_exit_with_2(tmp_path, capsys):
    for argv in (
        ["lint", str(tmp_path / "missing")],
        ["tfrecords", "missing.yaml", "--out", str(tmp_path / "o")],
    ):
        assert cli.main(argv) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_progress_in_a_log_is_a_few_lines(capsys):
    with console.progress_of("scoring") as progress:
        for done in range(1, 1001):
            progress(done, 1000, f"{done}.jpg")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "scoring: 1000 of 1000 1000.jpg\n"


def test_the_time_left_follows_the_pace_of_late(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    with console.progress_of("scoring") as progress:
        for done in range(50):  # an earlier run had finished these
            progress(done, 100, f"{done}.jpg")
        for done in range(50, 80):
            now[0] += 2
            progress(done, 100, f"{done}.jpg")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "scoring: 79 of 100 79.jpg (0:00:42 left)"


def test_the_first_step_tells_nothing_of_the_time_left(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    with console.progress_of("scoring") as progress:
        progress(0, 100, "0.jpg")
        for done, seconds in enumerate((110, 10, 10), 1):  # the first one also loads the model
            now[0] += seconds
            progress(done, 100, f"{done}.jpg")
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "scoring: 1 of 100 1.jpg"
    assert others == [
        "scoring: 2 of 100 2.jpg (0:16:20 left)",
        "scoring: 3 of 100 3.jpg (0:16:10 left)",
    ]


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    code = (
        "import sys, types; from spherodetect import cli; stand = types.ModuleType('p');"
        "stand.demo = lambda out, progress, by_model: types.SimpleNamespace("
        "scores=(), tables={str(n): 'x' * 100 for n in range(9999)}, report=None, key=None, "
        "problems=());"
        "sys.modules['spherodetect.pipeline.demo'] = stand; "
        "sys.exit(cli.main(['demo', '--out', sys.argv[1]]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


def test_an_interrupt_ends_the_command_with_a_sentence(tmp_path):
    code = (
        # A shell that runs the tests in the background has them ignore the signal, and children
        # inherit that.
        "import signal, sys, time, types; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from spherodetect import cli; stand = types.ModuleType('p');"
        "stand.demo = lambda out, progress, by_model: (print('on', flush=True), time.sleep(60));"
        "sys.modules['spherodetect.pipeline.demo'] = stand; "
        "sys.exit(cli.main(['demo', '--out', sys.argv[1]]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "on\n"
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == "spherodetect: interrupted; the results are not complete\n"


def test_a_command_starts_tensorflow_without_keras_3():
    code = (
        "import sys; from spherodetect.cli import _without_keras; _without_keras();"
        "import tensorflow as tf, tf_keras;"
        "print([m for m in sys.modules if m.startswith('keras.')],"
        "tf_keras.layers.Dense(2)(tf.ones((1, 3))).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "[] (1, 2)\n"
