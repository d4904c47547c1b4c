"""What our WebSocket does otherwise than Litestar's: it is free when it is let go of, and a client may leave first."""

import gc
import weakref
from typing import Any

from routes.application import Socket
from tests.support.virtual_time import simulated


async def receive() -> Any:
    return {"type": "websocket.disconnect", "code": 1001}


@simulated
async def test_what_is_sent_to_a_client_that_was_heard_leaving_is_no_fault() -> None:
    """The two cross: a session that closes while its client does so, too."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    socket = Socket({"type": "websocket"}, receive, send)  # pyright: ignore - no more of a scope is looked at
    await socket.receive()
    await socket.close()
    assert [message["type"] for message in sent] == ["websocket.close"]


@simulated
async def test_a_socket_that_is_let_go_of_does_not_wait_for_the_garbage_collector() -> None:
    async def send(message: Any) -> None: ...

    socket = Socket({"type": "websocket"}, receive, send)  # pyright: ignore - no more of a scope is looked at
    await socket.receive()
    left = weakref.ref(socket)
    gc.disable()
    try:
        del socket
        assert left() is None
    finally:
        gc.enable()
