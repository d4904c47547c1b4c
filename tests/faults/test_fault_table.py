"""Each way in which an upstream can fail has its one allowed outcome, streamed and whole.

After every row: exactly one terminal chunk, one usage row, no request left open at the upstream, nothing left behind
in the gateway.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import pytest

from loadtests.ports import free_port
from loadtests.upstream import UTF8_TAIL
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import Frames, chat_body, read_frames, send

TOKENS = 6
HALF = TOKENS // 2


def words(count: int, tail: str = "") -> str:
    return " ".join(f"w{n}{tail}" for n in range(count))


class Ok(NamedTuple):
    """The answer ends in `finish` with this text."""

    text: str = words(TOKENS)
    reason: str = "stop"
    is_estimated: bool = False


class Cut(NamedTuple):
    """The stream ends in `error` after this text; a whole answer is a problem of this status."""

    code: str
    status: int = 502
    text: str | None = words(HALF)


class Refused(NamedTuple):
    """Nothing is visible before the failure: the answer is a problem document, streamed or whole."""

    status: int
    code: str
    retry_after: str | None = None


TABLE: dict[str, Ok | Cut | Refused] = {
    "ok": Ok(),
    "fast": Ok(),
    "hang": Refused(504, "upstream_timeout"),
    "slow-headers": Refused(504, "upstream_timeout"),
    "stall-first": Refused(504, "upstream_timeout"),
    "e400": Refused(400, "context_length_exceeded"),
    "e401": Refused(502, "upstream_auth"),
    "e429": Refused(429, "upstream_rate_limited", retry_after="7"),
    "e429-bare": Refused(429, "insufficient_quota", retry_after="2"),
    "e500": Refused(502, "upstream_unavailable"),
    "e503": Refused(502, "upstream_unavailable"),
    "html": Refused(502, "upstream_invalid"),
    "cut-first": Refused(502, "upstream_cut"),
    "error-openai-first": Refused(502, "upstream_error"),
    "stall-mid": Cut("upstream_timeout", 504),
    "cut": Cut("upstream_cut"),
    "cut-hard": Cut("upstream_cut", text=None),
    "cut-eof": Cut("upstream_cut"),
    "cut-midline": Cut("upstream_cut"),
    "badjson": Cut("upstream_invalid"),
    "error-openai": Cut("upstream_error"),
    "error-vllm": Cut("upstream_unavailable"),
    "error-openrouter": Cut("upstream_unavailable"),
    "error-event": Cut("upstream_error"),
    "drip": Ok(),
    "no-done": Ok(),
    "double-done": Ok(),
    "no-usage": Ok(is_estimated=True),
    "usage-every": Ok(),
    "utf8-split": Ok(words(TOKENS, UTF8_TAIL)),
    "crlf": Ok(),
    "cr": Ok(),
    "comments": Ok(),
    "multiline-data": Ok(),
    "unknown-fields": Ok(),
    "finish-length": Ok(reason="length"),
    "finish-filter": Ok(reason="content-filter"),
    "empty": Ok(""),
}
DOORS = ("chat", "stream", "whole")


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = serving(
        tmp_path_factory.mktemp("faults"),
        upstream.url,
        TRILANE_FIRST_TOKEN_S="2.5",
        TRILANE_BETWEEN_TOKENS_S="2.5",
        TRILANE_PRIME_S="5",
    )
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fault", TABLE)
def test_a_fault_has_its_one_outcome(fault: str, door: str, gateway: Gateway, upstream: UpstreamThread) -> None:
    text = f"T={TOKENS} I=1000"
    rows = len(gateway.usage())
    if door == "chat":
        check_chat(TABLE[fault], *send(gateway.url, chat_body(f"{fault}-chat", text, model=fault)))
    elif door == "stream":
        check_stream(TABLE[fault], *complete(gateway.url, fault, text, stream=True))
    else:
        check_whole(TABLE[fault], complete(gateway.url, fault, text, stream=False)[0])
    check_nothing_is_left(gateway, upstream)
    usage = gateway.usage()
    assert len(usage) == rows + 1
    check_usage(TABLE[fault], usage[-1])


def complete(url: str, model: str, text: str, *, stream: bool) -> tuple[httpx2.Response, Frames]:
    frames = Frames()
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=20) as response:
        if response.headers["content-type"].startswith("text/event-stream"):
            read_frames(response.iter_lines(), frames)
        else:
            response.read()
    return response, frames


def check_problem(expected: Refused | Cut, response: httpx2.Response) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (expected.status, expected.code)
    assert response.headers["content-type"] == "application/problem+json"
    if isinstance(expected, Refused):
        assert response.headers.get("retry-after") == expected.retry_after
    if response.request.url.path.startswith("/v1"):
        assert problem["error"].keys() == {"message", "type", "param", "code"}
        assert (problem["error"]["message"], problem["error"]["code"]) == (problem["detail"], problem["code"])


def check_chat(expected: Ok | Cut | Refused, response: httpx2.Response, frames: Frames) -> None:
    match expected:
        case Refused():
            check_problem(expected, response)
        case Ok(text, reason, is_estimated):
            assert (frames.text, frames.done) == (text, True)
            [last] = frames.terminals
            assert (last["type"], last["finishReason"]) == ("finish", reason)
            assert last["messageMetadata"]["usage"].get("estimated", False) is is_estimated
        case Cut(code, _, text):
            [last] = frames.terminals
            assert (last["type"], frames.metadata["code"], frames.done) == ("error", code, True)
            assert text is None or frames.text == text
            assert frames.metadata["emitted"] == len(frames.text.split())


def check_stream(expected: Ok | Cut | Refused, response: httpx2.Response, frames: Frames) -> None:
    deltas = [c["choices"][0] for c in frames.chunks if c.get("choices")]
    text = "".join(d["delta"].get("content") or "" for d in deltas)
    match expected:
        case Refused():
            check_problem(expected, response)
        case Ok(expected_text, reason, _):
            assert (text, frames.done) == (expected_text, True)
            assert [d["finish_reason"] for d in deltas if d["finish_reason"]] == [reason.replace("-", "_")]
        case Cut(code, _, expected_text):
            assert expected_text is None or text == expected_text
            assert not [d for d in deltas if d["finish_reason"]]
            assert [c["error"]["code"] for c in frames.chunks if "error" in c] == [code]
            assert frames.done


def check_whole(expected: Ok | Cut | Refused, response: httpx2.Response) -> None:
    if not isinstance(expected, Ok):
        check_problem(expected, response)
        return
    [choice] = response.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (
        expected.text,
        expected.reason.replace("-", "_"),
    )


def check_nothing_is_left(gateway: Gateway, upstream: UpstreamThread) -> None:
    eventually(lambda: not upstream.open_requests, what="no open upstream request")
    eventually(lambda: gateway.gauge("trilane_chat_open_runs") == 0, what="no open run")
    eventually(lambda: gateway.gauge("trilane_gateway_open_streams") == 0, what="no open stream")


def check_usage(expected: Ok | Cut | Refused, row: dict[str, Any]) -> None:
    assert row["outcome"] == ("finish" if isinstance(expected, Ok) else "error")
    if isinstance(expected, Ok) and not expected.is_estimated:
        assert "estimated" not in row


def test_a_refused_connection_is_a_bad_gateway(tmp_path: Any) -> None:
    gateway = serving(tmp_path, f"http://127.0.0.1:{free_port()}/v1").start()
    try:
        response, _ = send(gateway.url, chat_body("refused", "hi"))
        assert (response.status_code, response.json()["code"]) == (502, "upstream_unreachable")
        assert [row["outcome"] for row in gateway.usage()] == ["error"]
    finally:
        gateway.stop()


def test_a_frame_of_a_megabyte_passes_whole(gateway: Gateway, upstream: UpstreamThread) -> None:
    _, frames = send(gateway.url, chat_body("huge", f"T={TOKENS} I=1000", model="huge"))
    assert frames.terminals[0]["type"] == "finish"
    assert len(frames.text) > 1_000_000
    check_nothing_is_left(gateway, upstream)


def test_tool_calls_and_reasoning_pass_as_chunks(gateway: Gateway) -> None:
    _, tools = send(gateway.url, chat_body("tools", f"T={TOKENS}", model="tools-2"))
    assert [t for t in tools.types if t == "tool-input-available"] == ["tool-input-available"] * 2
    assert tools.terminals[0]["finishReason"] == "tool-calls"
    _, thoughts = send(gateway.url, chat_body("reasoning", f"T={TOKENS}", model="reasoning"))
    assert (
        thoughts.types.index("reasoning-start")
        < thoughts.types.index("reasoning-end")
        < thoughts.types.index("text-start")
    )


def test_a_slow_verdict_becomes_a_stream_that_pings_and_then_fails(upstream: UpstreamThread, tmp_path: Any) -> None:
    env = {"TRILANE_PRIME_S": "0.1", "TRILANE_FIRST_TOKEN_S": "1", "TRILANE_PING_S": "0.3"}
    gateway = serving(tmp_path, upstream.url, **env).start()
    try:
        response, frames = send(gateway.url, chat_body("late", "hi", model="stall-first"))
        assert response.status_code == 200
        assert ": ping" in frames.comments
        assert frames.terminals[0]["type"] == "error"
        assert frames.metadata["code"] == "upstream_timeout"
        assert len(gateway.usage()) == 1
    finally:
        gateway.stop()


def test_descriptors_and_tasks_return_to_where_they_were(gateway: Gateway, upstream: UpstreamThread) -> None:
    send(gateway.url, chat_body("warm", "T=2 I=0"))
    check_nothing_is_left(gateway, upstream)
    fds, tasks = gateway.fds(), gateway.gauge("trilane_gateway_tasks")
    for number in range(30):
        for fault in ("ok", "cut-hard", "e500"):
            send(gateway.url, chat_body(f"leak-{fault}-{number}", "T=4 I=0", model=fault))
    check_nothing_is_left(gateway, upstream)
    eventually(lambda: gateway.gauge("trilane_gateway_tasks") <= tasks, what="no task left")
    eventually(lambda: gateway.fds() <= fds + 2, what=f"no descriptor left, {gateway.fds()} of {fds}")
