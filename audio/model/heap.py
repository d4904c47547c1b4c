"""The C heap, kept small whatever the decoders allocate. Imported before NumPy, so it imports nothing itself.

glibc gives every thread a heap of its own and keeps what was freed there: after an hour's file, more than 100 MiB in
five of them. With one heap for all threads, and free memory given back after a file, nothing is left.

glibc also learns: once a large block was freed, larger ones are taken from the heap, whose end is given back each time.
What others have put there meanwhile lies above the holes of a decode, and the next one begins at the new end, so that
the heap grew for as long as anybody spoke. Here both bounds are fixed, and the holes are used again. Other C libraries
have none of these calls, and nothing happens there.
"""

import ctypes
import ctypes.util
from functools import cache
from typing import Any

ARENA_MAX = -8
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
"""glibc's numbers for `M_ARENA_MAX`, `M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD`."""
FREE_END_BYTES = 67_108_864
"""Free bytes at the end of the heap past which they are given back."""
MAPPED_BYTES = 4_194_304
"""Bytes from which a block lies outside the heap. A decode of a few seconds needs none: each costs its page faults."""


def tune() -> None:
    """Makes all threads use one heap, with fixed bounds. Call this before NumPy is imported, which starts some."""
    for parameter, value in ((ARENA_MAX, 1), (TRIM_THRESHOLD, FREE_END_BYTES), (MMAP_THRESHOLD, MAPPED_BYTES)):
        _call("mallopt", parameter, value)


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
