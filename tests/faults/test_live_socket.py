"""A chat over one socket: what it tells, what it answers, and that no client, cut or deploy loses anything of it."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from gateway.access.auth import mint
from gateway.chat.dialects.live import SUBPROTOCOL
from gateway.chat.live_socket import ALLOWANCE_S, COMMANDS_PER_S, MAX_FRAME_BYTES, MAX_UNDER_WAY
from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support import live_client
from tests.support.live_client import Frame, answers, chunks, close_of, command, is_chunk, received, saying
from tests.support.sse_client import user_message

SECRET = "0123456789abcdef0123456789abcdef"
HOUR_S = 3600
SLOWLY = "T=60 I=20000"


def token(lasts_s: float = HOUR_S, sub: str = "alice", **grants: Any) -> str:
    return mint(SECRET, sub, time.time() + lasts_s, grants)


@pytest.fixture(scope="module")
def gateways(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Yields processes of one log: the first stays, the others may be ended."""
    folder = tmp_path_factory.mktemp("live")
    env = {"TRILANE_JWT_SECRET": SECRET, "TRILANE_PING_S": "1", "TRILANE_DRAIN_WINDOW_S": "20"}
    processes = [serving(folder, upstream.url, **env) for _ in range(3)]
    try:
        processes[0].start()
        with ThreadPoolExecutor(2) as starting:
            list(starting.map(Gateway.start, processes[1:]))
        yield processes
    finally:
        for process in processes:
            process.stop()


@pytest.fixture(scope="module")
def gateway(gateways: list[Gateway]) -> Gateway:
    return gateways[0]


_numbers = iter(range(1, 1000))


@pytest.fixture
def chat_id() -> str:
    return f"c{next(_numbers)}"


@contextmanager
def socket_on(gateway: Gateway, chat_id: str, query: str = "", key: str = "", **how: Any) -> Iterator[ClientConnection]:
    with live_client.socket_on(gateway, chat_id, key or token(), query, **how) as client:
        yield client


# What it tells


def test_two_sockets_on_two_processes_and_a_stream_are_told_the_same(gateways: list[Gateway], chat_id: str) -> None:
    with socket_on(gateways[0], chat_id) as one, socket_on(gateways[1], chat_id) as two:
        assert one.subprotocol == SUBPROTOCOL
        one.send(saying(SLOWLY))
        [answer] = [frame for frame in received(one, answers("s")) if "ref" in frame]
        assert answer["ok"] is True
        headers = {"authorization": f"Bearer {token()}"}
        streamed: list[tuple[str, Frame]] = []
        url = f"{gateways[1].url}/api/chat/{chat_id}/stream"
        with httpx2.stream("GET", url, headers=headers, timeout=20) as response:
            data = "".join(response.iter_text())
        for event in data.removeprefix(": ok\n").split("\n\n"):
            if "\nid: " in event:
                text, _, cursor = event.removeprefix("data: ").partition("\nid: ")
                streamed.append((cursor, json.loads(text)))
        told = received(two, is_chunk("finish"))
        assert chunks(told) == streamed
        assert told[0] == {"event": "message", "data": user_message(SLOWLY, "m1") | {"metadata": {"author": "alice"}}}
        assert {cursor.partition(".")[0] for cursor, _ in streamed} == {answer["runId"]}
        rest = chunks(received(one, is_chunk("finish")))  # behind the answer
        assert rest == streamed[-len(rest) :]
        two.send(saying("T=2 I=0", message_id="m2"))
        assert chunks(received(one, is_chunk("finish"))) == chunks(received(two, is_chunk("finish")))


def test_a_device_stops_what_another_has_asked_for(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id) as one, socket_on(gateway, chat_id) as two:
        one.send(saying("T=2000 I=20000"))
        received(two, is_chunk("text-delta"))
        two.send(command("stop", 7))
        frames = received(two, answers(7))
        assert frames[-1]["ok"] is True
        assert frames[-1]["stopped"] is True
        received(one, is_chunk("abort"))
        one.send(command("stop", 8))
        assert received(one, answers(8))[-1] == {"ref": 8, "ok": True, "stopped": False, "runId": None}


def test_typing_is_answered(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id) as client:
        client.send(saying("T=1 I=0"))
        received(client, is_chunk("finish"))
        client.send(command("typing", "t"))
        assert received(client, answers("t"))[-1] == {"ref": "t", "ok": True}


