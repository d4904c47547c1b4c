"""Real clients work unmodified against one gateway: the AI SDK in three versions, and OpenAI's SDKs."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from tests.clients.ai_sdk import AISDK, ChatClient, Message, View
from tests.clients.node import install
from tests.clients.openai_sdk import Asker, AsyncAsker, SyncAsker
from tests.conftest import Gateway, UpstreamThread, serving

VERSIONS = ("ai5", "ai6", "ai7")
Open = Callable[..., ChatClient]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as thread:
        yield thread


@pytest.fixture(scope="session")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = serving(tmp_path_factory.mktemp("clients"), upstream.url)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session", params=VERSIONS)
def sdk(request: pytest.FixtureRequest) -> Iterator[AISDK]:
    install()
    new = AISDK(request.param)
    yield new
    new.close()


@pytest.fixture
def chat_id(sdk: AISDK) -> str:
    return f"{sdk.version}-{next(_numbers)}"


@pytest.fixture
def device(sdk: AISDK, gateway: Gateway, chat_id: str) -> Iterator[Open]:
    """Opens a client of this test's chat; each call is another device (or the same one after a reload)."""
    clients: list[ChatClient] = []

    def open_client(messages: list[Message] | None = None, **how: Any) -> ChatClient:
        clients.append(sdk.open(gateway.url, chat_id, messages, **how))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def snapshot(gateway: Gateway, chat_id: str) -> Callable[[], "StoredChat"]:
    def get_chat() -> StoredChat:
        response = httpx2.get(f"{gateway.url}/api/chat/{chat_id}")
        assert response.status_code == 200, response.text
        return msgspec.json.decode(response.content, type=StoredChat)

    return get_chat


def last_conversation(upstream: UpstreamThread) -> list[tuple[str, Any]]:
    """Returns the conversation in the newest request to the upstream."""
    body = upstream.fake.requests[-1].body
    assert body is not None
    return [(message["role"], message["content"]) for message in body["messages"]]


class StoredChat(msgspec.Struct, rename="camel"):
    """The answer of `GET /api/chat/{id}`."""

    id: str
    messages: list[Message]
    active_run: dict[str, str] | None
    pending: list[Any]

    def agrees_with(self, view: View) -> None:
        """Fails unless a reload from the server shows what this client shows."""
        assert self.active_run is None
        assert [message.contents for message in self.messages] == [message.contents for message in view.messages]


@pytest.fixture(scope="session", params=[SyncAsker, AsyncAsker], ids=["sync", "async"])
def asker(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[Asker]:
    """Returns OpenAI's Python SDK, sync and async, without retries."""
    new = request.param(gateway.url)
    yield new
    new.close()
