"""OpenAI's transcription API, for its SDKs and for everyone: a request's fields, and its answer, whole or streamed.

A field with a value that it cannot have is refused with the field, the value and what is allowed; unknown fields are
ignored, as OpenAI does. `temperature` is checked and changes nothing, because no decode is sampled; log probabilities
of tokens are not kept, so `include[]` is refused. An answer about a file of which a part was left out, or is doubtful,
says so in a field of our own, `warnings`, and in the header `x-trilane-warning`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Literal

import msgspec

from audio.dialects import subtitles
from audio.dialects.form_fields import FormFields, bad_value
from audio.messages import Final
from audio.model.models import Models
from audio.model.shelf import asked_model
from audio.options import MAX_PROMPT, SessionOptions, with_keywords
from audio.prose import GrowingProse, as_prose
from audio.text_forms import TextForms
from audio.upload import FileTranscription, Progress, file_options
from events.log.source import Source
from gateway.errors import TrilaneError, openai_error_fields

AnswerFormat = Literal["json", "text", "verbose_json", "srt", "vtt", "diarized_json"]
ANSWER_FORMATS: tuple[AnswerFormat, ...] = ("json", "text", "verbose_json", "srt", "vtt", "diarized_json")
TIMED = ("verbose_json", "srt", "vtt")
"""The formats that have times, which no event of a stream can carry."""
COMMENT_S = 1.0
"""Minimum seconds between two comments of a stream that say how far it is."""
MAX_UNSENT_BYTES = 65_536
"""Maximum bytes of a stream that wait for its client; past it the transcription waits, too."""
SEND_S = 60.0
"""Maximum seconds that a transcription waits for a client that does not read; then the stream is cut."""
WARNING = b"x-trilane-warning"
JSON, TEXT = b"application/json", b"text/plain; charset=utf-8"


class TranscriptionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request, checked."""

    format: AnswerFormat
    stream: bool
    language: str | None
    prompt: str
    granularities: list[str]
    model: str = ""
    translates: bool = False
    split: bool = False
    """Whether the two channels of the file are heard apart."""
    forms: TextForms | None = None

    @property
    def options(self) -> SessionOptions:
        """Returns the options of its session; the times of words are needed to cut segments and subtitles."""
        return file_options(
            words=self.format in TIMED,
            language=self.language,
            prompt=self.prompt,
            model=self.model,
            translates=self.translates,
            split=self.split,
            forms=self.forms,
        )


# The fields


async def requested_models(fields: Mapping[str, list[str]], models: Models, *, translates: bool = False) -> Models:
    """Returns what hears a request, with the model that it names. Raises BadRequest, TrilaneError (`model_failed`)."""
    name = asked_model(FormFields(fields).last("model").strip())
    return await (models.translator(name) if translates else models.of(name))


def parse_request(fields: Mapping[str, list[str]], models: Models, *, translates: bool = False) -> TranscriptionRequest:
    """Returns a request to the model of `models`. Raises BadRequest that names field, value and what it may be."""
    form = FormFields(fields)
    form.check_number("temperature", 0.0, 1.0)
    for wish in form.choices("include", ("logprobs",)):
        raise bad_value("include[]", wish, "log probabilities of tokens are not kept; `verbose_json` has `avg_logprob`")
    format_: AnswerFormat = form.choice("response_format", ANSWER_FORMATS, "json")
    granularities = form.choices("timestamp_granularities", ("word", "segment"))
    stream = form.choice("stream", ("true", "false", "1", "0", "True", "False"), "false") in ("true", "1", "True")
    if granularities and format_ != "verbose_json":
        raise bad_value("timestamp_granularities", granularities[0], "goes with response_format=verbose_json only")
    if stream and format_ in TIMED:
        raise bad_value("stream", "true", f"goes with response_format=json or text, not with {format_}")
    channels = form.choice("channels", ("mixed", "split"), "split" if format_ == "diarized_json" else "mixed")
    if channels == "mixed" and format_ == "diarized_json":
        raise bad_value("channels", channels, "diarized_json tells who spoke by the channels: want split")
    for name in ("known_speaker_names", "known_speaker_references"):
        for value in form.all(name):
            raise bad_value(f"{name}[]", value, "voices are not told apart: send each speaker on a channel of its own")
    prompt = form.last("prompt")[-MAX_PROMPT:]  # the model reads the end of a longer one
    return TranscriptionRequest(
        format=format_,
        stream=stream,
        language=form.language(models),
        prompt=with_keywords(prompt, form.keywords(MAX_PROMPT - len(prompt) - 1)),
        granularities=granularities or ["segment"],
        model=models.asked_name,
        translates=translates,
        split=channels == "split",
        forms=form.text_forms(),
    )


# The whole answer


