"""A Collector takes spans by OTLP over HTTP, as OpenTelemetry's own does, and decodes them with its own types."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import eventually


class TakenSpan(NamedTuple):
    """One span as it came; ids are in hex, and an absent parent is empty."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    status: str
    attributes: dict[str, Any]
    service: str
    lasted_s: float


class Collector(ThreadingHTTPServer):
    """Takes every request; while `opens` is not set, it answers none."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.status = 200
        self.opens = threading.Event()
        self.opens.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """Returns what has a process send its spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    @property
    def spans(self) -> list[TakenSpan]:
        return [span for body in list(self.bodies) for span in _spans(body)]

    def await_spans(self, count: int, within_s: float = 20.0) -> list[TakenSpan]:
        """Returns all spans once that many have come."""
        eventually(lambda: len(self.spans) >= count, within_s, f"{count} spans, {self.spans}")
        return self.spans

    def clear(self) -> None:
        self.bodies.clear()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        self.server.opens.wait(60)
        if self.server.status == 200:
            self.server.bodies.append(body)
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Writes nothing."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            collector.opens.set()
            collector.shutdown()
            thread.join()


def _spans(body: bytes) -> Iterator[TakenSpan]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield TakenSpan(
                    name=span.name,
                    kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    status=span.status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                    attributes=_attributes(span.attributes),
                    service=service,
                    lasted_s=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
