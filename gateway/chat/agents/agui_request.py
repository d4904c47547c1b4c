"""Puts together what an AG-UI agent is asked: `RunAgentInput` of AG-UI 1.0. Pure.

An agent with a memory of its own knows messages by their ids, so its own ids go back to it; the others are made of ours
and stay the same from run to run.
"""

from typing import cast

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.agents.prompt import AgentDecision, AgentFields, AgentPrompt, agent_fields
from gateway.chat.agents.writer import INTERRUPT
from gateway.chat.records.authors import author_of, names_of
from gateway.chat.records.messages import OUTPUT_STATES, MessagePart, UIMessage, parts_of
from gateway.chat.upstreams.loose_fields import JsonFields, object_of, objects_of

PROTOCOL_VERSION = "1.0"
NOT_ALLOWED = "the user did not allow this"
MEDIA = ("image", "audio", "video")


def agui_request(prompt: AgentPrompt) -> bytes:
    """Returns the body of a request."""
    open_calls = {part.tool_call_id for part, _ in prompt.open_questions()}
    messages: list[JsonFields] = []
    if prompt.system:
        messages.append({"id": "system", "role": "system", "content": prompt.system})
    conversation = prompt.believed()
    names = names_of(message.metadata for message in conversation if message.role == "user")
    for message in conversation:
        if message.role == "assistant":
            messages += _Answer(message, open_calls).messages
            continue
        told: JsonFields = {"id": message.id, "role": message.role, "content": _content(message)}
        name = names.get(author_of(message.metadata)) if message.role == "user" else None
        messages.append({**told, "name": name} if name else told)
    body: JsonFields = {
        "threadId": prompt.chat_id,
        "runId": prompt.run_id,
        "protocolVersion": PROTOCOL_VERSION,
        "messages": messages,
        "state": {},
        "tools": [_tool(object_of(function.get("function"))) for function in prompt.functions],
        "context": [],
        "forwardedProps": prompt.extra,
    }
    if resume := [_resumed(fields, decision) for _, fields, decision in prompt.answers()]:
        body["resume"] = resume
    return msgspec.json.encode(body)


def _tool(function: JsonFields) -> JsonFields:
    return {
        "name": function.get("name"),
        "description": function.get("description") or "",
        "parameters": function.get("parameters") or {},
    }


def _resumed(fields: AgentFields, decision: AgentDecision) -> JsonFields:
    """Returns the answer to a question, with its metadata: by that some agents prove what they asked."""
    entry: JsonFields = {"interruptId": fields.interrupt_id}
    if metadata := fields.asked_with.get("metadata"):
        entry["metadata"] = metadata
    if decision.approved is None:
        return {**entry, "status": "cancelled"}
    if not isinstance(decision.output, UnsetType):
        return {**entry, "status": "resolved", "payload": decision.output}
    return {**entry, "status": "resolved", "payload": payload_of(decision, fields)}


def types_of(schema: JsonFields) -> list[str]:
    """Returns the types that a JSON schema names; none where it names none."""
    named = schema.get("type")
    return [str(name) for name in cast("list[object]", named)] if isinstance(named, list) else [str(named or "")]


def payload_of(decision: AgentDecision, fields: AgentFields) -> JsonFields | bool | str:
    """Returns an answer of yes or no: as AG-UI recommends it, unless the agent's schema has another form."""
    types = types_of(object_of(fields.asked_with.get("responseSchema")))
    if "boolean" in types:
        return bool(decision.approved)
    if types == ["string"]:
        return decision.reason or ("yes" if decision.approved else "no")
    payload: JsonFields = {"approved": bool(decision.approved)}
    if decision.reason:
        payload["reason"] = decision.reason
    if not isinstance(decision.input, UnsetType):
        payload["editedArgs"] = decision.input
    return payload


def _content(message: UIMessage) -> str | list[JsonFields]:
    """Returns texts and files of a user's message; one text where nothing else is among them."""
    parts = parts_of(message)
    if all(part.type != "file" for part in parts) or message.role != "user":
        return "".join(part.text for part in parts if part.type == "text")
    return [_input(part) for part in parts if part.type in ("text", "file")]


