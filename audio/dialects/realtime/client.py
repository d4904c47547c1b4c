"""What a client of OpenAI's Realtime dialect says, done to its session.

Whatever cannot be understood or done is answered with an `error` event, and the session goes on; only audio beyond real
time and its allowance ends the connection. Answers go through the attachment, in order with what the session says.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from audio.attachment import Attachment, SocketClose
from audio.decoders.formats import Decoder, decoder
from audio.dialects.realtime.events import SESSION, Cleared, Realtime, Reply, Standing, Updated
from audio.dialects.realtime.messages import (
    Audio,
    BufferAppend,
    BufferClear,
    BufferCommit,
    BufferGap,
    ClientMessage,
    ErrorBody,
    ErrorEvent,
    Head,
    ServerEvent,
    SessionChange,
    SessionUpdate,
    TranscriptionSession,
    decode,
    decode_head,
    encode,
)
from audio.dialects.realtime.terms import changed, encoding_of, noted, recalled, terms_of
from audio.lane import AudioLane
from audio.live_session import LiveSession, SessionTerms
from audio.messages import MAX_FRAME_BYTES, Start
from audio.meter import Meter
from audio.model.transcriber import SAMPLE_RATE
from gateway.access.auth import Principal
from gateway.errors import BadRequest, Overloaded, TrilaneError

MIN_COMMIT_MS = 100
SPOKEN = "session.update, input_audio_buffer.append, .commit and .clear"


async def open_client(
    lane: AudioLane, who: Principal, start: Start, fresh: TranscriptionSession, chance: str
) -> "RealtimeClient":
    """A connection to a new session, as `fresh`, or to the one that `start` names, as its client has left it.

    `chance`: no other connection's, for the ids of its events. Raises what `AudioLane.open` does, and BadRequest.
    """
    session = fresh

    def dialect(notes: str) -> SessionTerms:
        nonlocal session
        session = recalled(notes) or fresh
        check_language(session, lane.speaks)
        return terms_of(session)

    live, attachment = await lane.open(who, start, resends=False, dialect=dialect)
    session = msgspec.structs.replace(session, id=f"{SESSION}{live.record.session}")
    if not live.record.where.notes and session.audio != Audio():
        live.ask(terms_of(session), noted(session))
    is_elsewhere = start.session is not None and not isinstance(live.dialect, Realtime)
    client = RealtimeClient(live, attachment, session, live.meter, lane.speaks, chance)
    if is_elsewhere:
        client.lost(live.position)
    return client


class RealtimeClient:
    """One connection: `obey` what it says, send it what `next` returns."""

    def __init__(
        self,
        live: LiveSession,
        attachment: Attachment,
        session: TranscriptionSession,
        meter: Meter,
        speaks: Callable[[str], bool],
        chance: str,
    ) -> None:
        """`session` is in effect already."""
        self.session = session
        """As changed by all that was heard."""
        self.live = live
        self.attachment = attachment
        self._meter = meter
        self._speaks = speaks
        self._ears = self._decoder()
        self._events = 0
        self._chance = chance
        self._ready: deque[ServerEvent] = deque()
        self._realtime = self._known()
        attachment.put(Standing(live.session.turns))

    def _known(self) -> Realtime:
        """What the client was told before, as far as this process knows."""
        known = self.live.dialect
        if isinstance(known, Realtime):
            known.session = self.session
            return known
        self.live.dialect = made = Realtime(self.session)
        return made

    def lost(self, since: int) -> None:
        """Another process had this session: what it heard after a sample (16 kHz) and did not settle is gone."""
        start_ms = since * 1000 // SAMPLE_RATE
        self._answer(BufferGap(audio_start_ms=start_ms, audio_end_ms=None, reason="resumed_elsewhere"))

    # What it is told

    async def next(self) -> str | SocketClose:
        """The next event as text, or how the connection ends."""
        while not self._ready:
            said = await self.attachment.take()
            if isinstance(said, SocketClose):
                return said
            self._ready += self._realtime.say(said.message)
        self._events += 1
        return encode(self._ready.popleft(), f"event_{self._chance}_{self._events}")

    def _answer(self, event: ServerEvent) -> None:
        self.attachment.put(Reply(event))

    # What it says

    async def obey(self, text: str) -> None:
        """Does what an event says. Raises TooLarge when it was too much audio, or too many events."""
        try:
            event = decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError) as err:
            self._meter.count_message()
            self._answer(_not_understood(text, err))
            return
        try:
            if not isinstance(event, BufferAppend):
                self._meter.count_message()
            await self._do(event)
        except BadRequest as err:
            self._answer(error_event(err, event.event_id))

    async def _do(self, event: ClientMessage) -> None:
        match event:
            case BufferAppend():
                await self._append(event.audio)
            case BufferCommit():
                await self._commit()
            case BufferClear():
                self._renew()
                self.live.clear()
                self.attachment.put(Cleared())
            case SessionUpdate():
                await self._update(event.session)

    async def _append(self, audio: bytes) -> None:
        """In pieces: a message may bring 16 s, and others have their turn between."""
        for at in range(0, max(len(audio), 1), MAX_FRAME_BYTES):
            if at:
                await asyncio.sleep(0)
            samples = await self._ears.feed(audio[at : at + MAX_FRAME_BYTES])
            self._meter.count(len(samples))
            await self.live.hear(samples, self.attachment)

    async def _commit(self) -> None:
        await self._drain()
        heard_ms = self.live.uncommitted * 1000 / SAMPLE_RATE
        if round(heard_ms, 1) < MIN_COMMIT_MS:
            raise BadRequest(
                "Error committing input audio buffer: buffer too small. "
                f"Expected at least {MIN_COMMIT_MS}ms of audio, but buffer only has {heard_ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        self.live.commit()

    async def _update(self, change: SessionChange) -> None:
        session = changed(self.session, change)
        check_language(session, self._speaks)
        before, self.session = self.session, session
        if session.audio.input.format != before.audio.input.format:
            await self._drain()
        if session != before:
            self.live.ask(terms_of(session), noted(session))
        self.attachment.put(Updated(session))

    # The decoder

    def _decoder(self) -> Decoder:
        encoding, sample_rate = encoding_of(self.session.audio.input.format)
        return decoder(encoding, sample_rate, 1)

    async def _drain(self) -> None:
        """Hears what is still inside."""
        while len(rest := await self._ears.end()):
            await self.live.hear(rest, self.attachment)
        self._renew()

    def _renew(self) -> None:
        self.close()
        self._ears = self._decoder()

    def close(self) -> None:
        self._ears.close()


def check_language(session: TranscriptionSession, speaks: Callable[[str], bool]) -> None:
    """Raises BadRequest when the model does not know the one that is asked for."""
    language = session.audio.input.transcription.language
    if language is not None and not speaks(language):
        raise BadRequest(
            f"the model does not know the language {language!r}",
            code="bad_language",
            extra={"param": "session.audio.input.transcription.language"},
        )


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


def _not_understood(text: str, err: Exception) -> ErrorEvent:
    """Something that is no event of this dialect, or not as it should be."""
    try:
        head = decode_head(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        head = Head()
    reason, _, place = str(err).partition(" - at `$")
    if place.startswith(".type`"):
        code, message = "unknown_event", f"this route takes {SPOKEN}, not {head.type[:80]!r}"
    else:
        code, message = "invalid_event", f"{head.type[:80]} cannot be used: {reason}"
    param = place.strip("`.") or None
    body = ErrorBody(code=code, message=message, param=param, event_id=head.event_id and head.event_id[:512])
    return ErrorEvent(error=body)
