"""Asks in the chats of this process: a turn is sent as any message of a client is, and its run is read from the log.

A message that comes while another answer is being written waits for that; a conversation never starts a second run.
The run belongs to the chat and to no socket, so it goes on whatever becomes of whoever listens.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
from msgspec import Raw

from events.log.cursor import NOWHERE, encode_cursor
from events.log.hub import Hub, TopicReader
from events.log.port import NO_EVENTS, Block, EventLog, Position
from gateway.access.grants import Principal
from gateway.chat.chats import again
from gateway.chat.lane import ChatLane
from gateway.chat.record_source import PLAIN_RECORDS, PlainRecords
from gateway.chat.records.chat_record import ReplySpoken, StopCommand, decode_event
from gateway.chat.records.message_facts import facts_in
from gateway.chat.records.messages import UIMessage
from gateway.chat.records.record import (
    MessageAbort,
    MessageError,
    MessageFinish,
    Metadata,
    TextDelta,
    TextEnd,
    decode_record,
)
from gateway.chat.roles import has_right
from gateway.chat.run_start import AttachedReader
from gateway.chat.sending import WaitingReader
from gateway.chat.submission import SendRequest
from gateway.chat.topics import run_id_of
from gateway.chat.turn_reader import TurnReader
from gateway.errors import Forbidden, NotFound, TrilaneError
from gateway.voice.answers import AnswerEnd, AnswerPiece, AnswerText, PartEnd, Question, SpokenState

KEY = "voice:"
"""Prefix of the key of a turn's request: the same turn is the same run, however often it is heard."""


class ChatAnswer(AnswerText):
    """One run of a chat, as it is read to be spoken."""

    def __init__(self, log: EventLog, hub: Hub, reader: TopicReader | TurnReader, topic: str, run_id: str) -> None:
        """`topic`: that of the chat; `run_id`: empty while the run has not begun, which `note_run` is told then."""
        self.run_id = run_id
        self.on_stop: Callable[[], None] = _nobody
        self._log = log
        self._hub = hub
        self._reader = reader
        self._topic = topic
        self._unwatch: Callable[[], None] = _nobody
        self._rest: list[bytes] = []

    @property
    def cursor(self) -> str:
        return encode_cursor(self.run_id, NOWHERE)

    def note_run(self, run_id: str) -> PlainRecords:
        """Notes which run it is; returns how its records are read."""
        self.run_id = run_id
        return PLAIN_RECORDS

    async def begin(self) -> None:
        await self._watch()
        while not self.run_id and not self._reader.ended:
            self._rest += await self._lines()
        if not self.run_id:
            raise TrilaneError("the message was removed before it was answered", code="unqueued")

    async def _watch(self) -> None:
        """Looks out for commands to stop it, from whichever device."""
        state = await self._log.read(self._topic, NO_EVENTS, max_events=1)
        self._unwatch = self._hub.watch(self._topic, Position(state.epoch, state.head), self._see)

    def _see(self, block: Block) -> None:
        for data in block.data if block.name == StopCommand.event else ():
            command = decode_event(block.name, data)
            if isinstance(command, StopCommand) and command.run_id == self.run_id:
                self.on_stop()

    async def pieces(self) -> AsyncIterator[AnswerPiece]:
        code = ""
        while True:
            lines, self._rest = self._rest or await self._lines(), []
            for line in lines:
                match decode_record(line):
                    case TextDelta(delta=delta):
                        yield delta
                    case TextEnd():
                        yield PartEnd()
                    case Metadata(message_metadata=facts):
                        code = facts_in(facts).code or code
                    case MessageFinish(finish_reason=reason):
                        yield AnswerEnd("waiting" if reason == "tool-calls" else "finish")
                        return
                    case MessageError():
                        yield AnswerEnd("failed", code or "interrupted")
                        return
                    case MessageAbort(reason=reason):
                        yield AnswerEnd("stopped", reason)
                        return
                    case _:
                        pass
            if not lines and self._reader.ended:
                yield AnswerEnd("failed", "evicted")
                return

    async def _lines(self) -> list[bytes]:
        """Waits for records; returns none when there are no more."""
        while (data := self._reader.poll()) is None:
            await self._reader.catch_up()
        if not data and not self._reader.ended:
            await _woken(self._reader)
            while (data := self._reader.poll()) is None:
                await self._reader.catch_up()
        return data.splitlines() if data else []

    def close(self) -> None:
        self.on_stop = _nobody
        self._unwatch()
        self._reader.close()


