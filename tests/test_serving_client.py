"""serving/client.py against a server with the bundled SavedModel and the REST API of Serving."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spherodetect.score.counts import STATUSES, score_counts
from spherodetect.synthetic import draw_field

SERVING = Path(__file__).resolve().parents[1] / "serving"
UM_PER_PX = 0.2


@pytest.fixture(scope="module")
def client() -> ModuleType:
    spec = spec_from_file_location("client", SERVING / "client.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fields() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    sizes = ((160, 200), (128, 240), (200, 200))
    return [draw_field(rng, n_cells=10, spherocyte_fraction=0.3, size_hw=hw).image for hw in sizes]


@pytest.fixture(scope="module")
def files(fields) -> list[bytes]:
    return [png(image) for image in fields]


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _decoded(value: Any) -> Any:
    """JSON with {"b64": ...} decoded to bytes."""
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return [_decoded(v) for v in value] if isinstance(value, list) else value


def predict(signatures: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The REST API of https://www.tensorflow.org/tfx/serving/api_rest.

    `instances` is the row format, which needs a batch axis in every output. `inputs` is the column
    format.
    """
    import tensorflow as tf

    signature = signatures[request.get("signature_name", "serving_default")]
    rows = request.get("instances")
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else request["inputs"]
    wanted = signature.structured_input_signature[1]
    if set(columns) != set(wanted):
        raise ValueError(f"expected inputs {sorted(wanted)}, got {sorted(columns)}")
    found = signature(
        **{name: tf.constant(_decoded(v), wanted[name].dtype) for name, v in columns.items()}
    )
    values = {name: value.numpy().tolist() for name, value in found.items()}
    if not rows:
        return {"outputs": values}
    if any(np.ndim(v) == 0 or len(v) != len(rows) for v in values.values()):
        raise ValueError("an output has no batch axis of the length of the instances")
    return {
        "predictions": [
            {name: value[k] for name, value in values.items()} for k in range(len(rows))
        ]
    }


@pytest.fixture(scope="module")
def url(bundled_model) -> Iterator[str]:
    """A server of the model in serving/models.config, which is the bundled one."""
    import tensorflow as tf

    (name,) = re.findall(
        r'^\s*name: "(\w+)"', (SERVING / "models.config").read_text(), re.MULTILINE
    )
    signatures = tf.saved_model.load(str(bundled_model / "saved_model")).signatures

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, answer = 404, {"error": f"no {self.path}"}
            if self.path == f"/v1/models/{name}:predict":
                try:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                    status, answer = 200, predict(signatures, json.loads(body))
                except (ValueError, KeyError, tf.errors.InvalidArgumentError) as error:
                    status, answer = 400, {"error": str(error)}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/models/{name}"
    server.shutdown()


def test_the_cells_of_a_batch_equal_those_of_each_field(client, url, fields, files, loaded_model):
    rows = client.detect(url, files, UM_PER_PX)
    for row, image in zip(rows, fields, strict=True):
        cells = loaded_model.detect(image, UM_PER_PX)
        n = row["num_detections"]
        assert n == len(cells) > 5
        np.testing.assert_allclose(row["boxes_yxyx"][:n], cells.box_yxyx, atol=0.01)
        np.testing.assert_allclose(row["p_spherocyte"][:n], cells.p_spherocyte, atol=1e-4)
        assert row["countable"][:n] == cells.countable.tolist()
        assert not np.any(row["boxes_yxyx"][n:]) and row["truncated"] is False


def test_the_score_of_the_server_equals_that_of_the_package(
    client, url, fields, files, loaded_model
):
    found = client.score(url, files, UM_PER_PX)
    cells = [loaded_model.detect(image, UM_PER_PX) for image in fields]
    sphere = loaded_model.class_names.index("spherocyte") + 1
    spherocytes = np.array([int((c.countable & (c.class_id == sphere)).sum()) for c in cells])
    countable = np.array([int(c.countable.sum()) for c in cells])
    assert (found["n_spherocytes"], found["n_countable"]) == (spherocytes.sum(), countable.sum())
    assert found["n_cells"] == sum(map(len, cells))
    score = score_counts(spherocytes, countable, model=loaded_model)
    for name in ("raw_percent", "hs_score", "hs_score_low", "hs_score_high"):
        np.testing.assert_allclose(found[name], getattr(score, name), atol=1e-3)
    assert client.STATUSES == STATUSES and STATUSES[found["status_code"]] == score.status


def test_the_command_prints_cells_and_scores(client, url, files, tmp_path, capsys):
    paths = []
    for k, data in enumerate(files):
        paths.append(str(tmp_path / f"{k}.png"))
        Path(paths[-1]).write_bytes(data)
    client.main([*paths, "--url", url, "--um-per-px", str(UM_PER_PX)])
    client.main(["--score", *paths, "--url", url])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].startswith(paths[0]) and "countable" in lines[0]
    assert "95 % interval" in lines[4] and lines[4].endswith("insufficient_cells")


def test_an_error_of_the_server_is_reported(client, url):
    with pytest.raises(SystemExit, match=r"400.*JPEG or PNG"):
        client.detect(url, [b"no image"])
    with pytest.raises(SystemExit, match="404"):
        client.detect(url + "x", [b""])


def test_an_output_without_a_batch_axis_needs_the_column_format(url, client, files):
    """The reason why the client uses the column format for score_patient."""
    rows = [{"image_bytes": client.encoded(files[0]), "um_per_px": 0.0}]
    with pytest.raises(SystemExit, match=r"400.*no batch axis"):
        client._post(url, {"signature_name": "score_patient", "instances": rows})
