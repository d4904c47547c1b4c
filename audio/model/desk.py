"""Who is with the model next: a fair queue over all sessions of the process.

A session stands in the queue at most once for each urgency, and says what is to be done when its turn comes, with the
audio it has by then: work that became stale while it waited is never begun, and no queue can grow. Finals go before
partials; guesses at a final are made only when nobody waits. Among equals, who asked first is first, and each session
has one task at the model at a time: nobody's audio waits for all the audio of another.

Nobody listens to a file while it is put into words, so that is done behind all of them: in the time they leave, and
never by the last worker while people speak. A call cannot be interrupted, and one about 24 s takes half a second.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from audio.model.transcriber import Transcriber, Transcription, TranscriptionTask
from audio.policy import NARROWEST_S, TOO_BUSY, WIDEST_S, step_s

URGENCIES = 4
BACKGROUND = 3
"""The urgency of what nobody listens to."""
WATCH_S = 1.0
"""How often the load is judged."""
SPOKEN_S = 30.0
"""For so long after the last task of a live session, a worker is kept free of background work."""

log = structlog.get_logger("audio")


class DeskClient(Protocol):
    """Someone with work for the model."""

    def wants(self, step_s: float) -> int | None:
        """How urgent its next task is (0 most); None: it has none now."""
        ...

    def take(self) -> TranscriptionTask: ...
    def heard(self, task: TranscriptionTask, answer: Transcription) -> None: ...
    def failed(self) -> None: ...


class Desk:
    """Call `ask` whenever a client may want something; it is called back on the event loop."""

    def __init__(self, transcriber: Transcriber, clock: Callable[[], float] = time.monotonic) -> None:
        self._transcriber = transcriber
        self._clock = clock
        self._queues: list[deque[DeskClient]] = [deque() for _ in range(URGENCIES)]
        self._standing: list[set[DeskClient]] = [set() for _ in range(URGENCIES)]
        self._free = transcriber.workers
        self._behind: set[object] = set()
        """Of the calls that run, those of background work."""
        self._live_at = -SPOKEN_S + clock()
        """When a live session was served last."""
        self._busy_s = 0.0
        self._judged_at = clock()
        self._running: dict[object, float] = {}
        """When each call of a live session began."""
        self.step_s = NARROWEST_S
        self.busy = 0.0
        """Share of the workers' time that live sessions used, of late; background work gives way to them."""

    def ask(self, client: DeskClient) -> None:
        """Puts a client into the queue, if it wants something and is not there."""
        urgency = client.wants(self.step_s)
        if urgency is not None and client not in self._standing[urgency]:
            self._standing[urgency].add(client)
            self._queues[urgency].append(client)
            self._serve()

    @property
    def is_full(self) -> bool:
        """Hypotheses are as rare as they may be, and the workers are busy all the same."""
        self._judge()
        return self.step_s == WIDEST_S and self.busy > TOO_BUSY

    def leave(self, client: DeskClient) -> None:
        """Forgets a client; its task with the model, if any, is answered to it all the same."""
        for queue, standing in zip(self._queues, self._standing, strict=True):
            if client in standing:
                standing.discard(client)
                queue.remove(client)

    def _serve(self) -> None:
        self._judge()
        while self._free:
            urgency, batch = self._next()
            if not batch:
                return
            self._free -= 1
            call = self._transcriber.transcribe([task for _, task in batch])
            if urgency == BACKGROUND:
                self._behind.add(call)
            else:
                self._running[call] = self._live_at = self._clock()
            call.add_done_callback(lambda done, batch=batch: self._answered(done, batch))

    def _next(self) -> tuple[int, list[tuple[DeskClient, TranscriptionTask]]]:
        """The next tasks, alike, as many as one call takes; and how urgent they are."""
        for urgency in range(URGENCIES if self._has_time() else BACKGROUND):
            batch: list[tuple[DeskClient, TranscriptionTask]] = []
            queue = self._queues[urgency]
            for _ in range(len(queue)):
                if len(batch) == self._transcriber.batch:
                    break
                client = queue.popleft()
                self._standing[urgency].discard(client)
                if client.wants(self.step_s) != urgency:
                    self._requeue(client)
                    continue
                task = client.take()
                batch.append((client, task))
            if batch:
                return urgency, batch
        return BACKGROUND, []

    def _has_time(self) -> bool:
        """Whether background work may take one more worker."""
        is_spoken = self._clock() - self._live_at < SPOKEN_S
        return len(self._behind) < max(1, self._transcriber.workers - is_spoken)

    def _requeue(self, client: DeskClient) -> None:
        """What it wants may have become another urgency while it waited."""
        urgency = client.wants(self.step_s)
        if urgency is not None and client not in self._standing[urgency]:
            self._standing[urgency].add(client)
            self._queues[urgency].append(client)

    def _answered(
        self, done: asyncio.Future[list[Transcription]], batch: list[tuple[DeskClient, TranscriptionTask]]
    ) -> None:
        self._free += 1
        if done in self._behind:
            self._behind.discard(done)
        else:
            self._busy_s += self._clock() - self._running.pop(done)
        failure = None if done.cancelled() else done.exception()
        if done.cancelled() or failure is not None:
            if failure is not None:
                log.error("the model failed", tasks=len(batch), exc_info=failure)
            for client, _ in batch:
                client.failed()
        else:
            for (client, task), answer in zip(batch, done.result(), strict=True):
                client.heard(task, answer)
        for client, _ in batch:
            self._requeue(client)
        self._serve()

    def _judge(self) -> None:
        """Widens or narrows the step by how busy the workers were since it was judged last."""
        now = self._clock()
        since = now - self._judged_at
        if since < WATCH_S:
            return
        running = sum(now - max(began, self._judged_at) for began in self._running.values())
        self.busy = min(1.0, (self._busy_s + running) / (since * self._transcriber.workers))
        self.step_s = step_s(self.step_s, self.busy)
        self._busy_s, self._judged_at = 0.0, now
        self._running = dict.fromkeys(self._running, now)
