"""Stands between a session over Streamable HTTP and the network, and lets neither harm the other.

An error on one request would end the session with all its other calls, so here it becomes an answer that says so. An
answer is bounded, and is never decoded from a compressed form. A call's request gets its key as `Idempotency-Key`, and
the call learns whether it has left.
"""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import msgspec

from gateway.chat.tools.attempt import ATTEMPT, Attempt, Envelope, Hearing
from gateway.chat.tools.lines import TAIL_BYTES, BoundedLines, Overlong
from gateway.chat.upstreams.certificates import trusted_by
from gateway.chat.upstreams.proxies import proxy_to
from gateway.upstream_settings import Network

CONNECT_S = 10.0
KEPT_S = 3.0
"""Seconds that an idle connection is kept: fewer than a server's 5, so that no request meets one being closed."""
KEPT_CONNECTIONS = 20
GOODBYE_S = 1.0
"""Seconds in which a server takes note that its session is over."""
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)
"""Errors after which no byte of a request has left."""
REFUSALS = (401, 403, 404, 405, 413, 415, 421, 429)
"""Statuses with which a server says that it has not taken a request."""
CONNECTION_CLOSED = -32000
INTERNAL_ERROR = -32603
ACCEPTED = 202
"""What only a notification may be answered."""
UNAVAILABLE = 503
SESSION = "mcp-session-id"
DATA = b"data:"


def check_way(url: str, network: Network) -> None:
    """Raises ConfigurationError when the way to a server has a proxy or certificates of no use."""
    proxy_to(httpx2.URL(url), network)
    trusted_by(network)


def way_to(url: str, network: Network) -> httpx2.AsyncBaseTransport:
    """Returns the way to a server, with its proxy and the certificates that are trusted."""
    address = httpx2.URL(url)
    proxy = proxy_to(address, network)
    limits = httpx2.Limits(max_keepalive_connections=KEPT_CONNECTIONS, keepalive_expiry=KEPT_S)
    return httpx2.AsyncHTTPTransport(
        verify=trusted_by(network) or True,
        trust_env=False,
        limits=limits,
        proxy=httpx2.Proxy(
            f"{proxy.scheme}://{proxy.host}:{proxy.port}",
            headers={"proxy-authorization": proxy.authorization.decode()} if proxy.authorization else None,
        )
        if proxy
        else None,
    )


def http_client(way: httpx2.AsyncBaseTransport, headers: dict[str, str], hearing: Hearing) -> httpx2.AsyncClient:
    """Returns the client for one session, which goes by this way."""
    return httpx2.AsyncClient(
        transport=HttpGate(way, hearing),
        headers={**headers, "accept-encoding": "identity", "user-agent": "trilane"},
        timeout=httpx2.Timeout(None, connect=CONNECT_S),
        trust_env=False,
    )


