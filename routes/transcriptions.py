"""The routes of file transcription: they take a form with a file, and answer with its words."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, BinaryIO

from litestar import post
from litestar.types import ASGIApp

from audio.dialects.transcriptions import (
    ANSWER_FORMATS,
    TranscriptionRequest,
    TranscriptSource,
    answer_whole,
    apology,
    parse_request,
    requested_models,
)
from audio.lane import AudioLane
from audio.ledger import recorded
from audio.model.models import Models
from audio.upload import FileTranscription, transcription_of
from gateway.access.grants import Principal
from gateway.core.leases import NO_LEASE
from gateway.errors import BadRequest, TrilaneError
from gateway.serving.open_streams import TokenEnd
from gateway.serving.refusals import send_problem
from gateway.serving.sse import EventStream
from gateway.serving.whole import while_connected
from routes.multipart import receive_form
from routes.operation import Schema, described
from routes.requests import AnyRequest

FORM_SCHEMA: Schema = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
        "model": {"type": "string"},
        "language": {"type": "string"},
        "channels": {"enum": ["mixed", "split"], "default": "mixed"},
        "keywords[]": {"type": "array", "items": {"type": "string"}},
        "numerals": {"enum": ["as-heard", "digits", "words"], "default": "as-heard"},
        "profanity": {"enum": ["mask"]},
        "redact[]": {"type": "array", "items": {"enum": ["number", "card", "email", "phone"]}},
        "prompt": {"type": "string"},
        "response_format": {"enum": [*ANSWER_FORMATS], "default": "json"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "timestamp_granularities[]": {"type": "array", "items": {"enum": ["word", "segment"]}},
        "stream": {"type": "boolean", "default": False},
    },
}
TRANSCRIPT_SCHEMA: Schema = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
STREAM_EXAMPLE = """: ok
data: {"type":"transcript.text.delta","delta":" Hello"}

data: {"type":"transcript.text.done","text":"Hello"}

"""
DESCRIBED = described(
    body=FORM_SCHEMA,
    media_type="multipart/form-data",
    answer=TRANSCRIPT_SCHEMA,
    stream=STREAM_EXAMPLE,
    errors=(415,),
)


@post(
    ["/v1/audio/transcriptions", "/api/audio/transcriptions"],
    status_code=200,
    summary="The words of an audio file, sent as multipart/form-data",
    opt=DESCRIBED,
)
async def transcriptions(request: AnyRequest, audio: AudioLane) -> ASGIApp:
    request.user.require_audio()
    return UploadAnswer(audio, await audio.load(), request.user)


@post(
    "/v1/audio/translations",
    status_code=200,
    summary="The words of an audio file in English, sent as multipart/form-data",
    opt=DESCRIBED,
)
async def translations(request: AnyRequest, audio: AudioLane) -> ASGIApp:
    request.user.require_audio()
    return UploadAnswer(audio, await audio.load(), request.user, translates=True)


class UploadAnswer:
    """Receives a file and answers it; frees all that it holds when the answer ends or the client leaves."""

    def __init__(self, lane: AudioLane, models: Models, who: Principal, *, translates: bool = False) -> None:
        self._lane = lane
        self._who = who
        self._lease = NO_LEASE
        self._models = models
        self._translates = translates

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with AsyncExitStack() as resources:
                self._lease = await self._lane.admit_upload(self._who)
                resources.callback(self._lease.end)
                file = resources.enter_context(self._lane.uploads.admitted())
                async with self._lane.callers.while_valid(self._who.key_id, self._who.remaining_s()) as watch:
                    request, opening = await self._receive(file, resources, scope, receive)
                    if not request.stream:
                        answering = answer_whole(opening, request, watch.ending_with(send))
                        await while_connected(receive, answering)
                if request.stream:  # it watches the credential itself
                    transcription = await resources.enter_async_context(opening)
                    await self._stream(request, transcription, resources, scope, receive, send)
        except TrilaneError as err:
            await send_problem(err, scope, send)

    async def _receive(
        self, file: BinaryIO, resources: AsyncExitStack, scope: Any, receive: Any
    ) -> tuple[TranscriptionRequest, AbstractAsyncContextManager[FileTranscription]]:
        """Returns the request and its file, to be opened, once all has come and it is its turn."""
        form = await receive_form(scope, receive, file, self._lane.settings.limits.upload_bytes)
        if form.file_name is None:
            raise BadRequest("the form has no part `file`", code="missing_file", extra={"param": "file"})
        await resources.enter_async_context(self._lane.uploads.turn())
        models = await requested_models(form.fields, self._models, translates=self._translates)
        request = parse_request(form.fields, models, translates=self._translates)
        name = (form.file_name or "file")[:80]
        max_s = self._lane.settings.limits.file_seconds
        transcribing = transcription_of(models, file, name, request.options, max_s)
        entry = self._lane.file_entry(self._who, models, self._lease)
        return request, recorded(entry, transcribing)

    async def _stream(
        self,
        request: TranscriptionRequest,
        transcription: FileTranscription,
        resources: AsyncExitStack,
        scope: Any,
        receive: Any,
        send: Any,
    ) -> None:
        is_diarized = request.format == "diarized_json"
        source = TranscriptSource(transcription, resources.aclose, is_diarized=is_diarized)
        ping_s, open_streams = self._lane.settings.ping_s, self._lane.streams
        async with asyncio.TaskGroup() as group:
            source.start(group)
            answer = EventStream(
                source,
                ping_s=ping_s,
                open_streams=open_streams,
                resumable=False,
                apology=apology,
                leaves_cleanly=True,
                token_end=TokenEnd(self._who.remaining_s()),
                key_id=self._who.key_id,
            )
            await answer(scope, receive, send)


ROUTES = [transcriptions, translations]
