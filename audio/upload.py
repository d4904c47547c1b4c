"""A file that is transcribed: it is read block by block, through the same session and the same desk as live speech.

Nobody listens meanwhile, so there are no partials, and its work goes behind all live work. Memory is bounded by AHEAD
of audio that waits for the model, however long the file is; silence is passed over by the speech detector alone.
Decoding and detecting run on a thread, one block at a time, and only when there is room for the next one.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from math import inf
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np

from audio.coverage import UNINTELLIGIBLE
from audio.crosstalk import EchoCheck
from audio.decoders.files import MAX_FILE_S, SIDES, Sound
from audio.driver import SessionDriver
from audio.messages import Final, Gap
from audio.model import heap
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples
from audio.options import Output, SessionOptions
from audio.session import Session
from audio.text_forms import TextForms
from gateway.core.usage import UsageOutcome
from gateway.errors import Overloaded, TrilaneError

RECEIVED_FOR_ONE = 4
"""Files that may be on their way for each that may be transcribed."""
AHEAD = 45 * SAMPLE_RATE
"""Samples that may wait for the model. A block and a segment come on top, and a session gives up at 120 s."""

ENDPOINTING_S = 2.0
"""Seconds of silence that end a segment of a file. Nobody waits, and a longer segment has more context.

7.5 % of words are wrong instead of 8.7 % with the 0.5 s of live speech (tiny.en, 517 s of speech read by many), in the
same time.
"""
MAX_UNINTELLIGIBLE = 20
"""Maximum number of stretches of speech without words that an answer names: it tells them in a header."""
PROGRESS_S = 5.0
"""Maximum seconds between two reports of progress."""
TIDY_S = 1.0
"""Seconds after a file at which the heap is tidied; by then its request is gone, too."""


def file_options(
    *,
    words: bool = False,
    language: str | None = None,
    prompt: str = "",
    model: str = "",
    translates: bool = False,
    split: bool = False,
    forms: TextForms | None = None,
) -> SessionOptions:
    """Returns the options of a session that transcribes a file."""
    return SessionOptions(
        interim_results=False,
        words=words,
        endpointing_s=ENDPOINTING_S,
        language=language,
        model=model,
        translates=translates,
        prompt=prompt,
        split=split,
        forms=forms,
    )


class Uploads:
    """The files that are being transcribed in this process."""

    def __init__(self, limit: int) -> None:
        """Transcribes `limit` files at once; RECEIVED_FOR_ONE times as many may be on their way."""
        self._limit = limit
        self._count = 0
        """Number of files on their way, waiting for their turn, or being transcribed."""
        self._turns = asyncio.Semaphore(limit)
        self._is_draining = False
        self._release = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def admitted(self) -> Generator[BinaryIO]:
        """Holds a place for one more file, and the disk space that it is received into. Raises Overloaded.

        A file that is only on its way, perhaps for long, keeps nobody from having one transcribed: see `turn`.
        The file on disk has no name: not even a process that is killed leaves it behind.
        """
        if self._is_draining:
            raise Overloaded("this process is shutting down", code="draining", retry_after="1")
        if self._turns.locked():
            raise Overloaded(f"{self._limit} files are being transcribed already", retry_after="10")
        if self._count >= RECEIVED_FOR_ONE * self._limit:
            raise Overloaded(f"{self._count} files are on their way already", retry_after="10")
        self._count += 1
        try:
            with tempfile.TemporaryFile() as file:
                yield file
        finally:
            self._count -= 1
            self._release.set()
            asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Returns the turn of a file that has come, which waits while as many as may be are being transcribed.

        So few can wait as were on their way when the last one began.
        """
        return self._turns

    def _tidy(self) -> None:
        if not self._count:
            asyncio.get_running_loop().run_in_executor(None, heap.give_back)

    async def drain(self) -> None:
        """Admits no more files, and returns when those that were admitted are done."""
        self._is_draining = True
        while self._count:
            self._release.clear()
            await self._release.wait()


class Progress(NamedTuple):
    """The progress of a file's transcription."""

    settled_s: float
    duration_s: float | None
    """The duration that the file states; None when it states none."""

    def __str__(self) -> str:
        total = f" of {self.duration_s:.1f}" if self.duration_s else ""
        return f"{self.settled_s:.1f}{total} s"


