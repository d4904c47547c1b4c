"""Translates the messages of a session into OpenAI's Realtime transcription events. Pure.

An item is a turn: from the first sample of its audio to the silence, or the commit, that ends it, in however many
segments. Its id is made of that sample, so it is the same on every connection and in every process, and what is sent
again after a reconnection replaces what was sent before. This departs from OpenAI's own server in three ways:

1. Deltas come while a turn is spoken, on the id that `speech_started` reserved. They are the stable words, and what the
   final adds to them; `completed` alone is the transcript, and may correct them.
2. Completions come in the order of their items.
3. Audio that is lost is reported: in `gaps` of its item, in `gap` of the session, and to a client that asked for
   `extensions` in `input_audio_buffer.gap`.
"""

import msgspec

from audio.agreement import end_of_stable
from audio.dialects.realtime.beta import BetaSessionUpdated, flat_session
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
    LostAudio,
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
    Auth,
    Done,
    Drain,
    Failure,
    Final,
    FromServer,
    Gap,
    Lag,
    Marker,
    Partial,
    Ready,
    SpeechStarted,
    SpeechStopped,
    TurnOver,
    UtteranceEnd,
)
from audio.model.transcriber import SAMPLE_RATE, key_of
from audio.prose import as_prose
from audio.segment import Turn

SESSION = "sess_"
"""The prefix of a session's name in this dialect; our own name of it follows."""


class Reply(Aside, frozen=True):
    """An event that belongs to no message of the session."""

    event: ServerEvent


class SettingsChange(Aside, frozen=True):
    """The note that the session has other settings from here on."""

    session: TranscriptionSession
    is_beta: bool = False
    """Whether the client asked for them in the beta's shape."""


class BufferReset(Aside, frozen=True):
    """The note that all audio that belongs to no item yet was forgotten."""


class ReplayEnd(Aside, frozen=True):
    """The note that all finals that the client had missed were sent again; `turns` are not settled."""

    turns: list[Turn]


class Item:
    """A turn, as far as the client knows it."""

    __slots__ = ("end_s", "finals", "gaps", "id", "is_committed", "is_live", "segment", "stable", "turn")

    def __init__(self, turn: int, name: str) -> None:
        self.turn = turn
        self.id = name
        self.is_live = False
        """Whether the client follows the turn while it is spoken; otherwise it is a replay."""
        self.is_committed = False
        self.end_s = 0.0
        self.finals: dict[float, Final] = {}
        """The finals of the turn by the second at which they begin."""
        self.gaps: list[Gap] = []
        self.segment = -1
        """The segment of the last delta."""
        self.stable = ""
        """The stable words of that segment, which the client was sent."""

    @property
    def start_s(self) -> float:
        return self.turn / SAMPLE_RATE


