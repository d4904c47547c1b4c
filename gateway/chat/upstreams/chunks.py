"""A chunk is a piece of an upstream's answer: the few fields of an OpenAI-compatible chunk that we need.

A delta is read as a `PlainDelta`, which takes no field that we do not know. One that has such a field is read a second
time, as an `ExtendedDelta` that carries it: so what a provider adds is not lost, and costs nothing where there is none.
JSON has no circles, so the garbage collector need not look at what was decoded from it (`gc=False`).
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.records.record import FinishReason
from gateway.core.usage import UpstreamUsage


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, gc=False):
    """A piece of one call: its id and name come with the first."""

    index: int = 0
    id: str | None = None
    function: Function | None = None


class ChunkDelta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    """The reasoning as DeepSeek, vLLM and llama.cpp name it."""
    reasoning: str | None = None
    """The reasoning as OpenRouter and Ollama name it."""
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def is_visible(self) -> bool:
        """Returns whether a user could see something of it."""
        return bool(self.content or self.reasoning_content or self.reasoning or self.refusal or self.tool_calls)


class PlainDelta(ChunkDelta, forbid_unknown_fields=True):
    """A delta without fields that we do not know."""

    role: str | None = None
    """The role, which is always the assistant's; nobody reads it."""
    function_call: None = None
    audio: None = None
    """Servers that write out every field they have say `null` here; anything else makes the delta an extended one."""


class ExtendedDelta(ChunkDelta):
    """A delta with fields that we do not know."""

    unknown: Raw | UnsetType = UNSET
    """All fields that we do not know, as one object."""


KNOWN_FIELDS = frozenset(ChunkDelta.__struct_fields__) | {"role"}
D_co = TypeVar("D_co", bound=ChunkDelta, covariant=True)


class Choice(msgspec.Struct, Generic[D_co], frozen=True, gc=False):
    delta: D_co | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, Generic[D_co], frozen=True, gc=False):
    choices: Sequence[Choice[D_co]] | None = None
    usage: UpstreamUsage | None = None
    error: Raw | UnsetType = UNSET
    object: str | None = None
    message: str | None = None
    code: int | str | None = None


AnswerChunk = Chunk[ChunkDelta]
FINISH_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
}
