"""Makes the Litestar application of a unit: its handlers, who may call them, and how an error is answered.

The one place that configures the framework. `Edge` around it does what must happen outside the framework's requests.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from weakref import proxy

from litestar import Litestar, WebSocket
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.access.hosts import check_host, names_of
from gateway.access.operators import admit_operator
from gateway.access.signin import SignIn
from gateway.errors import NotFound, TrilaneError
from gateway.serving.refusals import Refusals
from gateway.settings import Settings
from routes.api_description import ApiDescription
from routes.edge import Edge
from routes.refusals import log_socket_failure, refuse_by_litestar, refuse_request, refuse_unexpected, refuse_websocket

EXPOSED_HEADERS = [
    "x-request-id",
    "retry-after",
    "x-should-retry",
    "x-trilane-warning",
    "mcp-session-id",
    "x-vercel-ai-ui-message-stream",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "www-authenticate",
]
"""Headers of answers that scripts of other origins may read: a browser hides all but a few that are not listed."""

TOPIC_PATH, MODEL_PATH = "/api/events/topics/", "/v1/models/"
"""Beginnings of the paths that end with the name of a topic, which may be a slash, and of a model."""

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


class LeanLitestar(Litestar):
    """Litestar without its plugins for pydantic, which it loads wherever that is installed: 8 MB that nothing uses."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


class Socket(WebSocket[Any, Any, Any]):
    """A WebSocket that is free when its handler has ended: Litestar's holds itself, by its `receive` and its `send`."""

    def receive_wrapper(self, receive: Receive) -> Receive:
        return WebSocket[Any, Any, Any].receive_wrapper(proxy(self), receive)

    def send_wrapper(self, send: Send) -> Send:
        """Leaves it to the server what is sent to a client that has left: it drops that, where Litestar fails."""
        return send


def application(
    handlers: Sequence[Any],
    *,
    dependencies: Mapping[str, object],
    sign_in: SignIn,
    settings: Settings,
    refusals: Refusals,
    lifespan: Lifespan,
) -> Edge:
    """Returns the ASGI application of these handlers, which get each of `dependencies` under its name."""
    values = {**dependencies, "sign_in": sign_in, "api_description": ApiDescription(handlers, settings)}
    app = LeanLitestar(
        [*handlers],
        dependencies={name: _provide(value) for name, value in values.items()},
        cors_config=_cors(settings),
        middleware=[_authentication(sign_in, settings)],
        lifespan=[lifespan],
        exception_handlers={
            TrilaneError: refuse_request,
            HTTPException: refuse_by_litestar,
            Exception: refuse_unexpected,
        },
        after_exception=[log_socket_failure],
        openapi_config=None,
        request_max_body_size=settings.limits.body_bytes,
        logging_config=None,
        websocket_class=Socket,
    )
    return Edge(app, refusals)


def _provide(value: object) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


def _cors(settings: Settings) -> CORSConfig | None:
    """Allows the listed origins; without a list, only the gateway's own pages can call."""
    if not settings.allowed_origins:
        return None
    return CORSConfig(allow_origins=settings.allowed_origins, allow_credentials=True, expose_headers=EXPOSED_HEADERS)


def check_spelling(scope: Mapping[str, Any]) -> None:
    """Raises NotFound for a path that leads to one of our routes and is not spelt as that route is declared.

    The framework decodes a path, reads several slashes as one, and drops the last one. Rules that a proxy has for a
    path would not hold for other spellings of it, so each path has one. What stands for a parameter may be encoded; it
    is no dot segment, which a proxy would resolve. Only the name of a topic or a model, which ends its path, may have
    slashes and dots of every kind.
    """
    raw_path: str = scope.get("raw_path", b"").decode("latin-1")
    template: str = scope["path_template"]
    is_model = raw_path.startswith(MODEL_PATH) and template.startswith(MODEL_PATH)
    ends_with_name = is_model or raw_path.startswith(TOPIC_PATH)
    if raw_path != template and not ends_with_name and not _is_spelt_as(template, raw_path):
        raise NotFound(f"there is no {raw_path[:120]!r} here: write it as {template}, each slash once and as it is")


def _is_spelt_as(template: str, raw_path: str) -> bool:
    declared, parts = template.split("/"), raw_path.split("/")
    rest = parts[len(declared) :]  # the framework has more than one part only where the last is a parameter for it
    has_plain_slashes = all(parts[1:]) and "%2f" not in raw_path.lower()
    return (
        len(parts) >= len(declared)
        and not (rest and not declared[-1].startswith("{"))
        and has_plain_slashes
        and not any(map(_is_dots, parts))
        and all(part == name or name.startswith("{") for name, part in zip(declared, parts, strict=False))
    )


def _is_dots(part: str) -> bool:
    return part.lower().replace("%2e", ".") in (".", "..")


def _authentication(sign_in: SignIn, settings: Settings) -> Callable[[ASGIApp], ASGIApp]:
    """Checks `Host` on every route, and sets `scope["user"]` on those that say neither `open` nor `operators`.

    A middleware and not a dependency: Litestar opens a task group for each batch of two dependencies, and an event
    stream pays for that before its first byte.
    """

    names, requires_sign_in = names_of(settings), settings.requires_sign_in

    def middleware(app: ASGIApp) -> ASGIApp:
        async def authenticate(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                if names is not None:
                    check_host(names, scope["headers"])
                check_spelling(scope)
                opt = scope["route_handler"].opt
                if opt.get("operators"):
                    await admit_operator(scope, sign_in, requires_sign_in=requires_sign_in)
                elif not opt.get("open"):
                    scope["user"] = await sign_in(scope)
            except TrilaneError as err:
                if scope["type"] != "websocket":
                    raise
                await refuse_websocket(err, scope, send)
                return
            await app(scope, receive, send)

        return authenticate

    return middleware
