"""README.md: the tests that a table names run its commands, its Python runs, its links exist."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from spherodetect import cli
from spherodetect.score.counts import RESEARCH_USE
from spherodetect.synthetic import SmearStyle, draw_patient

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = ("make ", "pip ", "spherodetect ", "python ", "apt-get ")
#: Each command of the README, the test that runs it, and the words that this test runs it with.
#: Words in capitals, and paths of the reader's own, differ in the test.
RUN_BY = {
    "make demo": (
        "test_packaging.py::test_the_installed_wheel_runs_the_demo_with_its_bundled_model",
        "spherodetect demo --out",
    ),
    "make test": ("test_readme.py::test_make_runs_these_programs", "make --dry-run test"),
    "make test-slow": ("test_readme.py::test_make_runs_these_programs", "make --dry-run test-slow"),
    "make lint": ("test_readme.py::test_make_runs_these_programs", "make --dry-run lint"),
    "make docs": (
        "test_docs.py::test_every_page_builds_and_says_research_use_only",
        "mkdocs build",
    ),
    "make figures": ("test_docs.py::test_the_same_field_gives_the_same_picture", "figures.py"),
    "apt-get install make python3-venv": (
        "test_readme.py::test_make_runs_these_programs",
        "apt-get install python3-venv",
    ),
    "pip install .": ("test_packaging.py::test_the_installed_wheel_runs", "pip install"),
    "pip install '.[train]'": (
        "test_packaging.py::test_the_wheel_says_what_it_is_and_needs",
        "Provides-Extra train",
    ),
    "spherodetect score smears/ --out results/": (
        "test_readme.py::test_the_score_command_and_the_five_lines",
        "spherodetect score smears --out results",
    ),
    "spherodetect review results/ --draw review/": (
        "test_pipeline_review.py::test_the_command_line_draws_and_applies",
        "review results --draw",
    ),
    "spherodetect review results/ --apply answers.json": (
        "test_pipeline_review.py::test_the_command_line_draws_and_applies",
        "review results --apply",
    ),
    "spherodetect recipe EXPORT --out mine.yaml": (
        "test_end_to_end.py::test_a_roboflow_zip_becomes_a_score",
        "spherodetect recipe export.zip --out mine.yaml",
    ),
    "spherodetect tfrecords mine.yaml --out records/mine": (
        "test_end_to_end.py::test_a_roboflow_zip_becomes_a_score",
        "spherodetect tfrecords mine.yaml --out records mine",
    ),
    "spherodetect train mine_experiment.yaml --run runs/mine --from bundled --folds patient": (
        "test_end_to_end.py::test_two_patients_become_a_model_that_judges_each_by_the_other",
        "spherodetect train mine_experiment.yaml --run runs mine --from bundled --folds patient",
    ),
    "spherodetect export runs/mine --out models/mine": (
        "test_end_to_end.py::test_a_roboflow_zip_becomes_a_score",
        "spherodetect export runs mine --out models",
    ),
    "spherodetect lint EXPORT": (
        "test_end_to_end.py::test_a_roboflow_zip_becomes_a_score",
        "spherodetect lint export.zip",
    ),
    "spherodetect evaluate MODEL --data RECIPE --out DIR": (
        "test_evaluation_run.py::test_it_runs_without_model_garden",
        "evaluate --data --out",
    ),
    "python -m spherodetect.training.lite MODEL --out FILE.tflite [--quantised]": (
        "test_training_lite.py::test_the_lite_file_equals_the_saved_model",
        "spherodetect.training.lite --out model.tflite --quantised",
    ),
}


def blocks(kind: str) -> list[str]:
    """Fenced blocks of a kind; "" is what is indented."""
    if kind:
        return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)
    return [
        line.strip()
        for line in re.sub(r"```.*?```", "", README, flags=re.DOTALL).splitlines()
        if line[:4] == "    "
    ]


def commands() -> list[str]:
    """Every command line of the README, indented, fenced or within a sentence."""
    fenced = [
        line
        for kind in ("sh", "bash", "text", "console")
        for block in blocks(kind)
        for line in block.splitlines()
    ]
    spoken = [
        " ".join(span.split())
        for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
    ]
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in [*blocks(""), *fenced, *spoken])
    named = re.compile(r"spherodetect \w+$")  # the name of a command in a sentence
    return list(
        dict.fromkeys(line for line in lines if line.startswith(PROGRAMS) and not named.match(line))
    )


def texts_of(part: ast.AST) -> list[str]:
    constants = (node.value for node in ast.walk(part) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]


def words_of_test(test: str) -> set[str]:
    """The words of all texts in a test, and in the functions and constants of its file that it
    uses, directly or not."""
    file, name = test.split("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    parts: dict[str, ast.AST] = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            parts |= {t.id: node.value for t in node.targets if isinstance(t, ast.Name)}
    parts.pop("RUN_BY", None)  # it has the words of every command
    assert name in parts, f"{test}: expected a test of this name, got none"
    used, waiting = [], [name]
    while waiting:
        part = waiting.pop()
        used.append(part)
        for node in ast.walk(parts[part]):
            named = getattr(node, "id", "") or getattr(node, "arg", "")
            if named in parts and named not in [*used, *waiting]:
                waiting.append(named)
    texts = [text for part in used for text in texts_of(parts[part])]
    if "commands" in used:  # the test takes its command from the README
        starts = tuple(text for text in texts_of(parts[name]) if text.startswith("spherodetect "))
        texts += [line for line in commands() if line.startswith(starts)]
    return {word for text in texts for word in re.split(r"[\s/{}'\"]+", text)}


@pytest.mark.parametrize("command", RUN_BY)
def test_a_test_runs_the_command(command):
    test, run_with = RUN_BY[command]
    missing = set(run_with.split()) - words_of_test(test)
    assert not missing, f"{test} does not run {command!r}: {missing} do not occur in it"


@pytest.mark.parametrize("command", [c for c in RUN_BY if "spherodetect" in c])
def test_the_words_of_a_run_include_the_subcommand_and_every_option(command):
    program, *rest = shlex.split(re.sub(r"[\[\]]", "", command))
    run_with = set(RUN_BY[command][1].split())
    assert rest[1 if program == "python" else 0] in run_with
    assert {word for word in rest if word.startswith("--")} <= run_with


def test_every_command_has_a_test():
    assert set(commands()) == set(RUN_BY)


@pytest.mark.parametrize("line", [c for c in RUN_BY if c.startswith("spherodetect ")])
def test_the_commands_options_and_files_are_there(line):
    args = cli.parser().parse_args(shlex.split(line)[1:])
    files = [
        v for v in vars(args).values() if isinstance(v, Path) and v.suffix in {".yaml", ".yml"}
    ]
    # The reader's own files have no folder.
    assert all((ROOT / file).is_file() for file in files if file.parent != Path("."))


def test_make_runs_these_programs(tmp_path):
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    does = {
        "demo": "spherodetect demo --out spherodetect-demo",
        "test": '-m "not slow and not browser"',
        "test-slow": "pytest -m slow",
        "lint": "ruff check .",
        "docs": "mkdocs build",
        "figures": "docs/figures.py",
    }
    for target, command in does.items():
        shown = subprocess.run(
            ["make", "--dry-run", target, f"PYTHON={sys.executable}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert command in shown.stdout, target
        assert "apt-get install python3-venv" in shown.stdout or "uv venv" in shown.stdout
    assert {c.removeprefix("make ") for c in RUN_BY if c.startswith("make ")} == set(does)


def test_the_score_command_and_the_five_lines(tmp_path, monkeypatch, capsys, loaded_model):
    folder = tmp_path / "smears" / "patient_01"
    folder.mkdir(parents=True)
    (field,) = draw_patient(
        3,
        spherocyte_fraction=0.3,
        n_fields=1,
        n_cells=40,
        size_hw=(320, 400),
        style=SmearStyle(),
        patient_id="p",
    )
    Image.fromarray(field.image).save(folder / "field_01.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    (line,) = (c for c in commands() if c.startswith("spherodetect score "))
    assert cli.main(shlex.split(line)[1:]) == 0
    assert "patient_01" in capsys.readouterr().out
    written = {
        row
        for table in re.findall(r"^\| (`.*?) \|", README, re.MULTILINE)
        for row in re.findall(r"`([^`]+)`", table)
    }
    assert {"patients.csv", "index.html", "overlays/"} <= written
    assert not [name for name in written if not (tmp_path / "results" / name).exists()]
    (python,) = blocks("python")
    assert len([row for row in python.splitlines() if row.strip()]) == 5
    exec(compile(python, "README.md", "exec"), {})  # noqa: S102
    assert re.fullmatch(
        r"\d+ countable red cells, \d+ of them spherocytes\n", capsys.readouterr().out
    )


def test_the_files_that_it_links_to_are_there():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", README)
    assert "docs/figures/overview.png" in links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_layout_is_that_of_the_repository():
    layout = README.split("## Where things are")[1].split("\n## ")[0]
    folders = re.findall(r"^    (\w+)/", layout, re.MULTILINE)
    assert len(folders) >= 7
    assert not [name for name in folders if not (ROOT / name).is_dir()]


def test_it_says_what_it_is_not_for():
    assert RESEARCH_USE in README
    assert "May-Grünwald-Giemsa" in README
    assert not re.search(r"\bHS[- ]positive\b", README, re.IGNORECASE)
