"""The body of a request for a chat completion, in OpenAI's format.

We read the few fields that our own promises depend on. Every other field is passed to the upstream as it came.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from gateway.errors import BadRequest

OURS = {"model", "stream", "stream_options"}
"""Fields that the gateway says to the upstream itself."""
MAX_CHOICES = 16
"""Maximum number of answers to one request."""


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class CompletionRequest(msgspec.Struct, kw_only=True):
    """The fields of a body of `POST /v1/chat/completions` that we read; all others are the upstream's."""

    messages: list[Raw]
    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None

    @property
    def has_usage(self) -> bool:
        """Returns whether the stream is to end with the usage figures."""
        return self.stream_options is not None and self.stream_options.include_usage

    @staticmethod
    def wants_function_call(fields: Mapping[str, Raw]) -> bool:
        """Returns whether `fields`, which are all of the body, have `functions`, the older form of `tools`."""
        names = {name for name in ("functions", "tools") if bytes(fields.get(name, b"null")) != b"null"}
        return names == {"functions"}

    def for_upstream(self, fields: Mapping[str, Raw], max_messages: int, max_output_tokens: int) -> dict[str, object]:
        """Returns `fields`, which are all of the body, as they came, but for what is ours to say.

        Raises BadRequest past a limit.
        """
        if not 1 <= len(self.messages) <= max_messages:
            raise BadRequest(
                f"{len(self.messages)} messages: 1 to {max_messages} are allowed", code="too_many_messages"
            )
        if bytes(fields.get("background", b"")) == b"true":
            raise BadRequest(
                "background: a completion ends with its connection; `background` is of POST /api/chat",
                code="unsupported_parameter",
                extra={"param": "background"},
            )
        for name, tokens in (("max_tokens", self.max_tokens), ("max_completion_tokens", self.max_completion_tokens)):
            if tokens is not None and tokens > max_output_tokens:
                raise BadRequest(f"{name}={tokens} is more than the limit of {max_output_tokens}")
        theirs = {name: raw for name, raw in fields.items() if name not in OURS and bytes(raw) != b"null"}
        return msgspec.json.decode(msgspec.json.encode(theirs))
