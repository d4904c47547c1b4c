"""Decides what a voice says next: a queue before one voice, which is loaded when somebody speaks first.

A speaker has one clause with the voice, or waiting for it, at a time. So all of them together are served clause by
clause, none has to wait for all the text of another, and no queue is longer than there are speakers. Clauses that
somebody is listening to right now go before those of files. What is being said cannot be interrupted; what waits is
left out as soon as its speaker has gone.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

from audio.model.transcriber import Samples
from audio.model.voice import VOICE_RATE, SpeechTask, Voice, fingerprint, without_silence
from gateway.errors import BadRequest, ConfigurationError, Overloaded, TrilaneError

MAX_SPEAKERS = 64
"""Speakers of one process: each waits for a clause of all the others, which are 25 ms each with the embedded voice."""
OPENAI_VOICES = frozenset(
    {"alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse"}
)
"""OpenAI's voices, one of which its clients must name: here they mean the default."""


class Booth:
    """The one place in a process where is spoken."""

    def __init__(self, voice: Voice, max_speakers: int = MAX_SPEAKERS) -> None:
        self.voice = voice
        self._max_speakers = max_speakers
        self._speakers = 0
        self._opening = asyncio.Lock()
        self._is_open = False
        self._fingerprint: str | None = None
        self._idle_workers = voice.workers
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        """The turns that wait, those for listeners first, else in the order in which they came."""
        self._count = 0
        self.on_spoken: Callable[[float, float], None] = _measure_nothing
        """Called with the seconds that the voice took for a task, and those that the speech lasts."""

    @property
    def speakers(self) -> int:
        return self._speakers

    @property
    def waiting(self) -> int:
        """Returns how many clauses wait for the voice."""
        return sum(not turn.done() for _, _, turn in self._waiting)

    def name_of(self, asked: str) -> str:
        """Returns the name of the voice that a client asks for. Raises BadRequest (`voice_unknown`)."""
        names = self.voice.names
        if not names or asked in names:
            return asked
        if not asked or asked in OPENAI_VOICES:
            return names[0]
        raise BadRequest(
            f"voice={asked[:80]!r}: there is no such voice here; there {'is' if len(names) == 1 else 'are'} "
            f"{', '.join(names)}, and OpenAI's names stand for the first",
            code="voice_unknown",
            extra={"param": "voice"},
        )

    def check_room(self) -> None:
        """Raises Overloaded (`voice_full`) when one more speaker would be too many."""
        if self._speakers >= self._max_speakers:
            raise Overloaded(
                f"{self._speakers} speak already, and the voice takes {self._max_speakers}",
                code="voice_full",
                retry_after="2",
            )

    @contextmanager
    def admitted(self) -> Generator[None]:
        """Holds the place of one speaker. Raises Overloaded (`voice_full`)."""
        self.check_room()
        self._speakers += 1
        try:
            yield
        finally:
            self._speakers -= 1

    async def open(self) -> None:
        """Loads the voice, once. Raises TrilaneError (`voice_failed`)."""
        async with self._opening:
            if not self._is_open:
                try:
                    await self.voice.open()
                except ConfigurationError as err:  # its words are for the operator
                    raise TrilaneError("the voice cannot be loaded", code="voice_failed") from err
                self._is_open = True

    async def close(self) -> None:
        if self._is_open:
            await self.voice.close()

    async def fingerprint(self) -> str:
        """Returns what tells whether another process speaks with the same bits; empty when none does."""
        await self.open()
        if self._fingerprint is None:
            async with self._turn(is_heard=True):
                self._fingerprint = await fingerprint(self.voice)
        return self._fingerprint

    async def speak(self, task: SpeechTask, *, is_heard: bool = False) -> Samples:
        """Returns the speech, without long silence around it, when it is the task's turn.

        `is_heard`: somebody listens to it now.

        Raises TrilaneError (`voice_failed`).
        """
        await self.open()
        async with self._turn(is_heard=is_heard):
            began = time.monotonic()
            samples = without_silence(await self.voice.speak(task), task)
            self.on_spoken(time.monotonic() - began, len(samples) / VOICE_RATE)
            return samples

    @asynccontextmanager
    async def _turn(self, *, is_heard: bool) -> AsyncGenerator[None]:
        """Waits until a worker is idle, and holds it."""
        if self._idle_workers:
            self._idle_workers -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._count += 1
            heapq.heappush(self._waiting, (not is_heard, self._count, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # its worker was given to it in this very moment
                    self._hand_on()
                raise
        try:
            yield
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        """Gives an idle worker to whoever is next."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._idle_workers += 1


def _measure_nothing(took_s: float, spoken_s: float) -> None:
    """Does nothing: nobody measures this booth."""