class HttpGate(httpx2.AsyncBaseTransport):
    """A transport that answers each request, with what the server says or with why there is no answer."""

    def __init__(self, way: httpx2.AsyncBaseTransport, hearing: Hearing) -> None:
        self._way = way
        self._hearing = hearing

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        message = _message(await request.aread()) if request.method == "POST" else Envelope()
        attempt = ATTEMPT.get() if message.method == "tools/call" else None
        if attempt is not None:
            request.headers["idempotency-key"] = attempt.key
            attempt.is_sent = True
        try:
            async with asyncio.timeout(GOODBYE_S if request.method == "DELETE" else None):
                response = await self._way.handle_async_request(request)
            return await self._bounded(response, request, message, attempt)
        except httpx2.TransportError as err:
            if request.method != "POST":
                raise
            reason = f"{type(err).__name__}: {err}" if str(err) else type(err).__name__
            if attempt is not None:
                attempt.is_sent = not isinstance(err, UNSENT)
                attempt.reason = reason
            return _failure(message.id, reason)

    async def _bounded(
        self, response: httpx2.Response, request: httpx2.Request, message: Envelope, attempt: Attempt | None
    ) -> httpx2.Response:
        """Returns the answer to a request, with a body that cannot be too large."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            await response.aclose()
            reason = "it answers in a compressed form, which it was not asked for"
            if attempt is not None:
                attempt.reason = reason
            return _failure(message.id, reason)
        if kind == "text/event-stream":
            events = _Events(response, self._hearing, bytes(message.id) or None)
            return httpx2.Response(response.status_code, headers=_kept(response), stream=events)
        body = await self._body(response, bytes(message.id) or None)
        status = response.status_code
        if (status == ACCEPTED or status >= 300) and bytes(message.id) and not _is_json_error(body):
            if attempt is not None:
                attempt.is_sent = status not in REFUSALS and not 300 <= status < 400
                attempt.reason = f"it answered {status}"
                attempt.is_session_lost = status == 404 and SESSION in request.headers
            if status >= 400 and status != 404:  # the package has words for this one
                return _failure(message.id, f"it answered {status}", INTERNAL_ERROR)
        return httpx2.Response(response.status_code, headers=_kept(response), content=body)

    async def _body(self, response: httpx2.Response, request_id: bytes | None) -> bytes:
        """Returns the whole body; of one that is too large what is left of a result."""
        lines = BoundedLines(self._hearing.max_bytes, self._hearing.head_bytes)
        try:
            async for data in response.aiter_raw():
                lines.feed_one(data)
        finally:
            await response.aclose()
        body = lines.rest()
        return body if isinstance(body, bytes) else self._hearing.heard(body, 0, request_id) or b""

    async def aclose(self) -> None:
        await self._way.aclose()


class _Events(httpx2.AsyncByteStream):
    """An event stream whose messages are bounded in size and in number."""

    def __init__(self, response: httpx2.Response, hearing: Hearing, request_id: bytes | None) -> None:
        self._response = response
        self._hearing = hearing
        self._request_id = request_id

    async def __aiter__(self) -> AsyncIterator[bytes]:
        lines = BoundedLines(self._hearing.max_bytes, self._hearing.head_bytes)
        data = _EventData(self._hearing)
        async for piece in self._response.aiter_raw():
            for line in lines.feed(piece):
                head = line.head if isinstance(line, Overlong) else line
                if head.startswith(DATA):
                    data.add(line)
                elif head.strip():
                    yield head + b"\n"
                else:
                    message = data.message(self._request_id)
                    yield b"\n" if message is None else b"data: %b\n\n" % message
                    data = _EventData(self._hearing)

    async def aclose(self) -> None:
        await self._response.aclose()


class _EventData:
    """The data of one event, which may have as many bytes as a message, on any number of lines."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._text = bytearray()
        self._has_lines = False
        self._overlong: Overlong | None = None

    def add(self, line: bytes | Overlong) -> None:
        if self._overlong is not None:
            return
        if isinstance(line, Overlong):
            self._overlong = line._replace(head=line.head[len(DATA) :])
            return
        self._has_lines = True
        self._text += line[len(DATA) :].strip() + b" "
        if len(self._text) > self._hearing.max_bytes:
            head, tail = bytes(self._text[: self._hearing.head_bytes]), bytes(self._text[-TAIL_BYTES:])
            self._overlong = Overlong(head, tail, len(self._text))

    def message(self, request_id: bytes | None) -> bytes | None:
        """Returns the event's message on one line; an empty one only says from where to resume, None is none."""
        text = self._overlong or bytes(self._text).strip()
        if not text:
            return b"" if self._has_lines else None
        return self._hearing.heard(text, asyncio.get_running_loop().time(), request_id)


def _message(content: bytes) -> Envelope:
    try:
        return msgspec.json.decode(content, type=Envelope)
    except msgspec.DecodeError:
        return Envelope()


def _is_json_error(body: bytes) -> bool:
    try:
        return "error" in msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False


def _kept(response: httpx2.Response) -> list[tuple[str, str]]:
    """Returns the headers that are true of a body which may be another one."""
    return [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _OF_THE_BYTES]


_OF_THE_BYTES = ("content-length", "transfer-encoding", "content-encoding")


def _failure(request_id: msgspec.Raw, reason: str, code: int = CONNECTION_CLOSED) -> httpx2.Response:
    """Returns an answer in place of one that did not come; a notification is answered without a body."""
    if not bytes(request_id):
        return httpx2.Response(UNAVAILABLE)
    error = {"code": code, "message": reason[:500]}
    return httpx2.Response(UNAVAILABLE, json={"jsonrpc": "2.0", "id": msgspec.json.decode(request_id), "error": error})
