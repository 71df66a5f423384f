"""The notebooks: stored without outputs, short, and each runs without a network."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from spherodetect.score.counts import STATUSES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ["1_labels", "2_train", "3_score_patient", "4_savedmodel_only"]
#: Lines of a code cell, of at most 100 characters as ruff formats them.
MOST_LINES = 24
#: Runs first in a notebook's process, and refuses connections to other machines, as in the tests.
_GUARD = """
import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
        host = args[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if host not in ("localhost", "127.0.0.1", "::1", "", None):
        raise RuntimeError(f"a notebook reached for the network: {event} {host!r}")
sys.addaudithook(refuse)
"""


def _cells(path: Path, kind: str) -> list[str]:
    return [
        "".join(c["source"])
        for c in json.loads(path.read_text())["cells"]
        if c["cell_type"] == kind
    ]


def _modules(source: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(source)))
    named = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    return {
        m.partition(".")[0]
        for m in named | {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
    }


def test_there_are_four_to_be_read_in_order():
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_clean(path):
    text = path.read_text()
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", (
        "not written as git wants it"
    )
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook["metadata"]) <= {"accelerator", "colab", "kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}, (
        "a version differs from machine to machine"
    )
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids)) and all(re.fullmatch("[a-z][a-z-]*", name) for name in ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}, cell["id"]
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None, cell["id"]
        assert cell["source"], f"{cell['id']} is empty"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_short_and_says_what_a_reader_needs(path):
    prose, code = _cells(path, "markdown"), _cells(path, "code")
    assert prose[0].startswith(f"# {path.stem[0]}. ")
    assert "For Research Use Only. Not for use in diagnostic procedures." in prose[0]
    installs = [cell for cell in code if '"pip"' in cell]
    assert len(installs) == 1 and installs[0].count("SPHERODETECT_SOURCE") == 1
    assert "OWNER" not in "".join(prose + code), "a placeholder that must be edited first"
    for cell in code:
        assert len(cell.splitlines()) <= MOST_LINES, cell
    assert all(ord(c) < 0x2190 for c in "".join(prose + code)), "plain text, no pictograms"


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Any:
    """Runs the install cell of a notebook in a folder where nothing is installed; returns what pip
    is told to install."""

    def install(path: Path, source: str = "") -> str:
        commands: list[list[str]] = []
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        monkeypatch.setattr("subprocess.run", lambda command, **_: commands.append(command))
        monkeypatch.setenv("SPHERODETECT_SOURCE", source)
        (cell,) = (cell for cell in _cells(path, "code") if '"pip"' in cell)
        exec(compile(cell, path.name, "exec"), {})  # noqa: S102
        (words,) = commands
        after_pip = words[words.index("install") + 1 :]
        return next(word for word in after_pip if not word.startswith("--"))

    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    return install


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_installs_a_name_a_wheel_a_folder_or_an_address(path, installed, tmp_path):
    extra = {"3_score_patient": "[app]", "4_savedmodel_only": ""}.get(path.stem, "[train]")
    assert installed(path) == f"spherodetect{extra}"
    (tmp_path / "src" / "spherodetect").mkdir(parents=True)
    assert installed(path) == f"{tmp_path}{extra}", "the source code around the notebook"
    Path("spherodetect-0.1.0-py3-none-any.whl").touch()
    assert installed(path) == f"spherodetect-0.1.0-py3-none-any.whl{extra}"
    assert installed(path, "/my/spherodetect") == f"/my/spherodetect{extra}"
    address = "git+https://example.org/spherodetect"
    of_address = f"spherodetect{extra} @ {address}"
    assert installed(path, address) == (of_address if path.stem != NAMES[-1] else address)


def test_the_last_needs_nothing_but_tensorflow():
    path = NOTEBOOKS[NAMES.index("4_savedmodel_only")]
    used = set().union(*map(_modules, _cells(path, "code"))) - set(sys.stdlib_module_names)
    assert used == {"tensorflow", "numpy", "matplotlib", "PIL"}


@pytest.fixture
def run(tmp_path, monkeypatch) -> Any:
    """Runs a notebook in its own folder with this Python; returns the notebook with outputs."""
    nbclient = pytest.importorskip(
        "nbclient", reason="nbclient and ipykernel, of the extra [dev], are not installed"
    )
    import nbformat

    spec = tmp_path / "jupyter" / "kernels" / "under-test"
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "test", "language": "python"})
    )
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(_GUARD)
    folder = tmp_path / "work"
    folder.mkdir()
    for name, value in {
        "JUPYTER_PATH": tmp_path / "jupyter",
        "JUPYTER_DATA_DIR": tmp_path / "jupyter",
        "JUPYTER_CONFIG_DIR": tmp_path / "jupyter",
        "JUPYTER_RUNTIME_DIR": tmp_path / "runtime",
        "IPYTHONDIR": tmp_path / "ipython",
        "PYTHONPATH": f"{tmp_path / 'guard'}:{ROOT / 'src'}",
        "SPHERODETECT_NOTEBOOK_SMALL": 1,
        "SPHERODETECT_SOURCE": "/nothing/is/installed",
    }.items():
        monkeypatch.setenv(name, str(value))
    # A kernel with this variable behaves as if it were under test itself.
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)

    def execute(name: str, **edited: str) -> Any:
        """Runs a notebook; `edited` has the new text of cells, as a user edits them."""
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            cell.source = edited.pop(cell.id, cell.source)
        assert not edited, f"{name} has no such cells: {edited.keys()}"
        resources = {"metadata": {"path": str(folder)}}
        client = nbclient.NotebookClient(
            notebook, timeout=1800, kernel_name="under-test", resources=resources
        )
        manager = client.create_kernel_manager()
        # Sockets in a folder: another process may take a free port before the kernel opens it.
        # The path of a socket must be short, so pytest's temporary folder is not used.
        with tempfile.TemporaryDirectory() as short:
            manager.transport, manager.ip = "ipc", f"{short}/kernel"
            return client.execute()

    execute.folder = folder  # type: ignore[attr-defined]
    return execute


def _shown(notebook: Any, kind: str) -> dict[str, list[str]]:
    """The outputs of a kind, such as image/png, by the ids of their cells."""
    found: dict[str, list[str]] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {}) if kind != "text" else {"text": output.get("text", "")}
            if data.get(kind):
                found.setdefault(cell.id, []).append(data[kind])
    return found


def _complaints(notebook: Any) -> list[str]:
    return [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]


@pytest.mark.slow
def test_labels_run_from_an_export_to_records(run):
    done = run("1_labels")
    assert {"drawn", "repaired", "read"} <= set(_shown(done, "image/png"))
    found = _shown(done, "text/html")["lint"][0]
    assert all(
        code in found for code in ("rectangle-mask", "stretched-image", "patient-in-two-splits")
    )
    assert "# Data set mine" in _shown(done, "text/markdown")["card"][0]
    records = run.folder / "spherodetect-notebooks" / "records"
    labels = json.loads((records / "manifest.json").read_text())["annotations"]
    assert labels["written"] + sum(labels["dropped"].values()) == labels["read"] > 200
    assert labels["repaired"]["box-to-mask"] > 0.9 * labels["written"]
    assert not _complaints(done)


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.skipif(
    find_spec("official") is None, reason="tf-models-official, the extra [train], is not installed"
)
def test_training_runs_from_records_to_a_model(run):
    """Graphs are built four times: three minutes on two cores."""
    done = run("2_train")
    assert {"data", "curves", "look"} <= set(_shown(done, "image/png"))
    assert "3 of 3" in "".join(_shown(done, "text")["train"])
    work = run.folder / "spherodetect-notebooks"
    assert (work / "model" / "saved_model" / "saved_model.pb").is_file() and (
        work / "model.zip"
    ).is_file()
    assert "average precision" in _shown(done, "text/html")["page"][0].lower()


@pytest.mark.slow
def test_scoring_runs_from_photographs_to_a_report(run):
    done = run("3_score_patient")
    assert {"fields", "interval", "overlay", "gallery"} <= set(_shown(done, "image/png"))
    table = _shown(done, "text/html")["score"][0]
    assert "patient_A" in table and "at_or_below_limit_of_blank" in table
    assert "check the pixel size" in _shown(done, "text/html")["scale"][0]
    assert "patient_A" in _shown(done, "text/html")["report"][0]
    assert (run.folder / "spherodetect-notebooks" / "results" / "patients.csv").is_file()
    assert not _complaints(done)


@pytest.mark.slow
def test_the_saved_model_runs_alone(run):
    done = run("4_savedmodel_only")
    assert {"files", "boxes", "paste"} <= set(_shown(done, "image/png"))
    (told,) = [cell for cell in _cells(NOTEBOOKS[3], "code") if "STATUSES = " in cell]
    assert (
        tuple(re.findall('"([a-z_]+)"', told.partition("STATUSES = ")[2].partition("]")[0]))
        == STATUSES
    )
    said = "".join(_shown(done, "text")["score"])
    spherocytes, countable = map(
        int, re.search(r"(\d+) spherocytes of (\d+) countable", said).groups()
    )
    assert 200 < countable <= 240 and 0.15 < spherocytes / countable < 0.25, said
    assert not _complaints(done)


@pytest.fixture
def mgg(tmp_path, shared_data) -> Path:
    """A real MGG export with four photographs of each patient, and its photographs unstretched."""
    from PIL import Image

    source = shared_data / "dataset-a-mgg"
    n_taken: Counter[str] = Counter()
    for split in ("train", "valid", "test"):
        coco = json.loads((source / split / "_annotations.coco.json").read_text())
        kept = []
        for entry in coco["images"]:
            patient = entry["file_name"][: len("patient_01")]
            if n_taken[patient] < 4:
                n_taken[patient] += 1
                kept.append(entry)
        ids = {entry["id"] for entry in kept}
        (tmp_path / "export" / split).mkdir(parents=True)
        for entry in kept:
            name, patient = entry["file_name"], entry["file_name"][: len("patient_01")]
            shutil.copy(source / split / name, tmp_path / "export" / split)
            (tmp_path / "smears" / patient).mkdir(parents=True, exist_ok=True)
            with Image.open(source / split / name) as image:
                image.resize((853, 640)).save(tmp_path / "smears" / patient / f"{name[:-4]}.tif")
        coco |= {"images": kept}
        coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in ids]
        (tmp_path / "export" / split / "_annotations.coco.json").write_text(json.dumps(coco))
    return tmp_path


@pytest.fixture
def real_records(run, mgg) -> Path:
    """The records that notebook 1 writes of the real export; it is edited as a user does it."""
    path = f"PATH = {str(mgg / 'export')!r}\nNATIVE_SIZE_HW = (1800, 2400)\nPATIENTS = None"
    done = run("1_labels", path=path)
    said = "".join(_shown(done, "text")["recipe"])
    assert "unlabelled_cells: unknown" in said and "by: patient" in said
    assert not _complaints(done)
    return run.folder / "spherodetect-notebooks" / "records"


@pytest.mark.slow
def test_the_labels_of_real_photographs_become_records(real_records):
    manifest = json.loads((real_records / "manifest.json").read_text())
    assert manifest["unlabelled_cells"] > 0
    assert sum(split["images"] for split in manifest["splits"].values()) == 12
    (held_out,) = manifest["splits"]["val"]["patients"]
    assert held_out not in manifest["splits"]["train"]["patients"]


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.skipif(
    find_spec("official") is None, reason="tf-models-official, the extra [train], is not installed"
)
def test_real_records_are_trained_on(run, real_records):
    done = run("2_train")
    assert "3 of 3" in "".join(_shown(done, "text")["train"])


@pytest.mark.slow
def test_real_photographs_are_scored_and_go_through_the_saved_model(run, mgg):
    """They are TIFF, and their pixel size is not given."""
    path = f"PATH, MODEL = {str(mgg / 'smears')!r}, None\nUM_PER_PX = None"
    done = run("3_score_patient", path=path)
    table = _shown(done, "text/html")["score"][0]
    assert all(f"patient_0{k}" in table for k in (1, 3, 4))
    assert "cells" in _shown(done, "text/html")["pixel-size"][0]
    path = f"MODEL, PATH = '', {str(mgg / 'smears' / 'patient_03')!r}\nUM_PER_PX = 0.0"
    done = run("4_savedmodel_only", path=path)
    assert "4 photographs" in "".join(_shown(done, "text")["files"])
    assert not _complaints(done)
