"""The tool `transcribe`: the words of an audio file, which comes inside the call, as base64.

Its progress is the text as it is settled. It is heard for as long as its caller waits, as every file that is uploaded.
"""

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from audio.dialects.transcriptions import TranscriptSource
from audio.lane import AudioLane
from audio.languages import code_of
from audio.ledger import recorded
from audio.options import MAX_PROMPT
from audio.upload import FileTranscription, file_options, transcription_of
from gateway.access.grants import Principal
from gateway.errors import BadRequest, TooLarge, TrilaneError
from gateway.mcp.protocol import frame, progress, text_result
from gateway.mcp.tool import OfferedTool, RpcAnswer, ToolRequest, failed, json_answer
from gateway.serving.refusals import note_refusal
from gateway.serving.sse import EventStream

MAX_AUDIO_BYTES = 10_000_000
"""Maximum bytes of a file: larger ones are uploaded to `/v1/audio/transcriptions`, which holds none in memory."""


class TranscribeArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `transcribe`."""

    audio: Annotated[
        str, Meta(min_length=1, description=f"The file's bytes as base64, at most {MAX_AUDIO_BYTES:,} of them")
    ]
    name: Annotated[str, Meta(max_length=80, description="The file's name, which may tell its format")] = "file"
    language: Annotated[str | None, Meta(description="ISO 639-1 code, or name, of what is spoken")] = None
    prompt: Annotated[str, Meta(description="Words that are likely: names, terms")] = ""

    def decoded(self) -> bytes:
        """Returns the file. Raises BadRequest, TooLarge."""
        try:
            audio = b64decode(self.audio, validate=True)
        except (binascii.Error, ValueError) as err:
            raise BadRequest(f"`audio` is not base64: {err}", code="bad_audio") from err
        if len(audio) > MAX_AUDIO_BYTES:
            raise TooLarge(f"`audio` has {len(audio)} bytes: at most {MAX_AUDIO_BYTES} fit into a call; upload it")
        return audio


class ToolTranscript(TranscriptSource):
    """A transcript as the progress and the result of one call."""

    __slots__ = ("_request", "_size")

    def __init__(
        self, transcription: FileTranscription, release: Callable[[], Awaitable[None]], request: ToolRequest
    ) -> None:
        super().__init__(transcription, release)
        self._request = request
        self._size = 0

    def _delta(self, text: str) -> bytes:
        self._size += len(text)
        token = self._request.progress_token
        return frame(progress(token, self._size, text)) if token is not None else b""

    def _end(self, text: str, more: dict[str, object]) -> bytes:
        facts = {"duration": round(self._transcription.duration_s, 3), "language": self._transcription.language}
        return frame(self._request.result(text_result(text, structured={**facts, **more})))

    def _failure(self, err: TrilaneError) -> bytes:
        return frame(self._request.result(failed(err)))


class TranscribeTool(OfferedTool):
    name = "transcribe"
    description = "Returns the words that are spoken in an audio file, as text."
    arguments = TranscribeArguments

    def __init__(self, audio: AudioLane) -> None:
        self._audio = audio

    def is_for(self, who: Principal) -> bool:
        return who.grants.audio

    async def call(self, request: ToolRequest) -> RpcAnswer:
        given = request.decode(TranscribeArguments)
        audio = await asyncio.to_thread(given.decoded)
        return TranscribeAnswer(self._audio, request, given, audio)


class TranscribeAnswer:
    """Answers one call; frees all that it holds when the answer ends or the client leaves."""

    def __init__(self, lane: AudioLane, request: ToolRequest, given: TranscribeArguments, audio: bytes) -> None:
        self._lane = lane
        self._request = request
        self._given = given
        self._bytes = audio

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with AsyncExitStack() as resources:
                transcription = await self._open(resources)
                source = ToolTranscript(transcription, resources.aclose, self._request)
                async with asyncio.TaskGroup() as group:
                    source.start(group)
                    stream = EventStream(
                        source,
                        ping_s=self._lane.settings.ping_s,
                        open_streams=self._lane.streams,
                        resumable=False,
                        key_id=self._request.who.key_id,
                    )
                    await stream(scope, receive, send)
        except TrilaneError as err:
            note_refusal(err, scope)
            await json_answer(self._request.result(failed(err)))(scope, receive, send)

    async def _open(self, resources: AsyncExitStack) -> FileTranscription:
        lane, who, given = self._lane, self._request.who, self._given
        models = await lane.load()
        lease = await lane.admit_upload(who)
        resources.callback(lease.end)
        file = resources.enter_context(lane.uploads.admitted())
        await asyncio.to_thread(file.write, self._bytes)
        self._bytes = b""
        file.seek(0)
        await resources.enter_async_context(lane.uploads.turn())
        language = code_of(given.language) if given.language is not None else None
        models.check_language(language)
        options = file_options(language=language, prompt=given.prompt[-MAX_PROMPT:])
        transcribing = transcription_of(models, file, given.name or "file", options, lane.settings.limits.file_seconds)
        opening = recorded(lane.file_entry(who, models, lease), transcribing)
        return await resources.enter_async_context(opening)
