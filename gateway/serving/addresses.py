"""Counts the connections of each address, so that no single one takes all of a process (`TRILANE_LIMIT_...ADDRESS`).

A connection changes its protocol when it becomes a stream or a socket, so it is counted by its transport, which does
not: for as long as that exists and is not closing. The proxies that are trusted are left out, because one connection of
theirs may be anybody's; they have limits of their own.
"""

import asyncio
import weakref
from collections.abc import Container
from functools import partial

TransportRef = weakref.ReferenceType[asyncio.Transport]


class AddressCounts:
    """The connections of one process; `exempt` are the addresses that may have any number."""

    def __init__(self, limit: int, exempt: Container[str] = ()) -> None:
        self._limit = limit
        self._exempt = exempt
        self._connections: dict[str, set[TransportRef]] = {}

    def admits(self, address: str, transport: asyncio.Transport) -> bool:
        """Counts a new connection; returns False when its address has as many as it may."""
        if address in self._exempt:
            return True
        connections = self._connections.setdefault(address, set())
        if len(connections) >= self._limit:
            connections.difference_update([ref for ref in connections if is_over(ref)])
        if len(connections) >= self._limit:
            return False
        connections.add(weakref.ref(transport, partial(self._forget, address)))
        return True

    def __len__(self) -> int:
        """Returns the number of addresses that have connections."""
        return len(self._connections)

    def _forget(self, address: str, ref: TransportRef) -> None:
        connections = self._connections.get(address)
        if connections is not None:
            connections.discard(ref)
            if not connections:
                del self._connections[address]


def is_over(ref: TransportRef) -> bool:
    transport = ref()
    return transport is None or transport.is_closing()
