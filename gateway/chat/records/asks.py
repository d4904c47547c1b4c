"""Asks: what a parked run wants to know of a person, and what an answer makes of the call that it is about. Pure.

An ask is answered once, by the append of an `Answered` event that is fenced by the chat's head. The append that answers
the last open one also starts the run that goes on: a chat in which all is answered and nothing runs cannot be.
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.records.chat_record import Actor, Answered, Ask, RunInfo
from gateway.chat.records.message_parts import MessageParts
from gateway.chat.records.messages import APPROVED, OUTPUT_STATES, UIMessage, parts_of
from gateway.errors import BadRequest, Gone

MAX_REASON = 2000
"""Characters of the reason that somebody gives."""
WHY = {
    "expired": "nobody answered in time",
    "superseded": "the user did not answer, and sent another message instead",
    "stopped": "the user stopped the answer instead",
}
"""What the model is told of an ask that no person answered."""
ENDS = ("superseded", "stopped")
"""What ends an answer for good, with all of its calls."""
NO_RESULT = "this call has no result"
APPROVAL = "data-approval"
"""The type of the part that tells clients what became of an ask, by its approval id."""
NOT_DONE = "it is not known whether this call was made; the user says to treat it as not made"
_json = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def approval_id(run_id: str, number: int) -> str:
    """Returns the id of a run's ask: the same in each process that comes to ask it."""
    return f"ap-{run_id}-{number}"


def digest_of(ask_id: str, tool_name: str, arguments: Raw) -> str:
    """Returns what tells that an ask is about this input and no other."""
    value = [ask_id, tool_name, msgspec.json.decode(arguments)]
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def asks_of_clients(info: RunInfo, parts: MessageParts, asks: Sequence[Ask], expires_at: int) -> list[Ask]:
    """Returns what a run asks that ends with calls that a client is to make: the results of those calls.

    `asks` are its other asks; an ask expires at `expires_at`, in milliseconds since 1970.
    """
    asked = {ask.tool_call_id for ask in asks}
    calls = [call for call in parts.calls_of_clients() if call.call_id not in asked]
    inputs = [(call, arguments) for call in calls if isinstance(arguments := call.input(), Raw)]
    return [
        Ask(
            approval_id=(ask_id := approval_id(info.run_id, number)),
            run_id=info.run_id,
            message_id=info.message_id,
            tool_call_id=call.call_id,
            tool_name=call.name,
            kind="input",
            input=arguments,
            digest=digest_of(ask_id, call.name, arguments),
            expires_at=expires_at,
        )
        for number, (call, arguments) in enumerate(inputs, len(asks) + 1)
    ]


def check_answer(ask: Ask, answer: Answered, now_ms: int) -> None:
    """Raises BadRequest for an answer that this ask does not take, and Gone (`approval_expired`) for one too late."""
    if ask.expires_at and now_ms >= ask.expires_at:
        raise Gone("nobody answered in time", code="approval_expired")
    if len(answer.reason) > MAX_REASON:
        raise BadRequest(f"reason: {len(answer.reason)} characters: at most {MAX_REASON} are kept", code="bad_reason")
    if not isinstance(answer.input, UnsetType):
        if not ask.editable or not answer.approved:
            raise BadRequest("input: the input of this call cannot be changed with the answer", code="bad_edit")
        if not bytes(answer.input).lstrip().startswith(b"{"):
            raise BadRequest("input: want a JSON object", code="bad_edit")
    if not isinstance(answer.output, UnsetType) and ask.kind == "approval":
        raise BadRequest("output: the gateway makes this call itself; answer with `approved`", code="bad_answer")
    if isinstance(answer.output, UnsetType) and ask.kind == "input" and answer.approved:
        raise BadRequest("output: want the result of the call", code="bad_answer")


def is_same(one: Answered, other: Answered) -> bool:
    """Returns whether two answers say the same."""
    return (one.approved, _value(one.input), _value(one.output)) == (
        other.approved,
        _value(other.input),
        _value(other.output),
    )


def _value(raw: Raw | UnsetType) -> object:
    return None if isinstance(raw, UnsetType) else [msgspec.json.decode(raw)]


def message_after(message: UIMessage, ask: Ask, answered: Answered) -> UIMessage:
    """Returns an answer with what became of an ask in the part of its call."""
    parts = list(message.parts)
    for place, part in enumerate(parts_of(message)):
        if part.type == APPROVAL and part.id == ask.approval_id:
            parts[place] = Raw(_json(_fields(parts[place]) | {"data": decision_data(ask, answered)}))
        if not part.is_tool or part.state in OUTPUT_STATES:
            continue
        if part.tool_call_id == ask.tool_call_id:
            parts[place] = _part_after(parts[place], ask, answered)
        elif part.state == APPROVED and answered.actor.via in ENDS:  # nobody makes it any more
            text = f"this call was allowed, but not made: {WHY[answered.actor.via]}"
            parts[place] = Raw(_json(_fields(parts[place]) | {"state": "output-error", "errorText": text}))
    return msgspec.structs.replace(message, parts=parts)


