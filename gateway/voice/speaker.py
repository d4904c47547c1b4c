"""Speaks one answer to one session: reads it, has its clauses made, and sends them, until it is heard or interrupted.

It is one loop over the pure machine of `gateway.voice.reply`, which wakes when text, sound, a report or a frame of
speech has come, or a time that the machine names. Whatever a client is told is in the session's log first.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import structlog

from audio.messages import FromServer
from audio.model.transcriber import Samples
from audio.model.voice import SpeechTask
from audio.speech.lane import SpeechLane, SpeechTally
from gateway.access.grants import Principal
from gateway.core.usage import now_ms
from gateway.errors import TrilaneError
from gateway.voice.answers import AnswerEnd, AnswerText, PartEnd
from gateway.voice.barge_in import BargeIn
from gateway.voice.heard import SpokenClause
from gateway.voice.messages import ReplyMessage, ReplyState, SkippedText, SoundFrame, Speech
from gateway.voice.reply import BEGINNING, Frame, ReplyPlace, SpokenReply
from gateway.voice.reply_log import LEFT_S, ReplyRecord

HEARD_S = 1.0
"""Seconds after which it is recorded again what was heard."""
OVER_S = 5.0
"""Seconds that an answer which was interrupted has to come to its end."""
_HEAD = struct.Struct("<II")

log = structlog.get_logger("voice")


class SpokenVoice:
    """The voice of a conversation."""

    def __init__(self, lane: SpeechLane, name: str, speed: float) -> None:
        self.lane = lane
        self._name = name
        self._speed = speed

    def task(self, text: str) -> SpeechTask:
        return SpeechTask(text=text, voice=self._name, speed=self._speed)


class ReplyOutlet(Protocol):
    """Where a speaker's messages go: the conversation that it speaks in, or a test."""

    def record(self, reply: ReplyRecord, *messages: FromServer) -> None:
        """Records a reply, and sends messages when that is durable."""

    def play(self, frame: SoundFrame) -> None:
        """Sends a frame."""

    @property
    def is_decoding(self) -> bool:
        """Tells whether words may still come of what was said."""
        ...


