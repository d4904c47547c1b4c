"""A session in this process: its state machine, and what that listens to and speaks with.

Audio comes from whichever connection is attached; what is said is recorded in the log before it is sent. Without a
connection the session is kept for a while as it is, so that its client goes on where it stopped; then what was heard
is made final, and the session lives on in the log alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
import structlog

from audio.attachment import Attachment, SocketClose, Unsent
from audio.messages import Ack, Aside, Done, Drain, Failure, Final, Gap, Lag, Ready, ServerMessage, with_cursor
from audio.meter import Meter
from audio.model.transcriber import SAMPLE_RATE, Samples, Transcription, TranscriptionTask
from audio.model.vad import Ear
from audio.options import SessionOptions, Settled
from audio.session import Session
from audio.session_log import SessionLog, SessionState
from events.log.hub import Hub
from events.log.port import Appended
from gateway.errors import LogConflict, LogError

SILENCE_S = 1.0
"""No frame for so long, or for the endpointing time when that is longer, ends a segment as silence does."""
TAKEN_OVER = SocketClose(4503, "the session was taken over by a newer connection")
LAG_S = 2.0
"""Further behind than this, the client is told,"""
LAG_STEP_S = 1.0
"""and again when it changed by so much."""

log = structlog.get_logger("audio")


class SessionHost(Protocol):
    """What a session asks of its lane."""

    def ask(self, live: "LiveSession") -> None:
        """It may have work for the model."""
        ...

    def over(self, live: "LiveSession") -> None:
        """It is no longer in this process."""
        ...


class SessionTerms(NamedTuple):
    """What a connection asks of its session."""

    sample_rate: int
    """Of the samples that it counts."""
    asked: SessionOptions


class LiveSession:
    """What the desk serves, and a connection attaches to."""

    def __init__(
        self, host: SessionHost, record: SessionLog, ear: Ear, asked: SessionOptions, clock: Callable[[], float]
    ) -> None:
        """`record` says where the session stands; it is created or loaded."""
        where = record.where
        self.session = Session(asked, settled=where.settled, segments=where.segments, language=where.language)
        self.record = record
        self.sample_rate = SAMPLE_RATE
        self.meter = Meter(clock)
        self.detached_at = clock()
        """When its connection was lost; of no meaning while it has one."""
        self.attachment: Attachment | None = None
        self.dialect: object = None
        """What a dialect keeps with the session, as long as this process has it."""
        self._host = host
        self._ear = ear
        self._clock = clock
        self._frame_at = clock()
        self._said: list[tuple[Unsent | None, Final | Gap]] = []
        """What waits to be recorded with the next position."""
        self._lag_s = 0.0
        self._recording: asyncio.Future[list[Appended]] | None = None
        """The newest append."""
        self._unwatch: Callable[[], None] = lambda: None
        self._resends = True
        self._is_leaving = False
        self._is_over = False

    def watch(self, hub: Hub) -> None:
        """Notices from now on when another process takes the session over."""
        self._unwatch = self.record.watch(hub, self._taken_over)

    # A connection

    def attach(self, sample_rate: int, asked: SessionOptions, seq: int, *, resends: bool = True) -> Attachment:
        """A place for a new connection; the one before it ends.

        `resends` says that its client keeps what is not acknowledged, and can send it to another process.
        """
        self._leave(TAKEN_OVER)
        self.sample_rate, self.session.asked = sample_rate, asked
        self.attachment, self._resends = Attachment(seq), resends
        self._frame_at = self._clock()
        return self.attachment

    def welcome(self, cursor: str, replay: Sequence[Final | Gap]) -> None:
        """Its first messages: where to send from, and what it has missed."""
        assert self.attachment is not None
        ready = Ready(session=self.record.session, resume_from=self.samples(self.position), cursor=cursor)
        self.attachment.release([ready, *replay])

    def say_done(self) -> None:
        """The session was over when its client came back for what it had missed."""
        if self.attachment is not None:
            where = self.record.where
            self.attachment.put(Done(duration=round(where.settled / SAMPLE_RATE, 3), segments=where.segments))
            self._leave(SocketClose(1000, "done"), at_once=False)
        self._over()

    def came_back(self, cursor: str | None, seq: int, count: int) -> None:
        """Records which numbers the messages have that were sent anew; and that this process has the session."""
        self.record.came_back(self.record.offset(cursor), count, seq + 1)
        self._append(self.record.where, None)

    async def recorded(self) -> None:
        """Waits until the log has what was said so far, or has refused it."""
        if self._recording is not None:
            await asyncio.wait((self._recording,))

    def detach(self, attachment: Attachment) -> None:
        """Its connection is gone."""
        if self.attachment is attachment:
            self.attachment = None
            self.detached_at = self._clock()

    @property
    def position(self) -> int:
        """Samples at 16 kHz that came so far."""
        return self.session.position + self._ear.waiting

    def samples(self, position: int) -> int:
        """A position in the client's own samples."""
        return position * self.sample_rate // SAMPLE_RATE

    # What a client says

    async def hear(self, samples: Samples, by: Attachment) -> None:
        """A second of it at a time: others have their turn between.

        What comes from a connection that is no longer the session's is not heard: its client sends it again.
        """
        self._frame_at = self._clock()
        for at in range(0, len(samples), SAMPLE_RATE):
            if at:
                await asyncio.sleep(0)
            if by is not self.attachment:
                return
            frames, probabilities = self._ear.hear(samples[at : at + SAMPLE_RATE])
            if probabilities:
                self.session.hear(frames, probabilities)
                self._go_on()

    def mark(self, name: str | int) -> None:
        self.session.mark(name)
        self._go_on()

    def flush(self) -> None:
        self.session.flush()
        self._go_on()

    def ask(self, terms: SessionTerms, notes: str) -> None:
        """From now on; `notes` go with the session wherever it goes."""
        self.sample_rate = terms.sample_rate
        self.session.ask(terms.asked)
        self.record.where = msgspec.structs.replace(self.record.where, notes=notes)
        self._append(self.record.where, None)
        self._go_on()

    @property
    def uncommitted(self) -> int:
        """Samples at 16 kHz that are not of a finished turn."""
        return self.session.uncommitted + self._ear.waiting

    def commit(self) -> None:
        self.session.hear(*self._ear.end())
        self.session.commit()
        self._go_on()

    def clear(self) -> None:
        self.session.hear(*self._ear.end())
        self.session.clear()
        self._go_on()

    def leave(self, attachment: Attachment) -> None:
        """Its client is done and does not wait: what is due is made final for whoever follows, and the session ends."""
        if self.attachment is attachment and not self._is_over:
            self.detach(attachment)
            if self.session.asked.endpointing_s is None:
                self.clear()
            self.stop()

    def stop(self) -> None:
        self.session.hear(*self._ear.end())
        self.session.stop()
        self._go_on()

    # The model

    def wants(self, step_s: float) -> int | None:
        return None if self._is_over else self.session.wants(step_s)

    def take(self) -> TranscriptionTask:
        return self.session.take()

    def heard(self, task: TranscriptionTask, answer: Transcription) -> None:
        self.session.heard(task, answer)
        self._say()

    def failed(self) -> None:
        self.session.failed()
        self._say()

    # Time

    def tick(self, now: float) -> None:
        """Now and then, while there is speech."""
        session = self.session
        quiet_s = now - self._frame_at
        endpointing_s = session.asked.endpointing_s
        waits = endpointing_s is not None and session.is_open and self.attachment
        if waits and quiet_s >= max(SILENCE_S, endpointing_s or 0.0):
            self.flush()
        behind_s = session.behind_s if session.is_speaking else 0.0
        if behind_s < LAG_S:
            behind_s = 0.0
        if abs(behind_s - self._lag_s) >= LAG_STEP_S or (self._lag_s and not behind_s):
            self._lag_s = behind_s
            self._tell(Lag(seconds=round(behind_s, 1)))

    def drain(self) -> None:
        """Leaves after the finals that are due. A segment that is still spoken is heard anew elsewhere, if its client
        can send it again; else it ends here."""
        if not self._resends:
            self.session.flush()
        self._is_leaving = True
        self._go_on()

    def expire(self) -> None:
        """Nobody came back: what was heard is made final, and the session lives on in the log alone."""
        self.session.flush()
        self._is_leaving = True
        self._go_on()

    # What comes of it

    def _go_on(self) -> None:
        self._say()
        self._host.ask(self)

    def _say(self) -> None:
        for output in self.session.take_output():
            if isinstance(output, Settled):
                self._record(output.position)
            elif isinstance(output, Final | Gap):
                self._said.append((self._tell(output, is_ready=False), output))
            elif isinstance(output, Done):
                self._done(output)
            else:
                self._tell(output)
        if self._is_leaving and not self.session.has_closed:
            self._depart()

    def _tell(self, message: ServerMessage | Aside, *, is_ready: bool = True) -> Unsent | None:
        return self.attachment.put(message, is_ready=is_ready) if self.attachment is not None else None

    def _record(self, position: int) -> None:
        session = self.session
        where = msgspec.structs.replace(
            self.record.where, settled=position, segments=session.segments, language=session.language
        )
        self._append(where, Ack(samples=self.samples(position)))

    def _done(self, done: Done) -> None:
        self._append(self.record.where, done, close=True)
        if self.attachment is not None:
            self.attachment.end(SocketClose(1000, "done"))

    def _append(self, where: SessionState, after: ServerMessage | None, *, close: bool = False) -> None:
        """Records, and says `after` when that is durable."""
        said, self._said = self._said, []
        attachment = self.attachment
        acknowledged = self._tell(after, is_ready=False) if after is not None else None
        messages = [message for _, message in said]
        future = self.record.append(
            where, [(message, unsent.seq if unsent else 0) for unsent, message in said], close=close
        )

        def recorded(done: asyncio.Future[list[Appended]]) -> None:
            failure = None if done.cancelled() else done.exception()
            if done.cancelled() or failure is not None:
                self._lost(failure)
                return
            if close:
                self._over()
            if attachment is None:
                return
            cursors = self.record.cursors(messages, done.result())
            for (unsent, message), cursor in zip(said, cursors, strict=True):
                if unsent is not None:
                    attachment.ready(unsent, with_cursor(message, cursor))
            if acknowledged is not None and after is not None:
                attachment.ready(acknowledged, after)

        self._recording = future
        future.add_done_callback(recorded)

    def _lost(self, failure: BaseException | None) -> None:
        """The log does not take it: another connection has the session, or the log cannot be written."""
        if isinstance(failure, LogConflict):
            self._taken_over()
            return
        if not self._is_over:
            log.error("a session cannot be recorded", session=self.record.session, exc_info=failure)
            code = failure.code if isinstance(failure, LogError) else "internal"
            if self.attachment is not None:
                self.attachment.fail(
                    Failure(code=code, message="what was said cannot be recorded; resume in a moment", retryable=True),
                    SocketClose(1013, code),
                )
                self.attachment = None
        self._over()

    def _taken_over(self) -> None:
        self._leave(TAKEN_OVER)
        self._over()

    def _leave(self, ending: SocketClose, *, at_once: bool = True) -> None:
        if self.attachment is not None:
            self.attachment.end(ending, at_once=at_once)
            self.attachment = None

    def _depart(self) -> None:
        if self.attachment is not None:
            self.attachment.put(Drain(resume=self.record.session))
            self.attachment.end(SocketClose(1012, "this process is shutting down"))
        self._over()

    def _over(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._unwatch()
            self._host.over(self)
