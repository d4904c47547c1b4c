"""Somebody holds the write lock of the log's file for ten seconds: a backup, a shell, a process that was stopped.

Runs and publications wait, and go on; nothing is lost, and nothing is ended.
"""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.conftest import Gateway
from tests.support.sse_client import chat_body, send

HELD_S = 10.0
HOLDER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.paced


def hold(gateway: Gateway) -> "subprocess.Popen[bytes]":
    """Returns a process that holds the lock until it ends."""
    command = [sys.executable, "-c", HOLDER, str(gateway.folder / "trilane.db")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_a_lock_of_ten_seconds_ends_no_run_and_a_stopped_holder_neither(gateway: Gateway) -> None:
    """The holder is stopped while it has the lock, and killed after ten seconds: its lock goes with it."""
    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(send, gateway.url, chat_body("before", "T=60 I=50000"))
        time.sleep(1)
        holder = hold(gateway)
        os.kill(holder.pid, signal.SIGSTOP)
        began = time.monotonic()
        asked = pool.submit(send, gateway.url, chat_body("during", "T=3 I=0"))
        read = httpx2.get(f"{gateway.url}/api/chat/before", timeout=5)
        assert read.json()["activeRun"], "what is there can be read meanwhile"
        time.sleep(HELD_S)
        holder.kill()
        holder.communicate()
        for future in (running, asked):
            _, frames = future.result(30)
            assert [chunk["type"] for chunk in frames.terminals] == ["finish"], frames.terminals
        assert time.monotonic() - began > HELD_S
    assert running.result()[1].text == " ".join(f"w{n}" for n in range(60))
