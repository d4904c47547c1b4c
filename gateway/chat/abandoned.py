"""Ends a run in place of the process that owns it: because that one died, is too slow to stop, or must not go on.

The end is fenced by the run's head. Of several that end a run one wins, and its owner can append nothing more.
"""

import contextlib
from collections.abc import Iterable

import msgspec
import structlog
from msgspec import Raw

from events.log.port import Append, EventLog, read_past_damage
from gateway.chat.ending import Parking, RunEnding, RunOutcome
from gateway.chat.history import History, read_history, without_removed
from gateway.chat.records.chat_record import ParkedRequest, RunInfo
from gateway.chat.records.messages import APPROVED, UIMessage, parts_of
from gateway.chat.records.record import (
    EFFECT_STARTED,
    LEFT,
    RECORD,
    REQUEST,
    RUN,
    TAKEN_OVER,
    Metadata,
    decode_record,
)
from gateway.chat.records.recorder import Recorder
from gateway.chat.tools.toolbox import Effect
from gateway.chat.topics import run_topic
from gateway.core.usage import now_ms, total_of, usage_of
from gateway.errors import LogConflict

log = structlog.get_logger("runs")


class Speaker(msgspec.Struct, rename="camel"):
    """Who begins to answer, as the log has it."""

    model: str = ""
    provider_metadata: dict[str, Raw] = {}
    """What the upstream says of its answer, by its name; empty when it says nothing."""


class StartedCall(msgspec.Struct, frozen=True, rename="camel"):
    """The hidden event that a call of a tool was about to leave."""

    tool_call_id: str
    attempt: int = 1
    effect: Effect = "once"


class RunSoFar(msgspec.Struct):
    """A run as its topic tells it."""

    head: int = 0
    info: RunInfo | None = None
    records: list[bytes] = []
    request: ParkedRequest | None = None
    """What another process can go on with; None when none can."""
    started_calls: dict[str, StartedCall] = {}
    """The last try of each call that may have left, by the call's id."""
    is_closed: bool = False
    is_left: bool = False
    """Whether whoever opened it has left it to others, and none of them has begun."""
    lost: list[int] = []
    """Offsets at which events begin that cannot be read, or are not kept any more."""


async def read_run(event_log: EventLog, run_id: str) -> RunSoFar:
    """Returns a run up to its head, and its records up to the first that cannot be read."""
    run = RunSoFar()
    topic = run_topic(run_id)
    async for part in read_past_damage(event_log, topic, lambda first, last: run.lost.append(first)):
        run.is_closed, run.head = part.closed, part.head
        if part.oldest > 1 and not run.lost:
            run.lost.append(1)  # the log keeps so much of a run, and no more
        for block in part.blocks:
            if block.name == RUN:
                run.info = msgspec.json.decode(block.data[0], type=RunInfo)
            elif block.name == RECORD and not run.lost:
                run.records += block.data
            elif block.name == REQUEST:
                run.request = msgspec.json.decode(block.data[0], type=ParkedRequest)
            elif block.name in (LEFT, TAKEN_OVER):
                run.is_left = block.name == LEFT
            elif block.name == EFFECT_STARTED:
                for data in block.data:
                    call = msgspec.json.decode(data, type=StartedCall)
                    run.started_calls[call.tool_call_id] = call
    return run


END_TRIES = 20
"""Tries to end a run while others write to its chat."""


async def end_run(event_log: EventLog, run_id: str, outcome: RunOutcome) -> RunEnding | None:
    """Ends a run that another process owns; returns None when that one, or a third, was first."""
    for _ in range(END_TRIES):
        try:
            return await _end_run(event_log, run_id, outcome)
        except LogConflict as err:
            if err.topic == run_topic(run_id):
                return None
    return None


async def _end_run(event_log: EventLog, run_id: str, outcome: RunOutcome) -> RunEnding | None:
    """Ends a run as it and its chat stand now. Raises LogConflict when either has changed."""
    run = await read_run(event_log, run_id)
    info = run.info
    if info is None and run.lost and not run.is_closed:
        # Nobody can know whose it was: it is over, and no more is said.
        with contextlib.suppress(LogConflict):  # another process was first
            await event_log.append(Append(topic=run_topic(run_id), data=[], close=True, expect=run.head + 1))
            log.error("ended a run whose beginning cannot be read", run=run_id)
    if info is None or run.is_closed:
        return None
    history = History(chat_id="")
    if info.chat_id:
        history = await read_history(event_log, info.sub, info.chat_id, topic=info.topic)
        info = without_removed(info, history)
    recorder = recorder_so_far(run, history.answer(info.message_id))
    speakers = _speakers(run.records)
    begun = max(len(speakers), 1 if recorder.emitted else 0)
    newest = speakers[-1] if speakers else Speaker()
    ending = RunEnding(
        info,
        outcome,
        recorder,
        total_of([*[usage_of(None, info.prompt_bytes, 0)] * begun, usage_of(None, 0, recorder.emitted)]),
        model=newest.model,
        upstream=next(iter(newest.provider_metadata), ""),
        ended_ms=now_ms(),
        parking=Parking(request=run.request or ParkedRequest(model=info.model), ask_s=0),
        took=history.queue.taken_by(run_id),
    )
    head = history.head if history.epoch else None
    await event_log.append(*ending.appends(run.head + 1, head, is_followed=bool(history.queue.waiting)))
    log.info("ended a run of another process", run=run_id)
    return ending


def _speakers(records: Iterable[bytes]) -> list[Speaker]:
    """Returns who began to answer, one for each time that a model did."""
    metadata = [record for data in records if isinstance(record := decode_record(data), Metadata)]
    facts = [msgspec.json.decode(record.message_metadata, type=Speaker) for record in metadata]
    return [fact for fact in facts if fact.model]


def recorder_so_far(run: RunSoFar, answer: UIMessage | None) -> Recorder:
    """Returns the recorder of a run as it stood at its last record; `answer` is the message that it continues."""
    parts = parts_of(answer) if answer is not None else []
    recorder = Recorder(answer.parts if answer is not None else [])
    allowed = [part for part in parts if part.is_tool and part.state == APPROVED and part.provider_executed]
    recorder.calls_to_make = {part.tool_call_id: False for part in allowed}
    for data in run.records:
        recorder.replay(data)
    for call_id in run.started_calls.keys() & recorder.calls_to_make.keys():
        recorder.calls_to_make[call_id] = True
    return recorder
