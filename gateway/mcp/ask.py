"""The tool `ask`: a question to a model, which is a run of a chat of its own.

So the answer is in the log before it is told, and it can be found, read and stopped as every chat of the caller. Its
progress is the text as it is written. Up to 2025-11-25 a stream that was cut goes on after its cursor, on any process.
Since 2026-07-28 to close it is to cancel, and it has no cursors; who sent the request with a key may repeat it instead.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from events.log.cursor import NOWHERE, cursor_prefix, decode_cursor, encode_cursor
from events.log.port import Block, EventLog
from events.log.source import Source
from gateway.access.grants import Principal
from gateway.chat.ending import Aborted
from gateway.chat.history import read_history
from gateway.chat.lane import ChatLane
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.messages import UIMessage
from gateway.chat.records.record import (
    RECORD,
    RUN,
    MessageAbort,
    MessageError,
    MessageFinish,
    TextDelta,
    decode_record,
)
from gateway.chat.run_start import AttachedReader
from gateway.chat.submission import SendRequest
from gateway.chat.topics import chat_topic, run_topic
from gateway.errors import Gone, NotFound
from gateway.mcp.protocol import PRIMED_SINCE, RequestId, RpcHeaders, frame, progress, result, text_result
from gateway.mcp.tool import OfferedTool, RpcAnswer, ToolRequest

CHAT = "mcp-"
"""What begins the id of a chat that a call has made."""
STATED = "mcp"
"""The name under which a run keeps how its caller named the call."""

ELSEWHERE_S = 0.5
"""Seconds for which a cancellation waits for a call that it does not find: its run may be about to begin elsewhere."""
WAITS = "the model wants to call a tool, for which a person must answer in this chat first"


class AskArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `ask`."""

    question: Annotated[str, Meta(min_length=1, description="What to ask, with all that the model must know")]
    model: Annotated[str | None, Meta(description="Which model; none: the gateway's own choice")] = None
    system: Annotated[str | None, Meta(description="Instructions for the model")] = None


class CallerNames(msgspec.Struct, frozen=True, rename="camel"):
    """How the caller named a call: what its messages must say again, on whichever process."""

    id: RequestId
    progress_token: RequestId | None = None


class RecordLines(msgspec.Struct, frozen=True):
    """An encoder for a hub: each record of one run as a line with its cursor, everything else as nothing."""

    run_id: str

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name != RECORD:
            return [b""] * len(block.data)
        lead = cursor_prefix(self.run_id, epoch)
        return [b"%b%d %b\n" % (lead, offset, data) for offset, data in enumerate(block.data, block.first)]


class AnswerSource(Source):
    """A run as one caller sees it: progress as the text grows, and in the end the result with all of the text.

    It reads the run from its start, because the result tells all of it; what came up to offset `after` is not sent.
    """

    def __init__(
        self, reader: Source, names: CallerNames, headers: RpcHeaders, facts: dict[str, object], after: int = 0
    ) -> None:
        self.on_wake: Callable[[], object] = _nobody
        reader.on_wake = lambda: self.on_wake()
        self._reader = reader
        self._names = names
        self._headers = headers
        self._facts = facts
        self._after = after
        self._texts: list[str] = []
        self._size = 0
        self.lead = b""
        """Bytes before the first event."""

    @property
    def ended(self) -> bool:
        return self._reader.ended and not self.lead

    @property
    def complete(self) -> bool:
        return self._reader.complete

    def poll(self) -> bytes | None:
        if self.lead:
            lead, self.lead = self.lead, b""
            return lead
        while lines := self._reader.poll():
            if frames := self._frames(lines):
                return frames
        return lines

    async def catch_up(self) -> None:
        await self._reader.catch_up()

    def close(self) -> None:
        self._reader.close()

    def _frames(self, lines: bytes) -> bytes:
        """Returns the events for some whole lines: one progress for all text in them, and the result."""
        news, told_cursor, end = "", b"", b""
        for line in lines.split(b"\n")[:-1]:
            cursor, _, data = line.partition(b" ")
            match decode_record(data):
                case TextDelta(delta=delta):
                    self._texts.append(delta)
                    self._size += len(delta)
                    if int(cursor.rpartition(b".")[2]) > self._after:
                        news, told_cursor = news + delta, cursor
                case MessageFinish(finish_reason="tool-calls"):
                    end = self._event(self._result(WAITS), cursor)
                case MessageFinish():
                    end = self._event(self._result(), cursor)
                case MessageError(error_text=failure):
                    end = self._event(self._result(failure), cursor)
                case MessageAbort():
                    end = self._event(self._result("the answer was stopped"), cursor)
                case _:
                    pass
        token = self._names.progress_token
        return (
            self._event(progress(token, self._size, news), told_cursor) if news and token is not None else b""
        ) + end

    def _event(self, message: bytes, cursor: bytes) -> bytes:
        return frame(message, b"" if self._headers.is_stateless else cursor)

    def _result(self, failure: str = "") -> bytes:
        text = "".join(self._texts)
        told = f"{text}\n\n[{failure}]" if failure and text else failure or text
        fields = text_result(told, is_error=bool(failure), structured=self._facts)
        return result(self._names.id, self._headers, fields)


