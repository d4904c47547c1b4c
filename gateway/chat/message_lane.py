"""Answers Anthropic's Messages: each is a run of no chat, which ends with its connection, as a completion does."""

from functools import partial
from typing import cast

import msgspec
from msgspec import Raw

from gateway.access.grants import Principal
from gateway.chat.dialects.anthropic import MessageEvents, error_frame
from gateway.chat.dialects.anthropic_request import AnthropicRequest
from gateway.chat.fetches import check_fetches
from gateway.chat.lone_runs import LoneRuns
from gateway.chat.record_source import PLAIN_RECORDS, RecordSource
from gateway.chat.records.chat_record import RunFinished
from gateway.chat.records.recorder import Recorder
from gateway.chat.records.retelling import records_of_run
from gateway.chat.run import Run
from gateway.chat.runs import Runs
from gateway.chat.whole_answer import AsgiAnswer, stopped
from gateway.core.leases import Lease
from gateway.serving.bodies import HeldBody
from gateway.serving.sse import EventStream
from gateway.settings import Settings


class MessageLane:
    """The part of the chat lane that answers Anthropic's Messages."""

    def __init__(self, settings: Settings, lone_runs: LoneRuns, runs: Runs) -> None:
        self._settings = settings
        self._lone_runs = lone_runs
        self._runs = runs

    async def create(
        self, who: Principal, request: AnthropicRequest, fields: dict[str, Raw], body: HeldBody
    ) -> AsgiAnswer:
        """Answers a request, of whose body `fields` are all fields. Raises TrilaneError."""
        limits = self._settings.limits
        asked = request.for_upstream(fields, limits.messages, limits.output_tokens)
        check_fetches(cast("list[object]", asked["messages"]), self._settings.allowed_fetches)
        info = self._lone_runs.info(who, request.model, request.prompt_bytes)
        async with self._lone_runs.admitted(who, info, asked, has_stream=request.stream) as lease:
            run = self._runs.make(info, asked, Recorder(), "cancel", lease)
            if request.stream:
                answer = await self._stream(who, run, lease)
            else:
                await self._runs.begin(run)
                answer = self._lone_runs.whole(who, run, lease, partial(_whole, run))
        body.keep_until(run.verdict)
        return answer

    async def _stream(self, who: Principal, run: Run, lease: Lease) -> EventStream:
        reader = await self._lone_runs.begin(run, PLAIN_RECORDS)
        return self._lone_runs.stream(
            who,
            RecordSource(reader, MessageEvents(run.info.run_id, run.info.model)),
            run,
            lease,
            apology=lambda error: error_frame(error.detail, error.code),
            verdict=run.verdict,
        )


async def _whole(run: Run, finished: RunFinished) -> bytes:
    """Returns a run that is over as one message; raises TrilaneError for one that was stopped."""
    if finished.outcome != "finish":
        raise stopped()
    events = MessageEvents(run.info.run_id, run.model, keeps_text=True)
    events.feed(records_of_run(finished))
    return msgspec.json.encode(events.message())
