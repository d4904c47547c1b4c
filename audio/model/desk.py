"""Decides which task goes to the model next: a fair queue over all sessions of the process.

A client stands in the queue at most once for each urgency, and hands over its task when its turn comes, with the audio
it has by then: work that became stale while it waited is never begun, and no queue can grow. Finals go before partials;
guesses at a final are made only when nobody waits. Among equals the first to enter is served first, and each client has
one task with the model at a time: no session's audio waits for all the audio of another.

Nobody listens while a file is transcribed, so its work goes behind all of them: it gets the time they leave, and never
the last worker while people speak. A call cannot be interrupted, and one about 24 s of audio takes half a second.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import structlog

from audio.model.transcriber import SAMPLE_RATE, Transcriber, Transcription, TranscriptionTask

URGENCIES = 4
BACKGROUND = 3
"""The urgency of work that nobody listens to."""
NARROWEST_S = 0.3
"""Minimum of new audio between two hypotheses of a session; the busier the machine is, the more it becomes."""
WIDEST_S = 2.0
"""Maximum of new audio between two hypotheses of a session, however busy the machine is."""
WIDER = 1.25
"""Factor of one change of the step. The load changes by as much, so the step comes to rest with a little time left."""
TOO_BUSY, IDLE = 0.9, 0.7
"""Shares of the workers' time above and below which the step is widened and narrowed."""
WATCH_S = 1.0
"""Seconds between two judgements of the load."""
SPOKEN_S = 30.0
"""Seconds after the last task of a live session for which a worker is kept free of background work."""

log = structlog.get_logger("audio")


class DeskClient(Protocol):
    """A session that has work for the model from time to time."""

    def urgency(self, step_s: float) -> int | None:
        """Returns how urgent the client's next task is: 0 is the most urgent, None means that it has none now.

        `step_s` is the new audio that a partial must have, at the least.
        """
        ...

    def take_task(self) -> TranscriptionTask:
        """Hands over the task that `urgency` was about; `complete` or `fail` follows."""
        ...

    def complete(self, task: TranscriptionTask, answer: Transcription) -> None:
        """Takes the model's answer to the task."""
        ...

    def fail(self) -> None:
        """Notes that the model could not do the task."""
        ...


class DoneTask(NamedTuple):
    """A task that the model has done, as it is measured."""

    urgency: int
    waited_s: float
    """Seconds from when its client entered the queue until the model began."""
    took_s: float
    """Seconds that the model took, divided among the tasks of one call by their audio."""
    audio_s: float


class TaskBatch(NamedTuple):
    """Tasks that are alike, for one call of the model."""

    urgency: int
    tasks: list[tuple[DeskClient, TranscriptionTask]]
    entered_s: list[float]
    """The time at which the client of each task entered the queue."""


