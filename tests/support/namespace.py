"""A Namespace is a network beside this one, on a cable that can be pulled: packets vanish, and no connection ends.

Each cable is news to every browser of the machine's own network: Chromium drops what it is fetching. So tests that use
one live in a network of their own, `apart()`.
"""

import ctypes
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


_numbers = itertools.count()


class Namespace:
    """A network namespace of Linux (`with Namespace() as there`)."""

    def __init__(self) -> None:
        pid, number = os.getpid(), next(_numbers) % 64  # what one leaves behind is gone a moment after its end
        self._name = f"trilane-{pid}-{number}"
        self._cable = f"tri{pid}-{number}"
        network, host = f"10.{64 + pid // 256 % 64}.{pid % 256}", 4 * number
        self._here = f"{network}.{host + 1}"
        self.address = f"{network}.{host + 2}"
        """Where sockets of the namespace are reached from here."""

    @classmethod
    def can_be_made(cls) -> bool:
        """Tells whether this process may make one, and open sockets in it."""
        try:
            with cls() as made:
                made.listen().close()
        except (OSError, subprocess.SubprocessError):
            return False
        return True

    def __enter__(self) -> Self:
        ip("netns", "add", self._name)
        try:
            ip("link", "add", self._cable, "type", "veth", "peer", "name", "cable", "netns", self._name)
            ip("address", "add", f"{self._here}/30", "dev", self._cable)
            ip("link", "set", self._cable, "up")
            ip("-n", self._name, "address", "add", f"{self.address}/30", "dev", "cable")
            self.join()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        ip("netns", "delete", self._name)  # the cable goes with it

    def cut(self) -> None:
        ip("-n", self._name, "link", "set", "cable", "down")

    def join(self) -> None:
        ip("-n", self._name, "link", "set", "cable", "up")

    def listen(self) -> socket.socket:
        """Returns a socket that listens in the namespace, and that this process uses as any other."""
        with ThreadPoolExecutor(1) as thread:  # a thread that has entered it stays there, so it ends
            return thread.submit(self._listen).result()

    def _listen(self) -> socket.socket:
        with Path("/run/netns", self._name).open() as namespace:
            _enter(namespace.fileno())
        return socket.create_server((self.address, 0))


@contextmanager
def apart() -> Iterator[None]:
    """Keeps this thread, and each thread and process that it starts, in a network of their own, where that can be made.

    They reach each other on loopback as always, but nobody who was there before.
    """
    with Path("/proc/thread-self/ns/net").open() as before:
        if _libc.unshare(CLONE_NEWNET) != 0:
            yield
            return
        try:
            ip("link", "set", "lo", "up")
            yield
        finally:
            _enter(before.fileno())


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
