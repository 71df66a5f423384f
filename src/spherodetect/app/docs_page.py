"""The page docs: the routes of the server, from its OpenAPI document, without any script."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Response

from spherodetect.app.state import reply

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>spherodetect: routes</title></head><body>
<h1>spherodetect: routes</h1>
<p>For other programs: send <code>Authorization: Bearer TOKEN</code>. The whole description is
<a href="openapi.json">openapi.json</a>.</p>
{% for tag, routes in groups.items() %}
<h2>{{ tag }}</h2>
<dl>{% for route in routes %}
<dt><code>{{ route.method }} {{ route.path }}</code></dt>
<dd>{{ route.summary }}{% if route.parameters %}<br>
Parameters: <code>{{ route.parameters | join(", ") }}</code>{% endif %}
{% if route.body %}<br>Body: <code>{{ route.body }}</code>{% endif %}</dd>
{% endfor %}</dl>
{% endfor %}
</body></html>
"""


def docs_routes(app: FastAPI) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/openapi.json")
    def document() -> Response:
        return reply(app.openapi())

    @routes.get("/docs")
    def page() -> Response:
        from jinja2 import Environment

        template = Environment(autoescape=True).from_string(_PAGE)
        text = template.render(groups=_groups(app.openapi()))
        return Response(text, media_type="text/html; charset=utf-8")

    return routes


def _groups(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            body = route.get("requestBody", {}).get("content", {})
            kinds = [
                content.get("schema", {}).get("$ref", kind).rpartition("/")[2]
                for kind, content in body.items()
            ]
            groups.setdefault(route["tags"][0], []).append(
                {
                    "method": method.upper(),
                    "path": path.lstrip("/"),
                    "summary": route.get("summary", ""),
                    "parameters": [p["name"] for p in route.get("parameters", [])],
                    "body": ", ".join(kinds),
                }
            )
    return groups


__all__ = ["docs_routes"]
