"""The console page at `/`: files that ship in the package, and the policy under which a browser runs them."""

import mimetypes
from pathlib import Path

from litestar import Response, get

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


def _files() -> dict[str, tuple[bytes, str]]:
    """Returns every file by its path below the folder; no other is served."""
    return {
        path.relative_to(STATIC).as_posix(): (path.read_bytes(), mimetypes.guess_type(path.name)[0] or "text/plain")
        for path in STATIC.rglob("*")
        if path.is_file()
    }


FILES = _files()


@get("/", summary="The console page", include_in_schema=False, opt={"open": True})
async def index() -> Response[bytes]:
    return _file("index.html")


@get("/static/{name:path}", summary="A file of the console page", include_in_schema=False, opt={"open": True})
async def static(name: str) -> Response[bytes]:
    return _file(str(name).lstrip("/"))


def _file(name: str) -> Response[bytes]:
    if name not in FILES:
        raise NotFound(f"the console page has no file {name[:80]!r}")
    content, media_type = FILES[name]
    return Response(content, media_type=media_type, headers=HEADERS)


ROUTES = [index, static]
