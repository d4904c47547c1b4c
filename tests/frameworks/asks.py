"""Asks of frameworks that clients of the AI SDK answer, in all versions that know approvals."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx2
import msgspec

from tests.clients.ai_sdk import AISDK
from tests.clients.conftest import StoredChat
from tests.clients.node import install
from tests.conftest import Gateway, eventually

VERSIONS_THAT_ASK = ("ai6", "ai7")
CHATS = 20 if os.environ.get("LONG_TESTS") else 2
BEFORE, AFTER = "w0 w1 w2", "w0 w1 w2 w3 w4 w5 w6 w7"
RESULT = "found the thing"
ANSWERED_S = 60.0


@contextmanager
def open_sdks() -> Iterator[dict[str, AISDK]]:
    """Yields a process for each version."""
    install()
    sdks = {version: AISDK(version) for version in VERSIONS_THAT_ASK}
    try:
        yield sdks
    finally:
        for sdk in sdks.values():
            sdk.close()


def answered_by_client(sdk: AISDK, gateway: Gateway, *, is_approved: bool) -> None:
    """Lets a client ask the model `ask` and answer what it is asked, in CHATS chats.

    Fails unless all is one message then, which is the same at the client and in the snapshot, and the tool has run
    where that was allowed and nowhere else.
    """
    for _ in range(CHATS):
        chat_id = uuid4().hex
        tab = sdk.open(gateway.url, chat_id, ui=sdk.version.removeprefix("ai"), body={"model": "ask"})
        tab.send("Please.")
        tab.until(status="ready", messages=2)
        [ask] = httpx2.get(f"{gateway.url}/api/chat/{chat_id}").json()["pending"]
        tab.call("approve", answer={"id": ask["approvalId"], "approved": is_approved, "reason": "mine"})
        view = tab.until(status="ready", chars=len(BEFORE + AFTER))
        kept = stored(gateway, chat_id)
        kept.agrees_with(view)
        assert view.error is None
        assert view.answer.text == BEFORE + AFTER
        outputs = [part["output"] for part in view.answer.parts if part.get("output") is not None]
        assert (RESULT in outputs) == is_approved, outputs
        assert kept.pending == []
        tab.close()


def stored(gateway: Gateway, chat_id: str) -> StoredChat:
    """Returns a chat once nothing runs in it."""
    url = f"{gateway.url}/api/chat/{chat_id}"
    eventually(lambda: httpx2.get(url).json()["activeRun"] is None, ANSWERED_S)
    return msgspec.json.decode(httpx2.get(url).content, type=StoredChat)
