"""The dialect `trilane.audio.v1` of a conversation: what `start` says of it, and its client's own messages.

A session without `linkChat` is the audio lane's alone. One with it is heard in the same way, in the same messages;
turns and replies come beside, and the sound of an answer as binary messages (`gateway.voice.messages`).
"""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, UnsetType

from audio.dialects.trilane import (
    Flush,
    FromClient,
    Keepalive,
    Listening,
    Mark,
    Start,
    Stop,
    TrilanePeer,
    decoder_of,
    request_of,
)
from audio.lane import SessionRequest
from audio.live_session import LiveSession
from audio.messages import Aside, ServerMessage, encode
from audio.model.voice import MAX_SPEED, MIN_SPEED, VOICE_RATE
from audio.options import SessionTerms
from gateway.access.grants import Principal
from gateway.core.leniency import lenient_decoder
from gateway.errors import BadRequest
from gateway.serving.client_socket import SocketClose
from gateway.voice.barge_in import BargeInMode
from gateway.voice.conversation import ConversationTerms, VoiceConversation
from gateway.voice.lane import VoiceLane
from gateway.voice.messages import SoundFrame, VoiceMessage
from gateway.voice.speaker import SpokenVoice

MAX_TEXT = 16_000
"""Maximum characters of a typed turn."""


class VoiceChoice(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The voice that a client wants to hear, and in which form."""

    name: Annotated[str, Meta(max_length=128)] = ""
    """The voice's name; empty means the default."""
    speed: Annotated[float, Meta(ge=MIN_SPEED, le=MAX_SPEED)] = 1.0
    encoding: Literal["pcm_s16le"] = "pcm_s16le"
    sample_rate: Annotated[int, Meta(ge=VOICE_RATE, le=VOICE_RATE)] = VOICE_RATE


class TurnChoice(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """When a turn is over."""

    max_ms: Annotated[int, Meta(ge=100, le=10_000)] = 2500
    """Milliseconds of silence after which any turn is."""


class Played(FromClient, tag="played", frozen=True):
    """Says how many samples of a reply came out of the speaker."""

    run: Annotated[str, Meta(max_length=128)]
    samples: Annotated[int, Meta(ge=0)]


class HeardBefore(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How much of a reply a client had heard when its connection was lost."""

    run: Annotated[str, Meta(max_length=128)]
    samples: Annotated[int, Meta(ge=0)]


class Interrupt(FromClient, tag="interrupt", frozen=True):
    """Ends a reply, as a button does."""

    run: Annotated[str, Meta(max_length=128)]
    samples: Annotated[int, Meta(ge=0)] | None = None


class TypedTurn(FromClient, tag="text", frozen=True):
    """A turn that was typed, which is answered aloud."""

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class ReadOn(FromClient, tag="speak", frozen=True):
    """Asks for an answer to be spoken from one of its characters on."""

    run: Annotated[str, Meta(max_length=128)]
    start: Annotated[int, Meta(ge=0)] = msgspec.field(name="from", default=0)


class ConversationStart(Start, tag="start", frozen=True):
    """Opens a session that is a conversation, or resumes one; without `linkChat` it is none."""

    link_chat: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    """The id of the chat in which each turn is a message, and each answer a run."""
    barge_in: BargeInMode = "words"
    voice: VoiceChoice = VoiceChoice()
    turn: TurnChoice = TurnChoice()
    chat_model: Annotated[str, Meta(max_length=256)] = ""
    """The model that answers; empty means the default."""
    played: HeardBefore | None = None
    """What was heard of the reply that is to go on."""


ConversationMessage = ConversationStart | Flush | Stop | Mark | Keepalive | Played | Interrupt | TypedTurn | ReadOn
"""What a client may send."""
AnyServerMessage = ServerMessage | VoiceMessage
_decode_message: Callable[[str | bytes], ConversationMessage] = lenient_decoder(ConversationMessage)


def decode(text: str) -> ConversationMessage:
    """Returns a client's message. Raises BadRequest."""
    try:
        return _decode_message(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as err:
        raise BadRequest(f"the message is not one of this protocol: {err}", code="bad_message") from err


class Conversing(Listening):
    """Receives clients of whom some converse."""

    def __init__(self, lane: VoiceLane) -> None:
        super().__init__(lane.audio)
        self._voice = lane

    def decode_start(self, text: str) -> object:
        return decode(text)

    async def open(self, who: Principal, start: Start) -> TrilanePeer:
        if not isinstance(start, ConversationStart) or start.link_chat is None:
            return await super().open(who, start)
        if start.split:
            raise BadRequest("split=true with linkChat: a conversation hears one person", code="bad_start")
        await self._voice.answers.admit(who, start.link_chat)
        self._voice.speech.booth.check_room()
        terms = await self._terms(who, start, start.link_chat)
        live, attachment = await self._voice.audio.open(who, self._request(start, terms))
        conversation = live.companion
        assert isinstance(conversation, VoiceConversation)
        return ConversationPeer(TrilanePeer(live, attachment, decoder_of(start, live)), conversation)

    async def _terms(self, who: Principal, start: ConversationStart, chat: str) -> ConversationTerms:
        speech = self._voice.speech
        played = start.played
        return ConversationTerms(
            who=who,
            chat=chat,
            model=start.chat_model,
            barge_in=start.barge_in,
            voice=SpokenVoice(speech, speech.booth.name_of(start.voice.name), start.voice.speed),
            max_s=start.turn.max_ms / 1000,
            engine=await self._voice.engine(),
            played=None if played is None else (played.run, played.samples),
        )

    def _request(self, start: ConversationStart, terms: ConversationTerms) -> SessionRequest:
        """Returns what `start` asks of the audio lane: a session whose messages name their turn."""
        request = request_of(start)

        def with_turns(notes: str) -> SessionTerms:
            asked = request.terms(notes)
            return asked._replace(options=msgspec.structs.replace(asked.options, turns=True))

        def greet(live: LiveSession) -> Raw | UnsetType:
            return self._voice.greet(live, terms)

        return request._replace(terms=with_turns, greet=greet)


class ConversationPeer(TrilanePeer):
    """The gateway's side of one connection to a conversation."""

    def __init__(self, peer: TrilanePeer, conversation: VoiceConversation) -> None:
        super().__init__(peer.live, peer.attachment, peer.decoder)
        self._conversation = conversation

    async def next(self) -> str | bytes | SocketClose:
        while not isinstance(queued := await self.attachment.take(), SocketClose):
            message = queued.message
            if isinstance(message, SoundFrame):
                if self._conversation.is_current(message):
                    return message.frame
            elif not isinstance(message, Aside):
                return encode(message, queued.seq)
        return queued

    async def take_text(self, text: str) -> bool:
        self.live.meter.count_message()
        if self.live.attachment is not self.attachment:
            return True
        conversation = self._conversation
        match decode(text):
            case Played(run=run, samples=samples):
                conversation.played(run, samples)
            case Interrupt(run=run, samples=samples):
                conversation.interrupt(run, samples)
            case TypedTurn(id=message_id, text=typed):
                conversation.type(message_id, typed)
            case ReadOn(run=run, start=start):
                conversation.read_on(run, start)
            case message:
                return await self.obey(message)
        return False
