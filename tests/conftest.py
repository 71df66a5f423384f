"""What all tests share: where the real data is, the bundled model, the order of the files, and no
way out to the network."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from spherodetect.detect.model import Model

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "src" / "spherodetect" / "models" / "bundled"

# The commands that tests start see the package under test too, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])
)

_THIS_MACHINE = {"localhost", "127.0.0.1", "::1", "", None}


def _refuse_network(event: str, args: tuple) -> None:
    """Raises an error for connections to other machines.

    It is an audit hook, so that it also covers C code and the socket classes of libraries.
    """
    if event in {"socket.connect", "socket.sendto"}:
        address = args[1]
        # An address that is a path is a socket of this machine.
        host = address[0] if isinstance(address, tuple) else None
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = args[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in _THIS_MACHINE:
        raise RuntimeError(f"a test reached for the network: {event} {host!r}")


sys.addaudithook(_refuse_network)


# A busy machine is no defect: no example of a property has to be quick.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

#: The files that take longest, the longest first.
_LONGEST = (
    "test_end_to_end.py",
    "test_notebooks.py",
    "test_pipeline_review.py",
    "test_programs.py",
    "test_training_imagenet.py",
    "test_packaging.py",
    "test_training_accelerators.py",
    "test_newcomers.py",
    "test_serving_client.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that no process waits for the other at the end."""
    place = {name: k for k, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session", autouse=True)
def _no_fsync() -> Iterator[None]:
    """Do not wait for the disk: a test reads its files back from memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets, which lies beside the repository and is never part of
    it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data sets are not here: they are looked for in ../shared/data")
    return folder


@pytest.fixture(scope="session")
def bundled_model() -> Path:
    """The model folder that the package ships."""
    if not (BUNDLED / "model.json").is_file():
        pytest.fail("no model is bundled: src/spherodetect/models/bundled/model.json is missing")
    return BUNDLED


@pytest.fixture(scope="session")
def loaded_model(bundled_model: Path) -> Model:
    """The bundled model, held in memory: later loads of its folder in this process cost nothing."""
    from spherodetect import load_model

    return load_model(bundled_model)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless chromium: /usr/bin/chromium, or the one that CHROMIUM names."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("CHROMIUM") or "/usr/bin/chromium"
    if not Path(program).is_file():
        pytest.skip(f"no chromium at {program}; name one in CHROMIUM")
    from app_server import FLAGS

    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()
