"""The page at `/docs`, made from `/openapi.json` on the server, so that it needs no script from elsewhere."""

from html import escape
from typing import Any

from litestar import Request, Response, get

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code { font-family: ui-monospace, monospace }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .5rem .75rem; border-bottom: 1px solid color-mix(in srgb, currentColor 20%, #0000) }
"""


@get("/docs", include_in_schema=False, opt={"open": True})
async def docs(request: Request[Any, Any, Any]) -> Response[str]:
    schema = request.app.openapi_schema.to_schema()
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code><td><code>{escape(path)}</code>"
        f"<td>{escape(operation.get('summary', ''))}"
        for path, operations in schema.get("paths", {}).items()
        for method, operation in operations.items()
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Trilane API</title><style>{STYLE}</style><h1>Trilane API</h1>"
        f"<p>The whole description, for tools: <a href=/openapi.json>/openapi.json</a></p>"
        f"<table><tr><th>Method<th>Path<th>What it does{rows}</table>"
    )
    return Response(page, media_type="text/html", headers=HEADERS)
