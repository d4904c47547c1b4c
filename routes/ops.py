"""The routes for operators: whether the process lives, whether it is ready, and its metrics."""

from litestar import Response, get

from gateway.core.process import Core
from gateway.core.telemetry import CONTENT_TYPE
from gateway.errors import Overloaded
from routes.operation import described


@get("/healthz", summary="The process lives", opt=described(is_open=True))
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@get(
    "/readyz",
    summary="It can serve: the log can be read and written, and it is not draining",
    opt=described(is_open=True),
)
async def readyz(core: Core) -> dict[str, str]:
    if not core.is_ready:
        raise Overloaded("not ready: starting or draining", code="not_ready", retry_after="1")
    await core.check()
    return {"status": "ready"}


@get(
    "/metrics",
    summary="Figures for Prometheus: for callers on this machine, and for the grant `operator`",
    opt=described(is_for_operators=True, answer={"type": "string"}, answer_media_type="text/plain"),
)
async def metrics(core: Core) -> Response[bytes]:
    return Response(await core.metrics.text(), media_type=CONTENT_TYPE)


ROUTES = [healthz, readyz]
"""The routes of every unit. `metrics` joins them when it has no port of its own."""
