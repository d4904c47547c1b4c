import threading
import time
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_pump_is_left_running() -> Iterator[None]:
    """Fails a test whose decoder's thread still runs two seconds after `close`."""
    yield
    end = time.monotonic() + 2.0
    while any(thread.name == "audio-pump" for thread in threading.enumerate()):
        assert time.monotonic() < end, "the thread of a closed decoder still runs"
        time.sleep(0.002)
