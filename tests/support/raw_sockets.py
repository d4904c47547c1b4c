"""These WebSocket clients send bytes as no library would, and answer nothing by themselves."""

import contextlib
import socket
import struct

from tests.conftest import Gateway

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
UNFINISHED, MORE, LAST = 0x02, 0x00, 0x80
"""First bytes of a binary frame that more will follow, of one of those, and of the last."""
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


def frame(head: int, payload: bytes = b"") -> bytes:
    """Returns a frame as a client sends it, with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
    return bytes([head]) + length + b"\0\0\0\0" + payload


def dial(gateway: Gateway, path: str = "/api/audio") -> socket.socket:
    """Opens a connection that speaks WebSocket, with no client behind it that would answer by itself."""
    client = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(UPGRADE.format(path=path, more="").encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return client


def read_to_end(client: socket.socket) -> bytes:
    output = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            output += piece
    return bytes(output)


def close_in(output: bytes) -> tuple[int | None, str]:
    """Returns code and reason of the close frame among what a server has sent."""
    at = 0
    while at + 2 <= len(output):
        opcode, size = output[at] & 0x0F, output[at + 1]
        at += 2
        if size == 126:
            size = int.from_bytes(output[at : at + 2])
            at += 2
        if opcode == 8:
            return int.from_bytes(output[at : at + 2]), output[at + 2 : at + size].decode()
        at += size
    return None, ""
