"""Slow tests of the app's server: fuzzed requests, a killed process, the memory of many fields."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from tests.app_project import TOKEN, draw_project

pytest.importorskip("fastapi", reason="needs the extra [app]")

from spherodetect.app.project import Project
from spherodetect.app.security import Access
from spherodetect.app.segmenting import run_over
from spherodetect.app.server import create_app

pytestmark = pytest.mark.slow
#: Requests of the fuzzing test; SPHERODETECT_FUZZ changes it.
N_FUZZED = int(os.environ.get("SPHERODETECT_FUZZ", "10000"))


def test_fuzzed_requests_never_break_the_server(tmp_path):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    truth = draw_project(tmp_path, n_patients=1, n_fields=1)
    project = Project(tmp_path, truth)
    app = create_app(project, Access(TOKEN))
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.app = app
    operations = [found.ok() for found in schema.get_all_operations()]
    # Whether an operation is asked with valid or with broken values is drawn too.
    modes = list(schemathesis.GenerationMode)
    cases = st.one_of(
        *(one.as_strategy(generation_mode=mode) for one in operations for mode in modes)
    )
    sent: list[int] = []
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "127.0.0.1"}

    @settings(
        max_examples=N_FUZZED,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    @given(case=cases)
    def send(case):
        answer = case.call(headers=headers)
        sent.append(answer.status_code)
        assert answer.status_code not in (500, 502, 504), (case, answer.content[:200])

    send()
    assert len(sent) >= N_FUZZED
    assert {200, 404, 422} <= set(sent)


class _Server:
    """A server in a process of its own, which can be killed."""

    def __init__(self, folder) -> None:
        self.folder = folder
        environment = {**os.environ, "SPHERODETECT_TOKEN": TOKEN}
        command = [sys.executable, "-m", "spherodetect", "app", str(folder), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--no-browser"], env=environment, stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        self.port = int(re.search(r":(\d+)/", line)[1])

    def ask(self, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def test_a_killed_server_lost_nothing_that_it_confirmed_and_doubled_nothing(tmp_path):
    draw_project(tmp_path, n_patients=1, n_fields=1)
    server = _Server(tmp_path)
    while server.ask("api/session")["n_fields"] < 1:
        time.sleep(0.1)
    run = {"method": "watershed", "fields": "all", "reviewer": "anna"}
    job = server.ask("api/segment/runs", run)["job"]
    while server.ask(f"api/jobs/{job['id']}")["job"]["state"] != "done":
        time.sleep(0.1)
    ids = [one["id"] for one in server.ask("api/fields/1/objects")["objects"]]
    confirmed: dict[int, int] = {}
    rng = np.random.default_rng(1)
    unsure = None
    for life in range(4):
        for k in range(25):
            object_id, label = int(rng.choice(ids)), int(rng.integers(1, 5))
            item = {"object": object_id, "label": label}
            step = {"key": f"life-{life}-{k:04d}", "kind": "label", "items": [item]}
            if k == 24:
                # The answer to this one is lost: the browser sends it again to the next server.
                unsure = step
                body = json.dumps({"reviewer": "anna", "steps": [step]}).encode()
                _send_and_leave(server.port, body)
                break
            server.ask("api/steps", {"reviewer": "anna", "steps": [step]})
            confirmed[object_id] = label
        server.kill()
        server = _Server(tmp_path)
        answer = server.ask("api/steps", {"reviewer": "anna", "steps": [unsure]})
        assert answer["results"][0]["status"] in ("stored", "known")
        (item,) = unsure["items"]
        confirmed[item["object"]] = item["label"]
        found = {
            one["id"]: one["label"]
            for one in server.ask("api/fields/1/objects")["objects"]
            if one["label"]
        }
        assert found == confirmed
    server.kill()
    project = Project(tmp_path)
    assert project.base.number("SELECT count(*) FROM label_event") == 100
    project.close()


def _send_and_leave(port, body):
    """Send a step and do not wait for the answer."""
    import socket

    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = (
            f"POST /api/steps HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)


def test_health_is_answered_at_once_during_detection(tmp_path):
    draw_project(tmp_path, n_patients=2, n_fields=3)
    server = _Server(tmp_path)
    try:
        while server.ask("api/session")["n_fields"] < 6:
            time.sleep(0.1)
        run = {"method": "model", "fields": "all", "reviewer": "anna"}
        job = server.ask("api/segment/runs", run)["job"]
        while server.ask(f"api/jobs/{job['id']}")["job"]["done"] < 1:
            time.sleep(0.2)  # the model is loaded
        times = []
        while server.ask(f"api/jobs/{job['id']}")["job"]["state"] == "running":
            began = time.perf_counter()
            server.ask("healthz")
            times.append(1000 * (time.perf_counter() - began))
        assert len(times) > 20
        print(f"healthz during detection: p95 {np.percentile(times, 95):.0f} ms, n {len(times)}")
        assert np.percentile(times, 95) < 100
    finally:
        server.kill()


def _memory_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_the_memory_of_three_hundred_fields_stays_flat(tmp_path):
    from fastapi.testclient import TestClient

    from spherodetect.app.methods import method_named
    from spherodetect.app.methods.method import checked_params

    draw_project(tmp_path, n_patients=1, n_fields=1)
    image = np.array(Image.open(tmp_path / "p1" / "f1.png"))
    (tmp_path / "many").mkdir()
    for k in range(300):
        copy = image.copy()
        copy[0, 0] = (k % 256, k // 256, 0)
        Image.fromarray(copy).save(tmp_path / "many" / f"{k:03d}.png")
    project = Project(tmp_path)
    app = create_app(project, Access(TOKEN))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
        while client.get("/api/jobs").json()["jobs"][0]["state"] in ("waiting", "running"):
            time.sleep(0.2)
        fields = client.get("/api/fields").json()["fields"]
        assert len(fields) == 301
        method = method_named("watershed")
        memory = []
        for first in range(0, 300, 60):
            ids = [field["id"] for field in fields[first : first + 60]]
            job = _Job()
            for _ in run_over(project, ids, method, checked_params(method, {}), "anna")(job):
                pass
            for field_id in ids:
                client.get(f"/api/fields/{field_id}/image")
                client.get(f"/api/fields/{field_id}/objects")
            memory.append(_memory_mb())
        # Photographs are kept up to a limit, which the first 180 of these fields reach.
        assert max(memory[3:]) - memory[2] < 20, memory
        assert memory[-1] - memory[0] < 150, memory


class _Job:
    result = None

    def progress(self, *_):
        pass
