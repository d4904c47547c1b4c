"""Speech that is cut anywhere has the same transcript, from the real model, as for an uninterrupted client.

LONG_TESTS=1 makes it 30 cuts of five minutes at the pace of speech, instead of three of 12 s at three times it.
"""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from audio.model.transcriber import key_of
from tests.audio.speaker import FRAME, RATE, Speaker, check, speech
from tests.conftest import Gateway

LONG = bool(os.environ.get("LONG_TESTS"))
TIMES, CUTS, PACE = (25, 30, 1.0) if LONG else (1, 3, 3.0)
SEED = random.randrange(1 << 32)
pytestmark = pytest.mark.timeout(900 if LONG else 120)


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Runs two processes on one log."""
    env = {"TRILANE_DRAIN_WINDOW_S": "0.3"}
    folder = tmp_path_factory.mktemp("audio")
    processes = [Gateway(folder, env, unit="audio") for _ in range(2)]
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Gateway.start, processes))
        yield processes
    finally:
        for gateway in processes:
            gateway.stop()


@pytest.fixture(scope="module")
def whole(gateways: list[Gateway]) -> str:
    """Returns what an uninterrupted client is sent."""
    speaker = Speaker([gateways[0].port], speech(TIMES), pace=PACE)
    asyncio.run(speaker.run())
    check(speaker)
    return speaker.text


def words(text: str) -> list[str]:
    return [key_of(word) for word in text.split()]


def lost_and_doubled(whole: str, other: str) -> tuple[int, int]:
    """Counts the words of one text that the other lacks, and those it has too many, in the fewest edits."""
    left_words, right_words = words(whole), words(other)
    row = [(at, 0, at) for at in range(len(right_words) + 1)]
    for number, word in enumerate(left_words, 1):
        before, row = row, [(number, number, 0)]
        for at, other_word in enumerate(right_words, 1):
            cost, lost_count, more = before[at - 1]
            row.append(
                min(
                    (cost + (word != other_word), lost_count, more),
                    (before[at][0] + 1, before[at][1] + 1, before[at][2]),
                    (row[at - 1][0] + 1, row[at - 1][1], row[at - 1][2] + 1),
                )
            )
    return row[-1][1:]


ANCHORS = ["fellow", "americans", "country", "country"]
"""Words that the model always recognizes, wherever a segment begins: they show a lost or doubled phrase."""


def anchors(text: str) -> list[str]:
    return [word for word in words(text) if word in ANCHORS]


def cuts(rng: random.Random, pcm: bytes) -> list[int]:
    """Returns where a session is cut: not in its last frame, behind which no other comes at which it could be."""
    return sorted(rng.randrange(RATE, len(pcm) // 2 - FRAME) for _ in range(CUTS))


def test_a_connection_cut_anywhere_changes_no_word(gateways: list[Gateway], whole: str) -> None:
    print("seed", SEED)
    pcm = speech(TIMES)
    unlucky = Speaker([gateways[0].port], pcm, pace=PACE)
    unlucky.cut_at = cuts(random.Random(SEED), pcm)
    asyncio.run(unlucky.run())
    check(unlucky)
    assert len(unlucky.connections) == CUTS + 1
    assert "ask what you can do for your country" in " ".join(words(unlucky.text))
    assert lost_and_doubled(whole, unlucky.text) == (0, 0), f"{unlucky.text!r} where it was {whole!r}"


@pytest.mark.parametrize("how", ["another process", "kill -9", "SIGTERM"])
def test_a_session_that_moves_loses_and_doubles_no_word(gateways: list[Gateway], whole: str, how: str) -> None:
    """The segment that was cut is heard anew, and may read a little otherwise."""
    print("seed", SEED)
    pcm = speech(TIMES)
    one, two = gateways

    async def move_around() -> Speaker:
        moved = Speaker([one.port, two.port], pcm, pace=PACE)
        moved.cut_at = cuts(random.Random(SEED), pcm)[: None if how == "another process" else 2]
        restarts: list[asyncio.Future[object]] = []

        def move() -> None:
            moved.ports.reverse()
            if how != "another process":
                died = one if moved.ports[0] == two.port else two
                died.signal(signal.SIGKILL if how == "kill -9" else signal.SIGTERM)
                restarts.append(asyncio.ensure_future(asyncio.to_thread(restart, died)))

        moved.on_cut = move
        await moved.run()
        await asyncio.gather(*restarts)
        return moved

    moved = asyncio.run(move_around())
    check(moved)
    assert anchors(moved.text) == anchors(whole) == ANCHORS * TIMES, moved.text


def restart(gateway: Gateway) -> None:
    gateway.wait(20)
    gateway.start()
