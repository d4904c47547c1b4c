"""Takes a person's answer to what a parked run asks, from any device and in any process.

The first answer counts: it is an append fenced by the chat's head. The append that answers the last open ask starts the
run that goes on. What is called then is the call in the log, whatever the answer says of it.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from events.log.port import EventLog
from gateway.access.grants import Principal
from gateway.chat.change import Change
from gateway.chat.chats import ActiveRun, Chats, again
from gateway.chat.continuation import going_on_from, keep_answers, take_answers
from gateway.chat.history import History
from gateway.chat.records.asks import answers_with_expired, check_answer, is_same
from gateway.chat.records.chat_record import Actor, Answered, Ask, ParkedRequest, RunInfo, RunStarted
from gateway.chat.records.messages import bytes_of_parts
from gateway.chat.roles import require, require_answer
from gateway.chat.run_start import EncoderOf, RunPlan, RunStarter
from gateway.chat.runs import Runs
from gateway.chat.steps import without_answer
from gateway.chat.topics import check_id, new_run_id
from gateway.core.usage import now_ms
from gateway.errors import BadRequest, Gone, NotFound, TrilaneError


class ApprovalAnswer(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The body of an answer to an ask."""

    approved: bool | None = None
    """Whether the call may be made; may be left out beside `output`."""
    reason: str | None = None
    """What the model is told."""
    input: Raw | UnsetType = UNSET
    """A JSON object that the call is made with instead of the model's, where its tool is `editable`."""
    output: Raw | UnsetType = UNSET
    """The result of the call, for an ask of the kind `input` or `doubt`."""


class ApprovalResult(msgspec.Struct, frozen=True, rename="camel"):
    """What became of an answer."""

    approval_id: str
    approved: bool
    actor: Actor
    duplicate: bool
    """Whether the same answer was given before."""
    waiting_for: list[str]
    """Ids of the asks of this message that are still open."""
    active_run: ActiveRun | None
    """The run that goes on, once all are answered."""


class Approvals:
    """Takes answers, in one process."""

    def __init__(
        self, event_log: EventLog, chats: Chats, runs: Runs, starter: RunStarter, encoder_of: EncoderOf
    ) -> None:
        self._log = event_log
        self._chats = chats
        self._runs = runs
        self._starter = starter
        self._encoder_of = encoder_of

    async def answer(self, who: Principal, chat_id: str, ask_id: str, given: ApprovalAnswer) -> ApprovalResult:
        """Answers an ask; the same answer once more changes nothing.

        Raises NotFound (`chat_not_found`, `approval_not_found`), Forbidden (`role_forbidden`), Gone
        (`approval_expired`, `approval_moot`), BadRequest (`bad_edit`, `bad_answer`, `bad_reason`), TrilaneError (409
        `approval_decided`, with the answer that counts).
        """
        check_id("approval id", ask_id)
        answered = _answered(ask_id, given, who.sub)
        await self._runs.tools.toolbox.known(who.sub)

        async def attempt() -> ApprovalResult:
            with self._chats.in_memory.hold() as held:
                history = await self._chats.existing(who, chat_id, held)
                return await self._answer(who, history, answered)

        return await again(attempt)

    async def _answer(self, who: Principal, history: History, answered: Answered) -> ApprovalResult:
        ask = history.asks.get(answered.approval_id)
        if ask is None:
            require(history, who.sub, "answer")
            raise NotFound(f"chat {history.chat_id!r} has no ask {answered.approval_id!r}", code="approval_not_found")
        require_answer(history, who.sub, ask)
        decision = history.decisions.get(ask.approval_id)
        if decision is not None:
            return _known(history, ask, decision, answered)
        asks = history.open_asks
        if ask not in asks:
            raise Gone("the message that asked this is not the last one any more", code="approval_moot")
        try:
            check_answer(ask, answered, now_ms())
        except Gone:  # that is its answer, and may be the last one that others wait for
            await self.take(who, history, answers_with_expired(asks, [], now_ms()))
            raise
        await self.take(who, history, answers_with_expired(asks, [answered], now_ms()))
        return _result(history, ask, answered)

    async def take(self, who: Principal, history: History, answers: Sequence[Answered]) -> None:
        """Appends answers; those to the last open asks start the run that goes on."""
        if len(answers) == len(history.open_asks):
            await self._go_on(who, history, answers)
            return
        await keep_answers(self._log, self._starter, who, history, answers)

    async def _go_on(self, who: Principal, history: History, answers: Sequence[Answered]) -> None:
        """Starts the run that goes on when `answers` are those to all open asks."""
        taken = take_answers(history, who.sub, answers)
        asked_by = taken.asks[0]
        answer = history.answer(asked_by.message_id)
        assert answer is not None, "an ask that is open is about the last message"
        parked = history.parked.get(asked_by.run_id, ParkedRequest())
        shown = set(parked.shown)
        before = without_answer(history.messages, answer)
        change = Change([], [*(message for message in before if message.id in shown or not shown), answer], answer)
        going_on = await going_on_from(taken, history, change)
        asking = history.runs.get(asked_by.run_id)
        sender = history.sender_of(asked_by.run_id)  # whose message is answered, whoever allows it
        info = RunInfo(
            run_id=new_run_id(),
            sub=sender,
            message_id=answer.id,
            chat_id=history.chat_id,
            model=parked.model,
            prompt_bytes=bytes_of_parts(change.conversation),
            started_ms=now_ms(),
            key=who.key_id if sender == who.sub else "",
            background=asking is not None and asking.background,
        )
        started = RunStarted(
            run_id=info.run_id, message_id=answer.id, continues=going_on.continues, background=info.background
        )
        plan = RunPlan(
            info=info,
            change=change,
            request=parked.asking(going_on.turns),
            started=started,
            calls=going_on.calls,
            notices=taken.notices,
            has_stream=False,
        )
        attached = await self._starter.start(who, history, plan, self._encoder_of)
        attached.reader.close()
        history.active = started


def _answered(ask_id: str, given: ApprovalAnswer, sub: str) -> Answered:
    approved = given.approved
    if approved is None and not isinstance(given.output, UnsetType):
        approved = True
    if approved is None:
        raise BadRequest("approved: say true or false", code="bad_answer")
    return Answered(
        approval_id=ask_id,
        approved=approved,
        reason=given.reason or "",
        input=given.input,
        output=given.output,
        actor=Actor(sub),
        at=now_ms(),
    )


def _known(history: History, ask: Ask, decision: Answered, answered: Answered) -> ApprovalResult:
    """Returns the answer that was given before, to one who says the same. Raises what tells it to any other."""
    if is_same(decision, answered) and decision.actor.via == "user":
        return _result(history, ask, decision, duplicate=True)
    if decision.actor.via == "expired":
        raise Gone("nobody answered in time", code="approval_expired")
    word = "allowed" if decision.approved else "not allowed"
    by = f"by {decision.actor.sub}" if decision.actor.via == "user" else f"because it was {decision.actor.via}"
    raise TrilaneError(
        f"this was {word} already, {by}",
        code="approval_decided",
        status=409,
        extra={"approved": decision.approved, "via": decision.actor.via, "sub": decision.actor.sub},
    )


def _result(history: History, ask: Ask, decision: Answered, *, duplicate: bool = False) -> ApprovalResult:
    return ApprovalResult(
        approval_id=ask.approval_id,
        approved=decision.approved,
        actor=decision.actor,
        duplicate=duplicate,
        waiting_for=[open_ask.approval_id for open_ask in history.open_asks],
        active_run=ActiveRun.of(history),
    )
