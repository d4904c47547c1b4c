"""Two real gateways on one log delete the chats that nobody writes to, and none while an answer is being written."""

import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.conftest import Gateway, UpstreamThread, eventually
from tests.support.sse_client import chat_body, send

RETENTION_S = 2.0
SLOW = "T=12 I=500000"
"""A question whose answer takes three times as long as a chat is kept."""


@pytest.fixture(scope="module")
def gateways(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "x", "TRILANE_MODEL": "ok"}
    folder = tmp_path_factory.mktemp("old")
    servers = [Gateway(folder, {**env, "TRILANE_RETENTION_CHATS_S": str(RETENTION_S)}) for _ in range(2)]
    try:
        yield [server.start() for server in servers]
    finally:
        for server in servers:
            server.stop()


def listed(gateway: Gateway) -> set[str]:
    return {chat["id"] for chat in httpx2.get(f"{gateway.url}/api/chats").json()["chats"]}


def test_old_chats_go_and_those_being_written_stay_until_they_are_old(gateways: list[Gateway]) -> None:
    one, two = gateways
    with_answer = threading.Thread(target=send, args=(two.url, chat_body("slow", SLOW)))
    with_answer.start()
    for chat_id in ("a", "b"):
        assert send(one.url, chat_body(chat_id, "T=3 I=0"))[0].status_code == 200
    assert listed(two) >= {"a", "b", "slow"}
    eventually(lambda: listed(two) == {"slow"}, 20, "the old ones are gone")
    assert httpx2.get(f"{one.url}/api/chat/a").status_code == 404
    assert with_answer.is_alive(), "it is being written still"
    time.sleep(RETENTION_S)
    assert listed(one) == {"slow"}
    with_answer.join(20)
    assert "slow" in listed(one)
    messages = httpx2.get(f"{one.url}/api/chat/slow").json()["messages"]
    assert len(messages) == 2, "nothing of it was lost"
    eventually(lambda: not listed(one), 20, "in the end it goes, too")
    rows = httpx2.get(f"{one.url}/api/usage").json()["total"]["rows"]
    assert rows == 3, "usage stays"
    assert send(two.url, chat_body("a", "T=3 I=0"))[0].status_code == 200, "its name may be used again"
