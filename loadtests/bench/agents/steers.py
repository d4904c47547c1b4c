"""A message that is to be read at once: how soon the model's connection is closed, and its first token is there."""

import statistics
import threading
import time
from typing import Any

import httpx2

from loadtests.bench.agents.gateways import TIMEOUT_S, body_of, client
from loadtests.bench.harness.processes import NotStarted
from loadtests.bench.harness.records import Record

TEXT = 'data: {"type":"text-delta"'
TAKEN = 'data: {"type":"data-steer"'
LONG = "T=4000 I=5000"
"""An answer that is not over before it is steered."""


def steer_now(url: str, chat_id: str) -> tuple[float, float]:
    """Steers an answer once it has begun; returns when that was sent, and when the first token after it came.

    Both by `time.monotonic`, in seconds. Raises NotStarted where no token comes.
    """
    sent_s: list[float] = []
    message = body_of(chat_id, f"{chat_id} T=1 I=0")["message"] | {"id": "s1"}

    def send() -> None:
        with client() as http:
            http.get(f"{url}/healthz")  # so that what is timed is no import, and no first request of this client
            sent_s.append(time.monotonic())
            http.post(f"{url}/api/chat/{chat_id}/steer", json={"message": message, "at": "now"}).raise_for_status()

    sender = threading.Thread(target=send)
    is_taken, came_s = False, 0.0
    body = body_of(chat_id, f"{chat_id} {LONG}")
    with client() as http, http.stream("POST", f"{url}/api/chat", json=body, timeout=TIMEOUT_S) as response:
        for line in response.iter_lines():
            if line.startswith(TAKEN):
                is_taken = True
            elif line.startswith(TEXT) and is_taken:
                came_s = came_s or time.monotonic()
            elif line.startswith(TEXT) and sender.ident is None:
                sender.start()
    if not came_s:
        raise NotStarted(f"no token came after a steer of {chat_id}: {response.status_code}")
    sender.join()
    return sent_s[0], came_s


def left_at(http: httpx2.Client, upstream: str) -> list[float]:
    """Returns when the connections were closed that a fake upstream has not answered to the end, in their order."""
    requests: list[dict[str, Any]] = http.get(f"{upstream}/_requests").raise_for_status().json()
    return [request["left_at"] for request in requests if request["left_at"] is not None]


def summary(question_ms: list[float], steers: list[tuple[float, float]], left_s: list[float]) -> Record:
    """Returns the record of what was measured. Raises NotStarted where not every answer was left once."""
    if len(left_s) != len(steers):
        raise NotStarted(f"{len(steers)} answers were steered, and {len(left_s)} were left")
    took_ms = [(came - sent) * 1000 for sent, came in steers]
    closed_ms = [(left - sent) * 1000 for (sent, _), left in zip(steers, left_s, strict=True)]
    question, steer = statistics.median(question_ms), statistics.median(took_ms)
    return {
        "question": {"p50_ms": question},
        "steer": {"p50_ms": steer},
        "more_ms": steer - question,
        "closed": {"p50_ms": statistics.median(closed_ms), "max_ms": max(closed_ms)},
    }
