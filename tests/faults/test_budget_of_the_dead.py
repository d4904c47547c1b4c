"""What an answer or a session of a killed process has cost is spent once: its user's limits count it as any other's."""

import contextlib
import time
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import httpx2
import msgspec

from audio.model.transcriber import SAMPLE_RATE
from audio.session_log import STATE, topic_of
from audio.session_state import SessionState
from events.log.sqlite.counter_file import HOLDERS
from tests.conftest import Gateway, UpstreamThread, eventually
from tests.faults.test_limit_budgets import PRICES, SECRET, ask, auth, be_silent, is_refused, session, spent
from tests.faults.test_usage_rows import counter_rows, taken
from tests.support.sse_client import Frames, chat_body, iter_frames

TOKENS = 40
BUDGET = 0.03
"""What thirty of them cost."""


BACK_S, KEPT_S = 30, 3
HEARD_S = 12
"""Seconds of silence that a session is sent before its process is killed; the log notes some of them at a time."""


@contextlib.contextmanager
def two(tmp_path: Path, unit: str, env: dict[str, str]) -> Iterator[list[Gateway]]:
    """Gives two processes on one log, of which none runs yet, and which soon take each other for dead."""
    env = {**env, "TRILANE_JWT_SECRET": SECRET}
    gateways = [Gateway(tmp_path, env, unit, program=("-m", "tests.support.hasty_gateway")) for _ in range(2)]
    try:
        yield gateways
    finally:
        for gateway in gateways:
            gateway.stop()


def heard_s(gateway: Gateway, name: str) -> float:
    """Returns the seconds that a session has heard, as its log says."""
    states = [data for event, data in gateway.events(topic_of(name)) if event == STATE]
    state = msgspec.convert(states[-1], SessionState)
    return state.audio / SAMPLE_RATE


def test_the_answer_of_a_killed_process_spends_the_budget(upstream: UpstreamThread, tmp_path: Path) -> None:
    (tmp_path / "upstreams.toml").write_text(PRICES.format(url=upstream.url))
    env = {"TRILANE_UPSTREAMS": str(tmp_path / "upstreams.toml"), "TRILANE_LIMIT_USER_MONTHLY_COST": str(BUDGET)}
    headers = auth("spender")
    with two(tmp_path, "chat", env) as (first, second):
        first.start()
        body, frames = chat_body("long", "T=100000 I=20000"), Frames()
        with httpx2.stream("POST", f"{first.url}/api/chat", json=body, headers=headers, timeout=60) as response:
            for _ in iter_frames(response.iter_lines(), frames):
                if len(frames.events) > TOKENS:
                    break
        first.process.kill()  # type: ignore[union-attr]
        second.start()
        eventually(lambda: spent(second, headers) >= BUDGET, 30, "its row says what it has cost")
        assert len(second.usage("spender")) == 1
        eventually(lambda: ask(second, "more", headers).status_code == 429, 10, "the engine has heard of it")
        assert ask(second, "more", headers).json()["limit"] == "monthly_cost"
        assert ask(second, "other", auth("other")).status_code == 200


def test_the_session_of_a_killed_process_is_charged_once_and_its_place_is_free(
    upstream: UpstreamThread, tmp_path: Path
) -> None:
    (tmp_path / "upstreams.toml").write_text(PRICES.format(url=upstream.url))
    env = {"TRILANE_UPSTREAMS": str(tmp_path / "upstreams.toml"), "TRILANE_SESSION_KEPT_S": str(KEPT_S)}
    env |= {"TRILANE_LIMIT_USER_SESSIONS": "1", "TRILANE_LIMIT_USER_AUDIO_SECONDS_PER_DAY": "1000"}
    env["TRILANE_LIMIT_USER_MONTHLY_COST"] = "100"
    headers = auth("speaker")
    with two(tmp_path, "audio", env) as (first, second):
        first.start()
        second.start()
        with session(first, headers) as (socket, message):
            assert message["type"] == "ready"
            assert is_refused(second, headers, "sessions")
            be_silent(socket, HEARD_S)
            eventually(lambda: heard_s(first, message["session"]) >= HEARD_S / 2, 30, "it is in the log")
            first.process.kill()  # type: ignore[union-attr]
            killed_at = time.monotonic()
        eventually(lambda: second.usage("speaker"), 30, "its row is settled by the other", every_s=0.2)
        [row] = second.usage("speaker")
        assert (row["outcome"], row["lane"]) == ("interrupted", "audio")
        assert 1000 * HEARD_S / 2 <= row["quantities"]["audioMs"] <= 1000 * HEARD_S
        [whose] = [whose for whose in counter_rows(tmp_path) if whose != HOLDERS]
        cost = row["quantities"]["audioMs"]  # in millionths
        eventually(lambda: taken(tmp_path, f"monthly_cost/{whose}") == cost, 10, "it is charged")
        seconds = f"audio_seconds_per_day/{whose}"
        eventually(lambda: taken(tmp_path, seconds) == ceil(cost / 1000), 10, "what was taken ahead came back")
        eventually(lambda: not is_refused(second, headers, "sessions"), 30, "its place is free", every_s=0.2)
        assert time.monotonic() - killed_at < BACK_S
        time.sleep(KEPT_S / 2)  # two more looks at what is to be settled
        assert [usage["id"] for usage in second.usage("speaker")].count(row["id"]) == 1