def test_the_same_message_sent_again_is_the_same_run(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id) as client:
        for ref in ("a", "b"):
            client.send(saying("T=3 I=0", ref))
        frames = received(client, is_chunk("finish"))
        while len(refs := [frame for frame in frames if "ref" in frame]) < 2:
            frames += received(client, lambda frame: "ref" in frame)
        assert refs[0]["runId"] == refs[1]["runId"]
        assert [frame["chunk"]["type"] for frame in frames if "chunk" in frame].count("start") == 1


# What it answers


def wrong_frames() -> dict[str, tuple[str | bytes, str | int | None, int, str]]:
    """Returns frames that are not taken: each with the ref, status and words of its answer."""
    big = saying("x" * MAX_FRAME_BYTES, "big")
    return {
        "no JSON": ("nonsense", None, 400, "not valid"),
        "a list": ("[]", None, 400, "`object`"),
        "no type": ('{"ref":"r"}', "r", 400, "`type`"),
        "another type": (command("nope", "r"), "r", 400, "'nope'"),
        "a field more": (command("stop", "r", x=1), "r", 400, "`x`"),
        "a field less": (command("approve", "r", approved=True), "r", 400, "`approvalId`"),
        "no message": (command("send", "r"), "r", 400, "`message`"),
        "another chat": (saying("hi", "r", id="other"), "r", 400, "'other'"),
        "a long name": (command("stop", "r" * 129), None, 400, "length <= 128"),
        "nothing asked": (command("approve", 3, approvalId="ap-1", approved=True), 3, 404, "'ap-1'"),
        "deep": (f'{{"type":"stop","ref":"r","assistantMessage":{"[" * 200}{"]" * 200}}}', "r", 400, "deep"),
        "bytes": (b"\0\1", None, 400, "text"),
        "large": (big, "big", 413, f"{len(big)} bytes: at most {MAX_FRAME_BYTES}"),
    }


def test_a_wrong_frame_is_answered_with_the_problem_and_nothing_else_is_lost(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id) as client:
        client.send(saying(SLOWLY))
        frames = received(client, is_chunk("text-delta"))
        for name, (frame, ref, status, word) in wrong_frames().items():
            client.send(frame)
            frames += received(client, lambda frame: "problem" in frame)
            problem = frames[-1]["problem"]
            assert (frames[-1]["ref"], problem["status"]) == (ref, status), (name, frames[-1])
            assert word in problem["detail"], (name, problem)
            assert problem["request_id"]
        if not any(map(is_chunk("finish"), frames)):
            frames += received(client, is_chunk("finish"))
        told = chunks(frames)
    headers = {"authorization": f"Bearer {token()}"}
    stream = httpx2.get(f"{gateway.url}/api/chat/{chat_id}/stream", headers=headers | {"last-event-id": told[0][0]})
    assert [cursor for cursor, _ in told[1:]] == [line[4:] for line in stream.text.splitlines() if line[:4] == "id: "]


def test_an_upstreams_refusal_is_the_answer_to_what_was_sent(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id) as client:
        client.send(saying("T=1 I=0 B=e429"))
        answer = received(client, answers("s"))[-1]
        assert answer["problem"]["status"] == 429, answer
        assert answer["retryAfter"] > 0


def test_commands_past_the_limits_are_refused_and_a_flood_ends_the_socket(gateway: Gateway, chat_id: str) -> None:
    burst = int(COMMANDS_PER_S * ALLOWANCE_S)
    with socket_on(gateway, chat_id) as client:
        for number in range(2 * MAX_UNDER_WAY):
            client.send(saying("T=1 I=0 B=slow-headers", number, f"m{number}"))
        refused = received(client, lambda frame: "problem" in frame)[-1]
        assert refused["problem"]["code"] == "too_many_commands", refused
        assert f"{MAX_UNDER_WAY} commands" in refused["problem"]["detail"]
        for number in range(burst + 200):
            try:
                client.send(command("nope", number))
            except ConnectionClosed:
                break
        _, code, reason = close_of(client)
        assert (code, reason) == (4504, f"more than {COMMANDS_PER_S} commands a second, for too long")


def test_a_frame_that_no_socket_takes_closes_it(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id) as client:
        client.send("x" * 1_100_000)
        assert close_of(client)[1] == 1009


