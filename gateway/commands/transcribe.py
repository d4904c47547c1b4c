"""`trilane transcribe`: prints the words of a file as they become final, with an engine of its own.

No server needs to run. Progress, and with `--live` the words that are not final yet, go to stderr when that is a
terminal; so stdout can be a pipe or a file at the same time.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import click
import msgspec

from audio.decoders.files import Sound
from audio.dialects import subtitles
from audio.languages import code_of
from audio.messages import Done, Final, Gap, Partial
from audio.model.models import Models, load_models
from audio.model.transcriber import SAMPLE_RATE
from audio.options import Output, SessionOptions
from audio.session_state import SessionState
from audio.sides import open_driver
from audio.upload import Progress, close_sound, file_options, transcription_of
from gateway.settings import Settings

PrintFormat = Literal["text", "json", "srt", "vtt"]
PRINT_FORMATS: tuple[PrintFormat, ...] = ("text", "json", "srt", "vtt")
FRAME = SAMPLE_RATE // 10
"""Number of samples that a microphone would send at once."""
BAR_WIDTH = 30
"""Characters of the progress bar."""
CLEAR = "\r\x1b[K"
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


async def transcribe(
    settings: Settings,
    path: Path,
    *,
    model: str = "",
    language: str | None,
    words: bool,
    format_: PrintFormat,
    live: bool,
    split: bool = False,
) -> None:
    """Prints the words of a file. Raises BadRequest when it is no audio, ConfigurationError when a model is missing."""
    with _open(path) as file:
        async with _models(settings, model, language) as models:
            options = file_options(
                words=words or format_ != "text",
                language=code_of(language) if language else None,
                model=models.asked_name,
                split=split,
            )
            printer = TranscriptPrinter(format_, words=words)
            transcribe_file = _transcribe_live if live else _transcribe_fast
            printer.end(await transcribe_file(models, file, path.name, options, printer))


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as err:
        raise click.ClickException(f"{path} cannot be read: {err.strerror}") from err


@asynccontextmanager
async def _models(settings: Settings, model: str, language: str | None) -> AsyncGenerator[Models]:
    models = await load_models(settings, measures_voices=False)
    try:
        models = await models.of(model)
        models.check_language(code_of(language) if language else None)
        yield models
    finally:
        await models.close()


async def _transcribe_fast(
    models: Models, file: BinaryIO, name: str, options: SessionOptions, printer: "TranscriptPrinter"
) -> float:
    """Transcribes a file as fast as the machine can, and returns its duration."""
    line, start_s = StatusLine(), time.monotonic()
    try:
        async with (
            transcription_of(models, file, name, options) as transcription,
            aclosing(transcription.results()) as results,
        ):
            async for result in results:
                if isinstance(result, Final):
                    line.clear()
                    printer.add(result)
                else:
                    line.show(bar(result, time.monotonic() - start_s))
            _warn(transcription.warnings, line)
            return transcription.duration_s
    finally:
        line.clear()


def _warn(warnings: Sequence[str], line: "StatusLine") -> None:
    """Says on stderr what of the file was left out."""
    line.clear()
    for warning in warnings:
        click.echo(warning, err=True)


def bar(progress: Progress, elapsed_s: float) -> str:
    """Returns `[####------]  12.3 of 60.0 s, 31 times real time`."""
    speed = f", {progress.settled_s / elapsed_s:.0f} times real time" if elapsed_s > 1 else ""
    if not progress.duration_s:
        return f"{progress}{speed}"
    width = min(BAR_WIDTH, round(BAR_WIDTH * progress.settled_s / progress.duration_s))
    return f"[{'#' * width}{'-' * (BAR_WIDTH - width)}] {progress}{speed}"


async def _transcribe_live(
    models: Models, file: BinaryIO, name: str, options: SessionOptions, printer: "TranscriptPrinter"
) -> float:
    """Transcribes a file as if it were spoken now, with partials and the endpointing of live speech.

    Returns its duration.
    """
    line, sound = StatusLine(), Sound(file, name, is_split=options.split)
    defaults = SessionOptions()
    live = LiveFile(
        models,
        msgspec.structs.replace(options, interim_results=True, endpointing_s=defaults.endpointing_s),
        lambda output: _show(output, line, printer),
    )
    try:
        await asyncio.to_thread(sound.open)
        duration_s = await _speak(sound, live)
        _warn(sound.warnings, line)
        return duration_s
    finally:
        line.clear()
        live.close()
        await close_sound(sound)


async def _speak(sound: Sound, live: "LiveFile") -> float:
    """Feeds a file at the pace of speech, and returns its duration."""
    start_s, count = time.monotonic(), 0
    while len(block := await asyncio.to_thread(sound.read)):
        for at in range(0, len(block), FRAME):
            frame = block[at : at + FRAME]
            count += len(frame)
            await asyncio.sleep(start_s + count / SAMPLE_RATE - time.monotonic())  # until its last sample is spoken
            live.feed(frame)
    await live.stop()
    return count / SAMPLE_RATE


def _show(output: Output, line: "StatusLine", printer: "TranscriptPrinter") -> None:
    match output:
        case Partial():
            line.show(output.stable, output.text[len(output.stable) :])
        case Final():
            line.clear()
            printer.add(output)
        case Gap():
            line.clear()
            click.echo(f"not heard: {output.start:g} to {output.end:g} s ({output.reason})", err=True)
        case _:
            return


class LiveFile:
    """A live session without a connection."""

    def __init__(self, models: Models, options: SessionOptions, show: Callable[[Output], None]) -> None:
        self._driver = open_driver(options, SessionState(), models, self._take_output)
        self._show = show
        self._end = asyncio.Event()
        self.feed = self._driver.feed
        self.close = self._driver.close

    async def stop(self) -> None:
        """Ends the session, and returns when everything is final."""
        self._driver.stop()
        await self._end.wait()

    def _take_output(self, outputs: list[Output]) -> None:
        for output in outputs:
            self._show(output)
            if isinstance(output, Done):
                self._end.set()


class TranscriptPrinter:
    """Prints finals on stdout, in one format."""

    def __init__(self, format_: PrintFormat, *, words: bool) -> None:
        self._format = format_
        self._words = words
        self._count = 0
        """Number of subtitles so far."""
        self._finals: list[Final] = []
        """All finals, for a format that is one document."""
        self._is_empty = True
        if format_ == "vtt":
            click.echo(subtitles.VTT_HEAD, nl=False)

    def add(self, final: Final) -> None:
        self._is_empty = self._is_empty and not final.text
        if self._format == "json":
            self._finals.append(final)
        elif self._format == "text":
            self._print_text(final)
        else:
            for span in subtitles.spans_of(final):
                self._count += 1
                click.echo(subtitles.srt(span, self._count) if self._format == "srt" else subtitles.vtt(span), nl=False)
        sys.stdout.flush()

    def _print_text(self, final: Final) -> None:
        if self._words:
            for word in final.words or ():
                click.echo(f"{word.start:9.3f} {word.end:9.3f}  {word.text}")
        elif final.text:
            click.echo(subtitles.dialogue([final]))

    def end(self, duration_s: float) -> None:
        """Prints what comes after the last final."""
        if self._format == "json":
            language = self._finals[0].language if self._finals else "en"
            full = subtitles.verbose(self._finals, duration_s, language, words=self._words, segments=True)
            click.echo(msgspec.json.format(msgspec.json.encode(full)).decode())
        if self._is_empty:
            click.echo(f"no speech in {duration_s:.1f} s of audio", err=True)


class StatusLine:
    """A line of the terminal that is rewritten in place; writes nothing when stderr is not a terminal."""

    def __init__(self) -> None:
        self._is_on = sys.stderr.isatty()
        self._text = ""

    def show(self, text: str, dimmed: str = "") -> None:
        """Replaces the line. A text that does not fit is cut at the front: the newest words are the last."""
        if not self._is_on:
            return
        width = shutil.get_terminal_size().columns - 1
        dimmed = dimmed[-width:]
        text = text[-(width - len(dimmed)) :] if len(dimmed) < width else ""
        self._write(f"{text}{DIM}{dimmed}{PLAIN}" if dimmed else text)

    def clear(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if self._text != text:
            self._text = text
            sys.stderr.write(CLEAR + text)
            sys.stderr.flush()
