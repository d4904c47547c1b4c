"""The C heap, kept small whatever the decoders allocate. Imported before NumPy, so it imports nothing itself.

glibc gives every thread a heap of its own and keeps what was freed there: after an hour's file, more than 100 MiB in
five of them. With one heap for all threads, and free memory given back after a file, nothing is left. Other C libraries
have neither call, and nothing happens there.
"""

import ctypes
import ctypes.util
from functools import cache
from typing import Any

ARENA_MAX = -8
"""glibc's number for `M_ARENA_MAX`."""


def share() -> None:
    """Makes all threads use one heap. Call this before there are any: NumPy starts some when it is imported."""
    _call("mallopt", ARENA_MAX, 1)


def give_back() -> None:
    """Returns free memory to the system. This blocks for some milliseconds."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    try:
        function: Any = getattr(_library(), name)
    except (OSError, AttributeError, TypeError):
        return
    function(*arguments)


@cache
def _library() -> ctypes.CDLL:
    """Returns the C library: each object for it is a circle."""
    return ctypes.CDLL(ctypes.util.find_library("c"))
