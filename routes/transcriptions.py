"""A file is sent, its words come back: OpenAI's transcription API, for its SDKs and for everyone.

What one of its fields cannot have is refused with the field, the value and what is allowed; fields that are not known
are passed over, as OpenAI does. `temperature` and `include[]` are checked and change nothing: how warm a decode is
depends on how sure the model is of it, and log probabilities are not kept.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, BinaryIO, Literal, TypeVar, cast

import msgspec
from litestar import post
from litestar.types import ASGIApp

from audio.dialects import subtitles
from audio.lane import AudioLane
from audio.languages import code_of
from audio.messages import MAX_PROMPT, Final
from audio.model.models import Models
from audio.options import SessionOptions
from audio.upload import FileTranscription, Progress, Uploads, asked_of, reading
from gateway.errors import BadRequest, Forbidden, TrilaneError
from gateway.serving.sse import HEADERS, send_problem
from gateway.serving.whole import unless_gone
from routes.multipart import UploadForm, receive_form
from routes.requests import AnyRequest

T = TypeVar("T", bound=str)
Format = Literal["json", "text", "verbose_json", "srt", "vtt"]
FORMATS: tuple[Format, ...] = ("json", "text", "verbose_json", "srt", "vtt")
WHOLE = ("verbose_json", "srt", "vtt")
"""They have times, which no event of a stream can carry."""
COMMENT_S = 1.0
"""A stream is told how far it is, in comments, so often at most."""
SEND_S = 60.0
"""How long a client of a stream may read nothing."""
JSON, TEXT = b"application/json", b"text/plain; charset=utf-8"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request, checked."""

    format: Format
    stream: bool
    language: str | None
    prompt: str
    granularities: list[str]

    def listening(self) -> SessionOptions:
        """Times of words are what segments and subtitles are cut by."""
        return asked_of(words=self.format in WHOLE, language=self.language, prompt=self.prompt)


@post(
    ["/v1/audio/transcriptions", "/api/audio/transcriptions"],
    status_code=200,
    summary="The words of an audio file, sent as multipart/form-data",
)
async def transcriptions(request: AnyRequest, audio: AudioLane) -> ASGIApp:
    if not request.user.grants.audio:
        raise Forbidden("this token does not allow the audio lane")
    return _Answer(await audio.load(), audio.uploads, audio.settings.limits.upload_bytes)


class _Answer:
    """Takes the body in, and answers; all that it holds is gone when it ends, or when the client has left."""

    def __init__(self, models: Models, uploads: Uploads, max_bytes: int) -> None:
        self._models = models
        self._uploads = uploads
        self._max_bytes = max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            # A file without a name: not even a process that is killed leaves it behind.
            with self._uploads.admitted(), tempfile.TemporaryFile() as file:
                form = await receive_form(scope, receive, file, self._max_bytes)
                asked = asked_in(form, self._models.transcriber.speaks)
                await unless_gone(receive, self._transcribe(file, form, asked, send))
        except TrilaneError as err:
            await send_problem(err, scope, send)

    async def _transcribe(self, file: BinaryIO, form: UploadForm, asked: Asked, send: Any) -> None:
        name = (form.file_name or "file")[:80]
        async with reading(self._models, file, name, asked.listening()) as one, aclosing(one.heard_so_far()) as heard:
            await (_stream(one, heard, send) if asked.stream else _whole(one, heard, asked, send))


# What is asked


def asked_in(form: UploadForm, speaks: Callable[[str], bool]) -> Asked:
    """Raises BadRequest that names the field, what it had, and what it may have."""
    if form.file_name is None:
        raise BadRequest("the form has no part `file`", code="missing_file", extra={"param": "file"})
    fields = Fields(form.fields)
    fields.number("temperature", 0.0, 1.0)
    fields.some("include", ("logprobs",))
    format_: Format = fields.one("response_format", FORMATS, "json")
    granularities = fields.some("timestamp_granularities", ("word", "segment"))
    stream = fields.one("stream", ("true", "false", "1", "0", "True", "False"), "false") in ("true", "1", "True")
    if granularities and format_ != "verbose_json":
        raise _bad("timestamp_granularities", granularities[0], "goes with response_format=verbose_json only")
    if stream and format_ in WHOLE:
        raise _bad("stream", "true", f"goes with response_format=json or text, not with {format_}")
    return Asked(
        format=format_,
        stream=stream,
        language=fields.language(speaks),
        prompt=fields.last("prompt")[-MAX_PROMPT:],  # the model reads the end of a longer one
        granularities=granularities or ["segment"],
    )