async def answer_whole(
    opening: AbstractAsyncContextManager[FileTranscription], request: TranscriptionRequest, send: Any
) -> None:
    """Transcribes a file that it opens, and answers with the whole transcript, in the format of the request."""
    async with opening as transcription, aclosing(transcription.results()) as results:
        finals = as_prose([result async for result in results if isinstance(result, Final)])
    content_type, body = _body(request, finals, transcription)
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if transcription.warnings:
        headers.append((WARNING, "; ".join(transcription.warnings).encode("ascii", "replace")))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _body(
    request: TranscriptionRequest, finals: Sequence[Final], transcription: FileTranscription
) -> tuple[bytes, bytes]:
    """Returns the content type and the body."""
    duration_s = transcription.duration_s
    spans = [span for final in finals for span in subtitles.spans_of(final)]
    warnings = transcription.warnings or None
    match request.format:
        case "json":
            brief = subtitles.plain(finals, duration_s)
            return JSON, msgspec.json.encode(msgspec.structs.replace(brief, warnings=warnings))
        case "verbose_json":
            words, segments = ("word" in request.granularities, "segment" in request.granularities)
            language = "en" if request.translates else transcription.language
            full = subtitles.verbose(finals, duration_s, language, words=words, segments=segments)
            full = msgspec.structs.replace(full, task="translate") if request.translates else full
            return JSON, msgspec.json.encode(msgspec.structs.replace(full, warnings=warnings))
        case "diarized_json":
            return JSON, msgspec.json.encode(subtitles.diarized(finals, duration_s, warnings))
        case "text":
            return TEXT, (subtitles.dialogue(finals) + "\n").encode()
        case "srt":
            return TEXT, "".join(subtitles.srt(span, number) for number, span in enumerate(spans, 1)).encode()
        case "vtt":
            return TEXT, (subtitles.VTT_HEAD + "".join(map(subtitles.vtt, spans))).encode()


# The streamed answer


class TranscriptSource(Source):
    """The deltas of a transcript, which come as finals are settled; joined they are the text of the last event.

    They are made by a task of its own, which ends when the stream is closed.
    """

    __slots__ = (
        "_filling",
        "_has_ended",
        "_is_complete",
        "_is_diarized",
        "_release",
        "_room",
        "_transcription",
        "_unsent",
        "on_wake",
    )

    def __init__(
        self, transcription: FileTranscription, release: Callable[[], Awaitable[None]], *, is_diarized: bool = False
    ) -> None:
        """`release` frees what the transcription holds, and is called as soon as that has ended.

        `is_diarized`: each delta is followed by an event that says who spoke, and when.
        """
        self._is_diarized = is_diarized
        self.on_wake: Callable[[], object] = _nobody
        self._transcription = transcription
        self._release = release
        self._unsent = bytearray()
        self._room = asyncio.Event()
        self._has_ended = self._is_complete = False
        self._filling: asyncio.Task[None] | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begins to transcribe, in a task of `group`."""
        self._filling = group.create_task(self._fill())

    async def _fill(self) -> None:
        try:
            await self._put_results()
            self._is_complete = True
        except TimeoutError:
            return  # and so the stream is cut
        except TrilaneError as err:
            self._put(self._failure(err))
            self._is_complete = True
        finally:
            self._has_ended = True
            self._filling = None  # what is freed now is not cut short
            self.on_wake()
            await self._release()

    async def _put_results(self) -> None:
        clock = asyncio.get_running_loop().time
        prose = GrowingProse()
        put_at = clock()
        async with aclosing(self._transcription.results()) as results:
            async for result in results:
                if isinstance(result, Progress):
                    if clock() - put_at < COMMENT_S:
                        continue
                    data = f": {result}\n".encode()
                elif result.text:
                    data = self._delta(prose.add(result))
                    if self._is_diarized:
                        data += _data(subtitles.diarized_segment(result))
                else:
                    continue
                put_at = clock()
                self._put(data)
                await self._wait_for_room()
        warnings = self._transcription.warnings
        if rest := prose.end():
            self._put(self._delta(rest))
        self._put(self._end(prose.text, {"warnings": warnings} if warnings else {}))

    # The words of the dialect, which others have too

    def _delta(self, text: str) -> bytes:
        """Returns what tells the next text."""
        return _event("transcript.text.delta", delta=text)

    def _end(self, text: str, more: dict[str, object]) -> bytes:
        """Returns what tells all of the text, and what there is `more` to know."""
        return _event("transcript.text.done", text=text, usage=subtitles.usage(self._transcription.duration_s), **more)

    def _failure(self, err: TrilaneError) -> bytes:
        """Returns what tells of an error."""
        return apology(err)

    def _put(self, data: bytes) -> None:
        self._unsent += data
        self.on_wake()

    async def _wait_for_room(self) -> None:
        """Waits while too much is unsent. Raises TimeoutError when the client reads nothing for SEND_S."""
        while len(self._unsent) > MAX_UNSENT_BYTES:
            self._room.clear()
            async with asyncio.timeout(SEND_S):
                await self._room.wait()

    # What the response asks

    @property
    def ended(self) -> bool:
        return self._has_ended and not (self._is_complete and self._unsent)

    @property
    def complete(self) -> bool:
        return self._is_complete

    def poll(self) -> bytes | None:
        data = bytes(self._unsent)
        self._unsent.clear()
        self._room.set()
        return data

    async def catch_up(self) -> None:
        """Does nothing: `poll` always has what is due."""

    def close(self) -> None:
        self.on_wake = _nobody
        if self._filling is not None:
            self._filling.cancel()


def _nobody() -> None:
    """Does nothing: nobody is waiting."""


def apology(error: TrilaneError) -> bytes:
    """Returns the event that tells of an error in the middle of a stream."""
    return _data({"error": {"message": error.detail, **openai_error_fields(error)}})


def _event(kind: str, **fields: object) -> bytes:
    return _data({"type": kind, **fields})


def _data(value: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(value)
