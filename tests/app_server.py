"""The app's server as a process of its own, and proxies in front of it, for tests in a browser."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from spherodetect.synthetic import draw_patient

TOKEN = "a-token-for-the-tests"
#: Arguments of chromium.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
#: Headers of one connection, which a proxy does not hand on.
_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def as_reviewer(name: str) -> str:
    """A script that names the reviewer of a page; an empty first page has no storage."""
    return (
        "if (location.protocol === 'http:' && !sessionStorage.getItem('spherodetect reviewer'))"
        f" sessionStorage.setItem('spherodetect reviewer', {json.dumps(name)})"
    )


class AppServer:
    """`spherodetect app` on a folder. `port` 0 takes a free one, which a restart keeps."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def start_url(self) -> str:
        return f"{self.url}?token={TOKEN}"

    def start(self) -> AppServer:
        command = [sys.executable, "-m", "spherodetect", "app", str(self.folder), "--no-browser"]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"SPHERODETECT_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout
        for line in self.process.stdout:
            if "http://" in line:
                self.port = int(line.split("127.0.0.1:")[1].split("/")[0])
                # The pipe is emptied, so that the server never waits for it.
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                self.wait_for_fields()
                return self
        raise RuntimeError("the server ended before it listened")

    def wait_for_fields(self) -> None:
        """Wait until the server has looked for photographs."""
        while any(job["state"] in {"waiting", "running"} for job in self.call("jobs")["jobs"]):
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server as `kill -9` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def call(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """An answer of the interface, parsed."""
        request = urllib.request.Request(
            f"{self.url}api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def run(self, path: str, body: Any) -> Any:
        """The result of a job."""
        job = self.call(path, "POST", body)["job"]
        while job["state"] in {"waiting", "running"}:
            time.sleep(0.1)
            job = self.call(f"jobs/{job['id']}")["job"]
        assert job["state"] == "done", job
        return job["result"]

    def objects(self, field: int) -> list[dict[str, Any]]:
        return self.call(f"fields/{field}/objects")["objects"]

    def labels(self, field: int) -> dict[int, int | None]:
        """Label by id of the objects of a field."""
        return {one["id"]: one["label"] for one in self.objects(field)}


def draw_project(folder: Path, *, patients: int, fields: int, cells: int) -> Path:
    """A folder with a sub-folder of drawn fields for each patient."""
    for number in range(patients):
        name = f"p{number + 1}"
        (folder / name).mkdir(parents=True)
        drawn = draw_patient(
            number, spherocyte_fraction=0.2, n_fields=fields, n_cells=cells,
            size_hw=(480, 640), patient_id=name,
        )  # fmt: skip
        for at, field in enumerate(drawn):
            Image.fromarray(field.image).save(folder / name / f"{at}.png")
    return folder


@contextmanager
def proxy(port: int, *, prefix: str = "/", delay_s: float = 0.0) -> Iterator[str]:
    """The address of a proxy, below a path as jupyter-server-proxy's, or slow.

    It hands on plain requests and refuses to upgrade a connection, so there are no websockets.

    Args:
        port: of the server behind it.
        prefix: the path that it takes away.
        delay_s: every answer is held back for so long.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(delay_s)
            if "upgrade" in self.headers.get("Connection", "").lower():
                self.answer(400, [], b"no websockets")
                return
            if not self.path.startswith(prefix):
                self.answer(404, [], b"outside of the proxy's path")
                return
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _OF_ONE_HOP}
            behind = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                behind.request(self.command, "/" + self.path.removeprefix(prefix), body, headers)
                got = behind.getresponse()
                self.answer(got.status, got.getheaders(), got.read())
            except OSError:
                # The browser may have gone away itself.
                with suppress(OSError):
                    self.answer(502, [], b"nobody is behind the proxy")
            finally:
                behind.close()

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in _OF_ONE_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
