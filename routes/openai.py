"""The OpenAI wire format, for SDKs that know only that. These runs belong to no chat and end with their connection."""

import asyncio
import time
from typing import Any

import msgspec
from litestar import get, post
from litestar.types import ASGIApp

from gateway.chat.dialects.openai import CompletionFrames, CompletionRequest, completion
from gateway.chat.dialects.ui_message import DONE
from gateway.chat.ending import Failed, RunInfo, new_run_id
from gateway.chat.lane import ChatLane
from gateway.chat.run import Run
from gateway.errors import TrilaneError
from gateway.serving.sse import EventStream, send_problem
from routes.requests import AnyRequest, body_of, caller, decode


class Model(msgspec.Struct):
    id: str
    owned_by: str
    object: str = "model"
    created: int = 0


class ModelList(msgspec.Struct):
    data: list[Model]
    object: str = "list"


@get("/v1/models", summary="The models that can be asked")
async def models(request: AnyRequest, chat: ChatLane) -> ModelList:
    caller(request)
    return ModelList([Model(model, upstream) for model, upstream in await chat.upstreams.models()])


@post("/v1/chat/completions", status_code=200, summary="One completion, streamed or whole")
async def completions(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    limits = chat.settings.limits
    asked = decode(await body_of(request, limits.body_bytes), CompletionRequest)
    run_id = new_run_id()
    size = sum(map(len, asked.messages))
    info = RunInfo(run_id=run_id, sub=who.sub, message_id=f"msg-{run_id}", model=asked.model, prompt_bytes=size)
    chat.streams.admit()
    run = chat.runs.make(info, asked.for_upstream(limits.messages, limits.output_tokens), [], "cancel")
    if not asked.stream:
        await chat.runs.begin(run)
        return _Whole(chat, run, asked.model)
    usage = bool(asked.stream_options and asked.stream_options.include_usage)
    frames = CompletionFrames(run_id, asked.model, int(time.time()), include_usage=usage)
    reader = chat.hub.open_new(run.topic, frames)
    try:
        await chat.runs.begin(run)
    except BaseException:
        reader.close()
        raise
    return EventStream(
        reader,
        ping_s=chat.settings.ping_s,
        open_streams=chat.streams,
        verdict=run.verdict,
        resumable=False,
        prime_s=chat.settings.prime_s,
        end=DONE,
        on_close=chat.runs.attached(run),
    )


class _Whole:
    """Answers with a finished run; ends it when the client leaves first."""

    def __init__(self, chat: ChatLane, run: Run, model: str) -> None:
        self._chat = chat
        self._run = run
        self._model = model

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        run, detach = self._run, self._chat.runs.attached(self._run)
        gone = asyncio.get_running_loop().create_task(_gone(receive))
        try:
            await asyncio.wait((run.finished, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
        finally:
            gone.cancel()
            detach()
        await self._answer(scope, send)

    async def _answer(self, scope: Any, send: Any) -> None:
        finished, outcome = self._run.finished.result(), self._run.outcome
        if isinstance(outcome, Failed) or finished is None or finished.outcome != "finish":
            error = (
                outcome.error if isinstance(outcome, Failed) else TrilaneError("the answer was stopped", code="aborted")
            )
            await send_problem(error, scope, send)
            return
        model = self._run.model or self._model
        body = msgspec.json.encode(completion(finished, model, int(time.time())))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


ROUTES = [models, completions]
