"""Speech that goes out: texts that are spoken for clients, with the voice of the process, its limits and its usage.

The voice is loaded when somebody wants something said first. A text is said clause by clause: the first is on its
way to the client while the next is made. No more than that one is ahead, so a client that leaves, or does not read,
costs no more. What a text used is settled as a file's is that was transcribed, whatever its end.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from math import inf

from audio.ledger import AudioCharges, FileEntry
from audio.model.booth import Booth
from audio.model.transcriber import SAMPLE_RATE, Samples
from audio.model.voice import VOICE_RATE, SpeechTask, Voice
from audio.speech.script import SpokenLine
from gateway.access.grants import Principal
from gateway.core.limits import SPEECH
from gateway.core.process import Core
from gateway.core.usage import UsageOutcome
from gateway.errors import Overloaded, TrilaneError

RATIOS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class SpeechLane:
    """The part of a unit that the routes of speech call."""

    def __init__(self, core: Core, voice: Voice) -> None:
        self.settings = core.settings
        self.callers = core.callers
        self.booth = Booth(voice)
        self._core = core
        self._limiter = core.limiter
        self._charge = AudioCharges(core.limiter, core.prices).charge
        self._answers = 0
        self._is_draining = False
        self._release = asyncio.Event()
        ratio = core.metrics.histogram(
            "audio_speech_real_time_ratio",
            "Time that the voice took for a second of speech: below 1 it keeps up",
            RATIOS,
        )
        self.booth.on_spoken = lambda took_s, spoken_s: ratio.observe(took_s / max(spoken_s, 0.001))
        core.metrics.gauge("audio_open_speeches", "Texts being spoken", lambda: self._answers)
        core.metrics.gauge("audio_waiting_clauses", "Clauses that wait for the voice", lambda: self.booth.waiting)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.booth.close()

    @asynccontextmanager
    async def admitted(self, who: Principal, tally: "SpeechTally") -> AsyncGenerator[None]:
        """Admits one text of a user, and settles its usage in the end, whatever happened, by what `tally` says then.

        Raises RateLimited, Overloaded, LogError.
        """
        if self._is_draining:
            raise Overloaded("this process is shutting down", code="draining", retry_after="1")
        lease = await self._limiter.admit(who, SPEECH)
        try:
            with self.booth.admitted():
                entry = FileEntry(self._core.log, who, self.booth.voice.model, inf, lease, self._charge, kind="speech")
                await entry.open()
                self._answers += 1
                failure: TrilaneError | None = None
                try:
                    yield
                except TrilaneError as err:
                    failure = err
                    raise
                finally:
                    self._answers -= 1
                    self._release.set()
                    outcome: UsageOutcome = "error" if failure is not None else tally.outcome
                    entry.settle(outcome, round(tally.samples * SAMPLE_RATE / VOICE_RATE), failure)
                    failure = None  # its frames hold it
        finally:
            lease.end()

    async def drain(self) -> None:
        """Admits no more texts, and returns when those that were admitted are said."""
        self._is_draining = True
        while self._answers:
            self._release.clear()
            await self._release.wait()


class SpeechTally:
    """What one text has used so far."""

    def __init__(self) -> None:
        self.samples = 0
        """Number of samples that were spoken so far."""
        self.outcome: UsageOutcome = "abort"
        """The outcome so far: until its last clause it may be left."""

    @property
    def seconds(self) -> float:
        return self.samples / VOICE_RATE


class Utterances(SpeechTally):
    """The sound of one text, clause by clause."""

    def __init__(self, booth: Booth, tasks: Sequence[SpeechTask]) -> None:
        super().__init__()
        self._booth = booth
        self._tasks = tasks

    async def sounds(self) -> AsyncGenerator[Samples]:
        """Yields the sound of each clause, while the next one is made.

        Close the generator (`contextlib.aclosing`) when you leave it. Raises TrilaneError (`voice_failed`).
        """
        loop = asyncio.get_running_loop()
        ahead: asyncio.Task[Samples] | None = None
        try:
            for number, task in enumerate(self._tasks):
                sound = await (ahead or loop.create_task(self._booth.speak(task)))
                following = self._tasks[number + 1 : number + 2]
                ahead = loop.create_task(self._booth.speak(following[0])) if following else None
                self.samples += len(sound)
                yield sound
            self.outcome = "finish"
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)


def tasks_of(lines: Sequence[SpokenLine], voice: str, speed: float, instructions: str) -> list[SpeechTask]:
    """Returns the task of each line."""
    return [SpeechTask(text=line.text, voice=voice, speed=speed, instructions=instructions) for line in lines]
