"""Agents call the gateway's tools by the `mcp` package's own client, over two processes of one log."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from mcp.shared.exceptions import MCPError

from gateway.access.auth import mint
from loadtests.upstream.shapes import words
from tests.audio.speaker import JFK
from tests.clients.mcp_agent import MODES, Told, agent, cut_from, text_of
from tests.conftest import Gateway, UpstreamThread, eventually, serving

ALICE, BOB = "alices-key-of-the-tests-000000000000", "bobs-key-of-the-tests-00000000000000"
SECRET = "a-secret-of-the-tests-with-32-characters"
ENV = {"TRILANE_API_KEYS": f"alice:{ALICE},bob:{BOB}", "TRILANE_JWT_SECRET": SECRET}
LONG = "T=60 I=20000 B=ok"
"""Asks for an answer of 1.2 s."""
NEWEST = "2026-07-28"
CAPABLE = (("clientCapabilities", dict[str, Any]()),)
ENDLESS = "T=100000 I=20000 B=ok"


@pytest.fixture(scope="module")
def processes(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Yields a process with every lane and one with the chat lane, on one log."""
    folder = tmp_path_factory.mktemp("mcp")
    both = [serving(folder, upstream.url, **ENV) for _ in range(2)]
    both[0].unit = "all"
    try:
        yield [each.start() for each in both]
    finally:
        for each in both:
            each.stop()


@pytest.fixture
def url(processes: list[Gateway]) -> str:
    return processes[0].url


@pytest.fixture(params=MODES)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


def post(url: str, message: Any, key: str = ALICE, **headers: str) -> httpx2.Response:
    given = {"authorization": f"Bearer {key}"} if key else {}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return httpx2.post(f"{url}/mcp", content=body, headers=given, timeout=30)