class Realtime:
    """The state of one session as its client knows it; it lives as long as the session is in this process."""

    def __init__(self, session: TranscriptionSession) -> None:
        self.session = session
        self.has_extensions = False
        """Whether the client takes types of events that are not OpenAI's."""
        self.lost: LostAudio | None = None
        """Audio that was lost between two processes, until the client is told."""
        self._items: dict[int, Item] = {}
        """The items that are not completed, by their turns."""
        self._last: tuple[int, str] | None = None
        """The latest turn that was committed, and the id of its item."""

    def events_of(self, message: FromServer | Aside) -> list[ServerEvent]:
        """Returns the events that tell the client of a message or an aside."""
        match message:
            case Ready():
                return self._greet(message.cursor)
            case SpeechStarted():
                return self._begin(self._item(message.turn))
            case Partial():
                return self._add_partial(self._item(message.turn), message)
            case SpeechStopped():
                return self._commit(self._item(message.turn), message.end or message.at)
            case Final():
                return self._add_final(self._item(message.turn), message)
            case Gap():
                return self._add_gap(self._item(message.turn), message)
            case TurnOver():
                return self._complete(self._item(message.turn))
            case Failure():
                kind = "server_error" if message.retryable else "invalid_request_error"
                return [ErrorEvent(error=ErrorBody(type=kind, code=message.code, message=message.message))]
            case Aside():
                return self._events_of_aside(message)
            case UtteranceEnd() | Ack() | Marker() | Lag() | Drain() | Auth() | Done():
                return []
            case _:
                raise TypeError(message)

    def _events_of_aside(self, aside: Aside) -> list[ServerEvent]:
        match aside:
            case Reply():
                return [aside.event]
            case SettingsChange():
                self.session = aside.session
                if aside.is_beta:
                    return [BetaSessionUpdated(session=flat_session(aside.session))]
                return [SessionUpdated(session=aside.session)]
            case BufferReset():
                self._items = {turn: item for turn, item in self._items.items() if item.is_committed}
                return [BufferCleared()]
            case ReplayEnd():
                return self._end_replay(aside.turns)
            case _:
                raise TypeError(aside)

    @property
    def _has_vad(self) -> bool:
        return self.session.audio.input.turn_detection is not None

    def _item(self, turn: int | None) -> Item:
        assert turn is not None, "a session of this dialect asks for turns"
        if turn not in self._items:
            self._items[turn] = Item(turn, f"item_{self.session.id.removeprefix(SESSION)[:12]}_{turn}")
        return self._items[turn]

    def _greet(self, cursor: str) -> list[ServerEvent]:
        lost, self.lost = self.lost, None
        return [SessionCreated(session=self.session, cursor=cursor, gap=lost), *self._gap_events(lost)]

    def _gap_events(self, lost: LostAudio | None) -> list[ServerEvent]:
        return [BufferGap(**msgspec.structs.asdict(lost))] if lost is not None and self.has_extensions else []

    # The life of an item

    def _begin(self, item: Item) -> list[ServerEvent]:
        if item.is_live:
            return []
        item.is_live = True
        return [BufferStarted(audio_start_ms=_ms(item.start_s), item_id=item.id)] if self._has_vad else []

    def _add_partial(self, item: Item, partial: Partial) -> list[ServerEvent]:
        """Sends what the stable part of a segment has grown by."""
        if partial.segment != item.segment:
            item.segment, item.stable = partial.segment, ""
        more = partial.stable[len(item.stable) :].strip()
        item.stable = partial.stable
        if not more:
            return []
        is_first = more == item.stable and not item.finals
        return [TranscriptDelta(item_id=item.id, delta=more if is_first else f" {more}")]

    def _commit(self, item: Item, end_s: float) -> list[ServerEvent]:
        if item.is_committed:
            return []
        item.is_committed, item.end_s = True, end_s
        previous = self._last[1] if self._last is not None and self._last[0] < item.turn else None
        if self._last is None or item.turn > self._last[0]:
            self._last = item.turn, item.id
        shape = ItemShape(id=item.id)
        stop: list[ServerEvent] = []
        if item.is_live and self._has_vad:
            stop.append(BufferStopped(audio_end_ms=_ms(end_s), item_id=item.id))
        return [
            *stop,
            BufferCommitted(item_id=item.id, previous_item_id=previous),
            ItemAdded(item=shape, previous_item_id=previous),
            ItemDone(item=shape, previous_item_id=previous),
        ]

    def _add_final(self, item: Item, final: Final) -> list[ServerEvent]:
        if final.start in item.finals:
            return []
        stable = item.stable if item.segment == final.segment else ""
        rest = _rest_of(final.text.split(), stable.split())
        is_first = not stable and not any(before.text for before in item.finals.values())
        item.finals[final.start] = final
        if not item.is_live or not rest:
            return []
        return [TranscriptDelta(item_id=item.id, delta=rest if is_first else f" {rest}")]

    def _add_gap(self, item: Item, gap: Gap) -> list[ServerEvent]:
        if all(known.start != gap.start for known in item.gaps):  # otherwise it is sent again
            item.gaps.append(gap)
        return self._gap_events(_lost(gap))

    def _complete(self, item: Item) -> list[ServerEvent]:
        finals = [item.finals[start] for start in sorted(item.finals)]
        end_s = max([item.end_s, *(message.end for message in (*item.gaps, *finals))])
        commit = self._commit(item, end_s)
        self._items.pop(item.turn, None)
        transcript = " ".join(final.text for final in as_prose(finals) if final.text)
        if item.gaps and not transcript:
            error = ErrorBody(type="server_error", code=item.gaps[-1].reason, message="this audio could not be heard")
            return [*commit, TranscriptionFailed(item_id=item.id, error=error)]
        words = [word for final in finals for word in final.words or []]
        return [
            *commit,
            Completed(
                item_id=item.id,
                transcript=transcript,
                usage=Duration(seconds=round(max(end_s - item.start_s, 0.0), 3)),
                start_ms=_ms(item.start_s),
                end_ms=_ms(end_s),
                language=finals[-1].language if finals else None,
                unsure=any(final.unsure for final in finals),
                cursor=finals[-1].cursor if finals else None,
                words=words if any(final.words is not None for final in finals) else None,
                gaps=[_lost(gap) for gap in item.gaps] or None,
            ),
        ]

    def _end_replay(self, turns: list[Turn]) -> list[ServerEvent]:
        """Completes the items that are settled, and sends what the last connection did not get of the others."""
        events: list[ServerEvent] = []
        open_turns = {turn.start: turn for turn in turns}
        for start in sorted(self._items.keys() - open_turns.keys()):
            events += self._complete(self._items[start])
        for start, turn in open_turns.items():
            events += self._begin(self._item(start))
            if turn.end is not None:
                events += self._commit(self._item(start), turn.end / SAMPLE_RATE)
        return events


def _rest_of(words: list[str], stable: list[str]) -> str:
    """Returns the words of a final after the stable ones, which the final may put differently."""
    place = end_of_stable([key_of(word) for word in stable], [key_of(word) for word in words])
    return " ".join(words[place.at :])


def _lost(gap: Gap) -> LostAudio:
    return LostAudio(audio_start_ms=_ms(gap.start), audio_end_ms=_ms(gap.end), reason=gap.reason)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
