"""An agent with the `mcp` package's own client, unmodified, in both eras of the protocol; and one that counts bytes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.faults.cutting_proxy import CuttingProxy

MODES = {"handshake": "legacy", "stateless": "auto"}


@asynccontextmanager
async def agent(url: str, era: str, key: str) -> AsyncGenerator[Client]:
    """Yields a client of the server at `url` that signs in with `key`."""
    headers = {"authorization": f"Bearer {key}"}
    mode: Any = MODES[era]
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


class Told:
    """What a client is told of a call's progress; `on_first` is called with the first of it."""

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self.on_first = on_first
        self.amounts: list[float] = []
        self.messages: list[str] = []

    async def __call__(self, amount: float, total: float | None, message: str | None) -> None:
        if not self.amounts:
            self.on_first()
        self.amounts.append(amount)
        self.messages.append(message or "")

    @property
    def text(self) -> str:
        return "".join(self.messages)


class EveryCut(dict[int, Any]):
    """Cuts every connection that answers while it is armed. It has happened once its kind was looked at."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.is_armed, self.has_happened = True, False

    def pop(self, key: int, default: Any = None) -> Any:
        return self if self.is_armed else None

    @property
    def reset(self) -> bool:
        self.has_happened = True
        return False


@asynccontextmanager
async def cut_from(port: int, after: int) -> AsyncGenerator[tuple[CuttingProxy, Callable[[int], None]]]:
    """Yields a proxy to a server that cuts each connection after so many bytes of answers, and how to move to another.

    What is open stays there, and is cut; what comes later is not. Checks that something was cut.
    """
    async with CuttingProxy(port) as proxy:
        proxy.cuts = cut = EveryCut(after)

        def move(other: int) -> None:
            proxy.target, cut.is_armed = other, False

        yield proxy, move
        assert cut.has_happened, f"nothing was cut: less than {after} bytes came"


def text_of(called: Any) -> str:
    [content] = called.content
    return content.text
