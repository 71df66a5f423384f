"""Run the server: on the loopback with the random token of the project, unless told otherwise."""

from __future__ import annotations

import os
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from spherodetect.app.project import Project
from spherodetect.app.security import LOOPBACK, Access
from spherodetect.app.server import create_app
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

if TYPE_CHECKING:
    from spherodetect.detect.detector import Detector

DEFAULT_PORT = 8765
#: The variable of the environment that states a token; an argument could be read by other users.
TOKEN_VARIABLE = "SPHERODETECT_TOKEN"
_LEAST_TOKEN = 16
_STARTS_WITHIN_S = 60.0


class AppServer(uvicorn.Server):
    """A server that tells its address when it listens.

    Attributes:
        url: the start address with the token, or empty before it listens.
    """

    def __init__(self, config: uvicorn.Config, access: Access) -> None:
        super().__init__(config)
        self.access = access
        self.url = ""
        self.port = 0
        self.listens = threading.Event()
        self.told: Callable[[str], None] = lambda url: None

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        self.port = self.servers[0].sockets[0].getsockname()[1]
        name = "127.0.0.1" if self.config.host in ("", "0.0.0.0", "::") else self.config.host
        shown = f"[{name}]" if ":" in name else name
        self.url = f"http://{shown}:{self.port}/?token={self.access.token}"
        self.listens.set()
        self.told(self.url)

    def in_background(self) -> None:
        """Run in a thread, and wait until it listens.

        Raises:
            SpherodetectError: it does not listen.
        """
        threading.Thread(target=self.run, name="spherodetect-app", daemon=True).start()
        if not self.listens.wait(_STARTS_WITHIN_S):
            raise SpherodetectError(
                f"port {self.config.port}: the server does not listen; name another port"
            )

    def stop(self) -> None:
        """Tell a server in the background to end."""
        self.should_exit = True


def make_server(
    folder: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    hosts: Sequence[str] = (),
    frames: Sequence[str] = (),
    model: str | Path | Detector | None = None,
    preload: bool = False,
    reload_web: bool = False,
) -> AppServer:
    """A server of a project that does not run yet.

    Args:
        folder: the project.
        host: the address to listen at; beyond the loopback the token must be stated in the
            environment.
        port: 0 for any free one.
        hosts: further names that a proxy calls the server by; `.example.org` for all below it.
        frames: origins whose pages may show the app in a frame.
        model: as for `score_patients`.
        preload: load the model at once.
        reload_web: read the files of the browser anew at every request.

    Raises:
        SpherodetectError: an unusable folder, or a missing or short token.
    """
    stated = os.environ.get(TOKEN_VARIABLE, "")
    if stated and len(stated) < _LEAST_TOKEN:
        raise SpherodetectError(
            f"{TOKEN_VARIABLE}: expected {_LEAST_TOKEN} characters or more, got {len(stated)}"
        )
    if host not in LOOPBACK:
        if not stated:
            raise SpherodetectError(
                f"--host {quoted(host)}: other machines can reach this address; state a token of "
                f"{_LEAST_TOKEN} characters or more in the variable {TOKEN_VARIABLE}"
            )
        hosts = [*hosts, host]
    project = Project(folder, model)
    access = Access(stated or project.token(), tuple(hosts), tuple(frames))
    app = create_app(project, access, reload_web=reload_web, preload=preload)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="error",
        access_log=False,  # addresses hold the token
        server_header=False,
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
    )
    return AppServer(config, access)


def serve(server: AppServer, *, told: Callable[[str], None], browser: bool) -> None:
    """Run a server until it is interrupted.

    Args:
        told: gets the start address once the server listens.
        browser: open it in a browser.

    Raises:
        SpherodetectError: the port is taken.
    """

    def tell(url: str) -> None:
        told(url)
        if browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    server.told = tell
    try:
        server.run()
    except SystemExit as end:
        raise SpherodetectError(
            f"port {server.config.port}: the server cannot listen there, it is taken or not "
            "allowed; name another one with --port"
        ) from end


__all__ = ["DEFAULT_PORT", "TOKEN_VARIABLE", "AppServer", "make_server", "serve"]
