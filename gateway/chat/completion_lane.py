"""Answers OpenAI's chat completions: each is a run of no chat, which ends with its connection."""

import time
from functools import partial
from typing import cast

import msgspec
from msgspec import Raw

from gateway.access.grants import Principal
from gateway.chat.dialects.completion_request import CompletionRequest
from gateway.chat.dialects.openai import CompletionFrames, completion, error_frame
from gateway.chat.dialects.ui_message import DONE
from gateway.chat.fetches import check_fetches
from gateway.chat.lone_runs import LoneRuns
from gateway.chat.records.chat_record import RunFinished
from gateway.chat.records.recorder import Recorder
from gateway.chat.run import Run
from gateway.chat.runs import Runs
from gateway.chat.whole_answer import AsgiAnswer, stopped
from gateway.core.leases import Lease
from gateway.serving.bodies import HeldBody
from gateway.serving.sse import EventStream
from gateway.settings import Settings


class CompletionLane:
    """The part of the chat lane that answers chat completions."""

    def __init__(self, settings: Settings, lone_runs: LoneRuns, runs: Runs) -> None:
        self._settings = settings
        self._lone_runs = lone_runs
        self._runs = runs

    async def create(
        self, who: Principal, request: CompletionRequest, fields: dict[str, Raw], body: HeldBody
    ) -> AsgiAnswer:
        """Answers a request, of whose body `fields` are all fields. Raises TrilaneError."""
        limits = self._settings.limits
        info = self._lone_runs.info(who, request.model, sum(map(len, request.messages)))
        asked = request.for_upstream(fields, limits.messages, limits.output_tokens)
        check_fetches(cast("list[object]", asked["messages"]), self._settings.allowed_fetches)
        has_functions = request.wants_function_call(fields)
        async with self._lone_runs.admitted(who, info, asked, has_stream=request.stream) as lease:
            run = self._runs.make(info, asked, Recorder(), "cancel", lease)
            if request.stream:
                answer = await self._stream(who, run, request, lease, has_functions=has_functions)
            else:
                await self._runs.begin(run)
                answer = self._lone_runs.whole(who, run, lease, partial(_whole, run, has_functions=has_functions))
        body.keep_until(run.verdict)
        return answer

    async def _stream(
        self, who: Principal, run: Run, request: CompletionRequest, lease: Lease, *, has_functions: bool
    ) -> EventStream:
        options = {"include_usage": request.has_usage, "has_functions": has_functions}
        frames = CompletionFrames(run.info.run_id, request.model, int(time.time()), **options)
        reader = await self._lone_runs.begin(run, frames)
        return self._lone_runs.stream(
            who,
            reader,
            run,
            lease,
            apology=lambda error: error_frame(error.detail, {"code": error.code}) + DONE,
            verdict=run.verdict,
            end=DONE,
        )


async def _whole(run: Run, finished: RunFinished, *, has_functions: bool) -> bytes:
    """Returns a finished run as one completion; raises TrilaneError for one that was stopped."""
    if finished.outcome != "finish":
        raise stopped()
    return msgspec.json.encode(completion(finished, run.model, int(time.time()), has_functions=has_functions))