def decision_data(ask: Ask, answered: Answered) -> dict[str, object]:
    """Returns what clients are told of an answer: who gave it, when, and what it was."""
    state = "expired" if answered.actor.via == "expired" else "approved" if answered.approved else "denied"
    data: dict[str, object] = {"toolCallId": ask.tool_call_id, "state": state, "actor": answered.actor}
    if answered.at:
        data["at"] = answered.at
    if answered.reason:
        data["reason"] = answered.reason
    return data if ask.kind == "approval" else {**data, "kind": ask.kind}


def _part_after(part: Raw, ask: Ask, answered: Answered) -> Raw:
    fields: dict[str, object] = dict(_fields(part))
    reason = WHY.get(answered.actor.via, answered.reason)
    if not isinstance(answered.output, UnsetType):
        fields |= {"state": "output-available", "output": answered.output}
    elif ask.kind == "input":
        if answered.actor.via != "superseded":  # its result may still come with a later message
            fields |= {"state": "output-error", "errorText": reason or NO_RESULT}
    elif ask.kind == "doubt" and not answered.approved:
        fields |= {"state": "output-error", "errorText": f"{NOT_DONE}: {reason}" if reason else NOT_DONE}
    else:
        approval: dict[str, object] = {"id": ask.approval_id, "approved": answered.approved}
        is_final = answered.actor.via != "user"
        fields |= {
            "state": "output-denied" if is_final else APPROVED,
            "approval": {**approval, "reason": reason} if reason else approval,
        }
        if not isinstance(answered.input, UnsetType):
            fields["input"] = answered.input
    return Raw(_json(fields))


def settled_parts(message: UIMessage, asks: Iterable[Ask]) -> list[Raw]:
    """Returns the parts of those calls that an answer to an ask has given a result, so that clients are told of it."""
    calls = {ask.tool_call_id for ask in asks}
    parts = zip(parts_of(message), message.parts, strict=True)
    return [raw for part, raw in parts if part.is_tool and part.tool_call_id in calls and part.state in OUTPUT_STATES]


def answers_with_expired(asks: Iterable[Ask], answers: Iterable[Answered], now_ms: int) -> list[Answered]:
    """Returns the answers that count now, of all that are given: an ask whose time is up has that as its answer."""
    given = {answer.approval_id: answer for answer in answers}
    counted: list[Answered] = []
    for ask in asks:
        if ask.expires_at and now_ms >= ask.expires_at:
            counted += instead_of_answers([ask], "expired", now_ms)
        elif ask.approval_id in given:
            counted.append(given[ask.approval_id])
    return counted


def instead_of_answers(asks: Iterable[Ask], via: str, now_ms: int, sub: str = "") -> list[Answered]:
    """Returns the answers of asks that nobody answers any more."""
    actor = msgspec.convert({"sub": sub, "via": via}, Actor)
    return [Answered(approval_id=ask.approval_id, approved=False, actor=actor, at=now_ms) for ask in asks]


def posted_answers(asks: Iterable[Ask], message: UIMessage, sub: str, now_ms: int) -> list[Answered]:
    """Returns the answers to open asks that a posted message brings; what it says of the input is not believed."""
    by_call = {part.tool_call_id: part for part in parts_of(message) if part.is_tool}
    answers: list[Answered] = []
    for ask in asks:
        part = by_call.get(ask.tool_call_id)
        if part is None:
            continue
        actor = Actor(sub)
        if ask.kind == "input" and part.state == "output-available":
            output = Raw(b"null") if isinstance(part.output, UnsetType) else part.output
            answers.append(Answered(approval_id=ask.approval_id, approved=True, output=output, actor=actor, at=now_ms))
        elif ask.kind == "input" and part.state == "output-error":
            error = part.error_text
            answers.append(Answered(approval_id=ask.approval_id, approved=False, reason=error, actor=actor, at=now_ms))
        elif ask.kind != "input" and part.state in (APPROVED, "output-denied") and part.approval is not None:
            is_about_this = part.approval.id == ask.approval_id and part.approval.approved is not None
            if is_about_this:
                reason, approved = (part.approval.reason or "")[:MAX_REASON], bool(part.approval.approved)
                answers.append(
                    Answered(approval_id=ask.approval_id, approved=approved, reason=reason, actor=actor, at=now_ms)
                )
    return answers
