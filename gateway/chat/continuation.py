"""What the answers to a message's asks make of the run that goes on, whichever way they came.

They may be posted with the message, as stock clients do, or given to one ask at a time.
"""

from collections.abc import Sequence

import msgspec

from events.log.port import Append
from gateway.chat.change import Change, turns_in_slices
from gateway.chat.history import History
from gateway.chat.notices import answered_notices
from gateway.chat.producers.tools import Call
from gateway.chat.records.asks import settled_parts
from gateway.chat.records.chat_record import Answered, Ask
from gateway.chat.records.messages import UpstreamMessage
from gateway.chat.runs import Runs
from gateway.chat.steps import decided_calls, without_answer


class TakenAnswers(msgspec.Struct, frozen=True):
    """Answers that a history has been told of, which are not in the log yet."""

    events: Sequence[Answered]
    asks: list[Ask]
    """What each of them answers."""
    notices: list[Append]


class GoingOn(msgspec.Struct, frozen=True):
    """What a run goes on with."""

    turns: list[UpstreamMessage]
    """The conversation that the model is sent."""
    calls: list[Call]
    """Calls that people have allowed or refused."""
    continues: str
    """Id of the run that asked; empty when it does not go on with the answer of that one."""


def take_answers(history: History, sub: str, answers: Sequence[Answered]) -> TakenAnswers:
    """Notes answers to open asks in a history, so that its message has what became of each call."""
    notices = answered_notices(sub, history.chat_id, history.asks, answers)
    for answered in answers:
        history.answer_ask(answered)
    return TakenAnswers(answers, [history.asks[answered.approval_id] for answered in answers], notices)


async def going_on_from(taken: TakenAnswers, history: History, change: Change, runs: Runs) -> GoingOn:
    """Returns what a run goes on with; adds the answers to `change`, and the results that they have brought."""
    change.events = [*taken.events, *change.events]
    answer = change.answer
    if answer is not None and taken.asks:
        change.results = settled_parts(answer, taken.asks)
    calls = decided_calls(history, answer) if answer is not None else []
    told = without_answer(change.conversation, answer) if runs.has_steps(calls) else change.conversation
    continues = taken.asks[0].run_id if answer is not None and taken.asks else ""
    return GoingOn(await turns_in_slices(told), calls, continues)
