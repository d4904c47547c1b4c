"""Everybody who uses a deployment while something is done to it, and what it came to for them."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.client import connect

from loadtests.upstream import words
from tests.audio.speaker import SUBPROTOCOL, Speaker, speech
from tests.conftest import eventually
from tests.deploy.crowd import Asker, Follower, Ledger, Publisher
from tests.deploy.wire import Road

WAIT_S = 90.0


async def seen(met: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    await asyncio.to_thread(eventually, met, within_s, what)


class Voice(Speaker):
    """Speaks through a door."""

    def __init__(self, road: Road, pcm: bytes) -> None:
        super().__init__([road.port], pcm)
        self._road = road

    def connect(self) -> connect:
        road = self._road
        url = f"wss://{road.host}:{road.port}/api/audio"
        how: dict[str, Any] = {"host": "127.0.0.1", "ssl": road.context, "server_hostname": road.host, "proxy": None}
        return connect(url, subprotocols=[SUBPROTOCOL], compression=None, **how)

    def lost_finals(self) -> int:
        """Returns how many segments have no final, or more than one, or were not heard."""
        segments = Counter(final["segment"] for final in self.of("final"))
        count = self.of("done")[0]["segments"]
        return sum(segments[number] != 1 for number in range(count)) + len(self.of("gap")) + (count == 0)


class Load:
    """Everybody who uses a deployment while something is done to it."""

    def __init__(self, road: Road, name: str, *, askers: int, followers: int, publish_s: float) -> None:
        """Has `askers` who ask one question after the other, and `followers` of what is published every `publish_s`."""
        self.ledger = Ledger()
        self.road = road
        self.topic = f"load/{name}"
        self.followers = [Follower(road, self.topic, self.ledger) for _ in range(followers)]
        self.publisher = Publisher(road, self.topic, self.ledger, pause_s=publish_s)
        self.askers: list[Asker] = []
        self.voices: list[Voice] = []
        self.is_over = asyncio.Event()
        self._name, self._seats = name, askers
        self._acting: list[asyncio.Future[None]] = []
        self._following: list[asyncio.Future[None]] = []

    async def _ask(self, seat: int, tokens: int, interval_s: float) -> None:
        await asyncio.sleep(seat * tokens * interval_s / self._seats)  # at any time some begin and some end
        for number in itertools.count():
            await self._ask_once(f"{seat}-{number}", tokens, interval_s)
            if self.is_over.is_set():
                return

    async def _ask_once(self, number: str, tokens: int, interval_s: float, first: Road | None = None) -> None:
        question = f"T={tokens} I={interval_s * 1e6:.0f}"
        asker = Asker(self.road, f"{self._name}-{number}", question, self.ledger)
        self.askers.append(asker)
        await asker.run(first=first)

    def speak(self, count: int, times: int) -> None:
        """Has `count` people say their speech, so many times each."""
        self.voices = [Voice(self.road, speech(times)) for _ in range(count)]
        self._acting += [asyncio.ensure_future(voice.run()) for voice in self.voices]

    async def begin(self, tokens: int, interval_s: float) -> None:
        """Has all follow, then publish and ask for answers of `tokens`, again and again."""
        await self._follow()
        self._acting += [asyncio.ensure_future(self._ask(seat, tokens, interval_s)) for seat in range(self._seats)]

    async def begin_once(self, tokens: int, interval_s: float, firsts: Sequence[Road]) -> None:
        """Has all follow, then ask one question each, at one of `firsts` in turn; returns once answers come."""
        await self._follow()
        for seat, first in zip(range(self._seats), itertools.cycle(firsts)):
            self._acting.append(asyncio.ensure_future(self._ask_once(str(seat), tokens, interval_s, first)))
        await seen(lambda: len(self.askers) == self._seats and all(a.text for a in self.askers), "all answers begin")

    async def _follow(self) -> None:
        self._following = [asyncio.ensure_future(follower.run()) for follower in self.followers]
        await seen(lambda: all(follower.hellos for follower in self.followers), "all follow")
        self._acting.append(asyncio.ensure_future(self.publisher.run(self.is_over)))

    async def end(self) -> None:
        """Lets everybody finish what they are at."""
        self.is_over.set()
        try:
            await asyncio.gather(*self._acting)
            expected = len(self.publisher.acknowledged)
            await seen(lambda: all(len(f.numbers) >= expected for f in self.followers), "all events came")
        finally:
            for task in (*self._acting, *self._following):
                task.cancel()
            await asyncio.gather(*self._following, return_exceptions=True)

    def failed(self, tokens: int) -> list[str]:
        """Returns a word on each answer that is not the whole one."""
        return [
            f"{a.chat_id}: {a.ends} {a.code} {len(a.text)}"
            for a in self.askers
            if (a.text, a.ends) != (words(tokens), ["finish"])
        ]

    def lost(self) -> int:
        """Returns how many events that were acknowledged did not come, over all followers."""
        acknowledged = set(self.publisher.acknowledged)
        return sum(len(acknowledged - set(follower.numbers)) for follower in self.followers)

    def doubled(self) -> int:
        """Returns how many events came again or out of order, over all followers."""
        return sum(_out_of_place(follower.numbers) for follower in self.followers)


def _out_of_place(numbers: Sequence[int]) -> int:
    return sum(later <= earlier for earlier, later in itertools.pairwise(numbers))
