"""Applies the events of a Realtime client to its session.

An event that cannot be understood or obeyed is answered with an `error` event, and the session goes on; only audio
beyond real time and its allowance ends the connection. Answers go through the attachment, in order with the messages of
the session.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from audio.attachment import Attachment
from audio.decoders.decoder import decoder
from audio.decoders.formats import MAX_FRAME_BYTES, Decoder
from audio.dialects.realtime.events import SESSION, BufferReset, Realtime, ReplayEnd, Reply, SettingsChange
from audio.dialects.realtime.messages import (
    AudioSettings,
    BetaSessionUpdate,
    BufferAppend,
    BufferClear,
    BufferCommit,
    ErrorBody,
    ErrorEvent,
    EventHead,
    LostAudio,
    RealtimeEvent,
    ServerEvent,
    SessionChange,
    SessionUpdate,
    TranscriptionSession,
    decode,
    decode_head,
    encode,
)
from audio.dialects.realtime.terms import apply_change, decode_notes, encode_notes, encoding_of, terms_of
from audio.lane import AudioLane, SessionRequest
from audio.live_session import LiveSession
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE
from audio.options import SessionTerms
from gateway.access.grants import Principal
from gateway.errors import BadRequest, CloseCode, Overloaded, TrilaneError
from gateway.serving.client_socket import SocketClose

MIN_COMMIT_MS = 100
KNOWN_EVENTS = "session.update, input_audio_buffer.append, .commit and .clear"


async def open_client(
    lane: AudioLane,
    who: Principal,
    fresh: TranscriptionSession,
    nonce: str,
    *,
    session_name: str | None = None,
    cursor: str | None = None,
    has_extensions: bool = False,
) -> "RealtimeClient":
    """Returns a connection to a new session, with the settings of `fresh`, or to one as its client has left it.

    `nonce` tells the ids of its events from those of other connections; `has_extensions` says that its client takes
    types of events that are not OpenAI's. Raises what `AudioLane.open` does, and BadRequest.
    """
    session = fresh

    def terms(notes: str) -> SessionTerms:
        nonlocal session
        session = decode_notes(notes) or fresh
        return terms_of(session)

    live, attachment = await lane.open(who, SessionRequest(terms, session_name, cursor, resends=False))
    session = msgspec.structs.replace(session, id=f"{SESSION}{live.session_log.session}")
    if not live.session_log.state.notes and session.audio != AudioSettings():
        live.reconfigure(terms_of(session), encode_notes(session))
    was_elsewhere = session_name is not None and not isinstance(live.dialect_state, Realtime)
    client = RealtimeClient(live, attachment, session, lane.models_of, nonce, has_extensions=has_extensions)
    if was_elsewhere:
        client.report_gap(live.position)
    return client


class RealtimeClient:
    """The gateway's side of one connection."""

    def __init__(
        self,
        live: LiveSession,
        attachment: Attachment,
        session: TranscriptionSession,
        models_of: Callable[[str], Awaitable[Models]],
        nonce: str,
        *,
        has_extensions: bool = False,
    ) -> None:
        """Begins with a `session` that is in effect already."""
        self.session = session
        """The settings after all events that were taken so far."""
        self.live = live
        self.attachment = attachment
        self.decoder = self._new_decoder()
        self._models_of = models_of
        self._event_count = 0
        self._nonce = nonce
        self._events: deque[ServerEvent] = deque()
        self._realtime = self._shared_state()
        self._realtime.has_extensions = has_extensions
        attachment.put(ReplayEnd(live.session.turns))

    def _shared_state(self) -> Realtime:
        """Returns what the client was sent before, as far as this process knows."""
        state = self.live.dialect_state
        if isinstance(state, Realtime):
            state.session = self.session
            return state
        self.live.dialect_state = fresh = Realtime(self.session)
        return fresh

    def report_gap(self, position: int) -> None:
        """Reports that another process had the session, and its unsettled audio after a sample (16 kHz) is gone."""
        start_ms = position * 1000 // SAMPLE_RATE
        self._realtime.lost = LostAudio(audio_start_ms=start_ms, audio_end_ms=None, reason="resumed_elsewhere")

    # What the client is sent

    async def next(self) -> str | SocketClose:
        """Returns the text of the next event, or how the connection ends."""
        while not self._events:
            queued = await self.attachment.take()
            if isinstance(queued, SocketClose):
                return queued
            self._events += self._realtime.events_of(queued.message)
        self._event_count += 1
        return encode(self._events.popleft(), f"event_{self._nonce}_{self._event_count}")

    def _reply(self, event: ServerEvent) -> None:
        self.attachment.put(Reply(event))

    # What the client sends

    async def take_frame(self, frame: bytes) -> None:
        """Answers as to an event that cannot be understood: this dialect has no binary messages."""
        await self.take_text("")

    async def take_text(self, text: str) -> bool:
        """Obeys an event. Raises TooLarge when it was too much audio, or too many events."""
        try:
            event = decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError) as err:
            self.live.meter.count_message()
            self._reply(_misunderstanding(text, err))
            return False
        try:
            if not isinstance(event, BufferAppend):
                self.live.meter.count_message()
            await self._obey(event)
        except BadRequest as err:
            self._reply(error_event(err, event.event_id))
        return False

    def leave(self, code: int) -> None:
        """Ends the session of a client that said goodbye; after any other end it may come back."""
        if code == CloseCode.DONE:
            self.live.abandon(self.attachment)

    async def _obey(self, event: RealtimeEvent) -> None:
        match event:
            case BufferAppend():
                await self._append(event.audio)
            case BufferCommit():
                await self._commit()
            case BufferClear():
                self._renew_decoder()
                self.live.clear()
                self.attachment.put(BufferReset())
            case SessionUpdate() | BetaSessionUpdate():
                await self._update(event.session, is_beta=isinstance(event, BetaSessionUpdate))

    async def _append(self, audio: bytes) -> None:
        """Feeds audio in pieces: a message may bring 16 s, and other sessions have their turn in between."""
        for at in range(0, max(len(audio), 1), MAX_FRAME_BYTES):
            if at:
                await asyncio.sleep(0)
            samples = await self.decoder.feed(audio[at : at + MAX_FRAME_BYTES])
            self.live.meter.count(len(samples))
            await self.live.feed(samples, self.attachment)

    async def _commit(self) -> None:
        await self._drain_decoder()
        length_ms = self.live.uncommitted * 1000 / SAMPLE_RATE
        if round(length_ms, 1) < MIN_COMMIT_MS:
            raise BadRequest(
                "Error committing input audio buffer: buffer too small. "
                f"Expected at least {MIN_COMMIT_MS}ms of audio, but buffer only has {length_ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        self.live.commit()

    async def _update(self, change: SessionChange, *, is_beta: bool) -> None:
        session = apply_change(self.session, change)
        options = terms_of(session).options
        models = await self._models_of(options.model)
        models.check_language(options.language, "session.audio.input.transcription.language")
        before, self.session = self.session, session
        if session.audio.input.format != before.audio.input.format:
            await self._drain_decoder()
        if session != before:
            self.live.reconfigure(terms_of(session), encode_notes(session))
        self.attachment.put(SettingsChange(session, is_beta))

    # The decoder

    def _new_decoder(self) -> Decoder:
        encoding, sample_rate = encoding_of(self.session.audio.input.format)
        return decoder(encoding, sample_rate, 1)

    async def _drain_decoder(self) -> None:
        """Feeds the session what is still inside the decoder, and takes a new one."""
        while len(rest := await self.decoder.flush()):
            await self.live.feed(rest, self.attachment)
        self._renew_decoder()

    def _renew_decoder(self) -> None:
        self.decoder.close()
        self.decoder = self._new_decoder()


def error_event(err: TrilaneError, event_id: str | None = None) -> ErrorEvent:
    param = err.extra.get("param")
    kind = "server_error" if isinstance(err, Overloaded) or err.status >= 500 else "invalid_request_error"
    return ErrorEvent(
        error=ErrorBody(
            type=kind,
            code=err.code,
            message=err.detail,
            param=param if isinstance(param, str) else None,
            event_id=event_id,
        )
    )


def _misunderstanding(text: str, err: Exception) -> ErrorEvent:
    """Returns the answer to something that is no event of this dialect, or not as it should be."""
    try:
        head = decode_head(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        head = EventHead()
    reason, _, place = str(err).partition(" - at `$")
    if place.startswith(".type`"):
        code, message = "unknown_event", f"this route takes {KNOWN_EVENTS}, not {head.type[:80]!r}"
    else:
        code, message = "invalid_event", f"{head.type[:80]} cannot be used: {reason}"
    param = place.strip("`.") or None
    body = ErrorBody(code=code, message=message, param=param, event_id=head.event_id and head.event_id[:512])
    return ErrorEvent(error=body)
