"""A completion stream is the answer of a model's server, chunk by chunk, whichever wire format it speaks."""

from collections.abc import Callable

from gateway.chat.upstreams.answer_stream import AnswerStream
from gateway.chat.upstreams.body import ByteStream
from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.completion_parser import CompletionParser
from gateway.chat.upstreams.loose_fields import JsonFields
from gateway.chat.upstreams.messages_parser import MessagesParser
from gateway.chat.upstreams.responses_parser import ResponsesParser
from gateway.core.usage import UpstreamUsage


class CompletionStream(AnswerStream[AnswerChunk]):
    """A Generation."""

    def __init__(
        self,
        body: ByteStream,
        upstream: str,
        model: str,
        secret: str,
        on_close: Callable[[], None],
        *,
        parser: CompletionParser | MessagesParser | ResponsesParser,
    ) -> None:
        """Reads the answer to a request for `model`; for the rest see AnswerStream."""
        self._completion = parser
        super().__init__(body, self._completion, upstream, secret, on_close)
        self._requested_model = model

    @property
    def model(self) -> str:
        """Returns the model that answers, as the upstream names it, or else the one that was asked."""
        told = self._completion.facts.get("model")
        return told if isinstance(told, str) else self._requested_model

    @property
    def finish_reason(self) -> str | None:
        return self._completion.finish_reason

    @property
    def usage(self) -> UpstreamUsage | None:
        return self._completion.usage

    @property
    def facts(self) -> JsonFields:
        return self._completion.facts
