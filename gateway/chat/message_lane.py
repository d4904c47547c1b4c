"""Answers Anthropic's Messages: each is a run of no chat, which ends with its connection, as a completion does."""

from functools import partial
from typing import cast

import msgspec
from msgspec import Raw

from gateway.access.grants import Principal
from gateway.chat.dialects.anthropic import MessageEvents, error_frame
from gateway.chat.dialects.anthropic_request import AnthropicRequest
from gateway.chat.fetches import check_fetches
from gateway.chat.record_source import PLAIN_RECORDS, RecordSource
from gateway.chat.records.chat_record import RunFinished, RunInfo
from gateway.chat.records.recorder import Recorder
from gateway.chat.records.retelling import records_of_run
from gateway.chat.run import Run
from gateway.chat.runs import Runs
from gateway.chat.topics import new_run_id
from gateway.chat.whole_answer import AsgiAnswer, WholeAnswer, stopped
from gateway.core.leases import Lease
from gateway.core.limits import wants_of_run
from gateway.core.process import Core
from gateway.core.usage import BYTES_PER_TOKEN, now_ms
from gateway.serving.bodies import HeldBody
from gateway.serving.open_streams import LaneStreams, TokenEnd
from gateway.serving.sse import EventStream


class MessageLane:
    """The part of the chat lane that answers Anthropic's Messages."""

    def __init__(self, core: Core, streams: LaneStreams, runs: Runs) -> None:
        self._settings = core.settings
        self._limiter = core.limiter
        self._callers = core.callers
        self._hub = core.hub
        self._streams = streams
        self._runs = runs

    async def create(
        self, who: Principal, request: AnthropicRequest, fields: dict[str, Raw], body: HeldBody
    ) -> AsgiAnswer:
        """Answers a request, of whose body `fields` are all fields. Raises TrilaneError."""
        limits, run_id = self._settings.limits, new_run_id()
        asked = request.for_upstream(fields, limits.messages, limits.output_tokens)
        check_fetches(cast("list[object]", asked["messages"]), self._settings.allowed_fetches)
        info = RunInfo(
            run_id=run_id,
            sub=who.sub,
            message_id=f"msg-{run_id}",
            model=request.model,
            prompt_bytes=request.prompt_bytes,
            started_ms=now_ms(),
            key=who.key_id,
        )
        await self._limiter.keep(who, topics=0, stored_bytes=0)
        wants = wants_of_run(request.prompt_bytes // BYTES_PER_TOKEN, asked, has_stream=request.stream)
        lease = await self._limiter.admit(who, wants)
        try:
            self._streams.admit()
            run = self._runs.make(info, asked, Recorder(), "cancel", lease)
            if request.stream:
                answer = await self._stream(who, run, lease)
            else:
                await self._runs.begin(run)
                answer = WholeAnswer(self._runs, run, who, self._callers, partial(_whole, run), lease.headers)
        except BaseException:
            lease.cancel()
            raise
        body.keep_until(run.verdict)
        return answer

    async def _stream(self, who: Principal, run: Run, lease: Lease) -> EventStream:
        reader = self._hub.open_new(run.topic, PLAIN_RECORDS)
        try:
            await self._runs.begin(run)
        except BaseException:
            reader.close()
            raise
        detach = self._runs.attached(run)
        return EventStream(
            RecordSource(reader, MessageEvents(run.info.run_id, run.info.model)),
            ping_s=self._settings.ping_s,
            open_streams=self._streams,
            headers=lease.headers,
            verdict=run.verdict,
            resumable=False,
            prime_s=self._settings.prime_s,
            apology=lambda error: error_frame(error.detail, error.code),
            leaves_cleanly=True,
            on_close=lease.end_of_stream(detach),
            token_end=TokenEnd(who.remaining_s()),
            key_id=who.key_id,
        )


async def _whole(run: Run, finished: RunFinished) -> bytes:
    """Returns a run that is over as one message; raises TrilaneError for one that was stopped."""
    if finished.outcome != "finish":
        raise stopped()
    events = MessageEvents(run.info.run_id, run.model, keeps_text=True)
    events.feed(records_of_run(finished))
    return msgspec.json.encode(events.message())
