"""Ends of runs reach a real receiver from real processes on one log, past its failures and a kill in the middle."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from gateway.chat.records.run_end import RUN_ENDS
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.contract.engines import Engine, opened, whole
from tests.support.hook_receiver import CUT, SECRET, HookReceiver
from tests.support.sse_client import chat_body

HASTY = ("-m", "tests.support.hasty_gateway")
TOLD_S = 60.0


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    made = HookReceiver()
    yield made
    made.close()
    assert made.faults == []


def hooked(folder: Path, upstream: UpstreamThread, engine: Engine, receiver: HookReceiver) -> Gateway:
    env = {"TRILANE_RUN_WEBHOOK_URL": receiver.url, "TRILANE_RUN_WEBHOOK_SECRET": SECRET, "TRILANE_LOG": engine.url}
    gateway = serving(folder, upstream.url, **env)
    gateway.program = HASTY
    return gateway


def begin(gateway: Gateway, chat_id: str, text: str = "T=2 I=0 <secret>") -> str:
    """Has a run begin in the background; returns its id."""
    answer = httpx2.post(f"{gateway.url}/api/chat", json=chat_body(chat_id, text) | {"background": True})
    assert answer.status_code == 202, answer.text
    return answer.json()["runId"]


def is_sender(gateway: Gateway, receiver: HookReceiver) -> bool:
    """Returns whether a gateway has sent the newest message."""
    connections = psutil.Process(gateway.pid).net_connections("tcp")
    return receiver.peer_port in {connection.laddr.port for connection in connections}


def ids(receiver: HookReceiver) -> list[str]:
    return [message["data"]["runId"] for message in receiver.messages]


async def ends_in(url: str) -> list[dict[str, Any]]:
    async with opened(url) as log:
        return [json.loads(data) for _, _, data in await whole(log, f"{RUN_ENDS}local")]


@pytest.mark.parametrize("shared_engine", ["sqlite", "redis"], indirect=True)
def test_every_end_is_told_past_failures_and_a_kill_between_the_receivers_yes_and_the_cursor(
    shared_engine: Engine, receiver: HookReceiver, upstream: UpstreamThread, tmp_path: Path
) -> None:
    first = hooked(tmp_path / "one", upstream, shared_engine, receiver).start()
    second = hooked(tmp_path / "two", upstream, shared_engine, receiver)
    try:

        def hang() -> int:
            time.sleep(1.5)
            return 200

        receiver.answers = [500, CUT, hang]
        runs = [begin(first, "c1")]
        second.start()
        eventually(lambda: ids(receiver).count(runs[0]) >= 4, TOLD_S, "told again after each failure")
        runs.append(begin(second, "c2"))
        eventually(lambda: runs[1] in ids(receiver), TOLD_S, "the end of a run of the other process")

        killed: list[Gateway] = []
        told_twice: list[str] = []

        def kill() -> int:
            """Kills who has sent this."""
            told_twice.append(ids(receiver)[-1])
            killed.append(first if is_sender(first, receiver) else second)
            killed[0].process.kill()  # type: ignore[union-attr]
            return 200

        long = {gateway.port: begin(gateway, f"long{gateway.port}", "T=10000 I=20000") for gateway in (first, second)}
        receiver.answers = [kill]
        runs.append(begin(second, "c3"))
        eventually(lambda: killed, TOLD_S, "its end is told")
        [left] = [gateway for gateway in (first, second) if gateway is not killed[0]]
        cut = long[killed[0].port]
        runs += [begin(left, f"c{number}") for number in (4, 5)]
        eventually(lambda: {*runs, cut} <= set(ids(receiver)), TOLD_S, "all are told by the other process")
        ends = asyncio.run(ends_in(shared_engine.url))
        assert list(dict.fromkeys(ids(receiver))) == [end["runId"] for end in ends], "in the order of the log"
        assert ids(receiver).count(told_twice[0]) >= 2, "what was told before the kill is told again"
        by_run = {end["runId"]: end for end in ends}
        assert (by_run[cut]["outcome"], by_run[cut]["code"]) == ("error", "interrupted")
        assert all(by_run[run]["outcome"] == "finish" for run in runs)
        assert len(set(receiver.ids)) == len(ends), "one id for each end"
        assert b"secret" not in b"".join(receiver.bodies)
        assert SECRET not in second.stderr() + first.stderr()
        assert receiver.url not in second.stderr() + first.stderr()
        count = len(receiver.bodies)
        time.sleep(1.5)
        assert len(receiver.bodies) == count, "nothing is told for ever"
    finally:
        first.stop()
        second.stop()