def rpc(method: str, request_id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def ask(question: str, request_id: Any = 1) -> dict[str, Any]:
    return rpc("tools/call", request_id, name="ask", arguments={"question": question})


def messages_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


def open_requests(upstream: UpstreamThread, question: str) -> int:
    return sum(bool(record.ask and record.ask.text == question) for record in upstream.open_requests)


def asked(upstream: UpstreamThread, question: str) -> int:
    return sum(bool(record.ask and record.ask.text == question) for record in upstream.fake.requests)


# By the package's own client


def test_an_answer_is_told_as_it_is_written_and_then_whole(url: str, era: str) -> None:
    told = Told()

    async def main() -> Any:
        async with agent(url, era, ALICE) as client:
            return await client.call_tool("ask", {"question": LONG}, progress_callback=told)

    called = asyncio.run(main())
    assert (text_of(called), called.is_error) == (words(60), False)
    assert told.text == words(60)
    assert len(told.amounts) > 5
    assert told.amounts == sorted(set(told.amounts))
    chat = httpx2.get(
        f"{url}/api/chat/{called.structured_content['chatId']}", headers={"authorization": f"Bearer {ALICE}"}
    ).json()
    assert [message["role"] for message in chat["messages"]] == ["user", "assistant"]


def test_a_cut_stream_goes_on_in_another_process_without_a_second_run(
    processes: list[Gateway], upstream: UpstreamThread
) -> None:
    told, question, (one, other) = Told(), f"cut {LONG}", processes

    async def main() -> Any:
        async with (
            cut_from(one.port, 4_000) as (proxy, move),
            agent(f"http://127.0.0.1:{proxy.port}", "handshake", ALICE) as client,
        ):
            told.on_first = lambda: move(other.port)
            return await client.call_tool("ask", {"question": question}, progress_callback=told)

    called = asyncio.run(main())
    assert text_of(called) == told.text == words(60)
    assert told.amounts == sorted(set(told.amounts))
    assert asked(upstream, question) == 1


def test_a_call_that_is_cancelled_stops_its_run(url: str, upstream: UpstreamThread, era: str) -> None:
    question = f"{era} {ENDLESS}"

    async def main() -> None:
        async with agent(url, era, ALICE) as client:
            call = asyncio.create_task(client.call_tool("ask", {"question": question}))
            await asyncio.to_thread(eventually, lambda: open_requests(upstream, question))
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await asyncio.to_thread(eventually, lambda: not open_requests(upstream, question))

    asyncio.run(main())


def test_an_event_is_published_with_the_callers_rights(url: str, era: str) -> None:
    async def main() -> list[Any]:
        async with agent(url, era, ALICE) as client:
            return [
                await client.call_tool("publish", {"topic": topic, "data": {"n": 1}, "event": "note"})
                for topic in ("team/mcp", "user/alice")
            ]

    published, refused = asyncio.run(main())
    assert published.structured_content["topic"] == "team/mcp"
    assert (refused.is_error, refused.structured_content["code"]) == (True, "topic_forbidden")


def test_a_file_is_transcribed_with_progress(url: str) -> None:
    told = Told()
    audio = base64.b64encode(JFK.read_bytes()).decode()

    async def main() -> Any:
        async with agent(url, "stateless", ALICE) as client:
            return await client.call_tool(
                "transcribe", {"audio": audio, "name": "jfk.flac"}, progress_callback=told, read_timeout_seconds=60
            )

    called = asyncio.run(main())
    assert "ask not what your country" in text_of(called).lower()
    assert told.text == text_of(called)
    assert called.structured_content["duration"] == pytest.approx(11, abs=0.1)


def test_what_a_tool_refuses_is_its_result_and_an_unknown_tool_an_error(url: str, era: str) -> None:
    async def main() -> tuple[list[Any], MCPError]:
        async with agent(url, era, ALICE) as client:
            refused = [
                await client.call_tool("ask", {"question": "T=4 B=cut"}),
                await client.call_tool("ask", {"question": "B=e400"}),
                await client.call_tool("ask", {"questions": "misspelt"}),
                await client.call_tool("transcribe", {"audio": "*no base64*"}),
                await client.call_tool("transcribe", {"audio": base64.b64encode(b"no audio").decode()}),
            ]
            with pytest.raises(MCPError) as unknown:
                await client.call_tool("delete_everything", {})
            return refused, unknown.value

    refused, unknown = asyncio.run(main())
    assert [called.is_error for called in refused] == [True] * 5
    texts = [text_of(called) for called in refused]
    assert texts[0].startswith(words(2))
    assert "Too many tokens" in texts[1]
    assert "unknown field `questions`" in texts[2]
    assert unknown.code == -32602


def test_who_has_no_rights_is_offered_nothing(url: str, era: str) -> None:
    narrow = mint(SECRET, "alice", time.time() + 600, {"chat": False, "audio": False})

    async def main() -> list[str]:
        async with agent(url, era, narrow) as client:
            tools = await client.list_tools()
            with pytest.raises(MCPError):
                await client.call_tool("ask", {"question": "T=1 B=ok"})
            return [tool.name for tool in tools.tools]

    assert asyncio.run(main()) == []


# By hand


def test_each_unit_offers_the_tools_of_its_lanes(processes: list[Gateway]) -> None:
    listed = [post(each.url, rpc("tools/list")).json()["result"]["tools"] for each in processes]
    assert [[tool["name"] for tool in tools] for tools in listed] == [["ask", "publish", "transcribe"], ["ask"]]
    assert listed[0][0]["inputSchema"]["required"] == ["question"]


def test_the_same_request_again_is_the_same_run(processes: list[Gateway], upstream: UpstreamThread) -> None:
    question = "once T=5 I=1000 B=ok"
    session = {"mcp_session_id": "one", "mcp_protocol_version": "2025-11-25"}
    answers = [post(each.url, ask(question), **session) for each in processes for _ in range(2)]
    assert {messages_of(answer)[-1]["result"]["content"][0]["text"] for answer in answers} == {words(5)}
    assert asked(upstream, question) == 1
    assert messages_of(post(processes[0].url, ask(question), mcp_session_id="other"))
    assert asked(upstream, question) == 2


def test_a_stateless_request_with_a_key_outlives_a_cut_and_is_asked_again_elsewhere(
    processes: list[Gateway], upstream: UpstreamThread
) -> None:
    question, (one, other) = f"keyed {LONG}", processes
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in (("protocolVersion", NEWEST), *CAPABLE)}
    headers = {"authorization": f"Bearer {ALICE}", "idempotency-key": "key-1", "mcp-protocol-version": NEWEST}
    headers |= {"mcp-method": "tools/call", "mcp-name": "ask"}
    message = rpc("tools/call", name="ask", arguments={"question": question}, _meta={**meta, "progressToken": 1})
    with httpx2.stream("POST", f"{one.url}/mcp", json=message, headers=headers) as answer:
        assert any(b"progress" in data for data in answer.iter_raw())
    again = httpx2.post(f"{other.url}/mcp", json=message, headers=headers, timeout=20)
    assert messages_of(again)[-1]["result"]["content"][0]["text"] == words(60)
    assert "id: " not in again.text
    assert asked(upstream, question) == 1


