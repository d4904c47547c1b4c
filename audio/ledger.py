"""The usage rows of the audio lane, of which each session and each file has exactly one, whatever its end.

A session's row is settled with the append that closes its log. A session that nobody continues, and one whose process
died, is closed by any process that sees that its log has not grown for a while: of several, one wins. A file is kept
in the log like a session, and so has its row even when its process was killed.

Their users are charged by whoever writes that they are: the state in the log says how many samples are charged, and of
which counter, and what its process has taken of seconds ahead; so one that dies leaves it to the one that ends its
sessions, or goes on with them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING

import msgspec
import structlog

from audio.figures import ListeningSpan
from audio.model.transcriber import SAMPLE_RATE
from audio.session_log import STATE, closing, is_done, topic_of
from audio.session_state import ChargeAudio, SessionState
from audio.upload import FileTranscription
from events.log.port import Append, Appended, EventLog, TopicInfo
from events.log.topics import SESSION, new_session
from gateway.access.grants import Principal
from gateway.core.leases import AUDIO_SECONDS, COST, Lease
from gateway.core.limits import Limiter
from gateway.core.prices import Prices
from gateway.core.usage import UsageKind, UsageOutcome, now_ms, reserved
from gateway.errors import LogConflict, LogError, TrilaneError

if TYPE_CHECKING:
    from gateway.core.tracing import Tracer

BEATS = 4
"""Signs of life that a session, or a file, leaves in the time after which it would be ended."""
MAX_SWEPT = 1000
"""Maximum logs that one look ends; the others wait for the next."""
_encode = msgspec.json.Encoder().encode
_state = msgspec.json.Decoder(SessionState).decode

log = structlog.get_logger("audio")


class AudioCharges:
    """What the audio lane of one process charges."""

    def __init__(self, limiter: Limiter, prices: Prices) -> None:
        self._limiter = limiter
        self._prices = prices

    def charge(self, sub: str, before: SessionState, after: SessionState) -> None:
        """Charges a user for the samples that `after` says are charged and `before` does not, and settles portions.

        The portions of `before` are settled with what was heard of them, where `after` has none.
        """
        samples = after.charged - before.charged
        if after.reserved and samples > 0:
            cost = self._prices.cost_of_audio(after.model, samples / SAMPLE_RATE)
            self._limiter.lease_of(sub, {COST: after.reserved}).settle(cost=cost)
        rest_s = ceil((after.audio - before.since) / SAMPLE_RATE)
        for portion in before.portions if not after.portions else ():
            is_last = portion is before.portions[-1]
            used_s = rest_s if is_last else min(rest_s, portion[0].take.amount)
            self._limiter.lease_of(sub, {AUDIO_SECONDS: portion}).settle(audio_seconds=used_s)
            rest_s -= used_s


class AbandonedSessions:
    """Ends the sessions and files whose logs have not grown for `kept_s`."""

    def __init__(self, event_log: EventLog, kept_s: float, is_here: Callable[[str], bool], charge: ChargeAudio) -> None:
        """`is_here` tells whether a session is in this process, which ends it by itself."""
        self._charge = charge
        self._log = event_log
        self._kept_s = kept_s
        self._is_here = is_here

    async def sweep(self) -> None:
        """Looks for them now and then, for ever."""
        while True:
            await asyncio.sleep(self._kept_s / BEATS)
            try:
                await self.sweep_once(now_ms())
            except LogError as err:
                log.warning("open sessions cannot be listed", reason=err.detail)

    async def sweep_once(self, at_ms: int) -> None:
        """Ends those that had last grown `kept_s` before `at_ms`."""
        before_ms = at_ms - int(self._kept_s * 1000)
        for info in await self._log.topics(SESSION, open_only=True, before_ms=before_ms, limit=MAX_SWEPT):
            session = info.topic.removeprefix(SESSION)
            if self._is_here(session):
                continue
            try:
                await self._end(session, info)
            except LogConflict:
                continue  # another process was first, or the client has come back
            except LogError as err:  # what hinders one must not keep the others open
                log.warning("an open session cannot be ended", session=session, reason=err.detail)

    async def _end(self, session: str, info: TopicInfo) -> None:
        part = await self._log.read(info.topic, max(0, info.head - 1), max_events=1)
        left = _state(part.blocks[-1].data[-1]) if part.blocks else SessionState()
        state = left.paid()
        last = Append(topic=info.topic, data=[_encode(state)], name=STATE, expect=info.head + 1, close=True)
        await self._log.append(last, *closing(session, info.owner, state, state.ending))
        self._charge(info.owner, left, state)


class FileEntry:
    """A file that is being transcribed, or a text that is being spoken, as the log keeps it."""

    def __init__(
        self,
        event_log: EventLog,
        who: Principal,
        model: str,
        beat_s: float,
        lease: Lease,
        charge: ChargeAudio,
        tracer: "Tracer | None" = None,
        *,
        kind: UsageKind = "transcription",
    ) -> None:
        """`beat_s` is the time in seconds between two signs of life; `lease` is what admitted it."""
        self._charge = charge
        self._span = ListeningSpan(tracer, "file", model)
        self._log = event_log
        self._sub = who.sub
        self._name = new_session(who.sub)
        self._state = SessionState(kind=kind, started_ms=now_ms(), model=model, key=who.key_id).holding(lease.reserved)
        self._next = 2
        self._beat_s = beat_s
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Reserves the usage row. Raises LogError."""
        first = Append(topic=topic_of(self._name), data=[_encode(self._state)], name=STATE, owner=self._sub, expect=1)
        await self._log.append(first, reserved(self._sub, self._name, self._state.kind))

    def follow(self, transcription: FileTranscription) -> None:
        """Records now and then how far it is, until it is settled."""
        self._timer = asyncio.get_running_loop().call_later(self._beat_s, self._beat, transcription)

    def _beat(self, transcription: FileTranscription) -> None:
        self._append(transcription.samples)
        self.follow(transcription)

    def settle(self, outcome: UsageOutcome, samples: int, failure: TrilaneError | None = None) -> None:
        """Settles the row. Nothing is awaited, so a request that is cancelled settles it too."""
        self._span.end(samples, failure, outcome)
        if self._timer is not None:
            self._timer.cancel()
        self._append(samples, outcome)

    def _append(self, samples: int, outcome: UsageOutcome | None = None) -> None:
        before = self._state = msgspec.structs.replace(self._state, settled=samples)
        state = before.paid() if outcome is not None else before
        ends = closing(self._name, self._sub, state, outcome) if outcome is not None else []
        topic = topic_of(self._name)
        append = Append(topic=topic, data=[_encode(state)], name=STATE, expect=self._next, close=outcome is not None)
        self._next += 1
        self._log.append(append, *ends).add_done_callback(self._check if outcome is None else self._end)

    def _end(self, append: "asyncio.Future[list[Appended]]") -> None:
        if is_done(append):
            self._charge(self._sub, self._state, self._state.paid())
        self._check(append)

    def _check(self, append: "asyncio.Future[list[Appended]]") -> None:
        if not append.cancelled() and (failure := append.exception()) is not None:
            log.warning("a file cannot be recorded: its usage is settled later", file=self._name, reason=str(failure))


@asynccontextmanager
async def recorded(
    entry: FileEntry, opening: AbstractAsyncContextManager[FileTranscription]
) -> AsyncGenerator[FileTranscription]:
    """Opens a transcription with an entry in the log, and settles its usage in the end, whatever happened."""
    await entry.open()
    outcome, samples, failure = "abort", 0, None
    transcription: FileTranscription | None = None
    try:
        async with opening as transcription:
            entry.follow(transcription)
            yield transcription
    except TrilaneError as err:
        outcome, failure = "error", err
        raise
    finally:
        if transcription is not None:
            outcome, samples = transcription.outcome, transcription.samples
        entry.settle(outcome, samples, failure)
        failure = None  # its frames hold it
