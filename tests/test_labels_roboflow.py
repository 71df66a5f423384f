"""labels.roboflow_source: Roboflow's own client against a stand-in for the service on this
machine."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from spherodetect import cli
from spherodetect.errors import BadLabelsError, SpherodetectError
from spherodetect.labels import roboflow as roboflow_source
from spherodetect.labels.roboflow import download

KEY, LINK_KEY = "s3cret-KEY-of-a-lab", "another-secret"
VERSION = {
    "id": "my-lab/smears_2/3", "name": "v3", "created": 1.7e9, "images": 2,
    "splits": {"train": 2}, "exports": [], "augmentation": {}, "preprocessing": {},
}  # fmt: skip
PROJECT = {
    "id": "my-lab/smears_2", "name": "Smears", "type": "instance-segmentation",
    "annotation": "cells", "classes": {}, "colors": {}, "created": 1.7e9, "updated": 1.7e9,
    "images": 2, "public": False, "splits": {}, "unannotated": 0,
}  # fmt: skip


def export() -> bytes:
    """The zip that Roboflow makes of one image with one cell."""
    picture = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 220, np.uint8)).save(picture, "JPEG")
    labels = {
        "images": [{"id": 0, "file_name": "a.jpg", "height": 48, "width": 64}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 5, 20, 20]}],
        "categories": [{"id": 1, "name": "RBC"}],
    }
    return zipped(
        {
            "train/_annotations.coco.json": json.dumps(labels).encode(),
            "train/a.jpg": picture.getvalue(),
        }
    )


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Service(ThreadingHTTPServer):
    """What of Roboflow's service a download meets; a test sets what it answers, and reads what it
    was asked."""

    daemon_threads = True

    def reset(self) -> None:
        self.archive, self.status, self.length, self.kind, self.asked = (
            export(),
            200,
            None,
            "instance-segmentation",
            [],
        )
        self.waits = 0

    def answer(self, path: str) -> tuple[int, dict]:
        if path == "/":
            return 200, {"welcome": "to Roboflow", "workspace": "my-lab"}
        if path == "/my-lab":
            return 200, {
                "workspace": {"name": "My lab", "url": "my-lab", "members": 1, "projects": []}
            }
        if path == "/my-lab/smears_2":
            return 200, {"project": PROJECT | {"type": self.kind}, "versions": [VERSION]}
        if path == "/my-lab/smears_2/3":
            return 200, {"version": VERSION | {"generating": False, "progress": 1}}
        if path.startswith("/my-lab/smears_2/3/"):
            self.waits -= 1
            if self.waits >= 0:
                return 202, {"progress": 0.5}
            return 200, {"export": {"format": path, "link": f"{self.url}/ds/x?key={LINK_KEY}"}}
        return 404, {"error": {"message": f"{path} does not exist", "type": "GraphMethodException"}}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        self.server.asked.append(path)
        if path == "/ds/x":
            self.reply(self.server.status, self.server.archive, self.server.length)
            return
        known = query.get("api_key") == [KEY]
        refusal = (
            401,
            {
                "error": {
                    "message": "This API key does not exist (or has been revoked).",
                    "key": query,
                }
            },
        )
        status, said = self.server.answer(path) if known else refusal
        self.reply(status, json.dumps(said).encode())

    do_POST = do_GET

    def reply(self, status: int, data: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The running stand-in, with the client imported anew so that its settings lead here."""
    pytest.importorskip(
        "roboflow", reason="Roboflow's client is not installed: pip install 'spherodetect[train]'"
    )
    before = {
        name: sys.modules.pop(name)
        for name in [*sys.modules]
        if name.partition(".")[0] == "roboflow"
    }
    with Service(("127.0.0.1", 0), Handler) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_URL", server.url)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("ROBOFLOW_CONFIG_DIR", str(tmp_path_factory.mktemp("none") / "config.json"))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    for name in [name for name in sys.modules if name.partition(".")[0] == "roboflow"]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def service(server, monkeypatch):
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)
    server.reset()
    return server


def test_a_version_arrives_as_the_readers_take_it(service, tmp_path, capsys):
    service.waits = 1
    out = tmp_path / "new" / "export"
    assert cli.main(["roboflow", "my-lab/smears_2/3", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(out)]
    assert KEY not in captured.err
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "train/_annotations.coco.json",
        "train/a.jpg",
    ]
    assert [p.name for p in out.parent.iterdir()] == ["export"]
    assert "/my-lab/smears_2/3/coco-segmentation" in service.asked
    cli.main(["lint", str(out)])
    assert "unlabelled-cells" not in capsys.readouterr().out