class Fields:
    """A form's fields; those with brackets may come without, and an empty one was left out."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def last(self, name: str) -> str:
        return self._fields.get(name, [""])[-1]

    def one(self, name: str, allowed: tuple[T, ...], default: T) -> T:
        value = self.last(name).strip() or default
        if value not in allowed:
            raise _bad(name, value, f"want one of {', '.join(allowed)}")
        return cast(T, value)

    def some(self, name: str, allowed: tuple[str, ...]) -> list[str]:
        values = [value.strip() for key in (name, f"{name}[]") for value in self._fields.get(key, []) if value.strip()]
        for value in values:
            if value not in allowed:
                raise _bad(f"{name}[]", value, f"want {' or '.join(allowed)}")
        return values

    def number(self, name: str, low: float, high: float) -> None:
        value = self.last(name).strip()
        number = float("nan")
        with contextlib.suppress(ValueError):
            number = float(value or low)
        if not low <= number <= high:
            raise _bad(name, value, f"want a number from {low:g} to {high:g}")

    def language(self, speaks: Callable[[str], bool]) -> str | None:
        value = self.last("language")
        code = code_of(value)
        if code and not speaks(code):
            raise _bad("language", value, "the model does not know it; want an ISO 639-1 code that it was trained on")
        return code or None


def _bad(name: str, value: str, wanted: str) -> BadRequest:
    return BadRequest(f"{name}={value[:80]!r}: {wanted}", code="invalid_value", extra={"param": name})


# What is answered


async def _whole(one: FileTranscription, heard: AsyncGenerator[Final | Progress], asked: Asked, send: Any) -> None:
    finals = [said async for said in heard if isinstance(said, Final)]
    kind, body = _body(asked, finals, one)
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _body(asked: Asked, finals: list[Final], one: FileTranscription) -> tuple[bytes, bytes]:
    spans = [span for final in finals for span in subtitles.spans_of(final)]
    match asked.format:
        case "json":
            return JSON, msgspec.json.encode(subtitles.plain(finals, one.duration_s))
        case "verbose_json":
            words, segments = ("word" in asked.granularities, "segment" in asked.granularities)
            full = subtitles.verbose(finals, one.duration_s, one.language, words=words, segments=segments)
            return JSON, msgspec.json.encode(full)
        case "text":
            return TEXT, (subtitles.joined(finals) + "\n").encode()
        case "srt":
            return TEXT, "".join(subtitles.srt(span, number) for number, span in enumerate(spans, 1)).encode()
        case "vtt":
            return TEXT, (subtitles.VTT_HEAD + "".join(map(subtitles.vtt, spans))).encode()


async def _stream(one: FileTranscription, heard: AsyncGenerator[Final | Progress], send: Any) -> None:
    """Deltas as finals come; joined they are the text of the last event."""
    loop = asyncio.get_running_loop()
    texts: list[str] = []
    written = loop.time()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    try:
        async for said in heard:
            if isinstance(said, Final):
                if not said.text:
                    continue
                data = _event("transcript.text.delta", delta=" " + said.text if texts else said.text)
                texts.append(said.text)
            elif loop.time() - written < COMMENT_S:
                continue
            else:
                data = f": {said}\n".encode()
            written = loop.time()
            await _send(send, data)
        usage = subtitles.usage(one.duration_s)
        await _send(send, _event("transcript.text.done", text=" ".join(texts), usage=usage))
    except TimeoutError:
        return  # and so the connection is cut
    except TrilaneError as err:
        await _send(send, _data({"error": {"message": err.detail, "type": err.code, "param": None, "code": err.code}}))
    await send({"type": "http.response.body", "body": b""})


async def _send(send: Any, data: bytes) -> None:
    async with asyncio.timeout(SEND_S):
        await send({"type": "http.response.body", "body": data, "more_body": True})


def _event(kind: str, **more: object) -> bytes:
    return _data({"type": kind, **more})


def _data(value: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(value)


ROUTES = [transcriptions]
