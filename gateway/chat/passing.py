"""Passes on what OpenAI's other routes are asked: the request as it came, the answer as it comes, to its own client.

Each is a run without records: it is admitted, charged and ended like any answer, and ends when its client leaves.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from gateway.access.grants import Principal
from gateway.chat.dialects.openai import error_frame
from gateway.chat.dialects.ui_message import DONE
from gateway.chat.lone_runs import LoneRuns
from gateway.chat.producers.passed import Passage, PassedProducer
from gateway.chat.run import Run
from gateway.chat.runs import Runs
from gateway.chat.whole_answer import AsgiAnswer
from gateway.core.leases import Lease
from gateway.core.process import Core
from gateway.errors import BadRequest, TrilaneError
from gateway.serving.bodies import HeldBody
from gateway.serving.refusals import send_problem
from gateway.serving.whole import Callers, CallerWatch, while_connected


class PassedRequest(msgspec.Struct, kw_only=True):
    """The fields of a request that we read; all others are the upstream's."""

    model: str = ""
    stream: bool = False
    max_tokens: Annotated[int, Meta(ge=0)] | None = None


class Passing:
    """The requests that one process passes on."""

    def __init__(self, core: Core, lone_runs: LoneRuns, runs: Runs) -> None:
        self._settings = core.settings
        self._callers = core.callers
        self._lone_runs = lone_runs
        self._runs = runs

    async def answer(
        self, who: Principal, passage: Passage, request: PassedRequest, fields: Mapping[str, Raw], body: HeldBody
    ) -> AsgiAnswer:
        """Begins what a request asks for, of whose body `fields` are all fields; returns what answers it."""
        limit = self._settings.limits.output_tokens
        if (tokens := request.max_tokens) is not None and tokens > limit:
            raise BadRequest(f"max_tokens={tokens} is more than the limit of {limit}", extra={"param": "max_tokens"})
        content = msgspec.json.encode(fields)  # as it came, but with one of each field
        info = self._lone_runs.info(who, request.model, len(content))
        asked: dict[str, object] = msgspec.json.decode(content)
        bounds = asked if passage.writes_text else {"max_tokens": 0}
        async with self._lone_runs.admitted(who, info, bounds, has_stream=request.stream) as lease:
            run, producer = self._runs.make_passed(info, passage, asked, content, lease)
            await self._runs.begin(run)
        body.keep_until(run.verdict)
        return PassedOn(self._runs, run, producer, who, self._callers, lease)


class PassedOn:
    """Answers with what an upstream answers, as it comes; ends the run when the client leaves, or its credential ends.

    An answer that is cut is cut here too, never ended: a stream says why before, as an `error` that SDKs raise.
    """

    def __init__(
        self, runs: Runs, run: Run, producer: PassedProducer, who: Principal, callers: Callers, lease: Lease
    ) -> None:
        self._runs = runs
        self._run = run
        self._producer = producer
        self._who = who
        self._callers = callers
        self._headers = lease.headers
        self._has_begun = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        detach = self._runs.attached(self._run)
        try:
            async with self._callers.while_valid(self._who.key_id, self._who.remaining_s()) as watch:
                await while_connected(receive, self._answer(send, watch))
        except TrilaneError as err:
            self._producer.fail(err.with_traceback(None))  # its frames hold the run, which holds it
            if not self._has_begun:
                await send_problem(err, scope, send)
            elif self._is_stream:
                await send(_piece(error_frame(err.detail, {"code": err.code}) + DONE))
            await asyncio.wait((self._run.finished,))  # else it ends as one whose client left
        finally:
            detach()

    @property
    def _is_stream(self) -> bool:
        return self._producer.answer is not None and self._producer.answer.is_stream

    async def _answer(self, send: Any, watch: CallerWatch) -> None:
        await asyncio.shield(self._run.verdict)
        answer = self._producer.answer
        if answer is None:
            raise TrilaneError("the answer was stopped", code="aborted")
        whole = watch.ending_with(send)
        send = send if answer.is_stream else whole
        length = [] if answer.size is None else [(b"content-length", b"%d" % answer.size)]
        headers = [(b"content-type", answer.content_type.encode()), *length, *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._has_begun = True
        while data := await answer.read():
            await send(_piece(data))
        self._producer.end()
        await asyncio.wait((self._run.finished,))
        await send({"type": "http.response.body", "body": b""})


def _piece(data: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": True}
