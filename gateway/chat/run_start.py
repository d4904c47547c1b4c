"""Says what a new run of a chat begins with: what it is known by, what the chat is told of it, and who records it. Pure
but for the clock and the run's new id.
"""

from gateway.chat.change import Change
from gateway.chat.records.chat_record import RunInfo, RunStarted
from gateway.chat.records.messages import bytes_of_parts
from gateway.chat.records.recorder import Recorder
from gateway.chat.records.retelling import outcome_of
from gateway.chat.submission import Submission
from gateway.chat.topics import new_run_id
from gateway.core.usage import now_ms


def run_info(submission: Submission, change: Change) -> RunInfo:
    """Returns what a new run is known by; one that continues an answer bears the id of that message."""
    request, run_id = submission.request, new_run_id()
    return RunInfo(
        run_id=run_id,
        sub=submission.who.sub,
        message_id=change.answer.id if change.answer else f"msg-{run_id}",
        chat_id=request.id,
        model=request.model or "",
        prompt_bytes=bytes_of_parts(change.conversation) + request.size(),
        started_ms=now_ms(),
        key=submission.who.key_id,
    )


def run_started(submission: Submission, info: RunInfo) -> RunStarted:
    """Returns the event that tells the chat of a new run."""
    return RunStarted(
        run_id=info.run_id,
        message_id=info.message_id,
        key=submission.key,
        trigger=submission.posting.trigger,
        extra=submission.extra,
    )


def recorder_of(change: Change) -> Recorder:
    """Returns the recorder of a run, which goes on from the answer that it continues, if it continues one."""
    outcomes = [record for part in change.results if (record := outcome_of(part)) is not None]
    return Recorder(change.answer.parts if change.answer else [], outcomes)
