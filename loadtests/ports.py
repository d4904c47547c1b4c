"""Ports of this machine for the servers that a test or a measurement starts."""

import itertools
import random
import socket

LOWEST, COUNT = 10_100, 20_000
"""None that browsers refuse to ask, and all below those that outgoing connections get: one of these may be taken before
its server listens, and a client that tries it again and again while its server is away gets connected to itself."""

_numbers = itertools.count(random.SystemRandom().randrange(COUNT))
"""Where this process goes on to look; others began elsewhere."""


def free_port() -> int:
    """Returns a port on which nobody listens, another with each call."""
    while True:
        port = LOWEST + next(_numbers) % COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def closed_port() -> socket.socket:
    """Returns a socket that keeps a port closed until it is closed itself: who connects is refused, nobody can listen.

    A port of `free_port` on which nobody listens for long may be given to the server of another process.
    """
    while True:
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", free_port()))
        except OSError:
            held.close()
            continue
        return held
