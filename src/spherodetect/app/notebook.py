"""`show`: the app in a notebook, in Jupyter and in Colab."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spherodetect.app.serve import AppServer, make_server
from spherodetect.errors import SpherodetectError
from spherodetect.report.results import Result

if TYPE_CHECKING:
    from spherodetect.detect.detector import Detector

#: Pages that may show the app in a frame: those of notebooks on this machine, and of Colab.
_FRAMES = (
    "http://localhost:*",
    "http://127.0.0.1:*",
    "https://colab.research.google.com",
    "https://*.googleusercontent.com",
    "https://*.prod.colab.dev",
)
_COLAB_HOSTS = (".googleusercontent.com", ".prod.colab.dev")
_running: dict[Path, AppServer] = {}


def show(
    results: Result | str | Path, *, height: int = 800, model: str | Path | Detector | None = None
) -> AppServer:
    """Show the app on results of `score_patients`, or on any project folder, below the cell.

    The server runs in this process until it ends; a second call for the same folder shows the same
    server.

    Args:
        results: what `score_patients` returned for a folder, or a folder.
        height: of the frame, in pixels.
        model: the detector, as for `score_patients`.

    Returns:
        the server; `.url` is its address, `.stop()` ends it.

    Raises:
        SpherodetectError: results that were not written to a folder.

    >>> server = show("smears")  # doctest: +SKIP
    """
    folder = _folder(results).resolve()
    server = _running.get(folder)
    if server is None or server.should_exit:
        hosts = _COLAB_HOSTS if _in_colab() else ()
        server = make_server(folder, port=0, hosts=hosts, frames=_FRAMES, model=model)
        server.in_background()
        _running[folder] = server
    _display(server, height)
    return server


def frame_address(server: AppServer, environment: dict[str, str] | None = None) -> str:
    """The address for a frame of a notebook.

    A notebook server of JupyterHub reaches the app by its own proxy, below its own address.
    """
    asked = f"?token={server.access.token}&frame=1"
    prefix = (environment or dict(os.environ)).get("JUPYTERHUB_SERVICE_PREFIX")
    if prefix:
        return f"{prefix.rstrip('/')}/proxy/{server.port}/{asked}"
    return f"http://127.0.0.1:{server.port}/{asked}"


def _folder(results: Result | str | Path) -> Path:
    if not isinstance(results, Result):
        return Path(results)
    if results.report is None:
        raise SpherodetectError(
            "show: expected results that lie in a folder, got some that were not written; pass out "
            "to score_patients"
        )
    return results.report.parent


def _in_colab() -> bool:
    # Colab's own modules are loaded before the first cell.
    return "google.colab" in sys.modules


def _display(server: AppServer, height: int) -> None:
    if _in_colab():
        from google.colab import output

        path = f"/?token={server.access.token}&frame=1"
        output.serve_kernel_port_as_iframe(server.port, path=path, height=str(height))
        output.serve_kernel_port_as_window(server.port, path=path)
        return
    try:
        from IPython.display import HTML, IFrame, display
    except ModuleNotFoundError:
        return  # a plain Python session: the address is in the result
    address = frame_address(server)
    display(IFrame(address, width="100%", height=height))
    link = address.replace("&frame=1", "")
    display(HTML(f'<a href="{link}" target="_blank" rel="noopener">Open the app in a tab</a>'))


__all__ = ["frame_address", "show"]
