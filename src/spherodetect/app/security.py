"""`Guard`: what every request passes before anything else sees it.

The server is bound to the loopback by default, where every program of the machine and, by way of
the browser, every web page can reach it. So each request needs the token of the start page, as a
cookie or as `Authorization: Bearer`; the Host must be one that the server is meant to have, against
DNS rebinding; a change must come from a page of this server; and a body is limited in size and
time. Answers name a content security policy without inline script and without other sources.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spherodetect.app.errors import TooLarge
from spherodetect.safety import sha256

LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Limits of a body, in bytes: of JSON, and of the paths that take files.
MAX_JSON_BYTES = 4 * 2**20
MAX_IMAGE_BYTES = 128 * 2**20
MAX_UPLOAD_BYTES = 512 * 2**20
#: A body that stops for longer is given up.
BODY_TIMEOUT_S = 60.0
_BODIES: Mapping[str, int] = {
    "/api/fields": MAX_IMAGE_BYTES,
    "/api/imports/coco": MAX_UPLOAD_BYTES,
    "/v1/detect": MAX_IMAGE_BYTES,
    "/v1/score": MAX_UPLOAD_BYTES,
}
#: What needs no token: files of the package, and whether the server is up.
_OPEN = ("/web/", "/healthz", "/readyz")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors "
)
_LOCKED = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>spherodetect</title>"
    "<p>This page needs the address that <code>spherodetect app</code> printed in the terminal, "
    "with its token."
)


class SlowBody(Exception):
    """A request whose body stopped."""


@dataclass(frozen=True)
class Access:
    """Who may talk to the server.

    Attributes:
        token: a secret text.
        hosts: names that a request may call the server by, besides those of the loopback.
        frames: origins whose pages may show the app in a frame, such as a notebook's.
    """

    token: str
    hosts: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()

    @property
    def cookie(self) -> str:
        """The name of the cookie: two servers of one machine share its cookies."""
        return f"spherodetect-{sha256(self.token.encode())[:8]}"

    def is_host(self, name: str) -> bool:
        """Whether the server is called by this name; `.example.org` stands for all below it."""
        return name in (*LOOPBACK, *self.hosts) or any(
            host.startswith(".") and name.endswith(host) for host in self.hosts
        )

    def is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self.token.encode())


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        frames = " ".join(("'self'", *access.frames))
        self._headers = [
            (b"content-security-policy", (_POLICY + frames).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *self._headers]
                if b"cache-control" not in names:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        path = _path(scope)
        if (problem := self._refused(scope, path, headers)) is not None:
            await _answer(sending, *problem)
            return
        limit = _BODIES.get(path, MAX_JSON_BYTES)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            await _answer(sending, 413, f"expected a body of at most {limit:,} bytes, got more")
            return
        await self.app(scope, _limited(receive, limit), sending)

    def _refused(
        self, scope: Scope, path: str, headers: Mapping[str, str]
    ) -> tuple[int, str] | None:
        """The status and the sentence for a request that is refused, or None."""
        host = headers.get("host", "")
        if not self.access.is_host(_name(host)):
            return 400, (
                "expected a Host that this server is called by, got another one; start it with "
                "--allow-host NAME if a proxy calls it by that name"
            )
        if path.startswith(_OPEN):
            return None
        bearer = headers.get("authorization", "")
        by_bearer = bearer[:7].lower() == "bearer " and self.access.is_token(bearer[7:].strip())
        by_cookie = self.access.is_token(_cookie(headers, self.access.cookie))
        if path == "/":
            asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
            if not (by_bearer or by_cookie or self.access.is_token(asked)):
                return 401, ""
            return None
        if not (by_bearer or by_cookie):
            return 401, (
                "expected the token of this server, got none or another one; open the address that "
                "`spherodetect app` printed, or send Authorization: Bearer TOKEN"
            )
        if scope["method"] not in _SAFE_METHODS and not by_bearer and not self._same(headers):
            return 403, "expected a change from a page of this server, got one from another page"
        return None

    def _same(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from a page of this server, or from no page."""
        if (site := headers.get("sec-fetch-site")) is not None:
            return site in ("same-origin", "none")
        origin = headers.get("origin")
        if origin is None:
            return True
        place = urlsplit(origin).netloc
        return place == headers.get("host")


def _path(scope: Scope) -> str:
    """The path below the base path of a proxy."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


def _name(host: str) -> str:
    """The name in a Host header, without its port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(headers: Mapping[str, str], name: str) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _limited(receive: Receive, limit: int) -> Receive:
    """The body, which may neither grow beyond a limit nor stop."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        if read < 0:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
        except TimeoutError:
            raise SlowBody from None
        if message["type"] != "http.request":
            return message
        read += len(message.get("body", b""))
        if read > limit:
            raise TooLarge(f"expected a body of at most {limit:,} bytes, got more")
        if not message.get("more_body", False):
            read = -1  # the next message is the browser's leaving, which may take its time
        return message

    return limited


async def _answer(send: Send, status: int, sentence: str) -> None:
    kind, body = b"application/json", json.dumps({"error": sentence}).encode()
    if not sentence:
        kind, body = b"text/html; charset=utf-8", _LOCKED.encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


__all__ = [
    "BODY_TIMEOUT_S",
    "LOOPBACK",
    "MAX_IMAGE_BYTES",
    "MAX_JSON_BYTES",
    "MAX_UPLOAD_BYTES",
    "Access",
    "Guard",
    "SlowBody",
]
