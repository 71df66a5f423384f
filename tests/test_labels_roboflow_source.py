"""labels.roboflow_source, against a stand-in for Roboflow's client that leaks the key wherever the real one may."""

from __future__ import annotations

import json
import logging
import sys
import types
from pathlib import Path
from typing import ClassVar

import pytest

from spherodetect import cli
from spherodetect.errors import BadLabelsError, SpherodetectError
from spherodetect.labels.roboflow_source import download

KEY = "s3cret-KEY-of-a-lab"


class Client:
    """Roboflow(api_key).workspace(w).project(p).version(n).download(format, location)."""

    asked: ClassVar[list] = []
    type = "instance-segmentation"
    failure: Exception | None = None
    files = ("train/_annotations.coco.json",)

    def __init__(self, api_key: str) -> None:
        self.key = api_key
        print(f"loading Roboflow workspace... key={api_key}")

    def workspace(self, name: str) -> Client:
        self.asked.append(name)
        return self

    project = workspace

    def version(self, number: int) -> Client:
        self.asked.append(number)
        return self

    def download(self, model_format: str, location: str) -> None:
        self.asked += [model_format, self.key]
        assert not Path(location).exists(), "the real client downloads nothing into a folder that is there"
        for name in self.files:
            path = Path(location) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
        if self.failure:
            raise self.failure


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)
    fresh = type("Client", (Client,), {"asked": []})
    module = types.ModuleType("roboflow")
    module.Roboflow = fresh
    monkeypatch.setitem(sys.modules, "roboflow", module)
    return fresh


def test_a_version_arrives_as_coco(client, tmp_path):
    out = download("my-lab/smears_2/3", tmp_path / "new" / "export")
    assert client.asked == ["my-lab", "smears_2", 3, "coco-segmentation", KEY]
    assert [p.name for p in out.rglob("*.json")] == ["_annotations.coco.json"]
    assert [p.name for p in out.parent.iterdir()] == ["export"]


def test_a_project_of_boxes_is_asked_for_boxes(client, tmp_path):
    client.type = "object-detection"
    (tmp_path / "empty").mkdir()
    assert any(download("lab/boxes/1", tmp_path / "empty").iterdir())
    assert client.asked[3] == "coco"


@pytest.mark.parametrize(
    "spec", ["", "lab/smears", "lab/smears/latest", "lab/smears/3/4", "../x/3", "lab/sm ears/3", "lab//3"]
)
def test_another_form_of_name_is_refused_before_anything_is_asked(client, spec, tmp_path):
    with pytest.raises(SpherodetectError, match="expected WORKSPACE/PROJECT/VERSION"):
        download(spec, tmp_path / "out")
    assert not client.asked


def test_without_a_key_one_sentence_names_the_variable(client, monkeypatch, tmp_path, capsys):
    for value in ("", "  "):
        monkeypatch.setenv("ROBOFLOW_API_KEY", value)
        assert cli.main(["roboflow", "lab/smears/3", "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "ROBOFLOW_API_KEY is not set" in said
        assert said.count("\n") == 1
    assert not client.asked


def test_the_key_is_in_no_output_log_or_error(client, tmp_path, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    client.failure = RuntimeError(
        f"401 for https://api/x?api_key={KEY}&nocache=true and https://zip?key=another-secret"
    )
    with pytest.raises(BadLabelsError) as caught:
        download("lab/smears/3", tmp_path / "out")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    client.failure = RuntimeError(KEY)
    assert cli.main(["roboflow", "lab/smears/3", "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    everything = str(caught.value) + captured.out + captured.err + caplog.text
    assert KEY not in everything
    assert "another-secret" not in everything
    assert "401 for" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_export_without_labels_is_refused_and_leaves_nothing(client, tmp_path):
    client.files = ("README.roboflow.txt",)
    with pytest.raises(BadLabelsError, match="expected COCO labels"):
        download("lab/smears/3", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_stay(client, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(SpherodetectError, match="expected an empty folder"):
        download("lab/smears/3", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert not client.asked


def test_without_the_client_the_extra_is_named(client, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "roboflow", None)
    with pytest.raises(SpherodetectError, match=r"pip install 'spherodetect\[train\]'"):
        download("lab/smears/3", tmp_path / "out")