def test_who_may_not_is_told_why(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id, key=token(chat=False)) as client:
        frames, code, _ = close_of(client)
        assert (frames[0]["problem"]["status"], code) == (403, 1008)
    with socket_on(gateway, chat_id, "?after=nonsense") as client:
        frames, code, _ = close_of(client)
        assert (frames[0]["problem"]["code"], code) == ("bad_cursor", 4500)
    with socket_on(gateway, chat_id, "?ui=4") as client:
        assert close_of(client)[0][0]["problem"]["code"] == "bad_ui"
    with pytest.raises(InvalidStatus) as refused, socket_on(gateway, chat_id, key="nobody"):
        pass
    assert refused.value.response.status_code == 401


def test_a_user_of_one_stream_sends_over_the_socket_that_is_it(gateway: Gateway, chat_id: str) -> None:
    key = token(sub="bob", limits={"streams": 1})
    with socket_on(gateway, chat_id, key=key) as client:
        client.send(saying("T=2 I=0"))
        assert received(client, answers("s"))[-1]["ok"] is True
        with socket_on(gateway, chat_id, key=key) as second:
            frames, code, _ = close_of(second)
            assert (frames[0]["problem"]["status"], code) == (429, 1013)


# How it ends, and goes on


def test_it_ends_with_the_token(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id, key=token(2)) as client:
        frames, code, _ = close_of(client)
        assert frames == [{"event": "auth", "data": {"expiresIn": frames[0]["data"]["expiresIn"]}}]
        assert code == 4001


def test_it_ends_with_the_chat(gateway: Gateway, chat_id: str) -> None:
    with socket_on(gateway, chat_id) as client:
        client.send(saying("T=1 I=0"))
        received(client, is_chunk("finish"))
        headers = {"authorization": f"Bearer {token()}"}
        assert httpx2.delete(f"{gateway.url}/api/chat/{chat_id}", headers=headers).status_code == 204
        assert close_of(client)[1:] == (4502, "this chat was deleted")


@pytest.mark.parametrize("place", [1, 2], ids=["drained", "killed"])
def test_a_process_that_ends_sends_its_clients_to_the_next_with_their_cursor(
    gateways: list[Gateway], chat_id: str, place: int
) -> None:
    """The run is another process's, and goes on. One that sends something while its process leaves need not wait."""
    leaving, unanswered = gateways[place], command("stop", 1, activeStreamId="another")
    with socket_on(gateways[0], chat_id) as staying:
        with socket_on(leaving, chat_id) as client:
            staying.send(saying("T=150 I=20000"))
            told = received(client, is_chunk("text-delta"))
            if place == 1:
                leaving.signal(signal.SIGTERM)
                eventually(lambda: "draining" in leaving.stderr())
                time.sleep(0.5)
                client.send(unanswered)
                rest, code, _ = close_of(client)
                told += rest
                assert (told.pop()["event"], code) == ("drain", 1012)
            else:
                leaving.signal(signal.SIGKILL)
                rest, code, _ = close_of(client)
                told += rest
                assert code == 1006
        cursor = chunks(told)[-1][0]
        with socket_on(gateways[0], chat_id, f"?after={cursor}") as client:
            client.send(unanswered)
            told += received(client, is_chunk("finish"))
            assert {"ref": 1, "ok": True, "stopped": False, "runId": None} in told
        assert chunks(told) == chunks(received(staying, is_chunk("finish")))


def test_a_client_that_does_not_read_holds_nobody_up_and_is_told_all_when_it_does(
    gateway: Gateway, chat_id: str
) -> None:
    text = "T=8000 I=0"
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", gateway.port))
    with socket_on(gateway, chat_id, max_queue=1, sock=narrow) as slow, socket_on(gateway, chat_id) as quick:
        quick.send(saying(text))
        began = time.monotonic()
        told = received(quick, is_chunk("finish"), 60)
        print(f"{len(told)} messages in {time.monotonic() - began:.1f} s beside one who does not read")
        assert chunks(received(slow, is_chunk("finish"), 60)) == chunks(told)
    assert "".join(chunk.get("delta", "") for _, chunk in chunks(told)) == words(8000)


def test_sockets_that_come_and_go_leave_nothing(gateway: Gateway, chat_id: str) -> None:
    before = gateway.fds()

    def come_and_go(_: int) -> None:
        with socket_on(gateway, chat_id) as client:
            client.send(command("stop", 1))

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    eventually(lambda: gateway.fds() <= before + 2, 10, "their descriptors are free")
    assert "Traceback" not in gateway.stderr(), gateway.stderr()[-3000:]
