"""The C heap."""

import pytest

from audio import heap


def test_a_c_library_without_these_calls_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heap.give_back()
    monkeypatch.setattr("ctypes.util.find_library", lambda _: "no-such-library.so")
    heap.give_back()
    heap.share()
