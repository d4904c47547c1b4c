"""One conversation: what is heard becomes turns, each turn is asked, and each answer is spoken until it is interrupted.

It is the companion of one audio session, and lives as long as this process has that. Turns are answered one after the
other. What it keeps stands with the session's state in the log, so that another process goes on with it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from msgspec import Raw, UnsetType

from audio.live_session import LiveSession
from audio.messages import Final, FromServer, Partial, SpeechStarted, TurnOver
from audio.model.transcriber import SAMPLE_RATE
from audio.options import Output
from gateway.access.grants import Principal
from gateway.core.usage import now_ms
from gateway.errors import BadRequest, Overloaded, TrilaneError
from gateway.voice.answers import Answers, AnswerText, Question, SpokenState
from gateway.voice.attention import Attention
from gateway.voice.barge_in import BargeIn, BargeInMode
from gateway.voice.messages import ENDS, ReplyMessage, ReplyState, SoundFrame, StandingReply, TurnMessage
from gateway.voice.reply import BEGINNING, ReplyPlace
from gateway.voice.reply_log import (
    ConversationRecord,
    ReplyRecord,
    decode_conversation,
    encode_record,
    encode_standing,
)
from gateway.voice.speaker import ReplySpeaker, SpokenVoice
from gateway.voice.turns import TurnTaker

MAX_QUESTIONS = 32
"""Turns that wait for the answers before them; past it the connection ends."""
MISSED_S = 120.0
"""Seconds of speech that are looked through for turns that another process has heard and not asked."""


log = structlog.get_logger("voice")


class ConversationTerms(NamedTuple):
    """The terms on which a connection has its conversation."""

    who: Principal
    chat: str
    """The id of the chat."""
    model: str
    """The model that answers; empty means the default."""
    barge_in: BargeInMode
    voice: SpokenVoice
    max_s: float
    """Seconds of silence that end any turn."""
    engine: str = ""
    """The fingerprint of the voice, where it is needed to go on."""
    played: tuple[str, int] | None = None
    """The run that its client has heard last, and how many samples of it."""


class VoiceConversation:
    """A companion of one session."""

    def __init__(self, live: LiveSession, answers: Answers, terms: ConversationTerms) -> None:
        self.terms = terms
        self._live = live
        self._answers = answers
        self._clock = asyncio.get_running_loop().time
        self._attention = Attention(TurnTaker(live.session.options.endpointing_s or 0.0, terms.max_s))
        self._record = decode_conversation(live.session_log.state.companion)
        self._questions: deque[Question | ReplyRecord] = deque()
        self._speaker: ReplySpeaker | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._has_echo = False
        """Whether the microphone has picked up an answer."""
        self._is_over = False
        self.on_leave: Callable[[], object] = _nobody
        """Called when this process has the session no more, and what is under way here is to end."""

    # As the companion of a session

    def hear(self, output: Output) -> None:
        match output:
            case SpeechStarted(turn=int(first)):
                self._attention.begin(first, self._clock(), is_spoken=self._is_answering)
            case Partial(text=text):
                if self._speaker is not None:
                    self._speaker.hear(text)
            case Final(text=text, turn=int(first), end=end):
                if self._speaker is not None:
                    self._speaker.hear(text)
                self._attention.hear(first, round(end * SAMPLE_RATE), text)
            case TurnOver(turn=first):
                self._close_stretch(first)
            case _:
                return
        self._wake()

    def _close_stretch(self, first: int) -> None:
        is_ignored = self._is_answering and self.terms.barge_in != "off"
        if not self._attention.close(first, self._clock(), is_ignored=is_ignored):
            self._record = ConversationRecord(taken=self._live.position, reply=self._record.reply)

    def listen(self, probabilities: Sequence[float]) -> None:
        if self._speaker is not None:
            self._speaker.listen(probabilities)

    def detach(self) -> None:
        if self._speaker is not None:
            self._speaker.leave()
            if self._speaker.reply.is_alive:
                self.record(self._speaker.record_now())

    def end(self) -> None:
        self._is_over = True
        if not self._live.session.is_done:  # another process goes on
            self.on_leave()
        elif self._speaker is not None:
            self._speaker.abandon("done")
        self._wake()

    # Its connection

    def greet(self, terms: ConversationTerms) -> Raw | UnsetType:
        """Goes on with a connection; returns the reply that goes on."""
        self.terms = terms
        if (speaker := self._speaker) is None or not speaker.reply.is_alive:
            return encode_standing(self.standing() if speaker is None else None)
        run, samples = terms.played or ("", 0)
        record = speaker.come_back(samples if run == speaker.run_id else None)
        for speech in speaker.speeches():
            self.send(speech)
        return encode_standing(StandingReply(run=speaker.run_id, state=record.state, at=speaker.reply.pace.sent))

    def is_current(self, frame: SoundFrame) -> bool:
        """Tells whether a frame that has waited is still to be sent."""
        speaker = self._speaker
        return speaker is not None and (frame.run, frame.number) == (speaker.run_id, speaker.pauses)

    def played(self, run: str, samples: int) -> None:
        """Takes a report of what was heard. Raises BadRequest (`bad_played`)."""
        if self._speaker is not None and self._speaker.run_id == run:
            try:
                self._speaker.report(samples)
            except ValueError as err:
                raise BadRequest(f"played: {err}", code="bad_played") from err

    def interrupt(self, run: str, samples: int | None) -> None:
        """Ends the reply, because its listener has pressed a button."""
        if samples is not None:
            self.played(run, samples)
        if self._speaker is not None and self._speaker.run_id == run:
            self._speaker.interrupt("button")

    def type(self, message_id: str, text: str) -> None:
        """Asks what was typed, which ends the reply before it."""
        if self._speaker is not None:
            self._speaker.interrupt("typed")
        self._ask(Question(message_id, text))

    def read_on(self, run: str, start: int) -> None:
        """Speaks an answer from one of its characters on."""
        if self._speaker is not None:
            self._speaker.interrupt("read on")
        self._queue(ReplyRecord(run=run, state="thinking", chars=start, next_char=start, number=0, at_ms=now_ms()))

    def _ask(self, question: Question) -> None:
        self._queue(question)

    def _queue(self, item: Question | ReplyRecord) -> None:
        if len(self._questions) >= MAX_QUESTIONS:
            raise Overloaded(f"{MAX_QUESTIONS} turns wait for their answers", code="too_many_turns")
        self._questions.append(item)
        self._wake()

    # As a listener of its speaker

    def record(self, reply: ReplyRecord, *messages: FromServer) -> None:
        self._record = ConversationRecord(taken=self._record.taken, reply=reply)
        self._live.note(encode_record(self._record), *messages)

    def play(self, frame: SoundFrame) -> None:
        if self._live.attachment is not None:
            self._live.attachment.put(frame)

    @property
    def is_decoding(self) -> bool:
        return self._live.session.has_pending or self._live.session.is_open

    def send(self, message: FromServer) -> None:
        if self._live.attachment is not None:
            self._live.attachment.put(message)

    # Its life

    async def run(self) -> None:
        """Converses until the session is over in this process."""
        try:
            await self._restore()
            while not self._is_over:
                item = self._next()
                if item is None:
                    await self._wait()
                    continue
                try:
                    await self._converse(item)
                except TrilaneError as err:
                    self._fail(item, err)
        finally:
            await asyncio.gather(*self._telling, return_exceptions=True)

    async def _restore(self) -> None:
        """Takes up what another process has left: speech that it has not asked, and the reply that it spoke."""
        state = self._live.session_log.state
        if isinstance(state.companion, UnsetType):  # it begins
            self._live.note(encode_record(self._record))
        elif state.settled:
            session_log = self._live.session_log
            _, missed = await session_log.replay(await session_log.recent(MISSED_S))
            for message in missed:
                first = message.turn
                if isinstance(message, Final) and first is not None and first >= self._record.taken:
                    self._attention.hear(first, round(message.end * SAMPLE_RATE), message.text)
                    self._attention.close(first, self._clock())
        reply = self._record.reply
        if reply is not None and reply.state not in ENDS:
            if reply.is_left(now_ms()):
                self._tell(reply.run, "unspoken", reply.chars)
            else:
                self._questions.appendleft(reply)

    def _next(self) -> Question | ReplyRecord | None:
        """Returns what is to be answered next, or gone on with."""
        if not self._questions and (turn := self._attention.take(self._clock())) is not None:
            session = self._live.session_log.session
            return Question(f"v_{session}_{turn.first}", turn.text, session, turn.first, turn.end)
        return self._questions.popleft() if self._questions else None

    async def _wait(self) -> None:
        due_at = self._attention.due_at
        self._news.clear()
        try:
            async with asyncio.timeout(None if due_at is None else max(due_at - self._clock(), 0.001)):
                await self._news.wait()
        except TimeoutError:
            return  # a turn is over

    async def _converse(self, item: Question | ReplyRecord) -> None:
        """Asks, and speaks the answer; or goes on with a reply."""
        terms = self.terms
        if isinstance(item, ReplyRecord):
            answer = await self._answers.open(terms.who, terms.chat, item.run)
            await self._speak(answer, item.place(*self._standing(item))[0])
            return
        answer = await self._answers.ask(terms.who, terms.chat, item, terms.model)
        if not answer.run_id:
            self.send(ReplyMessage(run="", state="thinking", reason="busy", message_id=item.message_id))
        await answer.begin()
        self._record = ConversationRecord(taken=max(self._record.taken, item.end), reply=self._record.reply)
        first = item.first if item.session else None
        turn = TurnMessage(
            turn=first, text=item.text, message_id=item.message_id, run=answer.run_id, cursor=answer.cursor
        )
        thinking = ReplyMessage(run=answer.run_id, state="thinking")
        self.record(ReplyRecord(run=answer.run_id, state="thinking", at_ms=now_ms()), turn, thinking)
        await self._speak(answer, BEGINNING)

    def _standing(self, reply: ReplyRecord) -> tuple[int, str]:
        """Returns how far its client has heard a reply, and the voice that goes on."""
        run, samples = self.terms.played or ("", 0)
        return (samples if run == reply.run else 0), self.terms.engine

    def standing(self) -> StandingReply | None:
        """Returns the reply of another process that goes on here."""
        reply = self._record.reply
        if reply is None or reply.state in ENDS or reply.is_left(now_ms()):
            return None
        place, is_restated = reply.place(*self._standing(reply))
        state: ReplyState = "speaking" if reply.number else "thinking"
        return StandingReply(run=reply.run, state=state, at=place.at, restated=is_restated)

    async def _speak(self, answer: AnswerText, place: ReplyPlace) -> None:
        terms = self.terms
        barge_in = BargeIn(terms.barge_in, has_echo=self._has_echo)
        speaker = ReplySpeaker(self, terms.voice, answer, barge_in, place, terms.engine)
        speaker.tell = lambda state, chars: self._tell(answer.run_id, state, chars)
        self._speaker = speaker
        if self._live.attachment is None:
            speaker.leave()
        try:
            await speaker.speak(terms.who)
        finally:
            self._has_echo = barge_in.has_echo
            if speaker.reply.state == "spoken" and self._has_echo:
                self._attention.note_spoken(speaker.reply.recent_words(self._clock()), self._clock())
            self._speaker = None
        await asyncio.gather(*self._telling, return_exceptions=True)

    def _tell(self, run: str, state: ReplyState, chars: int) -> None:
        """Tells the chat how far an answer is spoken."""
        terms, session = self.terms, self._live.session_log.session
        spoken = SpokenState(run, state, chars)

        async def tell() -> None:
            try:
                await self._answers.tell(terms.who, terms.chat, session, spoken, stops=state == "interrupted")
            except TrilaneError as err:
                log.warning("a chat cannot be told of a reply", run=run, state=state, reason=str(err))

        before = list(self._telling)

        async def tell_in_order() -> None:
            await asyncio.gather(*before, return_exceptions=True)
            await tell()

        task = asyncio.get_running_loop().create_task(tell_in_order(), name="tell a chat of a reply")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _fail(self, item: Question | ReplyRecord, error: TrilaneError) -> None:
        """Says that there is no answer; the conversation goes on."""
        message_id = item.message_id if isinstance(item, Question) else ""
        run = item.run if isinstance(item, ReplyRecord) else ""
        log.info("a turn was not answered", code=error.code, reason=error.detail)
        self.send(ReplyMessage(run=run, state="failed", reason=error.code, message_id=message_id))

    @property
    def _is_answering(self) -> bool:
        """Tells whether an answer is on its way, so that what is said may only accompany it."""
        return self._speaker is not None and self._speaker.reply.is_alive

    def _wake(self) -> None:
        self._news.set()


def _nobody() -> None:
    """Does nothing: nothing is under way."""
