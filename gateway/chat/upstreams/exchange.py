"""An exchange sends an upstream one request after another, and tells what it refuses in our own errors."""

import asyncio

import httpx2

from gateway.chat.upstreams.address import UpstreamAddress
from gateway.chat.upstreams.body import Body
from gateway.chat.upstreams.connection import UpstreamConnection
from gateway.chat.upstreams.refusals import error_body, refusal, without_key
from gateway.chat.upstreams.transport import HttptoolsTransport, Target
from gateway.chat.upstreams.way_out import AUTHENTICATION_REQUIRED, WayOutError, refused_by
from gateway.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable

CONNECT_S = 5.0
REFUSAL_S = 2.0
MAX_REFUSAL_BYTES = 65_536
MAX_SHOWN_PLACE = 200
NO_ANSWERS = ("text/html", "text/css", "text/javascript", "image/", "audio/", "video/", "font/", "multipart/")
"""Beginnings of content types that hold no answer. Under any other name a stream or JSON is looked for."""


class Exchange:
    """The requests to one URL of an upstream."""

    def __init__(
        self, name: str, address: UpstreamAddress, transport: HttptoolsTransport, url: httpx2.URL, accept: str
    ) -> None:
        self._name = name
        self._address = address
        self._transport = transport
        headers = {"accept": accept, "content-type": "application/json", **address.headers}
        request = httpx2.Request("POST", url, headers=headers)
        self._target = Target.of(request, transport.way_out.proxy)

    @property
    def shown(self) -> str:
        """Returns the upstream's address and the proxy before it, without secrets."""
        proxy = self._transport.way_out.proxy
        return self._address.shown + (f" through {proxy.shown}" if proxy else "")

    async def post(self, content: bytes, more_head: bytes = b"") -> Body:
        """Sends a request; returns the answer once it has begun. Raises UpstreamError for one that is no stream.

        `more_head` are further lines of its head, each with its end.
        """
        answer = await self._answer(content, more_head)
        body = Body(answer)
        content_type = answer.header(b"content-type") or ""
        if content_type.lower().startswith(NO_ANSWERS):
            body.abort()
            raise UpstreamRefused(
                f"the upstream answered {content_type[:64]!r} instead of an event stream", code="upstream_invalid"
            )
        return body

    async def _answer(self, content: bytes, more_head: bytes) -> UpstreamConnection:
        target = self._target._replace(head=self._target.head + more_head) if more_head else self._target
        try:
            answer = await self._transport.exchange(target, content, CONNECT_S)
        except httpx2.ConnectTimeout as err:
            raise UpstreamTimeout(f"no connection to upstream {self._name!r} in {CONNECT_S:g} s") from err
        except httpx2.TransportError as err:
            raise self.unreachable(err) from err
        if answer.status() < 300:
            return answer
        proxy = self._transport.way_out.proxy
        if answer.status() == AUTHENTICATION_REQUIRED and proxy is not None:
            Body(answer).abort()
            raise self.unreachable(refused_by(proxy, answer.status(), "a request"))
        error: UpstreamError = await _refusal(answer)
        for secret in self._address.secrets:
            error = without_key(secret, error)
        raise error

    def unreachable(self, err: BaseException | None) -> UpstreamUnreachable:
        """Returns the error for a request that was not answered; it says why when settings can mend it."""
        if isinstance(err, WayOutError):
            return UpstreamUnreachable(f"upstream {self._name!r} cannot be reached: {err}", retryable=not err.is_final)
        return UpstreamUnreachable(f"upstream {self._name!r} cannot be reached")


async def _refusal(answer: UpstreamConnection) -> UpstreamRefused:
    """Returns the error that a status of 300 or more stands for; its body is read in bounded size and time."""
    body, status, retry_after = Body(answer), answer.status(), answer.header(b"retry-after")
    if status < 400:
        body.abort()
        place = (answer.header(b"location") or "nowhere")[:MAX_SHOWN_PLACE]
        detail = f"the upstream answered {status} and sends us to {place!r}, where we do not go: correct its base URL"
        return UpstreamRefused(detail, code="upstream_redirect")
    is_page = (answer.header(b"content-type") or "").lower().startswith(NO_ANSWERS)
    text = b""
    try:
        async with asyncio.timeout(REFUSAL_S):
            while len(text) < MAX_REFUSAL_BYTES and (data := await body.read()):
                text += data
    except (TimeoutError, httpx2.TransportError):
        pass
    finally:
        await body.aclose()
    return refusal(status, "" if is_page else error_body(text), retry_after)
