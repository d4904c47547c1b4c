"""The audio lane's own dialect, `trilane.audio.v1`: a client's messages, and what each of them does to its session.

The first message is `start`; audio follows as binary frames, in order. Every message of the server carries `seq`, which
continues after a resume from the message that the client's `cursor` came with.
"""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from audio.attachment import Attachment
from audio.decoders.decoder import decoder
from audio.decoders.files import SIDES
from audio.decoders.formats import MAX_FRAME_BYTES, Decoder, Encoding
from audio.dialects.conversation import converse, failure_of
from audio.lane import AudioLane, SessionRequest
from audio.languages import MAX_TAG, code_of
from audio.live_session import LiveSession
from audio.messages import encode
from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME
from audio.options import MAX_PROMPT, MAX_SEGMENT, ON, SessionOptions, SessionTerms, with_keywords
from audio.text_forms import Numerals, Secret, TextForms
from gateway.access.grants import Principal
from gateway.core.leniency import lenient_decoder
from gateway.errors import BadRequest, TooLarge, TrilaneError
from gateway.serving.client_socket import ClientSocket, SocketClose

SUBPROTOCOL = "trilane.audio.v1"
LEAST_ENDPOINTING_MS = 100
START_S = 10.0
"""Maximum seconds that a connection may wait before it sends `start`."""


class FromClient(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel", forbid_unknown_fields=True
):
    """One text message of a client."""


