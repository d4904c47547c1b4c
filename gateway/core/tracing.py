"""Makes spans and sends them to an OpenTelemetry collector, by OTLP over HTTP. The only importer of `opentelemetry`.

It is imported only where the environment names a collector: the SDK takes memory and a thread. Spans wait in a bounded
queue of the SDK's and leave from that thread, so a collector that is slow, hangs or is away costs spans and nothing
else. What a span may say is up to those who make it; none has a prompt, an answer, or who asked.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import structlog
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as SdkTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.core.request_context import CURRENT
from gateway.errors import TrilaneError

FLUSH_S = 2.0
"""Maximum seconds that the end of this process waits for a collector; what is not sent by then is lost."""
ERROR_TYPE = "error.type"
MAX_CHARS = 128
"""Maximum length of a text in a span: most are ours, but a model's name may come from a client or an upstream."""

Attributes = Mapping[str, str | int | float | bool | Sequence[str]]

log = structlog.get_logger("traces")
_propagator = TraceContextTextMapPropagator()


class Span:
    """One piece of work, from its start to its one end."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: SdkTracer, span: SdkSpan) -> None:
        self._tracer = tracer
        self._span = span

    def request(self, name: str, attributes: Attributes) -> "Span":
        """Returns the span of a request to another server that this work makes."""
        return self._child(name, SpanKind.CLIENT, attributes)

    def inner(self, name: str, attributes: Attributes) -> "Span":
        """Returns the span of a part of this work."""
        return self._child(name, SpanKind.INTERNAL, attributes)

    def _child(self, name: str, kind: SpanKind, attributes: Attributes) -> "Span":
        context = set_span_in_context(self._span)
        return Span(self._tracer, self._tracer.start_span(name[:MAX_CHARS], context, kind, _bounded(attributes)))

    @property
    def headers(self) -> dict[str, str]:
        """Returns the headers that have the server of this request continue the trace."""
        headers: dict[str, str] = {}
        _propagator.inject(headers, set_span_in_context(self._span))
        return headers

    def note(self, attributes: Attributes) -> None:
        """Adds what was learnt meanwhile."""
        self._span.set_attributes(_bounded(attributes))

    def end(self, attributes: Attributes, failure: BaseException | str | None = None) -> None:
        """Ends it, with an error if there was a `failure`, of which its kind is told and nothing else. Idempotent."""
        if not self._span.is_recording():
            return
        self._span.set_attributes(_bounded(attributes))
        if error_type := _error_type(failure):
            self._span.set_attribute(ERROR_TYPE, error_type[:MAX_CHARS])
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Tracer:
    """The spans of this process, and their way to the collector.

    The SDK reads by itself, from the environment, where that is, what is sampled and how the service is called.
    """

    def __init__(self) -> None:
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(_ReportingExporter()))
        self._provider = provider
        self._tracer = provider.get_tracer("trilane")

    def start(self, name: str, attributes: Attributes) -> Span:
        """Returns the span of work that the current request has begun, within its caller's trace if it named one."""
        context = _propagator.extract(CURRENT.get().trace_headers)
        span = self._tracer.start_span(name[:MAX_CHARS], context, SpanKind.SERVER, _bounded(attributes))
        return Span(self._tracer, span)

    async def close(self) -> None:
        """Sends what is left, for at most FLUSH_S."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waited so long
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=flush, name="traces", daemon=True).start()  # the end of a process waits for no daemon
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await sent.wait()


class _ReportingExporter(SpanExporter):
    """Sends spans, and has it logged once that they cannot be sent, and once that they can again.

    The SDK logs every try.
    """

    def __init__(self) -> None:
        self._exporter = OTLPSpanExporter()
        self._has_failed = False
        logging.getLogger(trace_exporter.__name__).addFilter(self._is_news)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        has_failed = result is not SpanExportResult.SUCCESS
        if self._has_failed and not has_failed:
            log.info("traces are sent again")
        self._has_failed = has_failed
        return result

    def _is_news(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR and not self._has_failed

    def shutdown(self) -> None:
        logging.getLogger(trace_exporter.__name__).removeFilter(self._is_news)
        self._exporter.shutdown()


def _error_type(failure: BaseException | str | None) -> str:
    """Returns the word for a failure. What was cancelled did not fail: whoever ended it knows why."""
    if isinstance(failure, TrilaneError):
        return failure.code
    if failure is None or isinstance(failure, asyncio.CancelledError):
        return ""
    return failure if isinstance(failure, str) else type(failure).__name__


def _resource() -> Resource:
    """Returns what this process is called: as the environment says, or else `trilane`."""
    resource = Resource.create({SERVICE_VERSION: version("trilane")})
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "trilane"}))
    return resource


def _bounded(attributes: Attributes) -> Attributes:
    """Returns the attributes that say something, none longer than MAX_CHARS."""
    return {
        name: value[:MAX_CHARS] if isinstance(value, str) else value
        for name, value in attributes.items()
        if not isinstance(value, str | Sequence) or value
    }
