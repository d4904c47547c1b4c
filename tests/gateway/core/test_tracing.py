"""Spans go to a collector that the environment names; one that hangs, is away or refuses costs nothing but spans."""

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from gateway.core import tracing
from gateway.core.process import make_tracer
from gateway.core.request_context import CURRENT, context_of
from gateway.core.tracing import FLUSH_S, Tracer
from gateway.errors import ConfigurationError
from gateway.settings import Tracing, load
from loadtests.ports import free_port
from tests.conftest import eventually
from tests.support.collector import Collector, collecting

URL = "http://127.0.0.1:4318"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        yield made


# Whether there are any


OFF: list[dict[str, str]] = [
    {},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
    {"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": URL},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_SDK_DISABLED": "True"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_EXPORTER": "none"},
]


@pytest.mark.parametrize("env", OFF)
def test_no_spans_are_made_unless_a_collector_is_named(env: dict[str, str]) -> None:
    assert make_tracer(load(env).tracing) is None


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_either_variable_names_a_collector(variable: str) -> None:
    assert load({variable: f" {URL} "}).tracing.is_on


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_a_protocol_that_this_gateway_does_not_have_is_refused_by_name(variable: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        make_tracer(load({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, variable: "grpc"}).tracing)
    assert "'grpc'" in error.value.detail
    assert "http/protobuf" in error.value.detail


@pytest.mark.parametrize("address", ["col.example:4318", "localhost", "grpc://user:passw0rd@collector:4317"])
def test_what_is_no_address_of_a_collector_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        make_tracer(load({"OTEL_EXPORTER_OTLP_ENDPOINT": address}).tracing)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in error.value.detail
    assert address not in error.value.detail


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gateway.core.tracing", None)
    with pytest.raises(ConfigurationError) as error:
        make_tracer(Tracing(otel_exporter_otlp_endpoint=URL))
    assert "trilane[otel]" in error.value.detail


# What a span says


def test_spans_continue_the_callers_trace_and_are_continued(collector: Collector) -> None:
    token = CURRENT.set(context_of("r", [(b"traceparent", TRACEPARENT.encode()), (b"tracestate", b"a=1")]))
    tracer = Tracer()
    work = tracer.start("work", {"model": "m" * 1000, "nothing": "", "none": [], "count": 0})
    CURRENT.reset(token)
    request = work.request("request" * 100, {"is_on": True})
    headers = request.headers
    request.end({}, "timeout")
    request.end({"late": 1})
    tracer.start("another", {}).end({})
    work.end({"reasons": ["stop"]})
    asyncio.run(tracer.close())
    by_name = {span.name[:7]: span for span in collector.await_spans(3)}
    assert max(len(span.name) for span in by_name.values()) == 128
    _, trace_id, parent_id, _ = TRACEPARENT.split("-")
    assert (by_name["work"].trace_id, by_name["work"].parent_id) == (trace_id, parent_id)
    assert by_name["work"].attributes == {"model": "m" * 128, "count": 0, "reasons": ["stop"]}
    assert (by_name["work"].status, by_name["work"].kind) == ("UNSET", "SERVER")
    assert by_name["request"].parent_id == by_name["work"].span_id
    assert by_name["request"].attributes == {"is_on": True, "error.type": "timeout"}
    assert (by_name["request"].status, by_name["request"].kind) == ("ERROR", "CLIENT")
    assert headers == {"traceparent": f"00-{trace_id}-{by_name['request'].span_id}-01", "tracestate": "a=1"}
    assert (by_name["another"].parent_id, by_name["another"].service) == ("", "trilane")
    assert by_name["another"].trace_id != trace_id


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_SERVICE_NAME", "ours"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours,team=a")],
)
def test_the_service_is_called_as_the_environment_says(
    variable: str, value: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    tracer = Tracer()
    tracer.start("work", {}).end({})
    asyncio.run(tracer.close())
    assert [span.service for span in collector.spans] == ["ours"]


def test_the_environment_says_what_is_sampled(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracer = Tracer()
    work = tracer.start("work", {})
    work.request("request", {}).end({}, "timeout")
    work.end({})
    asyncio.run(tracer.close())
    assert collector.spans == []


# A collector in trouble


def test_a_collector_that_hangs_delays_nobody_and_spans_do_not_pile_up(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    collector.opens.clear()
    tracer = Tracer()
    began = time.monotonic()
    for _ in range(2000):
        tracer.start("work", {}).end({})
    assert time.monotonic() - began < FLUSH_S, "a millisecond a span, and none waited for"
    eventually(lambda: collector.paths, what="it is asked")
    began = time.monotonic()
    asyncio.run(tracer.close())
    assert FLUSH_S - 0.5 < time.monotonic() - began < FLUSH_S + 2
    collector.opens.set()
    eventually(lambda: len(collector.spans) >= 10, what="what it was asked is sent")
    assert len(collector.spans) <= 10 + 20


@pytest.mark.parametrize("is_away", [True, False], ids=["away", "refusing"])
def test_an_outage_is_logged_once_and_so_is_its_end(
    is_away: bool, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 401
    if is_away:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    exporter = tracing._ReportingExporter()
    try:
        with capture_logs() as lines, caplog.at_level(logging.WARNING):
            for _ in range(3):
                exporter.export([])
            assert [record.levelname for record in caplog.records] == ["ERROR"]
            if not is_away:
                collector.status = 200
                exporter.export([])
                exporter.export([])
                assert [line["event"] for line in lines] == ["traces are sent again"]
                collector.status = 401
                exporter.export([])
                assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    finally:
        exporter.shutdown()
