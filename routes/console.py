"""The console page at `/`: files that ship in the package."""

import mimetypes
from pathlib import Path

from litestar import Response, get

from gateway.chat.lane import ChatLane
from gateway.chat.upstreams.embedded import EmbeddedUpstream
from gateway.errors import NotFound
from routes.security_headers import PAGE

STATIC = Path(__file__).parent / "static"
HEADERS = {**PAGE, "cache-control": "no-cache"}


def _files() -> dict[str, tuple[bytes, str]]:
    """Returns every file by its path below the folder; no other is served."""
    return {
        path.relative_to(STATIC).as_posix(): (path.read_bytes(), mimetypes.guess_type(path.name)[0] or "text/plain")
        for path in STATIC.rglob("*")
        if path.is_file()
    }


FILES = _files()


@get("/", summary="The console page", include_in_schema=False, opt={"open": True})
async def index(chat: ChatLane) -> Response[bytes]:
    return page(is_embedded=any(isinstance(upstream, EmbeddedUpstream) for upstream in chat.upstreams.all))


@get("/static/{name:path}", summary="A file of the console page", include_in_schema=False, opt={"open": True})
async def static(name: str) -> Response[bytes]:
    return _file(str(name).lstrip("/"))


def page(*, is_embedded: bool) -> Response[bytes]:
    """Returns the page; it says so when the model that answers is the small one that comes with the gateway."""
    content, media_type = FILES["index.html"]
    if is_embedded:
        content = content.replace(b"<body>", b'<body data-model="embedded">', 1)
    return Response(content, media_type=media_type, headers=HEADERS)


def _file(name: str) -> Response[bytes]:
    if name not in FILES:
        raise NotFound(f"the console page has no file {name[:80]!r}")
    content, media_type = FILES[name]
    return Response(content, media_type=media_type, headers=HEADERS)


ROUTES = [index, static]
