"""What the answers to a message's asks make of the run that goes on, whichever way they came.

They may be posted with the message, as stock clients do, or given to one ask at a time.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from events.log.port import Append, EventLog
from gateway.access.grants import Principal
from gateway.chat.change import Change, turns_in_slices
from gateway.chat.history import History
from gateway.chat.notices import answered_notices
from gateway.chat.producers.tools import Call
from gateway.chat.records.asks import settled_parts
from gateway.chat.records.chat_record import Answered, Ask
from gateway.chat.records.messages import UIMessage, UpstreamMessage, parts_of
from gateway.chat.run_start import RunStarter, chat_appends
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
    notices = answered_notices(history, sub, answers)
    for answered in answers:
        history.answer_ask(answered)
    return TakenAnswers(answers, [history.asks[answered.approval_id] for answered in answers], notices)


async def keep_answers(
    event_log: EventLog, starter: RunStarter, who: Principal, history: History, answers: Sequence[Answered]
) -> None:
    """Appends answers that leave other asks open, and notes them in the history. Raises TooLarge, RateLimited."""
    appends = chat_appends(who, history, answers)
    await starter.check_room(who, history, appends)
    await event_log.append(*appends, *take_answers(history, who.sub, answers).notices)


async def going_on_from(taken: TakenAnswers, history: History, change: Change) -> GoingOn:
    """Returns what a run goes on with; adds the answers to `change`, and the results that answers have brought."""
    change.events = [*taken.events, *change.events]
    answer = change.answer
    if answer is not None and taken.asks:
        asked_by = taken.asks[0].run_id  # of its asks, others were answered before, perhaps on other devices
        change.results = settled_parts(answer, [ask for ask in history.asks.values() if ask.run_id == asked_by])
    calls = decided_calls(history, answer) if answer is not None else []
    told = without_answer(change.conversation, answer)
    continues = taken.asks[0].run_id if answer is not None and taken.asks else ""
    return GoingOn(await turns_in_slices(told), calls, continues)


def results_so_far(history: History, ask: Ask, posted: UIMessage) -> list[Raw]:
    """Returns the parts with the results that the client of a step has brought, of the calls that it has posted.

    `ask` is one of that step's asks that are still open.
    """
    shown = {part.tool_call_id for part in parts_of(posted)}
    answer = history.answer(ask.message_id)
    asks = [one for one in history.asks.values() if one.run_id == ask.run_id and one.kind == "input"]
    return settled_parts(answer, [one for one in asks if one.tool_call_id in shown]) if answer is not None else []
