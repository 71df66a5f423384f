"""A stand-in of the app's server inside the browser, for tests of the page alone.

The page's requests are answered by Playwright, from memory: no port is opened, and the answers can
be withheld at any moment. Whatever the page asks for beyond it is an error of the test.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

WEB = Path(__file__).resolve().parents[1] / "src" / "spherodetect" / "app" / "web"
URL = "http://app.test/base/"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
LABELS = [
    {"id": number, "name": name, "colour": colour, "key": key, "meaning": meaning, "n_used": 0}
    for number, name, colour, key, meaning in (
        (1, "rbc", "#282828", "1", "class"),
        (2, "spherocyte", "#0048ba", "2", "class"),
        (6, "not a cell", "#5b6673", "x", "ignore"),
    )
]


def disc(x: float, y: float, radius: float, points: int = 24) -> list[float]:
    """The flat polygon of a disc."""
    angles = [2 * math.pi * i / points for i in range(points)]
    return [v for a in angles for v in (x + radius * math.cos(a), y + radius * math.sin(a))]


def object_of(number: int, ring: list[float], **other: Any) -> dict[str, Any]:
    """A record of an object as the server sends it."""
    xs, ys = ring[::2], ring[1::2]
    return {
        "id": number, "field": 1, "visible": True, "box_yxyx": [min(ys), min(xs), max(ys), max(xs)],
        "polygon_xy": ring, "area_px": 400.0, "diameter_um": None, "countable": True, "label": None,
        "by": None, "at": None, "seen": None, "labels": {}, "model": None, "classifier": None,
        "doubt": None, "method": "watershed", "flags": [],
    } | other  # fmt: skip


class StubApp:
    """Answers the page from memory.

    Attributes:
        objects: the records by id.
        steps: what the page sent, in the order of storage, each key once.
        online: False lets every call fail as if no server were there.
        asked: method and path of every call of the interface.
    """

    def __init__(self, objects: list[dict[str, Any]], size: tuple[int, int] = (640, 480)) -> None:
        self.objects = {one["id"]: one for one in objects}
        self.size = size
        self.steps: list[dict[str, Any]] = []
        self.online = True
        self.asked: list[str] = []
        self.done: list[tuple[list, list]] = []
        self.undone: list[tuple[list, list]] = []
        self.answers: dict[str, Callable[[dict, dict], Any]] = {
            "session": lambda q, b: {
                "project": "drawn", "project_id": "ab12", "version": "0", "set": 1, "cursor": 0,
                "reviewers": [], "n_patients": 1, "n_fields": 1, "problems": [],
            },
            "label-sets": lambda q, b: {
                "active": 1, "sets": [{"id": 1, "name": "blood smear", "labels": LABELS}],
            },
            "changes": lambda q, b: {
                "cursor": 0, "reset": False, "objects": [], "fields": [], "kinds": [], "jobs": [],
            },
            "jobs": lambda q, b: {"jobs": []},
            "fields": lambda q, b: {"fields": [self.field]},
            "fields/1/objects": lambda q, b: {
                "field": self.field, "cursor": 0,
                "objects": [one for one in self.objects.values() if one["visible"]],
            },
            "cards": lambda q, b: {
                "total": len(self.objects), "cards": list(self.objects.values()),
            },
            "undo": lambda q, b: self.undoable,
            "steps": lambda q, b: self.take(b),
            "crops": lambda q, b: picture(int(q["size"]) * 10, int(q["size"]) * 10),
            "fields/1/image": lambda q, b: picture(*self.size),
        }  # fmt: skip

    @property
    def field(self) -> dict[str, Any]:
        return {
            "id": 1, "patient": "p1", "name": "p1/a.png", "width": self.size[0],
            "height": self.size[1], "um_per_px": None, "scale_source": None,
            "scale_confirmed": False, "n_objects": len(self.objects), "n_labelled": 0,
            "n_queued": 0, "method": "watershed", "accepted": True, "reason": "",
        }  # fmt: skip

    @property
    def undoable(self) -> dict[str, bool]:
        return {"can_undo": bool(self.done), "can_redo": bool(self.undone)}

    def take(self, body: dict[str, Any]) -> dict[str, Any]:
        """Store steps once each, as the server does."""
        results, changed = [], {}
        known = {step["key"] for step in self.steps}
        for step in body["steps"]:
            status = "known" if step["key"] in known else "stored"
            if status == "stored":
                self.steps.append(step | {"reviewer": body["reviewer"]})
                changed |= self.change(step, body["reviewer"])
            results.append(
                {"key": step["key"], "status": status, "step": len(self.steps), "error": None,
                 "fields": [1], "undid": None}
            )  # fmt: skip
        return {"results": results, "objects": list(changed.values()), "cursor": 0, **self.undoable}

    def change(self, step: dict[str, Any], reviewer: str) -> dict[int, dict]:
        """Make a step, and return the records that it changed."""
        items: list[dict] = []
        if step["kind"] == "label":
            items = step["items"]
            before = [
                {"object": i["object"], "label": self.objects[i["object"]]["label"]} for i in items
            ]
            self.done.append((before, items))
            self.undone.clear()
        elif step["kind"] == "undo" and self.done:
            self.undone.append(self.done.pop())
            items = self.undone[-1][0]
        elif step["kind"] == "redo" and self.undone:
            self.done.append(self.undone.pop())
            items = self.done[-1][1]
        elif step["kind"] == "draw":
            number = max(self.objects) + 1
            self.objects[number] = object_of(number, step["polygon_xy"], label=step["label"])
            return {number: self.objects[number]}
        for item in items:
            self.objects[item["object"]] |= {"label": item["label"], "by": reviewer}
        return {item["object"]: self.objects[item["object"]] for item in items}

    def serve(self, context: Any) -> None:
        """Answer every request of a browser context."""
        context.route("**/*", self._route)

    def _route(self, route: Any) -> None:
        request = route.request
        path = request.url.removeprefix(URL)
        if path == request.url:
            route.abort()
            return
        if not path or path.startswith("web/"):
            file = WEB / (path.removeprefix("web/") or "index.html")
            headers = {"Content-Security-Policy": CSP}
            if not file.is_file():
                route.fulfill(status=404)
                return
            route.fulfill(path=file, content_type=TYPES[file.suffix], headers=headers)
            return
        parts = urlsplit(path)
        name = parts.path.removeprefix("api/")
        self.asked.append(f"{request.method} {name}")
        if not self.online:
            route.abort()
            return
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        body = json.loads(request.post_data) if request.post_data else {}
        if name not in self.answers:
            route.fulfill(status=404, json={"error": f"The stand-in knows no {name}."})
            return
        answer = self.answers[name](query, body)
        if isinstance(answer, bytes):
            route.fulfill(body=answer, content_type="image/png")
        else:
            route.fulfill(json=answer)


def picture(width: int, height: int) -> bytes:
    """A grey picture as PNG."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (214, 200, 206)).save(file, "PNG")
    return file.getvalue()
