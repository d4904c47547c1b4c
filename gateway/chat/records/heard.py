"""How far an answer was spoken stands in its message's metadata; a model is sent no more of it than was heard. Pure.

The message keeps all of its text, for whoever reads it. But somebody who has interrupted an answer does not know the
rest, and a model that believes they do talks past them.
"""

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.records.chat_record import ReplySpoken
from gateway.chat.records.messages import UIMessage

IS_SPOKEN = ("speaking", "paused")
"""The states of an answer that is still spoken."""
CUT = " —"
"""What stands where the answer was interrupted, as a model sees it."""
_fields = msgspec.json.Decoder(dict[str, Raw])
_json = msgspec.json.Encoder().encode


class SpeechFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The field `speech` of an answer's metadata."""

    session: str = ""
    state: str = ""
    chars: int = 0


class _SpokenMetadata(msgspec.Struct, frozen=True):
    speech: SpeechFacts = SpeechFacts()


class _Text(msgspec.Struct, frozen=True):
    type: str
    text: str = ""


_metadata = msgspec.json.Decoder(_SpokenMetadata)
_text = msgspec.json.Decoder(_Text)


def with_speech(message: UIMessage, spoken: ReplySpoken) -> UIMessage:
    """Returns an answer whose metadata says how far it was spoken."""
    try:
        fields = {} if isinstance(message.metadata, UnsetType) else _fields.decode(message.metadata)
    except msgspec.DecodeError:  # an agent's own, and no object
        return message
    facts = SpeechFacts(session=spoken.session, state=spoken.state, chars=spoken.chars)
    return msgspec.structs.replace(message, metadata=Raw(_json(fields | {"speech": Raw(_json(facts))})))


def as_heard(message: UIMessage) -> UIMessage:
    """Returns an answer that was interrupted up to the last word that was heard; any other message as it is."""
    metadata = message.metadata
    if message.role != "assistant" or isinstance(metadata, UnsetType) or b'"speech"' not in bytes(metadata):
        return message
    try:
        speech = _metadata.decode(metadata).speech
        return _cut(message, speech.chars) if speech.state == "interrupted" else message
    except msgspec.DecodeError:  # an application's own
        return message


def _cut(message: UIMessage, chars: int) -> UIMessage:
    """Returns an answer with so many characters of its texts; what it has done with tools stays."""
    parts: list[Raw] = []
    left = chars
    for raw in message.parts:
        part = _text.decode(raw)
        if part.type != "text":
            parts.append(raw)
        elif left >= len(part.text):
            parts.append(raw)
            left -= len(part.text)
        elif left >= 0:
            parts.append(Raw(_json({"type": "text", "text": (part.text[:left] + CUT).lstrip()})))
            left = -1
    return msgspec.structs.replace(message, parts=parts)
