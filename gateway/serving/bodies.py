"""Counts the bytes of request bodies that are in memory, so that many clients together cannot fill it.

A body is counted piece by piece as it arrives, and until whoever works with it is done: a chat's until its upstream has
answered, since what the model is sent is made of it. The first body of all is always taken, however small the bound.
"""

from asyncio import Future
from typing import Self

from gateway.errors import Overloaded, TooLarge

RETRY_S = "2"


class HeldBody:
    """The body of one request, as far as it has come."""

    def __init__(self, bodies: "Bodies") -> None:
        self._bodies = bodies
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_kept = False

    @property
    def data(self) -> bytes:
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def expect(self, size: int) -> None:
        """Raises TooLarge when a body of this size would be refused; nothing of it has come yet."""
        self._bodies.check_size(size)

    def add(self, piece: bytes) -> None:
        """Adds what has arrived; raises TooLarge past the limit of one body, Overloaded past that of all together."""
        self.count(len(piece))
        self._pieces.append(piece)

    def count(self, size: int) -> None:
        """Counts bytes that are in memory elsewhere; raises as `add` does."""
        self._bodies.admit(self._size, size)
        self._size += size

    def keep_until(self, done: "Future[None]") -> None:
        """Counts this body on, when its handler has returned, until `done` is."""
        self._is_kept = True
        done.add_done_callback(lambda _: self._release())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the handler's use of it; its bytes go, though what was made of them may count on."""
        self._pieces = []
        if not self._is_kept:
            self._release()

    def _release(self) -> None:
        self._bodies.held_bytes -= self._size
        self._size = 0


class Bodies:
    """All request bodies of this process, or all of something else that is as large."""

    def __init__(self, max_bytes: int, max_total_bytes: int, name: str = "the bodies of all requests") -> None:
        """Takes bodies of `max_bytes` each, and of `max_total_bytes` together."""
        self.held_bytes = 0
        self._name = name
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes

    def check_size(self, size: int) -> None:
        """Raises TooLarge for a body of more bytes than one may have."""
        if size > self._max_bytes:
            raise TooLarge(f"the body is larger than {self._max_bytes} bytes (TRILANE_LIMIT_BODY_BYTES)")

    def admit(self, size: int, more: int) -> None:
        """Counts `more` bytes of a body that has `size` already, or raises."""
        self.check_size(size + more)
        if self.held_bytes > size and self.held_bytes + more > self._max_total_bytes:
            raise Overloaded(
                f"{self._name} are {self._max_total_bytes} bytes already (TRILANE_LIMIT_BODIES_BYTES)",
                retry_after=RETRY_S,
            )
        self.held_bytes += more

    def hold(self) -> HeldBody:
        """Returns a body that has yet to arrive, for a `with` block."""
        return HeldBody(self)