class AskTool(OfferedTool):
    name = "ask"
    description = "Asks a language model one question, and returns its answer as text."
    arguments = AskArguments

    def __init__(self, chat: ChatLane, log: EventLog) -> None:
        self._chat = chat
        self._log = log
        self._starting: dict[str, bool] = {}
        """Whether each call, by its chat, that has no run yet was cancelled meanwhile."""

    def is_for(self, who: Principal) -> bool:
        return who.grants.chat

    async def call(self, request: ToolRequest) -> RpcAnswer:
        asked = request.decode(AskArguments)
        chat_id = CHAT + (request.name or secrets.token_hex(16))
        part = Raw(msgspec.json.encode({"type": "text", "text": asked.question}))
        sent = SendRequest(
            id=chat_id,
            message=UIMessage(id=f"{chat_id}-q", role="user", parts=[part]),
            model=asked.model,
            system=asked.system,
            on_disconnect="cancel" if request.headers.is_stateless and not request.headers.key else "continue",
        )
        names = CallerNames(request.id, request.progress_token)
        stated = {STATED: Raw(msgspec.json.encode(names))}
        attached = await self._start(request.who, sent, stated)
        if attached.run is not None:
            request.body.keep_until(attached.run.verdict)
        return await self._stream(request.who, attached, names, request.headers, chat_id)

    async def _start(self, who: Principal, sent: SendRequest, stated: dict[str, Raw]) -> AttachedReader:
        """Starts a run, or finds it; one that is cancelled before it has begun is stopped as it begins."""
        topic = chat_topic(who.sub, sent.id)
        self._starting.setdefault(topic, False)
        try:
            attached = await self._chat.sending.send(who, sent, sent.id, stated, RecordLines)
        finally:
            is_cancelled = self._starting.pop(topic, False)
        assert isinstance(attached, AttachedReader), "the chat is this call's own"
        if is_cancelled and attached.run is not None:
            attached.run.stop(Aborted("stopped"))
        return attached

    async def stop(self, who: Principal, name: str) -> None:
        chat_id = CHAT + name
        topic = chat_topic(who.sub, chat_id)
        for pause_s in (ELSEWHERE_S, 0.0):
            if topic in self._starting:
                self._starting[topic] = True
            try:
                await self._chat.chats.stop(who, chat_id, None)
                return
            except NotFound:  # a call of another tool, or of nobody, or one that begins in another process
                await asyncio.sleep(pause_s)

    async def resume(self, who: Principal, cursor: str, headers: RpcHeaders) -> RpcAnswer | None:
        run_id, position = decode_cursor(cursor)
        chat_id = await self._chat_of(who, run_id)
        with self._chat.chats.in_memory.hold() as held:
            history = await read_history(self._log, who.sub, chat_id, held.count)
        stated = history.runs[run_id].extra.get(STATED) if run_id in history.runs else None
        if stated is None:
            raise Gone("the chat of this call is gone", code="unknown_cursor")
        beginning = encode_cursor(run_id, NOWHERE)
        attached = await self._chat.chats.follow(who, chat_id, beginning, lambda run_id, _: RecordLines(run_id))
        assert attached is not None, "with a cursor there is a run"
        names = msgspec.json.decode(stated, type=CallerNames)
        return await self._stream(who, attached, names, headers, chat_id, position.offset)

    async def _chat_of(self, who: Principal, run_id: str) -> str:
        """Returns the id of the chat that a caller's run belongs to; a run of anybody else is as if it were none."""
        part = await self._log.read(run_topic(run_id), 0, max_events=1)
        info = msgspec.json.decode(part.blocks[0].data[0], type=RunInfo) if _begins(part.blocks) else None
        if info is None or info.sub != who.sub:
            raise Gone("there is no such call, or it is not kept any more", code="unknown_cursor")
        return info.chat_id

    async def _stream(
        self,
        who: Principal,
        attached: AttachedReader,
        names: CallerNames,
        headers: RpcHeaders,
        chat_id: str,
        after: int = 0,
    ) -> RpcAnswer:
        reader = attached.reader
        source = AnswerSource(reader, names, headers, {"chatId": chat_id}, after)
        if headers.version >= PRIMED_SINCE and not headers.is_stateless and not after:
            run_id = reader.topic.partition("/")[2]
            source.lead = b"data: \nid: %b\n\n" % encode_cursor(run_id, NOWHERE).encode()
        return await self._chat.streams.open(who, attached, source, resumable=not headers.is_stateless)


def _begins(blocks: list[Block]) -> bool:
    return bool(blocks) and blocks[0].name == RUN and blocks[0].first == 1


def _nobody() -> None:
    """Does nothing: nobody is waiting."""
