"""What a client of AG-UI asks: `RunAgentInput` of AG-UI 1.0 becomes what is sent to a chat. Pure.

A thread is a chat of the caller's; the id of a run is the key of the request, so a run is never made twice. Messages of
the assistant, of its reasoning and of tools that follow one another are one answer. `system` and `developer` messages,
and `context`, are the system prompt of this run and are not kept with the chat. `forwardedProps` may hold the options
that `POST /api/chat` takes; all else in it goes to the run as `extra`. `state` is the client's own: no model reads it.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.dialects.agui_forms import AguiRun, message_prefix
from gateway.chat.records.messages import UIMessage
from gateway.core.leniency import lenient_decoder
from gateway.core.loose_json import json_on_one_line
from gateway.errors import BadRequest

MEDIA = ("image", "audio", "video", "document")
_OWN_ID = re.compile(r"(msg-[0-9a-f]{20})\.[0-9]{1,6}", re.ASCII)
_json = msgspec.json.Encoder().encode

PartFields = dict[str, object]
T = TypeVar("T")


class AguiFunction(msgspec.Struct, kw_only=True):
    name: str
    arguments: str = ""


class AguiCall(msgspec.Struct, kw_only=True):
    id: str
    function: AguiFunction


class AguiMessage(msgspec.Struct, kw_only=True, rename="camel"):
    """The fields that we read of a message."""

    id: str
    role: Literal["user", "assistant", "system", "developer", "tool", "reasoning", "activity"]
    content: Raw | UnsetType = UNSET
    tool_calls: list[AguiCall] | None = None
    tool_call_id: str | None = None
    error: str | None = None


class AguiTool(msgspec.Struct, kw_only=True):
    name: str
    description: str = ""
    parameters: Raw | UnsetType = UNSET


class AguiContext(msgspec.Struct, kw_only=True):
    description: str
    value: str


class ResumeEntry(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer to an interrupt."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Raw | UnsetType = UNSET


class RunAgentInput(msgspec.Struct, kw_only=True, rename="camel"):
    """The body of `POST /agui`, as far as it is read."""

    thread_id: str
    run_id: str
    messages: list[Raw]
    tools: list[AguiTool] | None = None
    context: list[AguiContext] | None = None
    forwarded_props: Raw | UnsetType = UNSET
    resume: list[ResumeEntry] | None = None
    protocol_version: str | None = None

    def conversation(self) -> tuple[list[UIMessage], str]:
        """Returns the messages as a chat has them, with the answers to interrupts, and the system prompt.

        Raises BadRequest.
        """
        conversation = _Conversation()
        for place, message in enumerate(self._decoded()):
            conversation.add(place, message)
        for place, entry in enumerate(self.resume or []):
            conversation.answer(place, entry)
        return conversation.messages(), "\n\n".join([*conversation.system, *self._context()])

    def functions(self) -> Raw | UnsetType:
        """Returns the client's tools, as OpenAI has them."""
        return Raw(_json([_function(tool) for tool in self.tools])) if self.tools else UNSET

    def run(self, run_id: str) -> AguiRun:
        """Returns the run that is asked for, which is `run_id` here, as its client is told of it.

        It holds nothing of the body, unless the client shows a part of that run, which it is told anew then. Raises
        BadRequest.
        """
        shown = [_read(_shown, place, raw) for place, raw in enumerate(self.messages)]
        is_own = [message.id.startswith(message_prefix(run_id)) for message in shown]
        kept = [Raw(bytes(raw)) for raw, own in zip(self.messages, is_own, strict=True) if not own]
        return AguiRun(
            thread_id=self.thread_id,
            run_id=self.run_id,
            protocol_version=self.protocol_version or "",
            results={message.tool_call_id for message in shown if message.tool_call_id},
            kept=kept if any(is_own) else None,
        )

    def _decoded(self) -> list[AguiMessage]:
        return [_read(_message, place, raw) for place, raw in enumerate(self.messages)]

    def props(self) -> dict[str, Raw]:
        """Returns the fields of `forwardedProps`. Raises BadRequest."""
        if isinstance(raw := _value(self.forwarded_props), UnsetType):
            return {}
        if not bytes(raw).startswith(b"{"):
            raise BadRequest("forwardedProps: want an object", code="bad_body")
        return msgspec.json.decode(raw, type=dict[str, Raw])

    def _context(self) -> list[str]:
        return [f"{context.description}: {context.value}" for context in self.context or []]


class ShownMessage(msgspec.Struct, rename="camel"):
    """The fields by which a message that the client shows is known again."""

    id: str = ""
    tool_call_id: str | None = None


_shown: Callable[[bytes], ShownMessage] = lenient_decoder(ShownMessage)
_message: Callable[[bytes], AguiMessage] = lenient_decoder(AguiMessage)


def _read(decode: Callable[[bytes], T], place: int, raw: Raw) -> T:
    try:
        return decode(bytes(raw))
    except msgspec.DecodeError as err:
        raise BadRequest(f"messages[{place}]: {err}", code="bad_body") from err


def _function(tool: AguiTool) -> PartFields:
    parameters = _value(tool.parameters)
    if isinstance(parameters, UnsetType):
        parameters = Raw(b'{"type":"object","properties":{}}')
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