class ChatAnswers:
    """Asks in the chats that this process serves."""

    def __init__(self, lane: ChatLane, log: EventLog, hub: Hub) -> None:
        self._lane = lane
        self._log = log
        self._hub = hub

    async def admit(self, who: Principal, chat_id: str) -> None:
        if not who.grants.chat:
            raise Forbidden("this token does not allow the chat lane", code="chat_forbidden")
        try:
            with self._lane.chats.in_memory.hold() as held:
                history = await self._lane.chats.read(who.sub, chat_id, held)
        except NotFound as err:
            raise NotFound(err.detail, code="chat_unknown") from err
        if history.epoch and not has_right(history, who.sub, "send"):
            raise Forbidden(f"you may not send messages in the chat {chat_id!r}", code="chat_forbidden")

    async def ask(self, who: Principal, chat_id: str, question: Question, model: str) -> AnswerText:
        request = SendRequest(
            id=chat_id,
            message=message_of(question),
            model=model or None,
            when_busy="queue",
            on_disconnect="continue",
        )
        answer: ChatAnswer | None = None
        run_ids: list[str] = []

        def encoder_of(run_id: str) -> PlainRecords:
            run_ids.append(run_id)
            return answer.note_run(run_id) if answer is not None else PLAIN_RECORDS

        key = KEY + question.message_id
        sent = await self._lane.sending.send(who, request, key, {}, encoder_of, has_stream=False)
        if not isinstance(sent, AttachedReader | WaitingReader):
            raise TrilaneError("what was said was taken as an answer to what is asked in this chat", code="chat_busy")
        run_id = run_id_of(sent.reader.topic) if isinstance(sent, AttachedReader) else ""
        answer = ChatAnswer(self._log, self._hub, sent.reader, sent.chat, run_id or (run_ids[-1] if run_ids else ""))
        return answer

    async def open(self, who: Principal, chat_id: str, run_id: str) -> AnswerText:
        with self._lane.chats.in_memory.hold() as held:
            history = await self._lane.chats.existing(who, chat_id, held, "read")
        if run_id not in history.runs:
            raise NotFound(f"the chat {chat_id!r} has no run {run_id[:40]!r}", code="run_unknown")
        attached = await self._lane.chats.attach(chat_id, run_id, None, PLAIN_RECORDS, history.topic)
        answer = ChatAnswer(self._log, self._hub, attached.reader, history.topic, run_id)
        await answer.begin()
        return answer

    async def tell(self, who: Principal, chat_id: str, session: str, spoken: SpokenState, *, stops: bool) -> None:
        run_id, state, chars = spoken

        async def attempt() -> None:
            with self._lane.chats.in_memory.hold() as held:
                history = await self._lane.chats.existing(who, chat_id, held, "send")
            started = history.runs.get(run_id)
            if started is None:
                return
            told = ReplySpoken(run_id=run_id, message_id=started.message_id, session=session, state=state, chars=chars)
            is_active = history.active is not None and history.active.run_id == run_id
            stop = [StopCommand(run_id)] if stops and is_active else []
            await self._lane.chats.append(who, history, [told, *stop])

        await again(attempt)


def message_of(question: Question) -> UIMessage:
    """Returns a question as the message that stands in the chat."""
    part = Raw(msgspec.json.encode({"type": "text", "text": question.text}))
    message = UIMessage(id=question.message_id, role="user", parts=[part])
    if question.session:
        spoken = {"session": question.session, "start": question.first, "end": question.end}
        message.metadata = Raw(msgspec.json.encode({"spoken": spoken}))
    return message


async def _woken(reader: TopicReader | TurnReader) -> None:
    """Returns when a reader may have more, or has ended."""
    news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    reader.on_wake = lambda: news.done() or news.set_result(None)
    await news


def _nobody() -> None:
    """Does nothing: nobody watches."""