def _input(part: MessagePart) -> JsonFields:
    if part.type == "text":
        return {"type": "text", "text": part.text}
    family = part.media_type.partition("/")[0]
    kind = family if family in MEDIA else "document"
    if part.url.startswith("data:"):
        head, _, data = part.url.removeprefix("data:").partition(",")
        mime_type = part.media_type or head.partition(";")[0]
        return {"type": kind, "source": {"type": "data", "value": data, "mimeType": mime_type}}
    source: JsonFields = {"type": "url", "value": part.url}
    return {"type": kind, "source": {**source, "mimeType": part.media_type} if part.media_type else source}


class _Answer:
    """One of our answers as the messages that an agent takes it for."""

    def __init__(self, message: UIMessage, open_calls: set[str]) -> None:
        """`open_calls` are sent although they have no result: this request says what is to become of them."""
        self.messages: list[JsonFields] = []
        self._message = message
        self._open_calls = open_calls
        self._said: JsonFields | None = None
        self._results: list[JsonFields] = []
        for part in parts_of(message):
            self._add(part)
        self._end()

    def _add(self, part: MessagePart) -> None:
        if part.type == "step-start":
            self._end()
        elif part.type == "text" and part.text:
            if self._results:
                self._end()
            said = self._of(agent_fields(part.provider_metadata))
            said["content"] = f"{said.get('content', '')}{part.text}"
        elif part.type == "reasoning":
            self._reasoning(part)
        elif (
            part.is_tool
            and part.tool != INTERRUPT
            and (part.state in OUTPUT_STATES or part.tool_call_id in self._open_calls)
        ):
            self._call(part)

    def _of(self, fields: AgentFields) -> JsonFields:
        """Returns the message of this step that a part belongs to."""
        said = self._said
        if said is not None and fields.message_id in ("", said["id"]):
            return said
        if said is not None:
            self._end()
        number = len([message for message in self.messages if message["role"] == "assistant"])
        said = self._said = {
            "id": fields.message_id or (f"{self._message.id}-{number}" if number else self._message.id),
            "role": "assistant",
        }
        return said

    def _reasoning(self, part: MessagePart) -> None:
        """Sends reasoning back where only the model's provider can read it; what people can read was for them."""
        fields = agent_fields(part.provider_metadata)
        if fields.encrypted_value:
            self._end()
            told: JsonFields = {"id": fields.message_id, "role": "reasoning", "content": part.text}
            self.messages.append({**told, "encryptedValue": fields.encrypted_value})

    def _call(self, part: MessagePart) -> None:
        fields = agent_fields(part.call_provider_metadata)
        said = self._of(fields)
        call: JsonFields = {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.tool, "arguments": part.arguments},
        }
        if fields.encrypted_value:
            call["encryptedValue"] = fields.encrypted_value
        said["toolCalls"] = [*objects_of(said.get("toolCalls", [])), call]
        if part.state in OUTPUT_STATES and part.tool_call_id not in self._open_calls:
            result: JsonFields = {"id": fields.result_id or f"{part.tool_call_id}-result", "role": "tool"}
            self._results.append({**result, "toolCallId": part.tool_call_id, **_result(part)})

    def _end(self) -> None:
        if self._said is not None:
            self.messages.append(self._said)
        self.messages += self._results
        self._said, self._results = None, []


def _result(part: MessagePart) -> JsonFields:
    if part.state == "output-available":
        return {"content": _text_of(part.output)}
    reason = part.error_text or (part.approval.reason if part.approval is not None else "") or NOT_ALLOWED
    return {"content": reason, "error": reason}


def _text_of(output: Raw | UnsetType) -> str:
    if isinstance(output, UnsetType):
        return "null"
    text = bytes(output)
    return msgspec.json.decode(text, type=str) if text[:1] == b'"' else text.decode()