class _PostedAnswer:
    """Messages of the assistant and of its tools that follow one another: one message of ours."""

    def __init__(self, first_id: str) -> None:
        self.id = first_id
        self.is_own = False
        self.parts: list[PartFields] = []
        self.calls: dict[str, PartFields] = {}

    def add(self, message: AguiMessage) -> None:
        if not self.is_own and (own := _OWN_ID.fullmatch(message.id)):
            self.id, self.is_own = own[1], True
        text = _text(message)
        if text:
            self.parts.append({"type": "reasoning" if message.role == "reasoning" else "text", "text": text})
        for call in message.tool_calls or []:
            part: PartFields = {
                "type": f"tool-{call.function.name}",
                "toolCallId": call.id,
                "state": "input-available",
                "input": _json_of(call.function.arguments or "{}"),
            }
            self.calls[call.id] = part
            self.parts.append(part)

    def message(self) -> UIMessage:
        return UIMessage(id=self.id, role="assistant", parts=[Raw(_json(part)) for part in self.parts])


class _Conversation:
    """The messages of a thread, which become those of a chat."""

    def __init__(self) -> None:
        self.system: list[str] = []
        self._turns: list[UIMessage | _PostedAnswer] = []

    def add(self, place: int, message: AguiMessage) -> None:
        match message.role:
            case "system" | "developer":
                self.system.append(_text(message))
            case "user":
                self._turns.append(UIMessage(id=message.id, role="user", parts=_user_parts(place, message)))
            case "tool":
                self._add_result(place, message)
            case "assistant" | "reasoning":
                if not self._turns or isinstance(self._turns[-1], UIMessage):
                    self._turns.append(_PostedAnswer(message.id))
                last = self._turns[-1]
                assert isinstance(last, _PostedAnswer)
                last.add(message)
            case "activity":
                pass  # it is shown to people alone

    def _add_result(self, place: int, message: AguiMessage) -> None:
        part = self._call(message.tool_call_id or "")
        if part is None:
            shown = (message.tool_call_id or "")[:64]
            raise BadRequest(f"messages[{place}].toolCallId: no message before it has the call {shown!r}")
        if message.error:
            part |= {"state": "output-error", "errorText": message.error}
        else:
            part |= {"state": "output-available", "output": _json_of(_text(message))}

    def _call(self, call_id: str) -> PartFields | None:
        answers = [turn for turn in self._turns if isinstance(turn, _PostedAnswer)]
        return next((answer.calls[call_id] for answer in reversed(answers) if call_id in answer.calls), None)

    def answer(self, place: int, entry: ResumeEntry) -> None:
        """Takes the answer to what an answer of ours has asked of people."""
        approval_id, _, call_id = entry.interrupt_id.partition(".")
        part = self._call(call_id)
        if part is None:
            shown = entry.interrupt_id[:64]
            raise BadRequest(f"resume[{place}].interruptId: no message has the call that {shown!r} is about")
        raw = _value(entry.payload)
        payload: object = None if isinstance(raw, UnsetType) else msgspec.json.decode(raw)
        fields: dict[str, Any] = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {"approved": payload}
        if fields.get("editedArgs") is not None:
            raise BadRequest(
                f"resume[{place}].payload.editedArgs is not taken here: answer with `input` at "
                f"POST /api/chat/<thread>/approvals/{approval_id[:64]}"
            )
        approved = entry.status == "resolved" and fields.get("approved", True) is not False
        reason = fields.get("reason")
        approval: PartFields = {"id": approval_id, "approved": approved}
        if isinstance(reason, str) and reason:
            approval["reason"] = reason
        part |= {"state": "approval-responded", "approval": approval}

    def messages(self) -> list[UIMessage]:
        """Returns the messages; an answer that stands around one that it has taken is one, at its end."""
        messages: dict[str, UIMessage] = {}
        for turn in self._turns:
            message = turn if isinstance(turn, UIMessage) else turn.message()
            if isinstance(turn, _PostedAnswer) and (earlier := messages.pop(message.id, None)) is not None:
                message = UIMessage(id=message.id, role="assistant", parts=[*earlier.parts, *message.parts])
            messages[message.id] = message
        return list(messages.values())


def _value(raw: Raw | UnsetType) -> Raw | UnsetType:
    """Returns a value that is there: `null` is none."""
    return UNSET if isinstance(raw, UnsetType) or bytes(raw) == b"null" else raw


def _json_of(text: str) -> Raw:
    """Returns a text as JSON: as it is where it is JSON, else as a string."""
    return Raw(json_on_one_line(text) or _json(text))


def _text(message: AguiMessage) -> str:
    content = _value(message.content)
    if isinstance(content, UnsetType):
        return ""
    text = bytes(content).decode()
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text


def _user_parts(place: int, message: AguiMessage) -> list[Raw]:
    content = message.content
    if isinstance(content, UnsetType) or not bytes(content).startswith(b"["):
        return [Raw(_json({"type": "text", "text": _text(message)}))]
    pieces = msgspec.json.decode(content, type=list[object])
    return [Raw(_json(_user_part(f"messages[{place}].content[{at}]", piece))) for at, piece in enumerate(pieces)]


def _user_part(where: str, piece: object) -> PartFields:
    fields = cast(PartFields, piece) if isinstance(piece, dict) else {}
    kind, source = fields.get("type"), fields.get("source")
    if kind == "text" and isinstance(fields.get("text"), str):
        return {"type": "text", "text": fields["text"]}
    if kind not in MEDIA or not isinstance(source, dict):
        raise BadRequest(f"{where}: want text, or {', '.join(MEDIA)} with a `source`")
    origin = cast(PartFields, source)
    media_type, value = origin.get("mimeType"), origin.get("value")
    if not isinstance(value, str) or origin.get("type") not in ("data", "url"):
        raise BadRequest(f"{where}.source: want type `data` or `url`, and a `value`")
    media_type = media_type if isinstance(media_type, str) else f"{kind}/*" if kind != "document" else ""
    url = value if origin["type"] == "url" else f"data:{media_type};base64,{value}"
    return {"type": "file", "mediaType": media_type, "url": url}
