"""Answers with a run in one piece, once it is over: for clients that do not stream."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.access.grants import Principal
from gateway.chat.ending import Failed
from gateway.chat.records.chat_record import RunFinished
from gateway.chat.run import Run
from gateway.chat.runs import Runs
from gateway.errors import TrilaneError
from gateway.serving.refusals import send_problem
from gateway.serving.whole import Callers, while_connected

AsgiAnswer = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application that answers one request."""
Told = Callable[[RunFinished], Awaitable[bytes]]
"""A function that returns a run that is over as a dialect tells it; it may raise TrilaneError."""


def stopped() -> TrilaneError:
    """Returns the error of an answer that was stopped, for dialects that have no word for that."""
    return TrilaneError("the answer was stopped", code="aborted")


class WholeAnswer:
    """Answers with a finished run in one piece; ends the run when the client leaves first, or its credential ends."""

    def __init__(
        self,
        runs: Runs,
        run: Run,
        who: Principal,
        callers: Callers,
        told: Told,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self._runs = runs
        self._run = run
        self._who = who
        self._callers = callers
        self._told = told
        self._headers = headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        detach = self._runs.attached(self._run)
        try:
            async with self._callers.while_valid(self._who.key_id, self._who.remaining_s()) as watch:
                await while_connected(receive, self._answer(watch.ending_with(send)))
        except TrilaneError as err:
            await send_problem(err.with_traceback(None), scope, send)  # its frames hold the run, which holds it
        finally:
            detach()

    async def _answer(self, send: Any) -> None:
        run = self._run
        await asyncio.wait((run.finished,))
        finished, outcome = run.finished.result(), run.outcome
        if isinstance(outcome, Failed):
            raise outcome.error
        if finished is None:
            raise stopped()
        body = await self._told(finished)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