class ReplySpeaker:
    """Speaks one answer."""

    def __init__(
        self,
        listener: ReplyOutlet,
        voice: SpokenVoice,
        answer: AnswerText,
        barge_in: BargeIn,
        place: ReplyPlace = BEGINNING,
        engine: str = "",
    ) -> None:
        """`engine`: the fingerprint of the voice."""
        self.reply = SpokenReply(voice.lane.booth.voice.can_say, place)
        self.pauses = 0
        """The number of pauses so far: a frame that one has overtaken is not sent."""
        self.tell: Callable[[ReplyState, int], None] = _nobody
        """Called with the state and the end of what was heard when speech begins, and when it ends."""
        self._listener = listener
        self._voice = voice
        self._answer = answer
        self._barge_in = barge_in
        self._engine = engine
        self._news = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._making: asyncio.Task[Samples] | None = None
        self._tally = SpeechTally()
        self._is_talked_over = self._is_gone = False
        self._gone_at = self._recorded_at = 0.0
        self._end: AnswerEnd | None = None

    @property
    def run_id(self) -> str:
        return self._answer.run_id

    # What happens to it

    def listen(self, probabilities: Sequence[float]) -> None:
        """Takes the probability of speech of frames that have come."""
        self._barge_in.listen(probabilities, self._clock())
        self._look()

    def hear(self, text: str) -> None:
        """Takes words that were said, as far as they are known."""
        self._barge_in.hear(text, self.reply.recent_words(self._clock()))
        self._look()

    def report(self, samples: int) -> None:
        """Notes what the client has played. Raises ValueError for more than it was sent."""
        self.reply.report(samples, self._clock())
        self._news.set()

    def interrupt(self, reason: str = "barge-in") -> None:
        self._finish("interrupted", reason)

    def abandon(self, reason: str) -> None:
        """Ends it because nobody listens any more; the rest of the answer is only read."""
        self._finish("unspoken", reason)

    def stop(self) -> None:
        """Ends it because somebody has stopped the answer."""
        self._finish("stopped")

    def leave(self) -> None:
        """Waits, because the client is gone."""
        if self.reply.is_alive and not self._is_gone:
            self._is_gone, self._gone_at = True, self._clock()
            self._pause()

    def come_back(self, played: int | None) -> ReplyRecord:
        """Goes on, with a client that is here again and has played so much; None: it does not say."""
        if self.reply.is_alive:
            self.leave()  # a client that was cut off may come back before it is missed
            if played is not None:
                self.reply.pace.correct(played)
            self._is_gone = False
            self._go_on()
        return self.record_now()

    # The loop

    async def speak(self, who: Principal) -> None:
        """Speaks the answer to its end."""
        loop = asyncio.get_running_loop()
        self._answer.on_stop = self.stop
        reading = loop.create_task(self._read(), name="read an answer that is spoken")
        try:
            await self._while(lambda: self.reply.is_alive and not (self.reply.has_line or self.reply.is_written))
            if self.reply.has_line and self.reply.is_alive:
                async with self._voice.lane.admitted(who, self._tally):
                    await self._while(lambda: self.reply.is_alive)
            elif self.reply.is_alive:
                self._end_unsaid()
        except TrilaneError as err:
            self._finish("text_only", err.code)
        finally:
            if self.reply.state == "interrupted":
                await asyncio.wait((reading,), timeout=OVER_S)
            tasks: list[asyncio.Task[Any]] = [task for task in (reading, self._making) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._answer.close()

    async def _read(self) -> None:
        async for piece in self._answer.pieces():
            match piece:
                case str():
                    self.reply.write(piece, self._clock())
                case PartEnd():
                    self.reply.end_part()
                case AnswerEnd():
                    self._end = piece
                    self.reply.end_text()
                    if piece.outcome == "stopped":
                        self.stop()
            self._news.set()

    async def _while(self, is_so: Callable[[], bool]) -> None:
        """Does what is due, as long as something is so."""
        while is_so():
            self._news.clear()
            self._step()
            if not is_so():
                return
            try:
                async with asyncio.timeout(self._wait_s()):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _wait_s(self) -> float | None:
        now = self._clock()
        waits = [self.reply.wait_s(now)]
        if self._is_gone:
            waits.append(self._gone_at + LEFT_S - now)
        if self._is_talked_over:
            waits.append(self._barge_in.resume_at - now)
        due = [wait for wait in waits if wait is not None]
        return max(min(due), 0.001) if due else None

    def _step(self) -> None:
        now = self._clock()
        reply = self.reply
        self._look()
        if self._is_gone and now >= self._gone_at + LEFT_S:
            self.abandon("gone")
        line = reply.next_line(now)
        for piece in reply.take_skipped():
            skipped = SkippedText(run=self.run_id, start=piece.start, end=piece.end, reason=piece.reason)
            self._listener.record(self.record_now(), skipped)
        if line is not None:
            self._making = asyncio.get_running_loop().create_task(
                self._voice.lane.booth.speak(self._voice.task(line.text), is_heard=True)
            )
            self._making.add_done_callback(self._take)
        while (frame := reply.frame(now)) is not None:
            self._play(frame)
        if reply.is_spoken(now):
            self._end_said()
        elif reply.state == "speaking" and now >= self._recorded_at + HEARD_S:
            self._recorded_at = now
            self._listener.record(self.record_now())

    def _take(self, making: "asyncio.Task[Samples]") -> None:
        """Takes a clause's sound, or goes on without a voice."""
        if making.cancelled() or not self.reply.is_alive:
            return
        failure = making.exception()
        if failure is not None:
            log.warning("a voice has failed", run=self.run_id, exc_info=failure)
            self._finish("text_only", failure.code if isinstance(failure, TrilaneError) else "voice_failed")
            return
        sound, is_first = making.result(), self.reply.state == "thinking"
        clause = self.reply.make(sound, self._clock())
        self._tally.samples += len(sound)
        messages: list[FromServer] = []
        if is_first:
            self.reply.speak()
            messages.append(self._state_message())
            self.tell("speaking", 0)
        messages.append(self._speech(clause))
        self._recorded_at = self._clock()
        self._listener.record(self.record_now(), *messages)
        self._news.set()

    def speeches(self) -> list[Speech]:
        """Returns the messages of the clauses that are not heard to their end, for a client that has come back."""
        samples, _ = self.reply.heard(self._clock())
        return [self._speech(clause) for clause in self.reply.clauses if clause.until > samples]

    def _speech(self, clause: SpokenClause) -> Speech:
        number, text = clause.number, clause.text
        return Speech(run=self.run_id, clause=number, text=text, start=clause.start, end=clause.end, at=clause.at)

    def _play(self, frame: Frame) -> None:
        pcm = np.clip(np.rint(frame.sound * 32767.0), -32768, 32767).astype("<i2").tobytes()
        self._listener.play(SoundFrame(_HEAD.pack(frame.clause, frame.at) + pcm, self.run_id, self.pauses))

    # Pauses and ends

    def _look(self) -> None:
        """Obeys what is heard."""
        if not self.reply.is_alive or self._is_gone:
            return
        is_decoding = self._listener.is_decoding
        verdict = self._barge_in.judge(self._clock(), is_paused=self._is_talked_over, is_decoding=is_decoding)
        if verdict == "interrupt":
            self.interrupt()
        elif verdict == "pause" and self.reply.state == "speaking":
            self._is_talked_over = True
            self._pause()
            self._listener.record(self.record_now(), self._state_message())
            self._news.set()
        elif verdict == "resume":
            self._is_talked_over = False
            self._go_on()
            self._listener.record(self.record_now(), self._state_message())
            self._news.set()

    def _pause(self) -> None:
        if self.reply.state != "paused":
            self.pauses += 1
            self.reply.pause(self._clock())

    def _go_on(self) -> None:
        if self.reply.state == "paused" and not (self._is_gone or self._is_talked_over):
            self.reply.resume(self._clock())
            self._news.set()

    def _end_said(self) -> None:
        end = self._end
        assert end is not None, "all of the text has come"
        if end.outcome == "failed":
            self._finish("failed", end.code)
        elif end.outcome == "waiting":
            self._finish("waiting", end.code)
        else:
            self._finish("spoken")

    def _end_unsaid(self) -> None:
        """Ends an answer in which there was nothing to say."""
        self._step()
        self._end_said()

    def _finish(self, state: ReplyState, reason: str = "") -> None:
        if not self.reply.is_alive:
            return
        now = self._clock()
        if self.reply.state != "paused":
            self.reply.pace.pause(now)
        self.pauses += 1
        self.reply.end(state, reason)
        self._tally.outcome = "finish" if state == "spoken" else "abort"
        self._listener.record(self.record_now(), self._state_message())
        self.tell(state, self.reply.heard(now)[1])
        self._news.set()

    def record_now(self) -> ReplyRecord:
        return ReplyRecord.of(self.reply, self.run_id, self._engine, self._clock(), now_ms())

    def _state_message(self) -> ReplyMessage:
        samples, chars = self.reply.heard(self._clock())
        reply = self.reply
        return ReplyMessage(run=self.run_id, state=reply.state, samples=samples, chars=chars, reason=reply.reason)


def _nobody(state: ReplyState, chars: int) -> None:
    """Does nothing: nobody is told."""
