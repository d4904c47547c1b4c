"""A client of a chat over one socket, as tests write it: commands up, and what comes down."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gateway.chat.dialects.live import SUBPROTOCOL
from tests.conftest import Gateway
from tests.support.sse_client import user_message

Frame = dict[str, Any]


@contextmanager
def socket_on(gateway: Gateway, chat_id: str, key: str, query: str = "", **how: Any) -> Iterator[ClientConnection]:
    """Yields a socket on a chat, signed in by a key or token."""
    url = f"ws://127.0.0.1:{gateway.port}/api/chat/{chat_id}/live{query}"
    headers = {"authorization": f"Bearer {key}"}
    protocols = [Subprotocol(SUBPROTOCOL)]
    with connect(url, additional_headers=headers, subprotocols=protocols, compression=None, **how) as client:
        yield client


def command(kind: str, ref: str | int, **fields: Any) -> str:
    return json.dumps({"type": kind, "ref": ref, **fields})


def saying(text: str, ref: str | int = "s", message_id: str = "m1", **fields: Any) -> str:
    return command("send", ref, message=user_message(text, message_id), **fields)


def received(client: ClientConnection, until: Callable[[Frame], bool], within_s: float = 20) -> list[Frame]:
    """Returns the messages up to the one that is looked for."""
    frames: list[Frame] = []
    end = time.monotonic() + within_s
    while not frames or not until(frames[-1]):
        frames.append(json.loads(client.recv(timeout=max(0.1, end - time.monotonic()))))
    return frames


def is_chunk(kind: str) -> Callable[[Frame], bool]:
    return lambda frame: frame.get("chunk", {}).get("type") == kind


def answers(ref: str | int | None) -> Callable[[Frame], bool]:
    return lambda frame: "ref" in frame and frame["ref"] == ref


def chunks(frames: list[Frame]) -> list[tuple[str, Frame]]:
    return [(frame["cursor"], frame["chunk"]) for frame in frames if "chunk" in frame]


def close_of(client: ClientConnection) -> tuple[list[Frame], int, str]:
    """Returns what still comes, and the code and reason of the close."""
    frames: list[Frame] = []
    try:
        while True:
            frames.append(json.loads(client.recv(timeout=20)))
    except ConnectionClosed as closed:
        return frames, closed.rcvd.code if closed.rcvd else 1006, closed.rcvd.reason if closed.rcvd else ""
