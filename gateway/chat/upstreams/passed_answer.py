"""The answer to a request that was passed to an upstream as it came: its bytes, and the figures of usage in them."""

import re
from collections.abc import Callable

import httpx2
import msgspec

from gateway.chat.upstreams.body import Body
from gateway.chat.upstreams.connection import CUT
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamCut

WINDOW = 8192
"""Bytes of an answer's beginning, and of its end, in which its usage is looked for: between may be 60 MB of numbers."""
USAGE = re.compile(rb'(?<!\\)"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(\s*;\s*[\w.+-]+=[\w.+-]+)*")
JSON = "application/json"


class _ToldTokens(msgspec.Struct):
    """Figures of usage under the names that OpenAI's routes give them."""

    prompt_tokens: int | None = None
    input_tokens: int | None = None
    completion_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


_told_tokens = msgspec.json.Decoder(_ToldTokens).decode


class PassedAnswer:
    """An answer that has begun. It is closed exactly once, by `abort` or `aclose`; `abort` ends a `read`, too."""

    def __init__(self, body: Body, upstream: str, on_close: Callable[[], None]) -> None:
        self.upstream = upstream
        self.content_type = _content_type(body.header(b"content-type"))
        self.size = body.size
        """The bytes that it will have; None when that is not known."""
        self.bytes_read = 0
        self.events = 0
        """The events that it had so far, where it is a stream."""
        self._body = body
        self._on_close: Callable[[], None] | None = on_close
        self._first = self._last = b""
        self._is_cut = False

    @property
    def is_stream(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    async def read(self) -> bytes:
        """Returns what arrived since the last call, waiting for it; b"" at the end. Raises UpstreamCut."""
        try:
            data = await self._body.read()
        except httpx2.TransportError as err:
            raise UpstreamCut(CUT) from err
        if self._is_cut:
            raise UpstreamCut(CUT)
        self.bytes_read += len(data)
        if self.is_stream:
            self.events += data.count(b"\n\n")
        if len(self._first) < WINDOW:
            self._first += data[: WINDOW - len(self._first)]
        self._last = (self._last + data[-WINDOW:])[-WINDOW:]
        return data

    def usage(self) -> UpstreamUsage | None:
        """Returns the upstream's figures, as far as it has told them."""
        found = USAGE.findall(self._last) or USAGE.findall(self._first)
        try:
            told = _told_tokens(found[-1]) if found else _ToldTokens()
        except msgspec.DecodeError:
            return None
        prompt = told.input_tokens if told.prompt_tokens is None else told.prompt_tokens
        answer = told.output_tokens if told.completion_tokens is None else told.completion_tokens
        if prompt is None:
            return None
        answer = max(0, (told.total_tokens or prompt) - prompt) if answer is None else answer  # embeddings have none
        return UpstreamUsage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=told.total_tokens)

    def abort(self) -> None:
        """Closes the upstream's request before it returns. Idempotent."""
        self._is_cut = self._on_close is not None
        self._body.abort()
        self._close()

    async def aclose(self) -> None:
        """Lets go of an answer that was read to its end; its connection may be used again."""
        await self._body.aclose()
        self._close()

    def _close(self) -> None:
        if self._on_close is not None:
            self._on_close()
            self._on_close = None


def _content_type(told: str | None) -> str:
    """Returns the type that an upstream names, if it may stand in a header of ours."""
    return told if told and len(told) < 128 and TYPE.fullmatch(told) else JSON
