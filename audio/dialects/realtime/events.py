"""From what a session says to OpenAI's Realtime transcription events. Pure.

An item is a turn: from the first sample of its audio to the silence, or the commit, that ends it; however many segments
it was heard in. Its id is made of that sample, so it is the same on every connection and in every process, and what is
said again after a reconnection replaces what was said before. Departs from OpenAI's own server in three ways:

1. Deltas come while a turn is spoken, on the id that `speech_started` reserved. They are the stable words, and what the
   final adds to them; `completed` alone is the transcript, and may correct them.
2. Completions come in the order of their items.
3. Audio that is lost is told, in `input_audio_buffer.gap`.
"""

from audio.dialects.realtime.messages import (
    BufferCleared,
    BufferCommitted,
    BufferGap,
    BufferStarted,
    BufferStopped,
    Completed,
    Duration,
    ErrorBody,
    ErrorEvent,
    ItemAdded,
    ItemDone,
    ItemShape,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
    TranscriptDelta,
    TranscriptionFailed,
    TranscriptionSession,
)
from audio.messages import (
    Ack,
    Aside,
    Done,
    Drain,
    Failure,
    Final,
    Gap,
    Lag,
    Marker,
    Partial,
    Ready,
    ServerMessage,
    SpeechStarted,
    SpeechStopped,
    TurnOver,
)
from audio.model.transcriber import SAMPLE_RATE
from audio.policy import Agreement
from audio.segment import Turn

SESSION = "sess_"
"""Before our own name of a session."""


class Reply(Aside, frozen=True):
    """An event that is no message's."""

    event: ServerEvent


class Updated(Aside, frozen=True):
    """The session is another from here on."""

    session: TranscriptionSession


class Cleared(Aside, frozen=True):
    """What is no item yet was forgotten."""


class Standing(Aside, frozen=True):
    """All that was said before this connection has been said again; these turns are not settled."""

    turns: list[Turn]


class Item:
    """A turn, as far as the client knows it."""

    __slots__ = ("end_s", "finals", "gap", "id", "is_begun", "is_committed", "segment", "shown", "turn")

    def __init__(self, turn: int, name: str) -> None:
        self.turn = turn
        self.id = name
        self.is_begun = False
        """It is told as it is spoken; otherwise it is said again."""
        self.is_committed = False
        self.end_s = 0.0
        self.finals: dict[float, Final] = {}
        """By where they begin."""
        self.gap: Gap | None = None
        """The last one in it."""
        self.segment = -1
        """The one that the last delta was of,"""
        self.shown = ""
        """and what of it was told."""

    @property
    def start_s(self) -> float:
        return self.turn / SAMPLE_RATE


