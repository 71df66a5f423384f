"""The browser's half of the app: files of the package, by name, never by path.

The table of names is made when the server starts, so nothing outside of it can be asked for.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from spherodetect.app.errors import NotThere
from spherodetect.app.state import State
from spherodetect.safety import sha256

WEB = Path(__file__).with_name("web")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".woff2": "font/woff2",
}
#: Where index.html gets the token if the page is in a frame, whose cookies a browser may refuse.
_PLACE = "<!-- token -->"


def web_routes(state: State) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    files = _files()

    @routes.get("/")
    def start(token: str = "", frame: bool = False) -> Response:
        # The guard has checked that the caller has the token, here or in a cookie.
        if token and not frame:
            answer = RedirectResponse("./", 303)
            answer.set_cookie(
                state.access.cookie, state.access.token, httponly=True, samesite="strict", path="/"
            )
            return answer
        page = _read("index.html", state, files).decode()
        if token:
            meta = f'<meta name="spherodetect-token" content="{state.access.token}">'
            page = page.replace(_PLACE, meta)
        return Response(page, media_type=_TYPES[".html"])

    @routes.get("/web/{name:path}")
    def file(request: Request, name: str) -> Response:
        data = _read(name, state, files)
        tag = f'"{sha256(data)[:20]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type=_TYPES[Path(name).suffix])

    return routes


def _read(name: str, state: State, files: dict[str, bytes]) -> bytes:
    known = _files() if state.reload_web else files
    if name not in known:
        raise NotThere("expected the name of a file of this app, got another one")
    return known[name]


def _files() -> dict[str, bytes]:
    return {
        path.relative_to(WEB).as_posix(): path.read_bytes()
        for path in sorted(WEB.rglob("*"))
        if path.is_file() and path.suffix in _TYPES
    }


__all__ = ["WEB", "web_routes"]
