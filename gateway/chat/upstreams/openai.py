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
from gateway.chat.upstreams.completion_parser import CompletionParser
from gateway.chat.upstreams.completion_stream import CompletionStream
from gateway.chat.upstreams.exchange import CONNECT_S, Exchange
from gateway.chat.upstreams.messages_parser import MessagesParser
from gateway.chat.upstreams.passed_answer import PassedAnswer
from gateway.chat.upstreams.refusals import refusal
from gateway.chat.upstreams.responses_parser import ResponsesParser
from gateway.chat.upstreams.transport import HttptoolsTransport
from gateway.chat.upstreams.upstream import Request
from gateway.chat.upstreams.way_out import AUTHENTICATION_REQUIRED, refused_by
from gateway.core.slices import after_bytes
from gateway.errors import UpstreamError, UpstreamRefused, UpstreamUnreachable
from gateway.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    import openai

MODELS_S = 3.0
NO_LIST = "upstream_no_list"
KEY_REFUSED = (401, 403)
STREAMED: Request = {"stream": True, "stream_options": {"include_usage": True}}


class OpenAIUpstream:
    """One server that speaks the OpenAI wire format."""

    answers_at = COMPLETIONS
    """The path, below its base URL, at which it answers."""

    def __init__(self, settings: UpstreamSettings, transport: HttptoolsTransport | None = None) -> None:
        self.settings = settings
        self.in_flight = 0
        self._models: list[str] = []
        self._transport = transport or HttptoolsTransport()
        self._client: openai.AsyncOpenAI | None = None
        self._address = UpstreamAddress(settings)
        url = self._address.url(self.answers_at)
        self._exchange = Exchange(settings.name, self._address, self._transport, url, "application/json")
        self._others: dict[str, Exchange] = {}

    @property
    def shown(self) -> str:
        """Returns its address and the proxy before it, without secrets."""
        return self._exchange.shown

    @property
    def busy(self) -> bool:
        return self.in_flight >= self.settings.max_concurrency

    async def open(self, request: Request, model: str, trace: bytes = b"") -> CompletionStream:
        self.in_flight += 1
        try:
            chosen_model = model or self.settings.model or (await self.models())[0]
            content = self._content(request, chosen_model)
            await after_bytes(len(content))
            body = await self._exchange.post(content, trace)
        except BaseException:
            self._close_one()
            raise
        name, key = self.settings.name, self.settings.api_key
        return CompletionStream(body, name, chosen_model, key, self._close_one, parser=self._parser(request))

    def _content(self, request: Request, model: str) -> bytes:
        """Returns what to send. Raises UpstreamRefused for what cannot be said in its wire format."""
        return msgspec.json.encode({**request, **STREAMED, "model": model})

    def _parser(self, request: Request) -> CompletionParser | MessagesParser | ResponsesParser:
        """Returns what reads the answer to a request."""
        answers = request.get("n")
        return CompletionParser(answers if isinstance(answers, int) else 1)

    async def pass_on(self, path: str, content: bytes, trace: bytes = b"") -> PassedAnswer:
        exchange = self._others.get(path)
        if exchange is None:
            url = self._address.url(path)
            exchange = Exchange(self.settings.name, self._address, self._transport, url, "application/json")
            self._others[path] = exchange
        self.in_flight += 1
        try:
            return PassedAnswer(await exchange.post(content, trace), self.settings.name, self._close_one)
        except BaseException:
            self._close_one()
            raise

    async def models(self) -> list[str]:
        """Returns the names of its models: as configured, else as it lists them (asked once)."""
        configured = self.settings.models or ([self.settings.model] if self.settings.model else [])
        if configured or self._models:
            return configured or self._models
        self._models = await self._listed()
        if not self._models:
            raise UpstreamRefused(f"upstream {self.settings.name!r} lists no model: set TRILANE_MODEL")
        return self._models

    async def reach(self) -> list[str]:
        """Returns the models that it lists itself, although others may be configured; none where it lists none.

        Raises UpstreamError: an answer will do, unless it refuses the key.
        """
        try:
            return await self._listed()
        except UpstreamRefused as err:
            if err.code != NO_LIST:
                raise
            return []

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
                raise self._exchange.unreachable(err.__cause__) from err
            raise UpstreamUnreachable(f"upstream {name!r} does not list its models") from err
        return [model.id for model in page.data]

    def _not_listed(self, status: int) -> UpstreamError:
        if status in KEY_REFUSED:
            return refusal(status, "")
        proxy = self._transport.way_out.proxy
        if status == AUTHENTICATION_REQUIRED and proxy is not None:
            return self._exchange.unreachable(refused_by(proxy, status, "a request"))
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
