"""The audio unit tunes the C heap."""

import ctypes
import re
import subprocess
import sys

import pytest

from audio.model import heap

UNIT_WITH_THREADS = """
import ctypes, threading
from gateway.settings import load
from gateway.units import UNITS

unit = UNITS["audio"](load())
started = [threading.Thread(target=lambda: ctypes.CDLL(None).malloc(100_000)) for _ in range(4)]
for thread in started:
    thread.start()
for thread in started:
    thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library than glibc")
def test_the_audio_unit_has_one_heap_for_all_its_threads() -> None:
    process = subprocess.run([sys.executable, "-c", UNIT_WITH_THREADS], capture_output=True, text=True, check=True)
    assert re.findall(r'<heap nr="(\d+)">', process.stdout) == ["0"]


def test_a_c_library_without_these_calls_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heap.give_back()
    monkeypatch.setattr("ctypes.util.find_library", lambda _: "no-such-library.so")
    heap.give_back()
    heap.tune()
