"""Runs leave traces in a real collector, whatever their end; without one configured nothing of that is loaded."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from loadtests.ports import free_port
from loadtests.upstream import PROMPT_TOKENS
from tests.conftest import Gateway, UpstreamThread, serving
from tests.gateway.chat.agents.streams import DONE, STARTED, frames, said
from tests.support.agent_server import AgentServer
from tests.support.collector import Collector, TakenSpan, collecting
from tests.support.sse_client import Frames, chat_body, iter_frames, read_frames

KEY = "key-of-alice-4c1f7e0b92d85a63"
USER = "alice-9d27"
PARENT = "00f067aa0ba902b7"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
HEADERS = {"authorization": f"Bearer {KEY}", "traceparent": TRACEPARENT, "tracestate": "vendor=1"}
LONG = "T=400 I=20000"
BROKEN = """
[[upstream]]
name = "first"
base_url = "http://127.0.0.1:{port}/v1"
model = "ok"

[[upstream]]
name = "second"
base_url = "{url}"
model = "ok"
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def traced(
    upstream: UpstreamThread, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Yields a gateway that sends its traces to the collector."""
    made = serving(tmp_path_factory.mktemp("traced"), upstream.url, **collector.env, **sign_in())
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def nothing_yet(collector: Collector) -> None:
    collector.clear()


def sign_in() -> dict[str, str]:
    return {"TRILANE_API_KEYS": f"{USER}:{KEY}"}


def ask(gateway: Gateway, body: dict[str, Any]) -> Frames:
    with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body, headers=HEADERS, timeout=30) as response:
        return read_frames(response.iter_lines())


def run_and_tries(collector: Collector, count: int = 2) -> tuple[TakenSpan, list[TakenSpan]]:
    """Returns the span of the one run, and those of its tries in order."""
    spans = collector.await_spans(count)
    [run] = [span for span in spans if span.kind == "SERVER"]
    return run, [span for span in spans if span.kind == "CLIENT"]


def test_a_run_is_a_span_with_a_child_for_its_upstream(
    traced: Gateway, upstream: UpstreamThread, collector: Collector
) -> None:
    frames = ask(traced, chat_body("traced", "T=12 I=1000"))
    assert frames.done
    run, [attempt] = run_and_tries(collector)
    assert (run.name, run.trace_id, run.parent_id, run.status) == ("invoke_workflow run", TRACE, PARENT, "UNSET")
    assert (attempt.name, attempt.trace_id, attempt.parent_id) == ("chat ok", TRACE, run.span_id)
    assert (run.service, collector.paths[-1]) == ("trilane", "/v1/traces")
    usage = {"gen_ai.usage.input_tokens": PROMPT_TOKENS, "gen_ai.usage.output_tokens": 12}
    assert usage.items() <= attempt.attributes.items()
    assert usage.items() <= run.attributes.items()
    assert attempt.attributes["gen_ai.operation.name"] == "chat"
    assert attempt.attributes["gen_ai.provider.name"] == "default"
    assert attempt.attributes["gen_ai.request.model"] == "ok"
    assert attempt.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attempt.attributes["server.address"] == "127.0.0.1"
    assert attempt.attributes["server.port"] == httpx2.URL(upstream.url).port
    assert 0 < attempt.attributes["gen_ai.response.time_to_first_chunk"] < attempt.lasted_s <= run.lasted_s
    assert run.attributes["trilane.outcome"] == "finish"
    assert "error.type" not in run.attributes | attempt.attributes
    sent = upstream.fake.requests[-1].headers
    assert (sent["traceparent"], sent["tracestate"]) == (f"00-{TRACE}-{attempt.span_id}-01", "vendor=1")


def test_spans_tell_nothing_of_what_was_said_nor_by_whom(
    traced: Gateway, upstream: UpstreamThread, collector: Collector
) -> None:
    """Prompt, answer, a tool's name and arguments, an error that quotes, user, chat and key: none is in the bytes."""
    ask(traced, chat_body("chat-secret-5e", "T=5 I=0 the-prompt-71c2"))
    ask(traced, chat_body("chat-tools-5e", "B=tools T=5 I=0 the-prompt-71c2"))
    ask(traced, chat_body("chat-refused-5e", "B=e400 the-prompt-71c2"))
    completion = {"model": "ok", "user": "user-5e", "messages": [{"role": "user", "content": "the-prompt-71c2"}]}
    assert httpx2.post(f"{traced.url}/v1/chat/completions", json=completion, headers=HEADERS).status_code == 200
    collector.await_spans(8)
    sent = b"".join(collector.bodies)
    for secret in (
        b"the-prompt",
        b"w1",
        b"w4",
        b"get_weather",
        b"rich",
        b"Too many",
        b"-5e",
        USER.encode(),
        KEY.encode(),
    ):
        assert secret not in sent, secret
    assert b"gen_ai" in sent


ENDS = {
    "cut": ("error", "ERROR", "upstream_cut"),
    "cut-hard": ("error", "ERROR", "upstream_cut"),
    "e500": ("error", "ERROR", "upstream_unavailable"),
    "e429": ("error", "ERROR", "upstream_rate_limited"),
    "error-openai": ("error", "ERROR", "upstream_error"),
    "no-done": ("finish", "UNSET", ""),
}


@pytest.mark.parametrize("behaviour", ENDS)
def test_a_span_has_the_status_of_its_run(behaviour: str, traced: Gateway, collector: Collector) -> None:
    ask(traced, chat_body(f"ends-{behaviour}", f"T=6 I=0 B={behaviour}"))
    run, [attempt] = run_and_tries(collector)
    outcome, status, error_type = ENDS[behaviour]
    assert run.attributes["trilane.outcome"] == outcome
    for span in (run, attempt):
        assert (span.status, span.attributes.get("error.type", "")) == (status, error_type)


def test_a_run_that_its_user_stops_is_no_error(traced: Gateway, collector: Collector) -> None:
    body = chat_body("stopped", LONG)
    with httpx2.stream("POST", f"{traced.url}/api/chat", json=body, headers=HEADERS, timeout=30) as response:
        events = iter_frames(response.iter_lines(), Frames())
        next(chunk for _, chunk in events if chunk["type"] == "text-delta")
        assert not collector.spans
        httpx2.post(f"{traced.url}/api/chat/stopped/stop", json={}, headers=HEADERS)
        list(events)
    run, [attempt] = run_and_tries(collector)
    assert (run.attributes["trilane.outcome"], run.status, attempt.status) == ("abort", "UNSET", "UNSET")
    assert "gen_ai.response.finish_reasons" not in run.attributes | attempt.attributes


def test_a_span_outlives_the_request_of_its_run(traced: Gateway, collector: Collector) -> None:
    body = chat_body("outlived", "T=40 I=10000")
    with httpx2.stream("POST", f"{traced.url}/api/chat", json=body, headers=HEADERS, timeout=30) as response:
        next(chunk for _, chunk in iter_frames(response.iter_lines(), Frames()) if chunk["type"] == "text-delta")
    run, _ = run_and_tries(collector)
    assert (run.parent_id, run.attributes["trilane.outcome"]) == (PARENT, "finish")
    assert run.attributes["gen_ai.usage.output_tokens"] == 40
    assert run.lasted_s > 0.3


def test_a_caller_that_is_not_sampled_leaves_no_span(
    traced: Gateway, upstream: UpstreamThread, collector: Collector
) -> None:
    headers = {**HEADERS, "traceparent": TRACEPARENT[:-1] + "0"}
    body = chat_body("unsampled", "T=2 I=0")
    assert httpx2.post(f"{traced.url}/api/chat", json=body, headers=headers).status_code == 200
    assert upstream.fake.requests[-1].headers["traceparent"].startswith(f"00-{TRACE}-")
    assert upstream.fake.requests[-1].headers["traceparent"].endswith("-00")
    ask(traced, chat_body("sampled", "T=2 I=0"))
    run_and_tries(collector)


def test_each_agent_that_is_tried_is_a_child_and_continues_the_trace(collector: Collector, tmp_path: Path) -> None:
    with AgentServer() as server:
        server.statuses = {"/first": 503}
        server.scripts = {"/second": [frames(STARTED, *said("m1", "secret-5e"), DONE)]}
        pair = [
            f'[[upstream]]\nname = "{name}"\nkind = "ag-ui"\nmodels = ["pair"]\nbase_url = "{server.url}/{name}"\n'
            for name in ("first", "second")
        ]
        (tmp_path / "agents.toml").write_text("".join(pair))
        env = {**collector.env, "TRILANE_UPSTREAMS": str(tmp_path / "agents.toml"), "OPENAI_BASE_URL": "", **sign_in()}
        gateway = serving(tmp_path, "", **env)
        try:
            gateway.start()
            assert ask(gateway, {**chat_body("agents-5e", "prompt-5e"), "model": "pair"}).done
            run, tries = run_and_tries(collector, 3)
        finally:
            gateway.stop()
        [asked] = server.at("/second")
    assert [attempt.name for attempt in tries] == ["invoke_agent first", "invoke_agent second"]
    assert {attempt.parent_id for attempt in tries} == {run.span_id}
    assert [attempt.attributes.get("error.type") for attempt in tries] == ["upstream_unavailable", None]
    assert tries[1].attributes["gen_ai.operation.name"] == "invoke_agent"
    assert tries[1].attributes["gen_ai.agent.name"] == "second"
    assert asked.headers["traceparent"] == f"00-{TRACE}-{tries[1].span_id}-01"
    assert b"-5e" not in b"".join(collector.bodies)


def test_an_interrupted_run_has_its_spans_and_a_collector_that_hangs_does_not_keep_its_process(
    upstream: UpstreamThread, collector: Collector, tmp_path: Path
) -> None:
    """Of two upstreams the first cannot be reached; the process is cut in the middle of the answer.

    Its spans leave at its end, all at once: after a batch that is not answered it sends no other.
    """
    file = tmp_path / "upstreams.toml"
    file.write_text(BROKEN.format(port=free_port(), url=upstream.url))
    env = {**collector.env, "OTEL_SERVICE_NAME": "ours", "TRILANE_UPSTREAMS": str(file), **sign_in()}
    env["OTEL_BSP_SCHEDULE_DELAY"] = "600000"
    gateway = Gateway(tmp_path, {**env, "TRILANE_DRAIN_DEADLINE_S": "0.1"})
    try:
        gateway.start()
        body = chat_body("cut", LONG)
        with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body, headers=HEADERS, timeout=30) as response:
            events = iter_frames(response.iter_lines(), Frames())
            next(chunk for _, chunk in events if chunk["type"] == "text-delta")
            collector.opens.clear()
            began = time.monotonic()
            gateway.signal(signal.SIGTERM)
            gateway.wait(20)
            assert time.monotonic() - began < 10
    finally:
        collector.opens.set()
        gateway.stop()
    run, [first, second] = run_and_tries(collector, 3)
    assert (run.status, run.attributes["error.type"], run.service) == ("ERROR", "interrupted", "ours")
    assert run.attributes["trilane.outcome"] == "interrupted"
    assert (first.status, first.attributes["error.type"]) == ("ERROR", "upstream_unreachable")
    assert [span.attributes["gen_ai.provider.name"] for span in (first, second)] == ["first", "second"]
    assert {first.parent_id, second.parent_id} == {run.span_id}
