"""The description of a unit's routes: `/openapi.json` for tools, and `/docs`, the same as a page.

The page is made on the server, so that it needs no script from elsewhere.
"""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Any

import msgspec
from litestar import Response, get

from routes.api_description import ApiDescription
from routes.operation import Schema
from routes.security_headers import document

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font-family: ui-monospace, monospace; overflow-x: auto }
section { border-top: 1px solid color-mix(in srgb, currentColor 20%, #0000); margin-top: 1.5rem }
h2 { font-size: 1.1rem } dt { margin-top: .25rem } dd { margin: 0 0 0 1.5rem }
"""
HEADERS = document(b64encode(sha256(STYLE.encode()).digest()).decode())


async def openapi(api_description: ApiDescription) -> Response[bytes]:
    return Response(api_description.encoded, media_type="application/json", headers={"cache-control": "no-cache"})


async def docs(api_description: ApiDescription) -> Response[str]:
    paths: dict[str, dict[str, Schema]] = api_description.document["paths"]
    operations = [
        part
        for path, item in paths.items()
        for method, operation in item.items()
        for part in _section(path, method, operation)
    ]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Trilane API</title><style>{STYLE}</style><h1>Trilane API</h1>"
        f"<p>The whole description, for tools: <a href=/openapi.json>/openapi.json</a></p>{''.join(operations)}"
    )
    return Response(page, media_type="text/html", headers=HEADERS)


def _section(path: str, method: str, operation: Schema) -> Iterator[str]:
    """Yields the HTML of one operation: what it does, reads and answers."""
    yield f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}</p><dl>"
    for parameter in operation["parameters"]:
        description = escape(parameter.get("description", ""))
        yield f"<dt><code>{escape(parameter['name'])}</code> ({parameter['in']})<dd>{description}"
    yield "</dl>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(media_type)}</code></p>"
        for example in content.get("examples", {}).values():
            text = msgspec.json.format(msgspec.json.encode(example["value"])).decode()
            yield f"<pre>{escape(text)}</pre>"
    for status, response in operation["responses"].items():
        for media_type, content in response.get("content", {}).items():
            if example := content.get("example"):
                yield f"<p>{status}: <code>{escape(media_type)}</code></p><pre>{escape(example)}</pre>"
    yield f"<p>Statuses: {escape(', '.join(operation['responses']))}</p></section>"


def routes(shown_to: str | None) -> list[Any]:
    """Returns both routes: for operators alone where `shown_to` says so (`TRILANE_DOCS`), else for everybody."""
    opt = {"operators" if shown_to else "open": True}
    pages = (("/openapi.json", openapi), ("/docs", docs))
    return [get(path, include_in_schema=False, opt=opt)(page) for path, page in pages]
