"""A chunk is a piece of an upstream's answer: the few fields of an OpenAI-compatible chunk that we need.

The types here are read strictly, and take no field that we do not know: a chunk that has one, or a field of another
type, is read a second time by `LooseReader`, which makes an `ExtendedDelta` of it that carries what is unknown. So
what a provider adds is not lost, and costs nothing where there is none. JSON has no circles, so the garbage collector
need not look at what was decoded from it (`gc=False`).
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from gateway.core.usage import UpstreamUsage


class Function(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A piece of one call: its id and name come with the first, as a rule."""

    index: int | None = None
    id: str | None = None
    type: Literal["function"] | None = None
    function: Function | None = None


class ExtendedToolCall(ToolCall):
    """A piece of a call with fields that we do not know, or of a custom tool's, whose input is any text."""

    is_custom: bool = False
    unknown: Raw | UnsetType = UNSET


class ChunkDelta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str | None = None
    reasoning_content: str | None = None
    """The reasoning as DeepSeek, vLLM and llama.cpp name it."""
    reasoning: str | None = None
    """The reasoning as OpenRouter and Ollama name it."""
    tool_calls: Sequence[ToolCall] | None = None
    role: str | None = None
    """The role, which is always the assistant's; nobody reads it."""
    refusal: None = None
    function_call: None = None
    audio: None = None
    """Servers that write out every field they have say `null` here; anything else makes the delta an extended one."""

    @property
    def is_visible(self) -> bool:
        """Returns whether a user could see something of it."""
        return bool(self.content or self.reasoning_content or self.reasoning or self.tool_calls)


class ExtendedDelta(ChunkDelta):
    """A delta that was not read strictly: it may carry a refusal, or fields that we do not know."""

    refused: str = ""
    """A piece of the text with which the model declines to answer."""
    unknown: Raw | UnsetType = UNSET
    """All fields of the delta that we do not know, as one object; those of its choice are its field `choice`."""
    is_media: bool = False
    """Whether it brings a picture or sound."""

    @property
    def is_visible(self) -> bool:
        return bool(self.refused or self.is_media) or super().is_visible


class Choice(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    index: Literal[0] | None = 0
    delta: ChunkDelta | None = None
    finish_reason: str | None = None
    logprobs: None = None


class Chunk(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    choices: Annotated[Sequence[Choice], Meta(max_length=1)] | None = None
    usage: UpstreamUsage | None = None
    error: None = None
    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    provider: str | None = None
    obfuscation: str | None = None
    """Padding against those who measure packets. It says nothing, and is the one field that is not passed on."""


class ManyChoices(Chunk, frozen=True):
    """A chunk that brings pieces of other answers to the same request, beside the one that is read."""

    others: Sequence[dict[str, object]] = ()
    """Their choices, as they came."""


AnswerChunk = Chunk
FACTS = ("id", "model", "service_tier", "system_fingerprint", "provider")
"""JsonFields of a chunk that are the same in all chunks of an answer."""
