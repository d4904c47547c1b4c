"""Binds the addresses that a server listens on, and says in one sentence, with what to do, why it cannot.

Closes them in two steps, where the system can: a listener that is simply closed resets every connection that the system
has accepted and the process has not taken yet. A proxy that sent a POST on one cannot know whether it was read, so it
may not send it again, and its user gets a 502.
"""

import ctypes
import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from gateway.errors import ConfigurationError

NO_NEWCOMERS = (
    (0x30, 0, 0, 13),  # load the flags of the TCP header
    (0x54, 0, 0, 0x12),  # look at SYN and ACK alone
    (0x15, 0, 1, 0x02),  # is it SYN without ACK, which begins a connection?
    (0x06, 0, 0, 0),  # then let no byte of it in
    (0x06, 0, 0, 0xFFFF_FFFF),  # else all of them
)
"""A filter for SO_ATTACH_FILTER, in the instructions of BPF (linux/filter.h): code, jumps, operand."""
SO_ATTACH_FILTER = 26


class ListenAddress(NamedTuple):
    """One address of a host, as the system names it."""

    family: int
    kind: int
    protocol: int
    place: tuple[Any, ...]

    def at(self, port: int) -> "ListenAddress":
        return self._replace(place=(self.place[0], port, *self.place[2:]))


def bind(host: str, port: int) -> list[socket.socket]:
    """Returns a socket for each address of `host`, bound to `port` and not listening yet. Raises ConfigurationError.

    With `port` 0 the system chooses one, the same for all addresses.
    """
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        for address in _addresses(host, port):
            sock = stack.enter_context(socket.socket(address.family, address.kind, address.protocol))
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(address.at(sockets[0].getsockname()[1]).place if sockets else address.place)
            except OSError as err:
                raise ConfigurationError(refusal(err, host, port)) from err
            sockets.append(sock)
        stack.pop_all()
    return sockets


def _addresses(host: str, port: int) -> Iterator[ListenAddress]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as err:
        raise ConfigurationError(f"--host {host!r} is not the name of an address: {err.strerror}") from err
    return (ListenAddress(family, kind, protocol, place) for family, kind, protocol, _, place in dict.fromkeys(infos))


def refusal(err: OSError, host: str, port: int) -> str:
    """Returns the sentence about an address that cannot be listened on."""
    match err.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is taken by another program: stop that one, or choose a port with --port"
        case errno.EACCES:
            return f"port {port} is reserved for the system's own services: choose one above 1023 with --port"
        case errno.EADDRNOTAVAIL:
            return f"this machine has no address {host}: choose one that it has with --host"
        case _:
            return f"cannot listen on port {port} of {host}: {err.strerror}"


def hold_off(listener: int) -> bool:
    """Has the system ignore whoever begins to connect from now on; returns False where it cannot (it takes Linux).

    Handshakes under way go on. Who is ignored tries again a second later, and finds the port closed by then: a failed
    connection, after which a proxy asks another process. `listener` is a descriptor; all its copies are meant too.
    """
    if sys.platform != "linux":
        return False
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in NO_NEWCOMERS))
    location = struct.pack("HL", len(NO_NEWCOMERS), ctypes.addressof(program))
    with socket.socket(fileno=os.dup(listener)) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, location)
        except OSError:  # a sandbox without it
            return False
    return True


def has_waiting(listener: int) -> bool:
    """Tells whether the system has accepted a connection that nobody has taken yet."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