class FileTranscription:
    """One file on its way to words."""

    def __init__(self, sound: Sound, models: Models, options: SessionOptions) -> None:
        self._sound = sound
        self._models = models
        self._options = options
        self._output: list[tuple[int, Output]] = []
        """What the session of each channel has put out."""
        self._unintelligible: list[str] = []
        self._news = asyncio.Event()
        self._unsure_s = 0.0
        """Seconds of finals that the model is not sure of."""
        self.outcome: UsageOutcome = "abort"
        """The outcome so far: until its last result it may be left."""
        self._begin()

    def _begin(self) -> None:
        """Begins with a track of the file."""
        self.samples = 0
        """Number of samples decoded so far, of each channel."""
        self._drivers = [
            SessionDriver(Session(self._options), self._models, partial(self._take_output, channel), is_background=True)
            for channel in range(SIDES if self._options.split else 1)
        ]
        self.sessions = [driver.session for driver in self._drivers]
        self._echo = EchoCheck()
        self._held: list[Final] = []
        """Finals of one channel that wait for what the other may have said before."""
        self._count = 0
        """Number of finals of all channels so far."""
        self._is_read = False

    @property
    def duration_s(self) -> float:
        """Returns the duration of what was decoded, which is the file's in the end."""
        return self.samples / SAMPLE_RATE

    @property
    def progress(self) -> Progress:
        return Progress(min(self._settled, self.samples) / SAMPLE_RATE, self._sound.duration_s)

    @property
    def _settled(self) -> int:
        return min(session.settled for session in self.sessions)

    @property
    def warnings(self) -> list[str]:
        """Returns a sentence for each part of the file that was left out so far, and for what is lost or doubtful."""
        spans = self._unintelligible[:MAX_UNINTELLIGIBLE]
        lost = f"the speech of {len(self._unintelligible)} spans was not understood: {', '.join(spans)}"
        warnings = [*self._sound.warnings, *([lost] if spans else [])]
        if not self._unsure_s:
            return warnings
        doubt = f"{self._unsure_s:.1f} s of speech are probably not in the language that the model took them for"
        return [*warnings, f"{doubt} ({self.language}): do not rely on those words"]

    @property
    def language(self) -> str:
        return next((driver.language for driver in self._drivers if driver.language), "en")

    async def results(self) -> AsyncGenerator[Final | Progress]:
        """Yields each final when it is settled, and the progress now and then, at least every PROGRESS_S.

        Raises BadRequest (`bad_audio`), TooLarge, and TrilaneError when the model fails. Close the generator
        (`contextlib.aclosing`) when you leave it before its end.
        """
        try:
            async with contextlib.aclosing(self._results()) as results:
                async for result in results:
                    yield result
            self.outcome = "finish"
        except TrilaneError:
            self.outcome = "error"
            raise

    async def _results(self) -> AsyncGenerator[Final | Progress]:
        while True:
            is_done = all(session.is_done for session in self.sessions)  # before its last finals are taken
            for final in self._finals():
                yield final
            yield self.progress
            if is_done:
                has_words = any(session.segments for session in self.sessions)
                if has_words or not await asyncio.to_thread(self._sound.next_track):
                    return
                self.close()
                self._begin()
            if self._is_read or not self._has_room():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROGRESS_S):
                        await self._news.wait()
                self._news.clear()
            else:
                await self._read()

    def close(self) -> None:
        """Leaves the desk."""
        for driver in self._drivers:
            driver.close()

    def _take_output(self, channel: int, output: list[Output]) -> None:
        self._output += [(channel, message) for message in output]
        self._news.set()

    def _finals(self) -> list[Final]:
        output, self._output = self._output, []
        finals: list[Final] = []
        for channel, message in output:
            if isinstance(message, Final):
                finals.append(msgspec.structs.replace(message, channel=channel) if self._options.split else message)
            if isinstance(message, Gap):
                span = f"{message.start:g} to {message.end:g} s"
                if message.reason != UNINTELLIGIBLE:
                    raise TrilaneError(f"the model failed on the audio from {span}", code="transcription_failed")
                self._unintelligible.append(span)
        self._unsure_s += sum(final.end - final.start for final in finals if final.unsure)
        return self._in_order(finals) if self._options.split else finals

    def _in_order(self, finals: list[Final]) -> list[Final]:
        """Returns the finals of both channels that nothing earlier can follow, by their beginnings, and numbers them.

        A segment never begins before what its channel has settled.
        """
        settled_s = inf if all(session.is_done for session in self.sessions) else self._settled / SAMPLE_RATE
        held = sorted([*self._held, *finals], key=lambda final: final.start)
        ready = [final for final in held if final.start <= settled_s]
        self._held = held[len(ready) :]
        self._count += len(ready)
        return [
            msgspec.structs.replace(final, segment=number)
            for number, final in enumerate(ready, self._count - len(ready))
        ]

    def _has_room(self) -> bool:
        return all(not session.has_pending or session.position - session.settled < AHEAD for session in self.sessions)

    async def _read(self) -> None:
        count, heard = await asyncio.to_thread(self._next_block)
        self.samples += count
        for driver, (frames, probabilities) in zip(self._drivers, heard, strict=True):
            if count:
                driver.feed_frames(frames, probabilities)
            else:
                driver.stop()
        self._is_read = not count

    def _next_block(self) -> tuple[int, list[tuple[Samples, list[float]]]]:
        """Returns the next block's length, and for each channel its frames and their probabilities of speech.

        Runs on a thread.
        """
        block = self._sound.read()
        columns = [block] if block.ndim == 1 and len(self._drivers) == 1 else _columns(block, len(self._drivers))
        heard = [driver.ear.feed(column) for driver, column in zip(self._drivers, columns, strict=True)]
        if self._options.split:
            self._echo.quiet(heard)
        return len(block), heard


def _columns(block: Samples, count: int) -> list[Samples]:
    """Returns the channels of a block, each as samples that lie side by side; the last block has none."""
    return [np.ascontiguousarray(block[:, at]) if len(block) else block.reshape(-1) for at in range(count)]


@asynccontextmanager
async def transcription_of(
    models: Models, file: BinaryIO, name: str, options: SessionOptions, max_s: int = MAX_FILE_S
) -> AsyncGenerator[FileTranscription]:
    """Opens a file, and in the end frees its decoder and leaves the desk, whatever happened.

    Raises BadRequest (`bad_audio`) when the file is no audio, TooLarge when it has more than `max_s` seconds of it.
    """
    sound = Sound(file, name, max_s, is_split=options.split)
    transcription: FileTranscription | None = None
    try:
        await asyncio.to_thread(sound.open)
        transcription = FileTranscription(sound, models, options)
        yield transcription
    finally:
        if transcription is not None:
            transcription.close()
        await close_sound(sound)


async def close_sound(sound: Sound) -> None:
    """Closes a file on a thread, which begins at once; it is closed when this returns, even after a cancellation."""
    closing = asyncio.get_running_loop().run_in_executor(None, sound.close)
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait((closing,))
        raise