class Realtime:
    """What the clients of one session know. Lives as long as the session is in this process."""

    def __init__(self, session: TranscriptionSession) -> None:
        self.session = session
        self._items: dict[int, Item] = {}
        """Of turns that are not completed."""
        self._last: tuple[int, str] | None = None
        """The latest turn that was committed, and its item."""

    def say(self, message: ServerMessage | Aside) -> list[ServerEvent]:
        """What a client is told of it."""
        match message:
            case Ready():
                return [SessionCreated(session=self.session, cursor=message.cursor)]
            case SpeechStarted():
                return self._begun(self._item(message.turn))
            case Partial():
                return self._heard(self._item(message.turn), message)
            case SpeechStopped():
                return self._committed(self._item(message.turn), message.end or message.at)
            case Final():
                return self._settled(self._item(message.turn), message)
            case Gap():
                return self._lost(self._item(message.turn), message)
            case TurnOver():
                return self._completed(self._item(message.turn))
            case Failure():
                kind = "server_error" if message.retryable else "invalid_request_error"
                return [ErrorEvent(error=ErrorBody(type=kind, code=message.code, message=message.message))]
            case Aside():
                return self._put(message)
            case Ack() | Marker() | Lag() | Drain() | Done():
                return []

    def _put(self, aside: Aside) -> list[ServerEvent]:
        match aside:
            case Reply():
                return [aside.event]
            case Updated():
                self.session = aside.session
                return [SessionUpdated(session=aside.session)]
            case Cleared():
                self._items = {turn: item for turn, item in self._items.items() if item.is_committed}
                return [BufferCleared()]
            case Standing():
                return self._stand(aside.turns)
            case _:
                raise TypeError(aside)

    @property
    def _has_vad(self) -> bool:
        return self.session.audio.input.turn_detection is not None

    def _item(self, turn: int | None) -> Item:
        assert turn is not None, "a session of this dialect tells turns"
        if turn not in self._items:
            self._items[turn] = Item(turn, f"item_{self.session.id.removeprefix(SESSION)[:12]}_{turn}")
        return self._items[turn]

    # The life of an item

    def _begun(self, item: Item) -> list[ServerEvent]:
        if item.is_begun:
            return []
        item.is_begun = True
        return [BufferStarted(audio_start_ms=_ms(item.start_s), item_id=item.id)] if self._has_vad else []

    def _heard(self, item: Item, partial: Partial) -> list[ServerEvent]:
        """Of a segment, the stable part only grows."""
        if partial.segment != item.segment:
            item.segment, item.shown = partial.segment, ""
        more = partial.stable[len(item.shown) :].strip()
        item.shown = partial.stable
        return self._delta(item, more)

    def _delta(self, item: Item, more: str) -> list[ServerEvent]:
        if not more:
            return []
        is_first = more == item.shown and not item.finals
        return [TranscriptDelta(item_id=item.id, delta=more if is_first else f" {more}")]

    def _committed(self, item: Item, end_s: float) -> list[ServerEvent]:
        if item.is_committed:
            return []
        item.is_committed, item.end_s = True, end_s
        previous = self._last[1] if self._last is not None and self._last[0] < item.turn else None
        if self._last is None or item.turn > self._last[0]:
            self._last = item.turn, item.id
        shape = ItemShape(id=item.id)
        told: list[ServerEvent] = []
        if item.is_begun and self._has_vad:
            told.append(BufferStopped(audio_end_ms=_ms(end_s), item_id=item.id))
        return [
            *told,
            BufferCommitted(item_id=item.id, previous_item_id=previous),
            ItemAdded(item=shape, previous_item_id=previous),
            ItemDone(item=shape, previous_item_id=previous),
        ]

    def _settled(self, item: Item, final: Final) -> list[ServerEvent]:
        if final.start in item.finals:
            return []
        shown = item.shown if item.segment == final.segment else ""
        rest = _after(shown.split(), final.text.split())
        is_first = not shown and not any(before.text for before in item.finals.values())
        item.finals[final.start] = final
        if not item.is_begun or not rest:
            return []
        return [TranscriptDelta(item_id=item.id, delta=rest if is_first else f" {rest}")]

    def _lost(self, item: Item, gap: Gap) -> list[ServerEvent]:
        item.gap = gap
        return [BufferGap(audio_start_ms=_ms(gap.start), audio_end_ms=_ms(gap.end), reason=gap.reason)]

    def _completed(self, item: Item) -> list[ServerEvent]:
        finals = [item.finals[start] for start in sorted(item.finals)]
        end_s = max([item.end_s, item.gap.end if item.gap else 0.0, *(final.end for final in finals)])
        told = self._committed(item, end_s)
        self._items.pop(item.turn, None)
        transcript = " ".join(final.text for final in finals if final.text)
        if item.gap is not None and not transcript:
            error = ErrorBody(type="server_error", code=item.gap.reason, message="this audio could not be heard")
            return [*told, TranscriptionFailed(item_id=item.id, error=error)]
        words = [word for final in finals for word in final.words or []]
        return [
            *told,
            Completed(
                item_id=item.id,
                transcript=transcript,
                usage=Duration(seconds=round(max(end_s - item.start_s, 0.0), 3)),
                start_ms=_ms(item.start_s),
                end_ms=_ms(end_s),
                language=finals[-1].language if finals else None,
                cursor=finals[-1].cursor if finals else None,
                words=words if any(final.words is not None for final in finals) else None,
            ),
        ]

    def _stand(self, turns: list[Turn]) -> list[ServerEvent]:
        """Completes what is settled; of the rest, says what was lost on the way to the last connection."""
        told: list[ServerEvent] = []
        standing = {turn.start: turn for turn in turns}
        for start in sorted(self._items.keys() - standing.keys()):
            told += self._completed(self._items[start])
        for start, turn in standing.items():
            told += self._begun(self._item(start))
            if turn.end is not None:
                told += self._committed(self._item(start), turn.end / SAMPLE_RATE)
        return told


def _after(said: list[str], words: list[str]) -> str:
    """What a final says after the words that were told of it, which it may put differently."""
    agreement = Agreement()
    for hypothesis in (said, said, words, words):
        agreement.hear(hypothesis)
    return " ".join(agreement.stable[len(said) :])


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
