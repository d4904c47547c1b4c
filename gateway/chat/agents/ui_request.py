"""Puts together what an agent that speaks the UI Message Stream is asked: the body of the AI SDK's transport. Pure.

Its messages are those of our log, with the agent's own ids of what it has asked in the place of ours: some agents sign
them. Inputs of calls are never those that a client has posted.
"""

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.agents.prompt import AgentDecision, AgentFields, AgentPrompt
from gateway.chat.records.messages import APPROVED, OUTPUT_STATES, MessagePart, UIMessage, parts_of
from gateway.chat.upstreams.loose_fields import JsonFields, object_of

_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def ui_request(prompt: AgentPrompt) -> bytes:
    """Returns the body of a request."""
    questions = {part.tool_call_id: (fields, decision) for part, fields, decision in prompt.answers()}
    newest = next((message.id for message in reversed(prompt.messages) if message.role == "assistant"), "")
    messages = [
        _with_answers(message, questions) if message.id == newest and questions else message
        for message in prompt.believed()
    ]
    if prompt.system:
        part = Raw(msgspec.json.encode({"type": "text", "text": prompt.system}))
        messages.insert(0, UIMessage(id="system", role="system", parts=[part]))
    body: dict[str, object] = {
        **prompt.extra,
        **({"tools": _tools(prompt.functions)} if prompt.functions else {}),
        "id": prompt.chat_id,
        "messages": messages,
        "trigger": prompt.trigger,
    }
    if prompt.message_id:
        body["messageId"] = prompt.message_id
    return msgspec.json.encode(body)


def _tools(functions: list[JsonFields]) -> JsonFields:
    """Returns the client's tools by name, as assistant-ui sends them."""
    named = [object_of(function.get("function")) for function in functions]
    return {
        str(function.get("name")): {name: value for name, value in function.items() if name != "name"}
        for function in named
    }


def _with_answers(message: UIMessage, questions: dict[str, tuple[AgentFields, AgentDecision]]) -> UIMessage:
    parts: list[Raw] = []
    for part, raw in zip(parts_of(message), message.parts, strict=True):
        question = questions.get(part.tool_call_id) if part.is_tool else None
        parts.append(_answered(part, raw, *question) if question is not None else raw)
    return msgspec.structs.replace(message, parts=parts)


def _answered(part: MessagePart, raw: Raw, fields: AgentFields, decision: AgentDecision) -> Raw:
    """Returns a call as the AI SDK posts one that somebody has decided about."""
    told: dict[str, object] = dict(_fields(raw))
    approval: dict[str, object] = {**fields.asked_with, "id": fields.interrupt_id, "approved": bool(decision.approved)}
    if decision.reason:
        approval["reason"] = decision.reason
    told["approval"] = approval
    if part.state not in OUTPUT_STATES or decision.approved is False:
        told["state"] = APPROVED
    if not isinstance(decision.input, UnsetType):
        told["input"] = decision.input
    if not isinstance(decision.output, UnsetType):
        told |= {"state": "output-available", "output": decision.output}
    return Raw(msgspec.json.encode(told))
