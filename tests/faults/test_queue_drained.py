"""A process ends while messages wait for the answer that it writes: another one answers them, or the next to start."""

import signal
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from loadtests.upstream.shapes import words
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import user_message

ENDS_S = 60.0


def texts(gateway: Gateway) -> list[tuple[str, str]]:
    """Returns the messages of the chat, once nothing is being written or waits; else nothing."""
    chat: dict[str, Any] = httpx2.get(f"{gateway.url}/api/chat/c").json()
    if chat["activeRun"] is not None or chat["queue"]:
        return []
    return [(message["role"], _text(message)) for message in chat["messages"]]


def _text(message: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in message["parts"])


@pytest.mark.parametrize("has_another", [True, False], ids=["another process", "the next start"])
def test_what_waits_is_answered_though_its_process_ends(
    upstream: UpstreamThread, tmp_path: Path, has_another: bool
) -> None:
    leaving, other = (serving(tmp_path, upstream.url, TRILANE_DRAIN_WINDOW_S="0") for _ in range(2))
    try:
        leaving.start()
        if has_another:
            other.start()
        asked = {"id": "c", "message": user_message("T=60 I=50000", "u1"), "background": True}
        assert httpx2.post(f"{leaving.url}/api/chat", json=asked, timeout=60).status_code == 202
        for message_id, text in (("u2", "T=2 I=0"), ("u3", "T=3 I=0")):
            steer = {"message": user_message(text, message_id), "at": "turn"}
            assert httpx2.post(f"{leaving.url}/api/chat/c/steer", json=steer, timeout=60).status_code == 202
        leaving.signal(signal.SIGTERM)
        waiting = threading.Thread(target=leaving.wait, args=(ENDS_S,))
        waiting.start()
        if not has_another:
            waiting.join()
            other.start()
        eventually(lambda: texts(other), ENDS_S, "what waits is answered")
        assert texts(other) == [
            *(("user", "T=60 I=50000"), ("assistant", words(60))),
            *(("user", "T=2 I=0"), ("assistant", words(2))),
            *(("user", "T=3 I=0"), ("assistant", words(3))),
        ]
        waiting.join()
        assert leaving.wait(0) == 0
    finally:
        leaving.stop()
        other.stop()
