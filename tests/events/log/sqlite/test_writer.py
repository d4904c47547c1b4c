"""The writer sleeps between commits, and whatever the moment of a ring, it never sleeps without end."""

import threading
import time

from events.log.sqlite.writer import Bell


def test_a_wait_ends_at_a_ring() -> None:
    bell = Bell()
    threading.Timer(0.05, bell.ring).start()
    began = time.monotonic()
    bell.wait(10)
    assert time.monotonic() - began < 5


def test_a_ring_that_nobody_waits_for_ends_the_next_wait_and_no_other() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    began = time.monotonic()
    bell.wait(10)
    assert time.monotonic() - began < 5
    bell.wait(0.05)
    assert time.monotonic() - began >= 0.05


def test_a_wait_that_is_over_as_it_begins_ends() -> None:
    """The queue that once stood here hung within some thousand waits as short as these, and with it every append."""
    bell = Bell()

    def wait_often() -> None:
        for _ in range(10_000):
            bell.ring()
            bell.wait(1e-6)
            bell.wait(1e-6)

    waiter = threading.Thread(target=wait_often, daemon=True)
    waiter.start()
    waiter.join(60)
    assert not waiter.is_alive()
