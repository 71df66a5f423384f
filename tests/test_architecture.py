"""The import table: arrows point one way and no file imports in a circle, type imports counted.

ROOMS is the layout of the package, from the base to the command line. Model Garden stays in
training/, and heavy libraries are imported where they are used.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import spherodetect
from spherodetect.synthetic import draw_patient

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "spherodetect"

#: Every room of the package, from the base upwards: a room imports only those before it.
ROOMS = (
    # What everything stands on.
    "errors", "safety", "workers", "constants", "geometry", "rle", "vocabulary", "cells",
    # A photograph and its measurements.
    "fields", "segment", "photograph", "scale", "synthetic", "score", "measure", "quality",
    "cells_file", "examined", "corrections",
    # From labels to records.
    "labels", "records",
    # From a model folder to a report.
    "detect", "report", "pipeline",
    # From records to a model folder.
    "graph", "evaluation", "training",
    # What people call.
    "console", "app", "cohort", "cli", "__main__",
)  # fmt: skip
#: The using half: it meets the training half at the model folder on disk, never in Python.
USING = {
    "fields", "scale", "segment", "photograph", "measure", "quality", "score", "examined",
    "corrections", "detect", "report", "pipeline",
}  # fmt: skip
TRAINING_HALF = {"records", "graph", "evaluation", "training"}
#: Rooms whose modules need TensorFlow, TFDS or scikit-learn in every function.
HEAVY_ROOMS = {"training", "graph", "evaluation", "records"}
MODEL_GARDEN = {"official", "tf_keras", "orbit", "tensorflow_models"}
HEAVY = MODEL_GARDEN | {
    "tensorflow", "keras", "pandas", "pyarrow", "skimage", "sklearn", "matplotlib", "cv2",
    "pycocotools", "roboflow", "tensorflow_datasets", "jinja2", "rich", "tifffile", "rapidocr",
}  # fmt: skip
IMAGE_CODE = {"PIL", "skimage", "cv2", "tifffile", "scipy.ndimage", "tensorflow"}
IMAGE_ROOMS = {"fields", "segment", "synthetic", "measure", "quality", "detect", "report"}
UNSAFE = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
NETWORK = {"socket", "urllib.request", "http.client", "requests", "httpx", "aiohttp", "roboflow"}


@dataclass(frozen=True)
class Import:
    """One imported module, dotted.

    Attributes:
        importer: the importing module.
        module: the imported one.
        at_import: it is imported with its importer, not inside of a function.
        typed: it is imported for type checkers alone.
    """

    importer: str
    module: str
    at_import: bool
    typed: bool

    @property
    def room(self) -> str:
        return _room(self.importer)

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def _modules() -> dict[str, Path]:
    names = {
        path: path.relative_to(PACKAGE.parent).with_suffix("").parts
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    return {".".join(p[:-1] if p[-1] == "__init__" else p): path for path, p in names.items()}


MODULES = _modules()


def _imports(
    module: str, node: ast.AST, at_import: bool = True, typed: bool = False
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(module, child, False, True)
        elif isinstance(child, ast.Import):
            yield from (Import(module, alias.name, at_import, typed) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(module, name, at_import, typed) for name in _from(module, child))
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(module, child, at_import and not inside, typed)


def _from(module: str, node: ast.ImportFrom) -> list[str]:
    base = node.module or ""
    if node.level:
        package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
        base = ".".join(
            [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
        )
    submodules = [f"{base}.{alias.name}" for alias in node.names]
    return [
        name if name in MODULES or name in IMAGE_CODE | NETWORK else base for name in submodules
    ]


IMPORTS = [
    i for module, path in MODULES.items() for i in _imports(module, ast.parse(path.read_text()))
]
OWN = [i for i in IMPORTS if i.top == "spherodetect"]


def _named(imports: list[Import]) -> list[str]:
    return sorted({f"{i.importer} imports {i.module}" for i in imports})


def _circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import each other, by Tarjan's algorithm (1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(imports.get(module, ())):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(group) > 1:
                circles.append(group)

    for module in sorted(imports):
        if module not in index:
            visit(module)
    return circles


def test_circles_are_found():
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]
    assert _circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_no_file_imports_in_a_circle():
    # The package itself names its public modules for type checkers; nothing may rest on these.
    imports: dict[str, set[str]] = {}
    for one in OWN:
        if one.importer != "spherodetect" and one.module in MODULES:
            imports.setdefault(one.importer, set()).add(one.module)
    assert _circles(imports) == []


def test_every_room_has_its_place():
    rooms = {_room(module) for module in MODULES} - {""}
    assert rooms <= set(ROOMS), "add the new room to ROOMS"
    assert set(ROOMS) == rooms, "ROOMS names a room that is gone"


def test_arrows_point_one_way():
    place = {room: n for n, room in enumerate(ROOMS)}
    wrong = [
        i for i in OWN if i.room and _room(i.module) and place[_room(i.module)] > place[i.room]
    ]
    assert not _named(wrong)


def test_nothing_imports_the_command_line_or_the_app():
    wrong = [
        i
        for i in OWN
        if _room(i.module) in {"cli", "app", "__main__"}
        and i.room not in {"cli", "app", "__main__"}
    ]
    assert not _named(wrong)


def test_the_two_halves_meet_on_disk_only():
    assert not _named([i for i in OWN if i.room in USING and _room(i.module) in TRAINING_HALF])


def test_only_training_imports_model_garden():
    using_it = [i for i in IMPORTS if i.top in MODEL_GARDEN]
    assert {i.room for i in using_it} == {"training"}, _named(
        [i for i in using_it if i.room != "training"]
    )


def test_heavy_libraries_are_imported_where_they_are_used():
    # A TFDS builder is a class of TFDS: records/tfds.py is imported when a user wants one.
    assert not _named(
        [i for i in IMPORTS if i.top in HEAVY and i.at_import and i.room not in HEAVY_ROOMS]
    )
    builders = [i for i in OWN if i.module == "spherodetect.records.tfds"]
    assert {(i.importer, i.at_import) for i in builders} == {
        ("spherodetect.records.builder", False)
    }


def test_score_reaches_no_image_code():
    reached, waiting = set(), ["spherodetect.score.counts"]
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting += [i.module for i in OWN if i.importer == module and i.module not in reached]
    assert not _named(
        [i for i in IMPORTS if i.importer in reached and {i.top, i.module} & IMAGE_CODE]
    )
    assert not {_room(module) for module in reached} & IMAGE_ROOMS


def test_nothing_unpickles_and_only_the_download_may_reach_the_network():
    assert not _named([i for i in IMPORTS if i.top in UNSAFE])
    online = [i for i in IMPORTS if {i.top, i.module} & NETWORK]
    assert not _named([i for i in online if i.importer != "spherodetect.labels.roboflow"])


def test_tests_cannot_reach_the_network():
    import socket

    with pytest.raises(RuntimeError, match="reached for the network"):
        socket.create_connection(("192.0.2.1", 9), timeout=0.1)
    with pytest.raises(RuntimeError, match="reached for the network"):
        socket.getaddrinfo("example.org", 443)


def _python(code: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=300
    )


def test_importing_the_package_is_light():
    done = _python("import spherodetect, sys, json; print(json.dumps(sorted(sys.modules)))")
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "spherodetect" in loaded
    assert not loaded & (HEAVY | {"scipy", "PIL"})


def test_the_public_names_are_all_there():
    assert len(spherodetect.__all__) == len(set(spherodetect.__all__)) <= 31
    for name in spherodetect.__all__:
        value = getattr(spherodetect, name)
        assert callable(value), f"spherodetect.{name} is {value!r}"
        assert value.__doc__, f"spherodetect.{name} has no docstring"
    assert set(spherodetect.__all__) <= set(dir(spherodetect))


def test_functions_named_as_their_modules_stay_functions():
    modules = "import spherodetect.measure, spherodetect.segment"
    done = _python(f"{modules}, spherodetect as s; print(callable(s.measure), callable(s.segment))")
    assert done.stdout.split() == ["True", "True"]


#: Runs commands where importing Model Garden, or leaving the machine, is an error that nobody can
#: catch by accident.
_GUARDED = f"""
import json, os, sys
FORBIDDEN = {MODEL_GARDEN!r}
def guard(event, args):
    model_garden = event == "import" and args[0].partition(".")[0] in FORBIDDEN
    if model_garden or event in ("socket.connect", "socket.getaddrinfo"):
        os.write(2, f"guard: {{event}} {{args[0]}}".encode())
        os._exit(99)
sys.addaudithook(guard)
from spherodetect.cli import main
for words in json.loads(sys.argv[1]):
    assert main(words) in (0, 3)
assert "tensorflow" in sys.modules and not FORBIDDEN & set(sys.modules)
"""


def test_the_guard_sees_an_import():
    done = _python(_GUARDED.replace("from spherodetect.cli import main", "import official"))
    assert done.returncode == 99


def test_scoring_and_detecting_never_import_model_garden(bundled_model, tmp_path):
    from PIL import Image

    folder = tmp_path / "smears" / "p1"
    folder.mkdir(parents=True)
    for field in draw_patient(
        1, spherocyte_fraction=0.2, n_fields=1, n_cells=20, size_hw=(240, 320), patient_id="p1"
    ):
        Image.fromarray(field.image).save(folder / field.cells.field_id)
    commands = [
        [name, str(folder.parent), "--out", str(tmp_path / name)] for name in ("score", "detect")
    ]
    done = _python(_GUARDED, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, "TensorFlow's own errors frighten people"
    assert all((tmp_path / name / "cells.csv").is_file() for name in ("score", "detect"))