class Start(FromClient, tag="start", frozen=True):
    """Opens a session, or resumes one."""

    session: str | None = None
    cursor: str | None = None
    """The cursor of the last final that the client holds; it goes with `session`."""
    sample_rate: Annotated[int, Meta(ge=8000, le=48_000)] = 16_000
    encoding: Encoding = "pcm_s16le"
    channels: Annotated[int, Meta(ge=1, le=2)] = 1
    split: bool = False
    """Whether the two channels are heard apart, as the sides of a call; else they are mixed."""
    model: Annotated[str, Meta(max_length=128)] = ""
    """The name of the speech model; empty means the default."""
    language: Annotated[str, Meta(min_length=2, max_length=MAX_TAG)] | None = None
    """A BCP-47 tag or an English name; None has the language detected."""
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT)] = ""
    """What was said before, or words that are likely."""
    keywords: Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=50)] = []
    """Names and terms that are likely, as they are written."""
    numerals: Numerals = "as-heard"
    profanity: Literal["mask"] | None = None
    redact: list[Secret] = []
    """What is not told; then there are no partials."""
    topic: str | None = None
    """A topic to which finals are published, too."""
    interim_results: bool = True
    words: bool = False
    endpointing_ms: Annotated[int, Meta(ge=0, le=10_000)] = 500
    """Milliseconds of silence that end a segment; 0: none does, the client flushes."""
    utterance_end_ms: Annotated[int, Meta(ge=100, le=60_000)] | None = None
    """Milliseconds of silence after which UtteranceEnd is sent; None: it never is."""
    max_segment_ms: Annotated[int, Meta(ge=2000, le=MAX_SEGMENT * 1000 // SAMPLE_RATE)] = (
        MAX_SEGMENT * 1000 // SAMPLE_RATE
    )
    """Maximum length of a segment; a longer one is cut at the best pause of its second half."""
    threshold: Annotated[float, Meta(ge=0.0, le=1.0)] = ON
    """The probability of speech that a segment begins with."""
    prefix_ms: Annotated[int, Meta(ge=0, le=5000)] = 480
    """Milliseconds that are heard before speech begins."""


class Flush(FromClient, tag="flush", frozen=True):
    """Makes all audio so far final."""


class Stop(FromClient, tag="stop", frozen=True):
    """Says that no more audio follows."""


class Mark(FromClient, tag="marker", frozen=True):
    """Asks for a marker once all audio before it has been understood."""

    id: Annotated[str, Meta(max_length=128)] | int


class Keepalive(FromClient, tag="keepalive", frozen=True):
    """Says that the client is there, though it sends no audio."""


ClientMessage = Start | Flush | Stop | Mark | Keepalive
_decode_message: Callable[[str | bytes], ClientMessage] = lenient_decoder(ClientMessage)


class Reception(Protocol):
    """Receives the clients of the dialect: those who want to be heard, or in the room above, those who converse."""

    def decode_start(self, text: str) -> object:
        """Returns a client's first message. Raises BadRequest."""
        ...

    async def open(self, who: Principal, start: Start) -> "TrilanePeer":
        """Opens or resumes the session that `start` asks for. Raises TrilaneError."""
        ...


class Listening(Reception):
    """Receives clients whose speech is transcribed."""

    def __init__(self, lane: AudioLane) -> None:
        self._lane = lane

    def decode_start(self, text: str) -> object:
        return decode(text)

    async def open(self, who: Principal, start: Start) -> "TrilanePeer":
        live, attachment = await self._lane.open(who, request_of(start))
        return TrilanePeer(live, attachment, decoder_of(start, live))


def decoder_of(start: Start, live: LiveSession) -> Decoder:
    """Returns what decodes a client's frames."""
    first = live.client_samples(live.position)
    return decoder(start.encoding, start.sample_rate, start.channels, first=first, is_split=start.split)


async def serve(reception: Reception, socket: ClientSocket, who: Principal, query: Mapping[str, Any]) -> None:
    """Opens or resumes a session, then talks with its client until either side has had enough.

    `query` may name `session` and `cursor`, where `start` does not.
    """
    await socket.accept(SUBPROTOCOL)
    try:
        start = await _receive_start(reception, socket, query)
        if start is None:
            return
        peer = await reception.open(who, start)
    except TrilaneError as err:
        await socket.refuse(encode(failure_of(err), 1), err)
        return
    await converse(socket, who, peer)


async def _receive_start(reception: Reception, socket: ClientSocket, query: Mapping[str, Any]) -> Start | None:
    """Returns the first message, and None when the client left instead. Raises BadRequest."""
    try:
        async with asyncio.timeout(START_S):
            received: Any = await socket.receive()
    except TimeoutError:
        raise BadRequest(f"no `start` within {START_S:g} s", code="bad_start") from None
    if received["type"] == "websocket.disconnect":
        return None
    text: str | None = received.get("text")
    message = reception.decode_start(text) if text is not None else None
    if not isinstance(message, Start):
        raise BadRequest("the first message must be `start`, as text", code="bad_start")
    fields = {name: query[name] for name in ("session", "cursor") if name in query and getattr(message, name) is None}
    return msgspec.structs.replace(message, **fields)


def request_of(start: Start) -> SessionRequest:
    """Returns what `start` asks of the lane."""

    def terms(notes: str) -> SessionTerms:
        return terms_of(start)  # a client says everything again when it comes back

    return SessionRequest(
        terms=terms,
        session=start.session,
        cursor=start.cursor,
        topic=start.topic,
    )


def terms_of(start: Start) -> SessionTerms:
    """Returns what `start` asks of a session. Raises BadRequest for values that do not go together."""
    utterance_ms, endpointing_ms = start.utterance_end_ms, start.endpointing_ms
    if 0 < endpointing_ms < LEAST_ENDPOINTING_MS:
        raise BadRequest(
            f"endpointingMs={endpointing_ms}: want 0 (off) or at least {LEAST_ENDPOINTING_MS}", code="bad_start"
        )
    if utterance_ms is not None and utterance_ms < endpointing_ms:
        raise BadRequest(
            f"utteranceEndMs={utterance_ms}: want at least endpointingMs, which is {endpointing_ms}", code="bad_start"
        )
    if start.split and start.channels != SIDES:
        raise BadRequest(f"split=true with channels={start.channels}: want channels={SIDES}", code="bad_start")
    prompt = with_keywords(start.prompt, start.keywords)
    if len(prompt) > MAX_PROMPT:
        raise BadRequest(
            f"prompt and keywords have {len(prompt)} characters: at most {MAX_PROMPT} are read", code="bad_start"
        )
    forms = TextForms(numerals=start.numerals, masks_profanity=start.profanity == "mask", redact=tuple(start.redact))
    options = SessionOptions(
        interim_results=start.interim_results and not start.redact,
        forms=forms if forms != TextForms() else None,
        words=start.words,
        endpointing_s=endpointing_ms / 1000 or inf,
        utterance_end_s=None if utterance_ms is None else utterance_ms / 1000,
        split=start.split,
        max_segment=start.max_segment_ms * SAMPLE_RATE // (1000 * FRAME) * FRAME,
        language=code_of(start.language) if start.language is not None else None,
        model=start.model,
        prompt=prompt,
        threshold=start.threshold,
        prefix_s=start.prefix_ms / 1000,
    )
    return SessionTerms(start.sample_rate, options)


def decode(text: str) -> ClientMessage:
    """Returns a client's message. Raises BadRequest."""
    try:
        return _decode_message(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as err:
        raise BadRequest(f"the message is not one of this protocol: {err}", code="bad_message") from err


class TrilanePeer:
    """The gateway's side of one connection."""

    def __init__(self, live: LiveSession, attachment: Attachment, decoder: Decoder) -> None:
        self.live = live
        self.attachment = attachment
        self.decoder = decoder

    async def next(self) -> str | bytes | SocketClose:
        """Returns the next message for the client, or how the connection ends."""
        return await self.attachment.next()

    async def take_frame(self, frame: bytes) -> None:
        if len(frame) > MAX_FRAME_BYTES:
            raise TooLarge(f"a frame of {len(frame)} bytes: at most {MAX_FRAME_BYTES} are taken")
        samples = await self.decoder.feed(frame)
        self.live.meter.count(len(samples))
        await self.live.feed(samples, self.attachment)

    async def take_text(self, text: str) -> bool:
        self.live.meter.count_message()
        if self.live.attachment is not self.attachment:
            return True
        return await self.obey(decode(text))

    async def obey(self, message: ClientMessage) -> bool:
        """Does what a message says. Returns True when it is the client's last."""
        match message:
            case Flush():
                self.live.flush()
            case Mark():
                self.live.mark(message.id)
            case Keepalive():
                pass  # that it came is all there is to it
            case Stop():
                while len(rest := await self.decoder.flush()):
                    await self.live.feed(rest, self.attachment)
                self.live.stop()
                return True
            case Start():
                raise BadRequest("the session is open: `start` comes once, first", code="bad_start")
        return False

    def leave(self, code: int) -> None:
        """Does nothing more: the session waits for its client to come back."""
