"""Whatever point of a call a process is killed at, another goes on, and no call acts twice that must not.

Each process is real and gets SIGKILL, on a log in SQLite, and calls a server that counts (`tests.support.kill_stage`).
LONG_TESTS=1 makes it 100 kills for each of 12 points and three effects, and three with the silence of a real gateway.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import httpx2
import msgspec
import pytest

from gateway.chat.silence import SILENCE_S
from loadtests.ports import free_port
from tests.conftest import eventually
from tests.support.kill_stage import EFFECTS, POINTS, KilledChat

LONG = bool(os.environ.get("LONG_TESTS"))
SOON_S = 0.5
STUCK_S = 20.0
CUT = ("opened", "model-cut")
"""Points at which an answer only ends: the model was cut."""
UNMADE = ("effect-unacknowledged", "effect-acknowledged")
"""Points at which a call may have left, as far as the log knows, and has not."""
MADE = ("request-left", "acted", "answer-received")
"""Points at which a call was made, and the log does not know."""
BATCHES: list[tuple[int, float, tuple[str, ...]]] = [(1, SOON_S, ())]
if LONG:
    BATCHES = [(3, SILENCE_S, ()), *[(100, SOON_S, (point, effect)) for point in POINTS for effect in EFFECTS]]


class Server(NamedTuple):
    """A server that counts what it is asked, and where it notes that."""

    url: str
    notes: Path

    def counts(self, word: str) -> Counter[str]:
        """Returns how many calls or effects there were, by `CHAT KEY`."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return Counter(line.removeprefix(f"{word} ") for line in lines if line.startswith(word))


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    port, notes = free_port(), tmp_path / "notes"
    program = [sys.executable, "-m", "tests.support.counting_server", str(port)]
    with (tmp_path / "server.txt").open("wb") as words:
        process = subprocess.Popen(program, env={**os.environ, "NOTES": str(notes)}, stderr=words)
    try:
        eventually(lambda: is_there(port), 60, "the server of tools")
        yield Server(f"http://127.0.0.1:{port}/mcp", notes)
    finally:
        process.kill()
        process.wait()


def is_there(port: int) -> bool:
    try:
        return httpx2.post(f"http://127.0.0.1:{port}/mcp", json={}).status_code > 0
    except httpx2.TransportError:
        return False


def expected(point: str, effect: str) -> tuple[str, list[str], int]:
    """Returns how the answer ends, what is asked in the end, and how many calls there were."""
    if point in CUT:
        return "error", [], 0
    if effect == "once" and point in UNMADE + MADE:
        return "finish", ["doubt"], int(point in MADE)
    return "finish", [], 2 if point in MADE else 1


def check(killed: KilledChat, calls: Counter[str], effects: Counter[str]) -> None:
    outcome, asks, count = expected(killed.point, killed.effect)
    assert killed.settled_s < STUCK_S, killed
    assert (killed.outcome or killed.code or "error", killed.asks) == (outcome, asks), killed
    if outcome == "finish":
        assert killed.state == ("approval-requested" if asks else "output-available"), killed
    of_chat = {key: made for key, made in calls.items() if key.startswith(f"{killed.chat} ")}
    assert list(of_chat.values()) == ([count] if count else []), (killed, of_chat)
    acted = [effects[key] for key in of_chat]
    assert acted == ([] if not count else [0] if killed.effect == "read" else [1]), (killed, acted)


def kill(folder: Path, server: Server, count: int, silence_s: float, cell: tuple[str, ...]) -> list[KilledChat]:
    program = [sys.executable, "-m", "tests.support.kill_stage", str(folder), server.url, str(count), str(silence_s)]
    done = subprocess.run([*program, *cell], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-4000:]
    return msgspec.json.decode((folder / "chats.json").read_bytes(), type=list[KilledChat])


@pytest.mark.timeout(3600 if LONG else 120)
@pytest.mark.parametrize(("count", "silence_s", "cell"), BATCHES)
def test_a_process_that_is_killed_at_any_point_leaves_no_second_effect_and_no_stuck_chat(
    count: int, silence_s: float, cell: tuple[str, ...], server: Server, tmp_path: Path
) -> None:
    chats = kill(tmp_path, server, count, silence_s, cell)
    assert len(chats) == count * (1 if cell else len(POINTS) * len(EFFECTS))
    calls, effects = server.counts("call"), server.counts("effect")
    for killed in chats:
        check(killed, calls, effects)
    slowest = max(killed.settled_s for killed in chats)
    print(
        f"\n{len(chats)} kills {'-'.join(cell)}: {sum(calls.values())} calls, {sum(effects.values())} effects, "
        f"{sum('doubt' in one.asks for one in chats)} doubts, none stuck past {slowest:.1f} s"
    )
