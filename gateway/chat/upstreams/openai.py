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

from gateway.chat.upstreams.completion_stream import CompletionStream
from gateway.chat.upstreams.connection import Body, UpstreamConnection
from gateway.chat.upstreams.refusals import error_body, refusal, without_key
from gateway.chat.upstreams.transport import HttptoolsTransport, Target
from gateway.chat.upstreams.upstream import Request
from gateway.errors import UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from gateway.settings import UpstreamSettings

if TYPE_CHECKING:
    import openai

CONNECT_S = 5.0
MODELS_S = 3.0
REFUSAL_S = 2.0
MAX_REFUSAL_BYTES = 65_536
MAX_SHOWN_PLACE = 200
NO_ANSWERS = ("text/html", "text/css", "text/javascript", "image/", "audio/", "video/", "font/", "multipart/")
"""Beginnings of content types that hold no answer. Under any other name a stream or JSON is looked for."""
STREAMED: Request = {"stream": True, "stream_options": {"include_usage": True}}


class OpenAIUpstream:
    """One server that speaks the OpenAI wire format."""

    def __init__(self, settings: UpstreamSettings, transport: HttptoolsTransport | None = None) -> None:
        self.settings = settings
        self.in_flight = 0
        self._models: list[str] = []
        self._transport = transport or HttptoolsTransport()
        self._client: openai.AsyncOpenAI | None = None
        self._target = _completions(settings)

    @property
    def busy(self) -> bool:
        return self.in_flight >= self.settings.max_concurrency

    async def open(self, request: Request, model: str) -> CompletionStream:
        self.in_flight += 1
        try:
            chosen_model = model or self.settings.model or (await self.models())[0]
            answer = await self._post({**request, **STREAMED, "model": chosen_model})
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

    async def _post(self, body: Request) -> UpstreamConnection:
        try:
            answer = await self._transport.exchange(self._target, msgspec.json.encode(body), CONNECT_S)
        except httpx2.ConnectTimeout as err:
            raise UpstreamTimeout(f"no connection to upstream {self.settings.name!r} in {CONNECT_S:g} s") from err
        except httpx2.TransportError as err:
            raise UpstreamUnreachable(f"upstream {self.settings.name!r} cannot be reached") from err
        if answer.status() >= 300:
            raise without_key(self.settings.api_key, await _refusal(answer))
        return answer

    async def models(self) -> list[str]:
        """Returns the names of its models: as configured, else as it lists them (asked once)."""
        configured = self.settings.models or ([self.settings.model] if self.settings.model else [])
        if configured or self._models:
            return configured or self._models
        self._models = await self._listed()
        if not self._models:
            raise UpstreamRefused(f"upstream {self.settings.name!r} lists no model: set TRILANE_MODEL")
        return self._models

    async def _listed(self) -> list[str]:
        sdk: type[openai.OpenAIError] = (await asyncio.to_thread(importlib.import_module, "openai")).OpenAIError
        try:
            async with asyncio.timeout(MODELS_S):
                page = await self._sdk_client().models.list()
        except (sdk, TimeoutError) as err:
            raise UpstreamUnreachable(f"upstream {self.settings.name!r} does not list its models") from err
        return [model.id for model in page.data]

    def _sdk_client(self) -> "openai.AsyncOpenAI":
        from openai import AsyncOpenAI

        if self._client is None:
            http = httpx2.AsyncClient(transport=self._transport, timeout=httpx2.Timeout(None, connect=CONNECT_S))
            self._client = AsyncOpenAI(
                base_url=self.settings.base_url,
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


def _completions(settings: UpstreamSettings) -> Target:
    """Returns where completions are asked for, and with which headers."""
    url = httpx2.URL(settings.base_url)
    if not url.raw_path.endswith(b"/"):
        url = url.copy_with(raw_path=url.raw_path + b"/")
    headers = {
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": "trilane",
        "authorization": f"Bearer {settings.api_key or 'none'}",
    }
    return Target.of(httpx2.Request("POST", url.join("chat/completions"), headers=headers))


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
