"""What `trilane transcribe` does: a file's words on stdout, as they become final, by an engine of its own.

No server needs to run. Progress, and with `--live` what is not final yet, is written to stderr, when that is a
terminal; so stdout can be a pipe or a file at the same time.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import click
import msgspec

from audio.decoders.files import Sound
from audio.dialects import subtitles
from audio.languages import code_of
from audio.messages import Final, Gap, Partial
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask
from audio.model.vad import Ear
from audio.options import Output, SessionOptions
from audio.session import Session
from audio.upload import Progress, asked_of, closed, reading
from gateway.settings import Settings

Format = Literal["text", "json", "srt", "vtt"]
FORMATS: tuple[Format, ...] = ("text", "json", "srt", "vtt")
FRAME = SAMPLE_RATE // 10
"""What a microphone would send at once."""
BAR = 30
CLEAR = "\r\x1b[K"
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


async def transcribe(
    settings: Settings, path: Path, *, language: str | None, words: bool, format_: Format, live: bool
) -> None:
    """Prints the words of a file. Raises BadRequest when it is no audio, ConfigurationError when a model is missing."""
    with _opened(path) as file:
        async with _models(settings, language) as models:
            asked = asked_of(words=words or format_ != "text", language=code_of(language) if language else None)
            page = TranscriptPrinter(format_, words=words)
            if live:
                duration_s = await _live(models, file, path.name, asked, page)
            else:
                duration_s = await _fast(models, file, path.name, asked, page)
            page.end(duration_s)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as err:
        raise click.ClickException(f"{path} cannot be read: {err.strerror}") from err


@asynccontextmanager
async def _models(settings: Settings, language: str | None) -> AsyncGenerator[Models]:
    from audio.model.models import load_models

    models = await load_models(settings)
    try:
        if language and not models.transcriber.speaks(code_of(language)):
            raise click.ClickException(f"--language {language}: the model does not know it")
        yield models
    finally:
        await models.transcriber.close()


async def _fast(models: Models, file: BinaryIO, name: str, asked: SessionOptions, page: "TranscriptPrinter") -> float:
    line, began = StatusLine(), time.monotonic()
    try:
        async with reading(models, file, name, asked) as one, aclosing(one.heard_so_far()) as heard:
            async for said in heard:
                if isinstance(said, Final):
                    line.clear()
                    page.add(said)
                else:
                    line.show(bar(said, time.monotonic() - began))
            return one.duration_s
    finally:
        line.clear()


def bar(progress: Progress, elapsed_s: float) -> str:
    """`[####------]  12.3 of 60.0 s, 31 times real time`."""
    speed = f", {progress.settled_s / elapsed_s:.0f} times real time" if elapsed_s > 1 else ""
    if not progress.duration_s:
        return f"{progress}{speed}"
    full = min(BAR, round(BAR * progress.settled_s / progress.duration_s))
    return f"[{'#' * full}{'-' * (BAR - full)}] {progress}{speed}"


async def _live(models: Models, file: BinaryIO, name: str, asked: SessionOptions, page: "TranscriptPrinter") -> float:
    """As if the file were spoken now: with partials, and the endpointing of live speech."""
    line, sound = StatusLine(), Sound(file, name)
    usual = SessionOptions()
    speaker = LiveFile(
        models,
        msgspec.structs.replace(asked, interim_results=True, endpointing_s=usual.endpointing_s),
        lambda said: _shown(said, line, page),
    )
    try:
        await asyncio.to_thread(sound.open)
        return await _spoken(sound, speaker)
    finally:
        line.clear()
        models.desk.leave(speaker)
        await closed(sound)


async def _spoken(sound: Sound, speaker: "LiveFile") -> float:
    began, heard = time.monotonic(), 0
    while len(block := await asyncio.to_thread(sound.read)):
        for at in range(0, len(block), FRAME):
            frame = block[at : at + FRAME]
            heard += len(frame)
            await asyncio.sleep(began + heard / SAMPLE_RATE - time.monotonic())  # a frame is there when it is over
            speaker.hear(frame)
    await speaker.stop()
    return heard / SAMPLE_RATE


def _shown(said: Output, line: "StatusLine", page: "TranscriptPrinter") -> None:
    match said:
        case Partial():
            line.show(said.stable, said.text[len(said.stable) :])
        case Final():
            line.clear()
            page.add(said)
        case Gap():
            line.clear()
            click.echo(f"not heard: {said.start:g} to {said.end:g} s ({said.reason})", err=True)
        case _:
            return


class LiveFile:
    """A live session without a connection; what the desk serves."""

    def __init__(self, models: Models, asked: SessionOptions, show: Callable[[Output], None]) -> None:
        self._session = Session(asked)
        self._desk = models.desk
        self._ear = Ear(models.voice)
        self._show = show
        self._news = asyncio.Event()

    def hear(self, samples: Samples) -> None:
        self._session.hear(*self._ear.hear(samples))
        self._go_on()

    async def stop(self) -> None:
        """Returns when everything is final."""
        self._session.hear(*self._ear.end())
        self._session.stop()
        self._go_on()
        while not self._session.is_done:
            self._news.clear()
            await self._news.wait()

    def wants(self, step_s: float) -> int | None:
        return self._session.wants(step_s)

    def take(self) -> TranscriptionTask:
        return self._session.take()

    def heard(self, task: TranscriptionTask, answer: Transcription) -> None:
        self._session.heard(task, answer)
        self._go_on()

    def failed(self) -> None:
        self._session.failed()
        self._go_on()

    def _go_on(self) -> None:
        for said in self._session.take_output():
            self._show(said)
        self._news.set()
        self._desk.ask(self)


class TranscriptPrinter:
    """What is printed on stdout, in one format."""

    def __init__(self, format_: Format, *, words: bool) -> None:
        self._format = format_
        self._words = words
        self._count = 0
        """Subtitles so far."""
        self._finals: list[Final] = []
        """Kept for a format that is one document."""
        self._is_empty = True
        if format_ == "vtt":
            click.echo(subtitles.VTT_HEAD, nl=False)

    def add(self, final: Final) -> None:
        self._is_empty = self._is_empty and not final.text
        if self._format == "json":
            self._finals.append(final)
        elif self._format == "text":
            self._text(final)
        else:
            for span in subtitles.spans_of(final):
                self._count += 1
                click.echo(subtitles.srt(span, self._count) if self._format == "srt" else subtitles.vtt(span), nl=False)
        sys.stdout.flush()

    def _text(self, final: Final) -> None:
        if self._words:
            for word in final.words or ():
                click.echo(f"{word.start:9.3f} {word.end:9.3f}  {word.text}")
        elif final.text:
            click.echo(final.text)

    def end(self, duration_s: float) -> None:
        """After the last final."""
        if self._format == "json":
            language = self._finals[0].language if self._finals else "en"
            full = subtitles.verbose(self._finals, duration_s, language, words=self._words, segments=True)
            click.echo(msgspec.json.format(msgspec.json.encode(full)).decode())
        if self._is_empty:
            click.echo(f"no speech in {duration_s:.1f} s of audio", err=True)


class StatusLine:
    """One line of a terminal, written again and again; nothing when stderr is none."""

    def __init__(self) -> None:
        self._is_on = sys.stderr.isatty()
        self._shown = ""

    def show(self, text: str, dimmed: str = "") -> None:
        """What does not fit is cut at the front: the newest words are the last."""
        if not self._is_on:
            return
        room = shutil.get_terminal_size().columns - 1
        dimmed = dimmed[-room:]
        text = text[-(room - len(dimmed)) :] if len(dimmed) < room else ""
        self._write(f"{text}{DIM}{dimmed}{PLAIN}" if dimmed else text)

    def clear(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if self._shown != text:
            self._shown = text
            sys.stderr.write(CLEAR + text)
            sys.stderr.flush()
