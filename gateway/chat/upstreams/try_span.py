"""The span of one try of a model or an agent, in the words of OpenTelemetry's conventions for generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans. Of what was asked and answered it tells the size alone.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2

from gateway.chat.upstreams.finish_reasons import finish_reason_of
from gateway.chat.upstreams.upstream import Generation
from gateway.core.usage import Usage, usage_of
from gateway.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    from gateway.core.tracing import Attributes, Span

OPERATION = "gen_ai.operation.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INVOKE_AGENT = "invoke_agent"
FIRST_CHUNK_S = "gen_ai.response.time_to_first_chunk"


class TrySpan:
    """A TrySpan lasts from the request to the end of its answer, or to the error that had the next upstream tried."""

    def __init__(
        self, run: "Span", settings: UpstreamSettings, model: str, *, operation: str = "chat", is_stream: bool = True
    ) -> None:
        """Begins a request for `model` within the span of its run; an empty name is the upstream's own first model."""
        model = model or settings.model
        is_agents = operation == INVOKE_AGENT
        about = settings.name if is_agents else model
        url = httpx2.URL(settings.base_url)
        place: Attributes = {"server.address": url.host} if url.host else {}
        if url.port:
            place = {**place, "server.port": url.port}
        if is_agents:
            place = {**place, "gen_ai.agent.name": settings.name}
        self._span = run.request(
            f"{operation} {about}".rstrip(),
            {
                OPERATION: operation,
                "gen_ai.provider.name": settings.name,
                REQUEST_MODEL: model,
                "gen_ai.request.stream": is_stream,
                **place,
            },
        )
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()

    @property
    def head(self) -> bytes:
        """Returns the lines of the request's head that have the upstream continue the trace, each with its CRLF."""
        return b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in self._span.headers.items())

    def note_first_token(self) -> None:
        self._span.note({FIRST_CHUNK_S: self._loop.time() - self._started_at})

    def fail(self, error: BaseException | str) -> None:
        """Ends a try that gave no token, or was lost."""
        self._span.end({}, error)

    @contextmanager
    def around(self, facts: "Callable[[], Attributes]") -> Generator[None]:
        """Ends with the block, in which the answer is written; `facts` returns what is known of it then."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as err:
            error = err
            raise
        finally:
            self._span.end(facts(), error)


def facts_of(generation: Generation) -> "Attributes":
    """Returns what a span tells of a model's answer."""
    reason = finish_reason_of(generation.finish_reason)
    told: Attributes = {RESPONSE_MODEL: generation.model, FINISH_REASONS: finish_reasons(reason or "")}
    return {**told, **measured(usage_of(generation.usage, 0, 0))}


def measured(usage: Usage) -> "Attributes":
    """Returns the tokens that an upstream says it has used; nothing where they are estimates of ours."""
    return {} if usage.estimated else usage_attributes(usage)


def finish_reasons(reason: str) -> list[str]:
    """Returns why an answer ended, as the conventions spell it; nothing when it did not come to its end."""
    return [reason.replace("-", "_")] if reason else []


def usage_attributes(usage: Usage) -> "Attributes":
    attributes: dict[str, int] = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    if usage.cached_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    return attributes
