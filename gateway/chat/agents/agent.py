"""An agent is an upstream that runs tools of its own and speaks one of two protocols; it is asked with a POST.

It is reached by the way that models are: the same transport, proxies, certificates, keys and headers.
"""

import asyncio
from typing import Protocol

import httpx2
import msgspec

from gateway.chat.agents.agui import AguiTranslation
from gateway.chat.agents.agui_request import agui_request
from gateway.chat.agents.prompt import AgentPrompt
from gateway.chat.agents.ui_chunks import UIChunkTranslation
from gateway.chat.agents.ui_request import ui_request
from gateway.chat.agents.writer import AgentWriter
from gateway.chat.records.record import FinishReason
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.address import UpstreamAddress
from gateway.chat.upstreams.answer_stream import AnswerStream
from gateway.chat.upstreams.event_frames import EventFrames
from gateway.chat.upstreams.exchange import CONNECT_S, Exchange
from gateway.chat.upstreams.transport import HttptoolsTransport
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamCut, UpstreamError
from gateway.upstream_settings import UpstreamSettings

EVENT_STREAM = "text/event-stream"


class Translation(Protocol):
    """Makes records of the events of one answer. Pure."""

    writer: AgentWriter
    is_complete: bool
    """Whether the agent has said that this is all."""
    finish_reason: FinishReason
    error: UpstreamError | None
    """The agent's own word that its answer failed."""
    usage: UpstreamUsage | None

    def take(self, event: bytes, out: list[bytes]) -> None:
        """Records an event. Raises UpstreamError for what is none."""
        ...


class AgentParser:
    """An AnswerParser: from the bytes of an agent to records."""

    def __init__(self, translation: Translation) -> None:
        self.error: UpstreamError | None = None
        self._translation = translation
        self._frames = EventFrames()

    @property
    def done(self) -> bool:
        return self._translation.is_complete

    @property
    def complete(self) -> bool:
        return self._translation.is_complete

    def feed(self, data: bytes) -> list[bytes]:
        out: list[bytes] = []
        if not self.done and self.error is None:
            try:
                self._take(self._frames.feed(data), out)
            except UpstreamError as err:
                self.error = err
        return out

    def end(self) -> list[bytes]:
        out: list[bytes] = []
        if not self.done and self.error is None:
            try:
                self._take(self._frames.end(), out)
            except UpstreamError:
                out.clear()  # it was cut within an event
        if not self.done and self.error is None:
            self.error = UpstreamCut("the agent's stream ended before it said that its answer is complete")
        return out

    def close(self) -> None:
        """Has nothing to let go of: what it holds does not hold it."""

    def _take(self, events: list[bytes], out: list[bytes]) -> None:
        translation = self._translation
        for event in events:
            translation.take(event, out)
            if translation.is_complete or translation.error is not None:
                self.error = translation.error
                return


class AgentStream(AnswerStream[bytes]):
    """One open answer of an agent, as records."""

    translation: Translation


class Agent:
    """One agent."""

    def __init__(self, settings: UpstreamSettings, transport: HttptoolsTransport) -> None:
        self.settings = settings
        self.in_flight = 0
        self._transport = transport
        self._address = UpstreamAddress(settings)
        self._url = self._address.own_url
        self._exchange = Exchange(settings.name, self._address, transport, self._url, EVENT_STREAM)

    @property
    def shown(self) -> str:
        """Returns its address and the proxy before it, without secrets."""
        return self._exchange.shown

    @property
    def busy(self) -> bool:
        return self.in_flight >= self.settings.max_concurrency

    @property
    def names(self) -> list[str]:
        """Returns the models that stand for it."""
        listed = [*self.settings.models, *([self.settings.model] if self.settings.model else [])]
        return listed or [self.settings.name]

    async def open(self, prompt: AgentPrompt, recorder: Recorder, trace: bytes = b"") -> AgentStream:
        """Asks it; `trace` are the lines of the head with which it continues a trace. Raises UpstreamError."""
        self.in_flight += 1
        try:
            prompt = msgspec.structs.replace(prompt, system=_joined(self.settings.system, prompt.system))
            writer = AgentWriter(recorder, prompt.run_id)
            writer.denied = {part.tool_call_id for part, _, decision in prompt.answers() if not decision.approved}
            if self.settings.kind == "ag-ui":
                content, translation = agui_request(prompt), AguiTranslation(writer, prompt.client_tools)
            else:
                content, translation = ui_request(prompt), UIChunkTranslation(writer)
            body = await self._exchange.post(content, trace)
        except BaseException:
            self._close_one()
            raise
        parser = AgentParser(translation)
        stream = AgentStream(body, parser, self.settings.name, self.settings.api_key, self._close_one)
        stream.translation = translation
        return stream

    async def reach(self) -> None:
        """Asks for nothing but an answer, whatever it says: a run would cost. Raises UpstreamError."""
        request = httpx2.Request("GET", self._url, headers=self._address.headers)
        request.extensions["timeout"] = {"connect": CONNECT_S}
        try:
            async with asyncio.timeout(CONNECT_S):
                response = await self._transport.handle_async_request(request)
                await response.aclose()
        except (httpx2.TransportError, TimeoutError) as err:
            raise self._exchange.unreachable(err) from err

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _close_one(self) -> None:
        self.in_flight -= 1


def _joined(system: str, more: str) -> str:
    return f"{system}\n\n{more}" if system and more else system or more
