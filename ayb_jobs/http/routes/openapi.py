"""The OpenAPI document, and a page that shows it, from files that are installed with the daemon."""

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Response

from ayb_jobs.http.edge.problems import Refused

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")

# The page runs the scripts that are served from here, and nothing else; swagger-ui sets styles and data: images itself.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>ayb-jobs API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({url: "/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null});
"""


def router() -> APIRouter:
    """Return the routes of the documentation; it is the same for every installation, so that no token is needed."""
    routes = APIRouter(include_in_schema=False)
    routes.add_api_route("/docs", page, response_model=None)
    routes.add_api_route("/docs/{name}", asset, response_model=None)
    return routes


async def page() -> Response:
    """Show the page."""
    return Response(PAGE, headers={"Content-Security-Policy": CONTENT_POLICY}, media_type="text/html")


def asset(name: str) -> Response:
    """Give one of the page's files."""
    if name == "start.js":
        return Response(START, media_type="text/javascript")
    if name not in ASSETS:
        raise Refused(404, f"there is nothing at /docs/{name}")
    content = (files("fastapi_offline") / "static" / name).read_bytes()
    return Response(content, media_type=MEDIA_TYPES[f".{name.rpartition('.')[2]}"])


def describe(app: FastAPI) -> None:
    """Complete the document: how to show a token, what bodies refer to, and no 422, which this API never answers."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _remove_422(document)
            _collect_definitions(document)
            document.setdefault("components", {})["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer", "description": "An admin token, or one with a scope"}
            }
            document["security"] = [{"token": []}, {}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's own way to extend the document


def _remove_422(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _collect_definitions(document: dict[str, Any]) -> None:
    """Move what the schemas of bodies refer to, to where references of the whole document point."""
    for path in document["paths"].values():
        for operation in path.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                document["components"]["schemas"] |= content["schema"].pop("$defs", {})
