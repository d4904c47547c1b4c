"""The models that a worker's agent asks by way of the gateway, side by side: what they tell goes to the worker."""

import asyncio
from collections.abc import Callable

import structlog

from gateway.chat.producers.completion import CompletionProducer
from gateway.chat.producers.producer import NEVER
from gateway.chat.producers.worker_calls import answer_with_model, request_of
from gateway.chat.upstreams.upstream import Request
from gateway.chat.workers.protocol import ModelAsked
from gateway.chat.workers.session import WorkSession
from gateway.core.usage import Usage, total_of

AskModelOf = Callable[[Request, str], CompletionProducer]
"""A function that returns the producer of one answer of a model, by its name."""

log = structlog.get_logger("agents")


class WorkerModels:
    """The models of one run, which its worker has asked."""

    def __init__(self, ask_model: AskModelOf) -> None:
        self._ask_model = ask_model
        self._all: list[CompletionProducer] = []
        self._answering: dict[str, CompletionProducer] = {}

    def ask(self, asked: ModelAsked) -> CompletionProducer:
        """Returns the producer of an answer. Raises UpstreamError (`bad_chunk`) for what cannot be asked."""
        producer = self._ask_model(request_of(asked), asked.model)
        self._all.append(producer)
        self._answering[asked.id] = producer
        return producer

    async def answer(
        self, session: WorkSession, asked: ModelAsked, producer: CompletionProducer, on_deadline: Callable[[], None]
    ) -> None:
        """Tells the worker what a model answers, to its end."""
        try:
            await answer_with_model(session, asked, producer, on_deadline)
        except Exception:
            log.exception("model failed", run=session.job.run_id)
        finally:
            self._answering.pop(asked.id, None)

    def flow(self, is_full: bool) -> None:
        """Has them wait while too much waits for the worker."""
        for producer in self._answering.values():
            (producer.pause if is_full else producer.resume)()

    def abort(self) -> None:
        for producer in self._answering.values():
            producer.abort()

    def deadline(self) -> float:
        return min([producer.deadline() for producer in self._answering.values()], default=NEVER)

    def expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for producer in list(self._answering.values()):
            if now >= producer.deadline():
                producer.expire()

    def usage(self) -> Usage | None:
        """Returns what they have cost; None when none was asked."""
        return total_of([producer.usage() for producer in self._all]) if self._all else None
