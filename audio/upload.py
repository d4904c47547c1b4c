"""A file that is put into words: read a block at a time, through the same session and the same desk as live speech.

Nobody listens, so there are no partials, and its work stands behind all live work. Memory is bounded by AHEAD of
audio that waits for the model, however long the file is; silence is passed over by the speech detector alone. Decoding
and detecting run on a thread, one block at a time, and only when there is room for the next one.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import BinaryIO, NamedTuple

from audio.decoders.files import Sound
from audio.messages import Final, Gap
from audio.model import heap
from audio.model.desk import BACKGROUND, Desk
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask
from audio.model.vad import Ear
from audio.options import SessionOptions
from audio.session import Session
from gateway.errors import Overloaded, TrilaneError

AHEAD = 45 * SAMPLE_RATE
"""Audio that waits for the model. A block and a segment come on top, and a session gives up at 120 s."""

ENDPOINTING_S = 2.0
"""Nobody waits, and a longer segment has more context: 7.5 % of words wrong instead of 8.7 % with the 0.5 s of live
speech (tiny.en, 517 s of speech read by many), in the same time."""
PROGRESS_S = 5.0
TIDY_S = 1.0
"""After a file, when its request is gone too, the heap is tidied."""


def asked_of(*, words: bool = False, language: str | None = None, prompt: str = "") -> SessionOptions:
    """What a session is to do with a file."""
    return SessionOptions(
        interim_results=False, words=words, endpointing_s=ENDPOINTING_S, language=language, prompt=prompt
    )


class Uploads:
    """The files that are being put into words in this process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._is_draining = False
        self._empty = asyncio.Event()

    @contextmanager
    def admitted(self) -> Generator[None]:
        """A place for one more. Raises Overloaded."""
        if self._is_draining:
            raise Overloaded("this process is shutting down", code="draining", retry_after="1")
        if self._count >= self._limit:
            raise Overloaded(f"{self._count} files are being transcribed already", retry_after="10")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._empty.set()
            asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    def _tidy(self) -> None:
        if not self._count:
            asyncio.get_running_loop().run_in_executor(None, heap.give_back)

    async def drain(self) -> None:
        """Takes no more, and returns when those that were taken are answered."""
        self._is_draining = True
        while self._count:
            self._empty.clear()
            await self._empty.wait()


class Progress(NamedTuple):
    """How far a file is."""

    settled_s: float
    duration_s: float | None
    """As the file says; None when it does not."""

    def __str__(self) -> str:
        of = f" of {self.duration_s:.1f}" if self.duration_s else ""
        return f"{self.settled_s:.1f}{of} s"


class FileTranscription:
    """One file, on its way to words; what the desk serves."""

    def __init__(self, sound: Sound, desk: Desk, ear: Ear, asked: SessionOptions) -> None:
        self.session = Session(asked)
        self.samples = 0
        """Decoded so far."""
        self._sound = sound
        self._desk = desk
        self._ear = ear
        self._news = asyncio.Event()
        self._is_read = False

    @property
    def duration_s(self) -> float:
        """Of what was decoded: of the file, when it is over."""
        return self.samples / SAMPLE_RATE

    @property
    def progress(self) -> Progress:
        return Progress(min(self.session.settled, self.samples) / SAMPLE_RATE, self._sound.duration_s)

    @property
    def language(self) -> str:
        return self.session.language or "en"

    async def heard_so_far(self) -> AsyncGenerator[Final | Progress]:
        """Each final as it is settled, and how far it is now and then, at least every PROGRESS_S.

        Raises BadRequest (`bad_audio`), and TrilaneError when the model fails. To be closed (`contextlib.aclosing`)
        when it is left before its end.
        """
        while True:
            for said in self._take():
                yield said
            yield self.progress
            if self.session.is_done:
                return
            if self._is_read or not self._has_room():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROGRESS_S):
                        await self._news.wait()
                self._news.clear()
            else:
                await self._read()

    def _take(self) -> list[Final]:
        output = self.session.take_output()
        for said in output:
            if isinstance(said, Gap):
                raise TrilaneError(
                    f"the model failed on the audio from {said.start:g} to {said.end:g} s", code="transcription_failed"
                )
        return [said for said in output if isinstance(said, Final)]

    def _has_room(self) -> bool:
        return not self.session.has_closed or self.session.position - self.session.settled < AHEAD

    async def _read(self) -> None:
        read, frames, probabilities = await asyncio.to_thread(self._block)
        self.samples += read
        self.session.hear(frames, probabilities)
        if not read:
            self.session.hear(*self._ear.end())
            self.session.stop()
            self._is_read = True
        self._desk.ask(self)

    def _block(self) -> tuple[int, Samples, list[float]]:
        """On a thread: the next block's length, its frames, and how likely each is speech."""
        block = self._sound.read()
        return len(block), *self._ear.hear(block)

    # What the desk asks

    def wants(self, step_s: float) -> int | None:
        """Finals only: a guess at one is for somebody who waits."""
        return BACKGROUND if self.session.wants(step_s) is not None and self.session.has_closed else None

    def take(self) -> TranscriptionTask:
        return self.session.take()

    def heard(self, task: TranscriptionTask, answer: Transcription) -> None:
        self.session.heard(task, answer)
        self._news.set()

    def failed(self) -> None:
        self.session.failed()
        self._news.set()


@asynccontextmanager
async def reading(
    models: Models, file: BinaryIO, name: str, asked: SessionOptions
) -> AsyncGenerator[FileTranscription]:
    """Opens a file, and leaves decoder and desk behind as they were, however it ends.

    Raises BadRequest (`bad_audio`) when it is no audio.
    """
    sound = Sound(file, name)
    one: FileTranscription | None = None
    try:
        await asyncio.to_thread(sound.open)
        one = FileTranscription(sound, models.desk, Ear(models.voice), asked)
        yield one
    finally:
        if one is not None:
            models.desk.leave(one)
        await closed(sound)


async def closed(sound: Sound) -> None:
    """Closes it on a thread, which is at it at once; it is over when this returns, also by a cancellation."""
    closing = asyncio.get_running_loop().run_in_executor(None, sound.close)
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait((closing,))
        raise
