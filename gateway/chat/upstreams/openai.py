"""OpenAI-compatible servers: requests, typed errors, concurrency. The only importer of the `openai` SDK.

A request for a completion is put together here and sent on a transport of our own: the SDK's `post` costs 260 µs where
this costs 10, and its parsed stream objects 100 µs each where `CompletionParser` costs one. What is left to the SDK is
listing models. It costs a second and 36 MB, so it is loaded when a list is first wanted, and never where the models
are configured. Its retries are off: failover is decided elsewhere, and never after a visible token.
"""

import asyncio
import importlib
from typing import TYPE_CHECKING

import httpx2
import msgspec

from gateway.chat.upstreams.address import COMPLETIONS, MODELS, UpstreamAddress
from gateway.chat.upstreams.body import Body
from gateway.chat.upstreams.completion_stream import CompletionStream
from gateway.chat.upstreams.connection import UpstreamConnection
from gateway.chat.upstreams.refusals import error_body, refusal, without_key
from gateway.chat.upstreams.transport import HttptoolsTransport, Target
from gateway.chat.upstreams.upstream import Request
from gateway.chat.upstreams.way_out import AUTHENTICATION_REQUIRED, WayOutError, refused_by
from gateway.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    import openai

CONNECT_S = 5.0
MODELS_S = 3.0
REFUSAL_S = 2.0
MAX_REFUSAL_BYTES = 65_536
MAX_SHOWN_PLACE = 200
NO_ANSWERS = ("text/html", "text/css", "text/javascript", "image/", "audio/", "video/", "font/", "multipart/")
"""Beginnings of content types that hold no answer. Under any other name a stream or JSON is looked for."""
NO_LIST = "upstream_no_list"
KEY_REFUSED = (401, 403)
STREAMED: Request = {"stream": True, "stream_options": {"include_usage": True}}


class OpenAIUpstream:
    """One server that speaks the OpenAI wire format."""

    def __init__(self, settings: UpstreamSettings, transport: HttptoolsTransport | None = None) -> None:
        self.settings = settings
        self.in_flight = 0
        self._models: list[str] = []
        self._transport = transport or HttptoolsTransport()
        self._client: openai.AsyncOpenAI | None = None
        self._address = UpstreamAddress(settings)
        self._target = self._completions()

    @property
    def shown(self) -> str:
        """Returns its address and the proxy before it, without secrets."""
        proxy = self._transport.way_out.proxy
        return self._address.shown + (f" through {proxy.shown}" if proxy else "")

    @property
    def busy(self) -> bool:
        return self.in_flight >= self.settings.max_concurrency

    async def open(self, request: Request, model: str, trace: bytes = b"") -> CompletionStream:
        self.in_flight += 1
        try:
            chosen_model = model or self.settings.model or (await self.models())[0]
            answer = await self._post({**request, **STREAMED, "model": chosen_model}, trace)
            body = Body(answer)
            content_type = answer.header(b"content-type") or ""
            if content_type.lower().startswith(NO_ANSWERS):
                body.abort()
                raise UpstreamRefused(
                    f"the upstream answered {content_type[:64]!r} instead of an event stream", code="upstream_invalid"
                )
        except BaseException:
            self._close_one()
            raise
        key, answers = self.settings.api_key, request.get("n")
        answers = answers if isinstance(answers, int) else 1
        return CompletionStream(body, self.settings.name, chosen_model, key, self._close_one, answers=answers)

    async def _post(self, body: Request, trace: bytes) -> UpstreamConnection:
        target = self._target._replace(head=self._target.head + trace) if trace else self._target
        try:
            answer = await self._transport.exchange(target, msgspec.json.encode(body), CONNECT_S)
        except httpx2.ConnectTimeout as err:
            raise UpstreamTimeout(f"no connection to upstream {self.settings.name!r} in {CONNECT_S:g} s") from err
        except httpx2.TransportError as err:
            raise self._unreachable(err) from err
        if answer.status() < 300:
            return answer
        proxy = self._transport.way_out.proxy
        if answer.status() == AUTHENTICATION_REQUIRED and proxy is not None:
            Body(answer).abort()
            raise self._unreachable(refused_by(proxy, answer.status(), "a request"))
        error: UpstreamError = await _refusal(answer)
        for secret in self._address.secrets:
            error = without_key(secret, error)
        raise error

    def _unreachable(self, err: BaseException | None) -> UpstreamUnreachable:
        """Returns the error for a request that was not answered; it says why when settings can mend it."""
        name = self.settings.name
        if isinstance(err, WayOutError):
            return UpstreamUnreachable(f"upstream {name!r} cannot be reached: {err}", retryable=not err.is_final)
        return UpstreamUnreachable(f"upstream {name!r} cannot be reached")

    async def models(self) -> list[str]:
        """Returns the names of its models: as configured, else as it lists them (asked once)."""
        configured = self.settings.models or ([self.settings.model] if self.settings.model else [])
        if configured or self._models:
            return configured or self._models
        self._models = await self._listed()
        if not self._models:
            raise UpstreamRefused(f"upstream {self.settings.name!r} lists no model: set TRILANE_MODEL")
        return self._models

    async def reach(self) -> None:
        """Asks it for its models, although they may be configured. An answer will do, unless it refuses the key.

        Raises UpstreamError.
        """
        try:
            await self._listed()
        except UpstreamRefused as err:
            if err.code != NO_LIST:
                raise

    async def _listed(self) -> list[str]:
        sdk = await asyncio.to_thread(importlib.import_module, "openai")
        name = self.settings.name
        try:
            async with asyncio.timeout(MODELS_S):
                page = await self._sdk_client().models.list()
        except sdk.APIStatusError as err:
            raise self._not_listed(err.status_code) from err
        except (sdk.OpenAIError, TimeoutError) as err:
            if isinstance(err.__cause__, httpx2.ConnectError):
                raise self._unreachable(err.__cause__) from err
            raise UpstreamUnreachable(f"upstream {name!r} does not list its models") from err
        return [model.id for model in page.data]

    def _not_listed(self, status: int) -> UpstreamError:
        if status in KEY_REFUSED:
            return refusal(status, "")
        proxy = self._transport.way_out.proxy
        if status == AUTHENTICATION_REQUIRED and proxy is not None:
            return self._unreachable(refused_by(proxy, status, "a request"))
        return UpstreamRefused(
            f"upstream {self.settings.name!r} answers {status} and does not list its models: set its `model`",
            code=NO_LIST,
        )

    def _sdk_client(self) -> "openai.AsyncOpenAI":
        """Returns the SDK, whose requests get the address and the headers that ours have."""
        from openai import AsyncOpenAI

        async def to_our_address(request: httpx2.Request) -> None:
            request.url = self._address.url(MODELS)
            request.headers.pop("authorization", None)
            request.headers.update(self._address.headers)

        if self._client is None:
            http = httpx2.AsyncClient(
                transport=self._transport,
                timeout=httpx2.Timeout(None, connect=CONNECT_S),
                event_hooks={"request": [to_our_address]},
            )
            self._client = AsyncOpenAI(
                base_url=str(self._address.base_url),
                api_key=self.settings.api_key or "none",
                max_retries=0,
                http_client=http,
            )
        return self._client

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()
        await self._transport.aclose()

    def _close_one(self) -> None:
        self.in_flight -= 1

    def _completions(self) -> Target:
        """Returns where completions are asked for, and with which headers."""
        headers = {"accept": "application/json", "content-type": "application/json", **self._address.headers}
        request = httpx2.Request("POST", self._address.url(COMPLETIONS), headers=headers)
        return Target.of(request, self._transport.way_out.proxy)


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
