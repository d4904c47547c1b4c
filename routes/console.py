"""The console page at `/`: files that ship in the package, and the policy under which a browser runs them."""

from pathlib import Path

from litestar import Response, get
from litestar.router import Router
from litestar.static_files import create_static_files_router

from gateway.errors import NotFound

STATIC = Path(__file__).parent / "static"
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@get("/", summary="The console page", include_in_schema=False, opt={"open": True})
async def index() -> Response[bytes]:
    page = STATIC / "index.html"
    if not page.exists():
        raise NotFound("this installation has no console page")
    return Response(page.read_bytes(), media_type="text/html; charset=utf-8", headers=HEADERS)


def static_files() -> Router:
    return create_static_files_router(
        path="/static", directories=[STATIC], response_headers=HEADERS, include_in_schema=False, opt={"open": True}
    )