def test_a_project_of_boxes_is_asked_for_boxes(service, tmp_path):
    service.kind = "object-detection"
    (tmp_path / "empty").mkdir()
    steps: list[tuple[int, int]] = []
    download("my-lab/smears_2/3", tmp_path / "empty", progress=lambda *step: steps.append(step))
    assert any((tmp_path / "empty").iterdir())
    assert service.asked[-2].endswith("/coco")
    assert steps == [(len(service.archive), len(service.archive))]


@pytest.mark.parametrize(
    "spec",
    ["", "lab/smears", "lab/smears/latest", "lab/smears/3/4", "../x/3", "lab/sm ears/3", "lab//3"],
)
def test_another_form_of_name_is_refused_before_anything_is_asked(service, spec, tmp_path):
    with pytest.raises(SpherodetectError, match="expected WORKSPACE/PROJECT/VERSION"):
        download(spec, tmp_path / "out")
    assert not service.asked


def test_without_a_key_one_sentence_names_the_variable(service, monkeypatch, tmp_path, capsys):
    for value in ("", "  "):
        monkeypatch.setenv("ROBOFLOW_API_KEY", value)
        assert cli.main(["roboflow", "lab/smears/3", "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "ROBOFLOW_API_KEY" in said
        assert said.count("\n") == 1
    assert not service.asked


BOMB = zipped({"train/_annotations.coco.json": b" " * 200_000_000})
REFUSED = {
    "wrong key": ({"key": "revoked-key"}, "my-lab/smears_2/3", "API key"),
    "no such workspace": ({}, "my-lap/smears_2/3", "'/my-lap "),
    "no such project": ({}, "my-lab/smear/3", "does not exist"),
    "no such version": ({}, "my-lab/smears_2/9", "number 9"),
    "archive gone": ({"status": 403}, "my-lab/smears_2/3", "answers with 403"),
    "broken download": ({"length": 10**6}, "my-lab/smears_2/3", "IncompleteRead|broke off"),
    "half a zip": ({"archive": export()[:-80]}, "my-lab/smears_2/3", "cannot be unpacked"),
    "no zip": ({"archive": b"<html>sign in</html>"}, "my-lab/smears_2/3", "cannot be unpacked"),
    "a zip that leaves": (
        {"archive": zipped({"../evil": b"1"})}, "my-lab/smears_2/3", "got '../evil'",
    ),
    "a bomb": ({"archive": BOMB}, "my-lab/smears_2/3", "times its size"),
    "no labels": (
        {"archive": zipped({"README.roboflow.txt": b"hello"})}, "my-lab/smears_2/3", "COCO labels",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "spec", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_goes_wrong_is_one_line_without_the_key_and_leaves_nothing(
    service, monkeypatch, tmp_path, capsys, caplog, settings, spec, says
):
    caplog.set_level(logging.DEBUG)
    if "key" in settings:
        monkeypatch.setenv("ROBOFLOW_API_KEY", settings["key"])
    for name, value in settings.items():
        setattr(service, name, value)
    with pytest.raises(BadLabelsError, match=says) as caught:
        download(spec, tmp_path / "out")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert cli.main(["roboflow", spec, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    (said,) = (line for line in captured.err.splitlines() if line.startswith("spherodetect: "))
    assert said.count(spec) == 1
    everything = str(caught.value) + captured.out + captured.err + caplog.text
    assert not any(secret in everything for secret in (KEY, LINK_KEY, "revoked-key"))
    assert not list(tmp_path.iterdir())


def test_no_service_at_all(service, monkeypatch, tmp_path, capsys):
    import roboflow

    monkeypatch.setattr(roboflow, "API_URL", "http://127.0.0.1:9")
    assert cli.main(["roboflow", "my-lab/smears_2/3", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "Connection" in said
    assert KEY not in said


def test_an_answer_that_the_client_does_not_understand_is_called_one(
    service, monkeypatch, tmp_path
):
    monkeypatch.setattr(service, "answer", lambda path: (200, {"odd": 1}), raising=False)
    with pytest.raises(BadLabelsError, match="KeyError 'workspace'"):
        download("my-lab/smears_2/3", tmp_path / "out")


def test_an_archive_beyond_the_limit_is_not_written(service, monkeypatch, tmp_path):
    monkeypatch.setattr(roboflow_source, "MAX_ZIP_BYTES", 100)
    with pytest.raises(BadLabelsError, match="more than 100 bytes"):
        download("my-lab/smears_2/3", tmp_path / "out")


def test_files_that_are_there_stay(service, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(SpherodetectError, match="empty folder"):
        download("lab/smears/3", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert not service.asked


def test_without_the_client_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)
    monkeypatch.setitem(sys.modules, "roboflow", None)
    with pytest.raises(SpherodetectError, match=r"pip install 'spherodetect\[train\]'"):
        download("lab/smears/3", Path(tmp_path, "out"))