def test_a_cancellation_reaches_the_run_from_another_process(
    processes: list[Gateway], upstream: UpstreamThread
) -> None:
    question, one, other = f"elsewhere {ENDLESS}", *processes
    headers = {"authorization": f"Bearer {ALICE}", "mcp-session-id": "elsewhere"}
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}}
    with httpx2.stream("POST", f"{one.url}/mcp", json=ask(question, "q"), headers=headers) as answer:
        eventually(lambda: open_requests(upstream, question), 10)
        assert post(other.url, cancelled, key=BOB, mcp_session_id="elsewhere").status_code == 202
        assert post(other.url, {**cancelled, "params": {"requestId": "p"}}, mcp_session_id="elsewhere").is_success
        assert open_requests(upstream, question)
        assert post(other.url, cancelled, mcp_session_id="elsewhere").status_code == 202
        answer.read()
        assert messages_of(answer)[-1]["result"]["isError"] is True
    eventually(lambda: not open_requests(upstream, question), 5)


def test_a_stream_goes_on_strictly_after_its_cursor_for_its_caller_alone(url: str) -> None:
    message = rpc("tools/call", name="ask", arguments={"question": "T=5 I=1000 B=ok"}, _meta={"progressToken": "t"})
    answer = post(url, message, mcp_protocol_version="2025-11-25")
    ids = [line.removeprefix("id: ") for line in answer.text.splitlines() if line.startswith("id: ")]

    def resumed(cursor: str, key: str = ALICE) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}", "last-event-id": cursor}
        return httpx2.get(f"{url}/mcp", headers=headers, timeout=20)

    whole, end = messages_of(resumed(ids[0])), messages_of(answer)[-1]
    assert "".join(told["params"]["message"] for told in whole[:-1]) == words(5)
    assert [whole[-1], messages_of(resumed(ids[-2]))] == [end, [end]]
    assert [resumed(ids[0], BOB).status_code, resumed("nobody.0.0").status_code] == [410, 410]
    assert resumed("no cursor").status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{no json", 400, -32700),
        ([rpc("ping")], 400, -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, 400, -32700),
        (rpc("resources/list"), 200, -32601),
        (rpc("tools/call", "x" * 200, name="ask"), 200, -32600),
        (b'"' + b"x" * (17 << 20) + b'"', 413, -32600),
    ],
)
def test_what_is_no_message_is_refused_in_the_protocols_own_words(url: str, body: Any, status: int, code: int) -> None:
    answer = post(url, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_nothing_is_sent_unasked_and_no_session_is_kept(url: str) -> None:
    headers = {"authorization": f"Bearer {ALICE}", "mcp-session-id": "some"}
    got, deleted = httpx2.get(f"{url}/mcp", headers=headers), httpx2.delete(f"{url}/mcp", headers=headers)
    assert (got.status_code, got.headers["allow"], deleted.status_code) == (405, "POST", 405)


def test_who_is_not_signed_in_is_told_how(url: str) -> None:
    for key in ("wrong", ""):
        answer = post(url, rpc("tools/list"), key=key)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_client_that_takes_no_stream_is_told_so(url: str) -> None:
    assert post(url, ask("T=1 B=ok"), accept="application/json").status_code == 406
    assert post(url, rpc("tools/list"), accept="application/json").status_code == 200
