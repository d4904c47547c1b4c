"""The body of a request for a response, in OpenAI's format, and the completion that it asks an upstream for.

Tools that OpenAI's servers would run, and whatever else nobody here can do, are refused by name. Fields that we do not
know are passed to the upstream as they came.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.dialects.response_items import ResponseItem, refused, upstream_messages
from gateway.chat.dialects.response_tools import completion_tool_choice, completion_tools
from gateway.errors import BadRequest

MAX_METADATA = 16
INCLUDED = {"reasoning.encrypted_content", "message.input_image.image_url"}
"""What may be asked for beside the answer: there is none of the first here, and the second is always there."""
TRACES = {"client_metadata"}
"""Fields with which a client traces its own work; OpenAI's chat completions refuse them."""
REFUSED = {
    "prompt": "prompts are not kept here: send `instructions` and `input`",
    "conversation": "conversations are not kept here: send `previous_response_id`",
    "n": "a response has one answer",
    "context_management": "the gateway drops nothing of a conversation",
    "moderation": "nothing is moderated here",
}
SCALARS = ("instructions", "max_output_tokens", "max_tool_calls", "temperature", "top_p", "user", "service_tier")
_json = msgspec.json.Encoder().encode


class ResponseStreamOptions(msgspec.Struct, frozen=True):
    include_obfuscation: bool = False
    """Taken and without an effect: nothing is added to events."""


class ResponseRequest(msgspec.Struct, kw_only=True):
    """The fields of a body of `POST /v1/responses` that we read; all others are the upstream's."""

    input: Raw | UnsetType = UNSET
    """A text, or a list of items."""
    model: str = ""
    instructions: str | None = None
    stream: bool = False
    stream_options: ResponseStreamOptions | None = None
    store: bool = True
    """Whether it can be asked for later."""
    background: bool = False
    """Whether it goes on when its client leaves."""
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    """`format` and `verbosity`."""
    reasoning: dict[str, Any] | None = None
    """`effort` and `summary`: without a summary, thoughts are told as they are."""
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    metadata: dict[str, str] | None = None
    truncation: str | None = None
    include: list[str] | None = None

    @property
    def has_summaries(self) -> bool:
        reasoning = self.reasoning or {}
        return bool(reasoning.get("summary") or reasoning.get("generate_summary"))

    def check(self, fields: Mapping[str, Raw], max_output_tokens: int) -> None:
        """Raises BadRequest, which names the field, for what cannot be done, or is past a limit."""
        for name, why in REFUSED.items():
            if bytes(fields.get(name, b"null")) != b"null":
                raise refused(name, why, "unsupported_parameter")
        if self.background and not self.store:
            raise refused("background", "a response in the background is stored: leave out store=false")
        if self.truncation not in (None, "disabled"):
            raise refused("truncation", "the gateway drops nothing of a conversation: want disabled")
        if self.top_logprobs:
            raise refused("top_logprobs", "log probabilities are not kept here")
        for place, name in enumerate(self.include or ()):
            if name not in INCLUDED:
                raise refused(f"include[{place}]", f"{name[:64]!r} is not kept here: want {', '.join(INCLUDED)}")
        if self.metadata is not None and len(self.metadata) > MAX_METADATA:
            raise refused("metadata", f"{len(self.metadata)} keys: at most {MAX_METADATA} are allowed")
        limit = self.max_output_tokens
        if limit is not None and not 1 <= limit <= max_output_tokens:
            raise refused("max_output_tokens", f"{limit}: 1 to {max_output_tokens} are allowed", "invalid_value")

    def for_upstream(
        self, fields: Mapping[str, Raw], items: Sequence[ResponseItem], max_messages: int
    ) -> dict[str, object]:
        """Returns the body of a completion that goes on from `items`; `fields` are all of the body.

        Raises BadRequest, which names the field that is wrong.
        """
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        messages = [*system, *upstream_messages(items)]
        if not 1 <= len(messages) <= max_messages:
            raise BadRequest(
                f"{len(messages)} messages: 1 to {max_messages} are allowed",
                code="too_many_messages",
                extra={"param": "input"},
            )
        passed = {name: raw for name, raw in fields.items() if name not in OURS}
        asked: dict[str, object] = msgspec.json.decode(_json(passed))
        tools = completion_tools(self.tools or ())
        asked |= {
            "messages": messages,
            "tools": tools or None,
            "tool_choice": completion_tool_choice(self.tool_choice) if tools else None,
            "parallel_tool_calls": self.parallel_tool_calls if tools else None,
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "reasoning_effort": (self.reasoning or {}).get("effort"),
            "response_format": _response_format(self.text or {}),
            "verbosity": (self.text or {}).get("verbosity"),
        }
        return {name: value for name, value in asked.items() if value is not None}

    def echo(self, fields: Mapping[str, Raw]) -> Raw:
        """Returns the fields that the response repeats, with what holds where the request is silent."""
        reasoning = self.reasoning or {}
        told: dict[str, object] = {
            "background": self.background,
            **{name: fields.get(name) for name in (*SCALARS, "prompt_cache_key", "safety_identifier")},
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
            "store": self.store,
            "text": {"format": {"type": "text"}, **(self.text or {})},
            "tool_choice": self.tool_choice or "auto",
            "tools": [
                {"strict": None, **tool} if tool.get("type") == "function" else tool for tool in self.tools or ()
            ],
            "top_logprobs": 0,
            "truncation": "disabled",
        }
        return Raw(_json(told))


OURS = {field.encode_name for field in msgspec.structs.fields(ResponseRequest)} | REFUSED.keys() | TRACES


def _response_format(text: Mapping[str, Any]) -> object:
    form = text.get("format")
    if form is None:
        return None
    kind = cast("ResponseItem", form).get("type") if isinstance(form, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": kind}
    if kind == "json_schema":
        schema = {
            name: value for name, value in cast("ResponseItem", form).items() if name != "type" and value is not None
        }
        return {"type": kind, kind: schema}
    raise refused("text.format.type", f"{str(kind)[:64]!r}: want text, json_schema or json_object")
