"""A session in this process: its driver, its log, and the connection that is attached to it.

Audio comes from whichever connection is attached, and messages are recorded in the log before they are sent. Without a
connection the session is kept for a while as it is, so that its client can continue where it stopped; then what it has
becomes final, and the session lives on in the log alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog
from msgspec import Raw, UnsetType

from audio.attachment import DONE, IDLE, TAKEN_OVER, Attachment, QueuedMessage
from audio.companion import SessionCompanion
from audio.messages import Ack, Aside, Done, Drain, Failure, Final, FromServer, Gap, Lag
from audio.meter import Meter
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples
from audio.options import Output, SessionOptions, SessionTerms, Settled
from audio.recording import Recording
from audio.segment import seconds
from audio.session_log import SessionLog
from audio.sides import open_driver
from events.log.hub import Hub
from gateway.core.usage import UsageOutcome
from gateway.errors import BadRequest, CloseCode, LogConflict, LogError, Overloaded
from gateway.serving.client_socket import DRAINING, SocketClose

SILENCE_S = 1.0
"""Seconds without a frame that end a segment as silence does, where the endpointing time is not longer."""
LAG_S = 2.0
"""Seconds that a session may be behind before its client is told."""
LAG_STEP_S = 1.0
"""Change of the lag, in seconds, that the client is told again."""

log = structlog.get_logger("audio")


class SessionHost(Protocol):
    """The lane that a live session belongs to."""

    def note_gap(self, gap: Gap) -> None:
        """Notes that audio was not heard."""

    def note_activity(self, live: "LiveSession") -> None:
        """Notes that the session has changed, and may be speaking."""

    def release(self, live: "LiveSession", failure: BaseException | None = None) -> None:
        """Forgets a session that is no longer in this process, because of a failure or not."""


class LiveSession:
    """A session of this process, to which one connection at a time is attached."""

    def __init__(
        self,
        host: SessionHost,
        session_log: SessionLog,
        models: Models,
        options: SessionOptions,
        clock: Callable[[], float],
    ) -> None:
        """`session_log` says where the session stands; it is created or loaded."""
        self._driver = open_driver(options, session_log.state, models, self._publish)
        self.session = self._driver.session
        self.session_log = session_log
        self.sample_rate = SAMPLE_RATE
        self.meter = Meter(clock)
        self.detached_at = clock()
        """The time at which the connection was lost; it means nothing while there is one."""
        self.attachment: Attachment | None = None
        self.recording = Recording(session_log, clock, on_failure=self.fail, on_end=self._finish)
        self.parting: UsageOutcome = "abort"  # the outcome that is recorded should its client not come back
        self.dialect_state: object = None  # what a dialect keeps with the session, as long as this process has it
        self.companion: SessionCompanion | None = None
        self._host = host
        self._clock = clock
        self._frame_at = self.spoken_at = clock()
        self._lag_s = 0.0
        self._stop_watching: Callable[[], None] = lambda: None
        self._resends = True
        self._is_leaving = self._is_over = False

    def watch(self, hub: Hub) -> None:
        """Ends this session from now on when another process takes it over."""
        self._stop_watching = self.session_log.watch(hub, self._lose)

    # A connection

    def attach(self, sample_rate: int, options: SessionOptions, seq: int, *, resends: bool = True) -> Attachment:
        """Attaches a new connection; the one before it ends.

        `resends` says that its client keeps what is not acknowledged, and can send it again to another process. Raises
        BadRequest for a session whose channels are heard apart, or not, and are to be heard otherwise now.
        """
        if options.split != self.session.options.split:
            raise BadRequest(f"split={options.split}: this session began otherwise, and goes on so", code="bad_start")
        self._close_attachment(TAKEN_OVER, at_once=True)
        self.sample_rate, self.session.options = sample_rate, options
        self.attachment, self._resends, self.parting = Attachment(seq), resends, "abort"
        self._frame_at = self.spoken_at = self._clock()
        return self.attachment

    def welcome(self, cursor: str, missed: Sequence[Final | Gap], greet: "Greeting | None" = None) -> None:
        """Sends a connection its first messages: where to send audio from, and what the client has missed.

        `greet` returns the reply that goes on, where the session is to have a companion.
        """
        assert self.attachment is not None
        ready = self._driver.ready(self.session_log.session, self.client_samples(self.position), cursor)
        if greet is not None:
            ready = msgspec.structs.replace(ready, reply=greet(self))
        self.attachment.release([ready, *missed])

    def accompany(self, companion: SessionCompanion) -> None:
        """Gives the session its companion, which it has from now on."""
        self.companion, self._driver.on_frames = companion, companion.listen

    def note(self, kept: Raw, *messages: FromServer) -> None:
        """Records what the companion keeps with the session, and sends `messages` when that is durable."""
        if not self._is_over:
            state = msgspec.structs.replace(self.session_log.state, companion=kept)
            self.recording.append(state, self.attachment, *messages)

    def report_done(self) -> None:
        """Ends a session that was over when its client came back for what it had missed."""
        if self.attachment is not None:
            state = self.session_log.state
            self.attachment.put(Done(duration=seconds(state.audio), segments=state.segments))
            self._close_attachment(DONE)
        self._finish()

    def record_replay(self, cursor: str | None, seq: int, count: int) -> None:
        """Records the numbers of the messages that were sent again, and that this process has the session."""
        self.session_log.record_replay(self.session_log.offset(cursor), count, seq + 1)
        self.beat()

    def detach(self, attachment: Attachment) -> None:
        """Notes that a connection is gone."""
        if self.attachment is attachment:
            self.attachment = None
            self.detached_at = self._clock()
            if self.companion is not None:
                self.companion.detach()

    @property
    def position(self) -> int:
        """Returns the number of samples at 16 kHz that came so far."""
        return self._driver.position

    def client_samples(self, position: int) -> int:
        """Returns a position in the client's own samples."""
        return self._driver.heard(position) * self.sample_rate // SAMPLE_RATE

    # What a client sends

    async def feed(self, samples: Samples, attachment: Attachment) -> None:
        """Takes audio from a connection, a second at a time: other sessions have their turn in between.

        Audio from a connection that is no longer the session's is dropped: its client sends it again.
        """
        self._frame_at = self._clock()
        for at in range(0, len(samples), SAMPLE_RATE):
            if at:
                await asyncio.sleep(0)
            if attachment is not self.attachment:
                return
            self._driver.feed(samples[at : at + SAMPLE_RATE])

    def mark(self, marker: str | int) -> None:
        self.session.mark(marker)
        self._driver.proceed()

    def flush(self) -> None:
        self.session.flush()
        self._driver.proceed()

    def reconfigure(self, terms: SessionTerms, notes: str) -> None:
        """Works with other terms from now on; `notes` go with the session wherever it goes."""
        self.sample_rate = terms.sample_rate
        self.session.reconfigure(terms.options)
        self.recording.append(msgspec.structs.replace(self.session_log.state, notes=notes), self.attachment)
        self._driver.proceed()

    @property
    def uncommitted(self) -> int:
        """Returns the number of samples at 16 kHz that belong to no finished turn."""
        return self.session.uncommitted + self._driver.ear.pending

    def commit(self) -> None:
        self._driver.flush_ear()
        self.session.commit()
        self._driver.proceed()

    def clear(self) -> None:
        self._driver.flush_ear()
        self.session.clear()
        self._driver.proceed()

    def abandon(self, attachment: Attachment) -> None:
        """Ends the session of a client that is done and does not wait: what is due becomes final for its followers."""
        if self.attachment is attachment and not self._is_over:
            self.detach(attachment)
            if self.session.options.endpointing_s is None:
                self.clear()
            self.stop()

    def stop(self) -> None:
        self._driver.stop()

    # Time

    def tick(self, now: float) -> None:
        """Looks at the clock; to be called now and then while there is speech."""
        session = self.session
        endpointing_s = session.options.endpointing_s
        may_end = endpointing_s is not None and session.is_open and self.attachment
        if may_end and now - self._frame_at >= max(SILENCE_S, endpointing_s or 0.0):
            self.flush()
        behind_s = session.behind_s if session.is_speaking and session.behind_s >= LAG_S else 0.0
        if abs(behind_s - self._lag_s) >= LAG_STEP_S or (self._lag_s and not behind_s):
            self._lag_s = behind_s
            self._send(Lag(seconds=round(behind_s, 1)))

    def beat(self) -> None:
        """Records a sign of life: without any, another process ends the session."""
        self.recording.append(self.session_log.state, self.attachment)

    def drain(self) -> None:
        """Leaves this process after the finals that are due.

        A segment that is still being spoken is decoded elsewhere if its client can send it again; else it ends here.
        """
        if not self._resends:
            self.session.flush()
        self._is_leaving = True
        self._driver.proceed()

    def rest(self, after_s: float) -> None:
        """Gives up its place, because nobody has spoken for `after_s`; its client may resume it, here or elsewhere."""
        if self.attachment is not None:
            message = f"nobody has spoken for {after_s:g} s: come back to this session, from the sample it asks for"
            self.attachment.fail(Failure(code="idle", message=message, retryable=True), IDLE)
            self.attachment = None
        self.expire()

    def expire(self) -> None:
        """Gives up waiting for the client: what came becomes final, and the session lives on in the log alone."""
        self.session.flush()
        self._is_leaving = True
        self._driver.proceed()

    # What goes out

    def _publish(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Settled):
                self._record(output.position)
            elif isinstance(output, Final | Gap):
                if isinstance(output, Gap):
                    self._host.note_gap(output)
                self.recording.hold(self._send(output, is_ready=False), output)
            elif isinstance(output, Done):
                self._record_end(output)
            else:
                self._send(output)
            if self.companion is not None:
                self.companion.hear(output)
        if self._is_leaving and not self._is_over and not self.session.has_pending:
            self._depart()
        if not self._is_over:
            self._host.note_activity(self)

    def _send(self, message: FromServer | Aside, *, is_ready: bool = True) -> QueuedMessage | None:
        return self.attachment.put(message, is_ready=is_ready) if self.attachment is not None else None

    def _record(self, position: int) -> None:
        state = msgspec.structs.replace(self.session_log.state, **self._driver.where(position))
        self.recording.append(state, self.attachment, Ack(samples=self.client_samples(position)))

    def _record_end(self, done: Done) -> None:
        done = msgspec.structs.replace(done, duration=seconds(self.session_log.state.audio))
        self.recording.append(self.session_log.state, self.attachment, done, close=True)
        if self.attachment is not None:
            self.attachment.end(DONE)

    def fail(self, failure: BaseException | None) -> None:
        """Ends the session here: another connection has it, the log cannot be written, or a limit is reached."""
        if isinstance(failure, LogConflict):
            self._lose()
            return
        if isinstance(failure, Overloaded) and self.attachment is not None:
            refusal = Failure(code=failure.code, message=failure.detail, retryable=True)
            self.attachment.fail(refusal, SocketClose(CloseCode.TRY_LATER, failure.code))
            self.attachment = None
        elif not self._is_over:
            log.error("a session cannot be recorded", session=self.session_log.session, exc_info=failure)
            code = failure.code if isinstance(failure, LogError) else "internal"
            if self.attachment is not None:
                message = "what was said cannot be recorded; resume in a moment"
                failed = Failure(code=code, message=message, retryable=True)
                self.attachment.fail(failed, SocketClose(CloseCode.TRY_LATER, code))
                self.attachment = None
        self._finish(failure)

    def _lose(self) -> None:
        """Ends the session here: another process or connection has it."""
        self._close_attachment(TAKEN_OVER, at_once=True)
        self._finish()

    def _close_attachment(self, close: SocketClose, *, at_once: bool = False) -> None:
        if self.attachment is not None:
            self.attachment.end(close, at_once=at_once)
            self.attachment = None

    def _depart(self) -> None:
        if self.attachment is not None:
            self.attachment.put(Drain(resume=self.session_log.session))
            self.attachment.end(DRAINING)
        else:
            self.recording.append(self.session_log.state.parted(self.parting), None)
        self._finish()

    def _finish(self, failure: BaseException | None = None) -> None:
        """Leaves the desk, the hub and the lane."""
        if not self._is_over:
            self._is_over = True
            self._driver.close()
            self._stop_watching()
            self.recording.close()
            if self.companion is not None:
                self.companion.end()
                self.companion = None
            self._host.release(self, failure)


Greeting = Callable[[LiveSession], Raw | UnsetType]
"""A function that gives a session its companion, and returns the reply that goes on."""
