"""Answers clients of AG-UI: a thread is a chat of the caller's, and each run of it one of that chat's."""

from typing import cast

import msgspec
from msgspec import Raw

from events.log.cursor import decode_cursor
from gateway.access.grants import Principal
from gateway.chat.chat_streams import ChatStreams
from gateway.chat.chats import Chats
from gateway.chat.dialects.agui import AguiEvents
from gateway.chat.dialects.agui_forms import AguiRun, error_frame, refused_run
from gateway.chat.dialects.agui_request import RunAgentInput
from gateway.chat.record_source import CursorRecords, RecordSource
from gateway.chat.run_start import AttachedReader
from gateway.chat.runs import Runs
from gateway.chat.sending import Parked, Sending, Steered, WaitingReader
from gateway.chat.submission import OURS, SendRequest, extra_fields
from gateway.chat.topics import check_id, run_id_of
from gateway.core.leniency import lenient_decoder
from gateway.errors import BadRequest, Gone, TrilaneError
from gateway.serving.bodies import HeldBody
from gateway.serving.sse import EventStream

SAID_ELSEWHERE = {"id", "messages", "message", "trigger", "messageId", "background", "truncate", "whenBusy"}
"""Fields of ours that a thread has no use for, or says elsewhere."""
OPTIONS = OURS - SAID_ELSEWHERE - {"system", "tools"}
"""Fields of ours that `forwardedProps` may hold."""
_options = lenient_decoder(SendRequest)
STILL_ASKED = "other interrupts of this run are still open: answer all of them in one `resume`"


class AguiLane:
    """The part of the chat lane that answers AG-UI."""

    def __init__(self, chats: Chats, sending: Sending, runs: Runs, streams: ChatStreams) -> None:
        self._chats = chats
        self._sending = sending
        self._runs = runs
        self._streams = streams

    async def run(self, who: Principal, asked: RunAgentInput, body: HeldBody) -> EventStream | bytes:
        """Returns the stream of the run that is asked for, or of the one that this `runId` has started before.

        All frames of it where it does not begin. Raises TrilaneError.
        """
        check_id("runId", asked.run_id)
        request, extra = _send_request(asked)
        sent = await self._sending.send(who, request, asked.run_id, extra, CursorRecords)
        if isinstance(sent, Parked | Steered | WaitingReader):
            return refused_run(asked.run(""), STILL_ASKED, "interrupts_open")
        if sent.run is not None:
            body.keep_until(sent.run.verdict)
        return await self._stream(who, asked.run(run_id_of(sent.reader.topic)), sent)

    async def resume(self, who: Principal, asked: RunAgentInput, cursor: str) -> EventStream | None:
        """Returns the stream of a run from a cursor on; None where that has the end of it. Raises Gone, NotFound."""
        run_id, position = decode_cursor(cursor)
        told = asked.run(run_id)
        with self._chats.in_memory.hold() as held:
            history = await self._chats.existing(who, check_id("threadId", asked.thread_id), held)
        if run_id not in history.runs:
            self._runs.figures.note_resume("unknown_cursor")
            raise Gone("this thread has no such run", code="unknown_cursor")
        attached = await self._chats.attach(asked.thread_id, run_id, None, CursorRecords(run_id), history.topic)
        ring = attached.reader.ring
        if position.offset and (position.epoch != ring.epoch or position.offset > ring.head):
            attached.reader.close()
            raise Gone("this run has no such event", code="unknown_cursor")
        self._runs.figures.note_resume("recovered", ring.head - position.offset)
        if ring.closed and position.offset >= ring.head:
            attached.reader.close()
            return None
        return await self._stream(who, told, attached, position.offset)

    async def _stream(self, who: Principal, told: AguiRun, attached: AttachedReader, after: int = 0) -> EventStream:
        run_id = run_id_of(attached.reader.topic)
        return await self._streams.open(
            who,
            attached,
            RecordSource(attached.reader, AguiEvents(run_id, told, after)),
            verdict=attached.run.verdict if attached.run is not None and not after else None,
            resumable=after > 0,  # AG-UI's own client keeps no ids: a drain lets it read on
            apology=_apology,
        )


def _send_request(asked: RunAgentInput) -> tuple[SendRequest, dict[str, Raw]]:
    """Returns what is sent to the chat, and the fields that are not ours. Raises BadRequest."""
    props = asked.props()
    options = {name: value for name, value in props.items() if name in OPTIONS}
    try:
        request = cast(SendRequest, _options(msgspec.json.encode({"id": asked.thread_id, **options})))
    except msgspec.DecodeError as err:
        raise BadRequest(f"forwardedProps: {err}", code="bad_body") from err
    request.messages, request.system = asked.conversation()
    request.tools = asked.functions()
    return request, extra_fields({name: value for name, value in props.items() if name not in OPTIONS})


def _apology(error: TrilaneError) -> bytes:
    """Returns the last frame for a member who was removed; else the stream is cut, for the run may go on."""
    return error_frame(error.detail, error.code) if error.code == "removed" else b""