class Desk:
    """The queue before one transcriber. Clients are called back on the event loop."""

    def __init__(self, transcriber: Transcriber, clock: Callable[[], float] = time.monotonic) -> None:
        self._transcriber = transcriber
        self._clock = clock
        self._queues: list[deque[DeskClient]] = [deque() for _ in range(URGENCIES)]
        self._members: list[dict[DeskClient, float]] = [{} for _ in range(URGENCIES)]
        """The clients in each queue, for quick look-up, with the time at which each entered it."""
        self.on_done: Callable[[DoneTask], None] = _measure_nothing
        """Called with each task that the model has done."""
        self._idle_workers = transcriber.workers
        self._background_calls: set[object] = set()
        self._live_calls: dict[object, float] = {}
        """The calls of live sessions that run, with the time each began."""
        self._live_at = -SPOKEN_S + clock()
        """The time at which a live session was served last."""
        self._busy_s = 0.0
        self._judged_at = clock()
        self.step_s = NARROWEST_S
        self.busy = 0.0
        """The share of the workers' time that live sessions used lately; background work gives way to them."""

    def enqueue(self, client: DeskClient) -> None:
        """Puts a client into the queue if it has a task and is not in it; call this whenever it may have one."""
        if self._add(client):
            self._serve()

    @property
    def waiting(self) -> list[int]:
        """Returns how many clients wait, by their urgency."""
        return [len(queue) for queue in self._queues]

    @property
    def is_full(self) -> bool:
        """Tells whether the workers are busy though hypotheses are as rare as they may be."""
        self._judge()
        return self.step_s == WIDEST_S and self.busy > TOO_BUSY

    def remove(self, client: DeskClient) -> None:
        """Forgets a client; if a task of it is with the model, it is answered all the same."""
        for queue, members in zip(self._queues, self._members, strict=True):
            if client in members:
                del members[client]
                queue.remove(client)

    def _add(self, client: DeskClient) -> bool:
        urgency = client.urgency(self.step_s)
        if urgency is None or client in self._members[urgency]:
            return False
        self._members[urgency][client] = self._clock()
        self._queues[urgency].append(client)
        return True

    def _serve(self) -> None:
        self._judge()
        while self._idle_workers:
            batch = self._next_batch()
            if batch is None:
                return
            self._idle_workers -= 1
            began = self._clock()
            call = self._transcriber.transcribe([task for _, task in batch.tasks])
            if batch.urgency == BACKGROUND:
                self._background_calls.add(call)
            else:
                self._live_calls[call] = self._live_at = began
            call.add_done_callback(lambda call, batch=batch, began=began: self._finish(call, batch, began))

    def _next_batch(self) -> TaskBatch | None:
        """Returns the next tasks, as many as one call takes; None when there are none, or no time for them."""
        for urgency in range(URGENCIES if self._has_time() else BACKGROUND):
            batch = TaskBatch(urgency, [], [])
            queue = self._queues[urgency]
            for _ in range(len(queue)):
                if len(batch.tasks) == self._transcriber.batch:
                    break
                client = queue.popleft()
                entered_s = self._members[urgency].pop(client)
                if client.urgency(self.step_s) != urgency:
                    self._add(client)  # its task may have become more or less urgent while it waited
                    continue
                batch.tasks.append((client, client.take_task()))
                batch.entered_s.append(entered_s)
            if batch.tasks:
                return batch
        return None

    def _has_time(self) -> bool:
        """Tells whether background work may take one more worker."""
        is_speech_recent = self._clock() - self._live_at < SPOKEN_S
        return len(self._background_calls) < max(1, self._transcriber.workers - is_speech_recent)

    def _finish(self, call: asyncio.Future[list[Transcription]], batch: TaskBatch, began: float) -> None:
        self._idle_workers += 1
        if call in self._background_calls:
            self._background_calls.discard(call)
        else:
            self._busy_s += self._clock() - self._live_calls.pop(call)
        failure = None if call.cancelled() else call.exception()
        if call.cancelled() or failure is not None:
            if failure is not None:
                log.error("the model failed", tasks=len(batch.tasks), exc_info=failure)
            for client, _ in batch.tasks:
                client.fail()
        else:
            self._measure(batch, began)
            for (client, task), answer in zip(batch.tasks, call.result(), strict=True):
                client.complete(task, answer)
        for client, _ in batch.tasks:
            self._add(client)
        self._serve()

    def _measure(self, batch: TaskBatch, began: float) -> None:
        took_s = self._clock() - began
        audio_s = [len(task.audio) / SAMPLE_RATE for _, task in batch.tasks]
        for entered_s, length_s in zip(batch.entered_s, audio_s, strict=True):
            if length_s:
                self.on_done(DoneTask(batch.urgency, began - entered_s, took_s * length_s / sum(audio_s), length_s))

    def _judge(self) -> None:
        """Widens or narrows the step, by how busy the workers were since the last judgement."""
        now = self._clock()
        elapsed_s = now - self._judged_at
        if elapsed_s < WATCH_S:
            return
        running_s = sum(now - max(began, self._judged_at) for began in self._live_calls.values())
        self.busy = min(1.0, (self._busy_s + running_s) / (elapsed_s * self._transcriber.workers))
        self.step_s = step_s(self.step_s, self.busy)
        self._busy_s, self._judged_at = 0.0, now
        self._live_calls = dict.fromkeys(self._live_calls, now)


def _measure_nothing(task: DoneTask) -> None:
    """Does nothing: nobody measures this desk."""


def step_s(step: float, busy: float) -> float:
    """Returns the step after `step`, when the workers were busy for a share of the last second (0 to 1)."""
    if busy > TOO_BUSY:
        return min(step * WIDER, WIDEST_S)
    if busy < IDLE:
        return max(step / WIDER, NARROWEST_S)
    return step
