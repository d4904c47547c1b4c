"""The messages of a chat: the AI SDK's `UIMessage`, and what an upstream is sent of them. Pure.

Parts are kept as the JSON they came as: clients own their shape (`data-*`, `source-*`, provider metadata) and get back
what they sent. Only the fields that a model can use are read here.
"""

from collections.abc import Container, Iterable, Mapping
from itertools import groupby, takewhile
from typing import Literal, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.records.attachments import content_part
from gateway.chat.records.authors import NOBODY, author_of, names_of
from gateway.chat.records.provider_fields import AGENT, SIGNED, by_provider
from gateway.errors import BadRequest

Role = Literal["user", "assistant", "system"]
CALL_FIELDS = ("type", "toolName", "toolCallId", "input", "rawInput", "providerExecuted", "callProviderMetadata")
"""Fields that a model writes of a tool call; the other fields are the call's result."""
OUTPUT_STATES = ("output-available", "output-error", "output-denied")
APPROVED = "approval-responded"
FINAL_TOOL_STATES = (*OUTPUT_STATES, APPROVED)
ALLOWED = "the user allowed this; it has no result yet"
NOT_ALLOWED = "the user did not allow this"


class UIMessage(msgspec.Struct, kw_only=True):
    id: str
    role: Role
    parts: list[Raw]
    metadata: Raw | UnsetType = UNSET


STEER = "data-steer"
"""The `type` of the part that is a message which an answer has taken while it was written."""
_STEER_LEADS = (b'{"type":"data-steer"', b'{"type":"steering-message"')
"""How such a part begins: as it is stored, and as clients of version 7 hold it."""


class SteerData(msgspec.Struct, frozen=True):
    """The `data` of such a part."""

    parts: list[Raw] = []


class _Steer(msgspec.Struct, frozen=True):
    id: str = ""
    data: SteerData = SteerData()
    parts: list[Raw] = []


class Approval(msgspec.Struct, frozen=True):
    """The answer of somebody who was asked whether a tool may be called."""

    id: str = ""
    approved: bool | None = None
    """Whether it may be called; None while nobody has answered."""
    reason: str | None = None


class MessagePart(msgspec.Struct, frozen=True, rename="camel"):
    """The fields that we read of one part."""

    type: str
    id: object = None
    """The id of a data part: a text, unless a client that wrote it chose otherwise."""
    text: str = ""
    state: str = ""
    tool_call_id: str = ""
    tool_name: str = ""
    input: Raw | UnsetType = UNSET
    raw_input: str | None = None
    """Arguments that are no JSON, as the model wrote them."""
    output: Raw | UnsetType = UNSET
    error_text: str = ""
    approval: Approval | None = None
    provider_executed: bool | None = None
    """Whether the gateway or an agent makes the call, so that no client does."""
    media_type: str = ""
    url: str = ""
    filename: str | None = None
    provider_metadata: Raw | UnsetType = UNSET
    call_provider_metadata: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET

    @property
    def tool(self) -> str:
        """Returns the tool's name, when this is a tool part."""
        return self.tool_name if self.type == "dynamic-tool" else self.type.removeprefix("tool-")

    @property
    def provider_fields(self) -> Raw | UnsetType:
        """Returns what a provider has added to its answer and we do not know, as `{"<provider>": {...}}`."""
        return self.data if self.type == "data-provider" else self.provider_metadata

    def call(self, arguments: str) -> dict[str, object]:
        """Returns the call that a tool part is, in OpenAI's form, with what its provider has added to it."""
        fields = provider_fields(self.call_provider_metadata)
        if fields.get("type") == "custom":
            text = self.raw_input if isinstance(self.input, UnsetType) else msgspec.json.decode(self.input)
            named: dict[str, object] = {"custom": {"name": self.tool, "input": text}}
        else:
            named = {"function": {"name": self.tool, "arguments": arguments}}
        for name in ("function", "custom"):
            if isinstance(beside := fields.pop(name, None), dict) and name in named:
                named[name] = cast(dict[str, object], beside) | cast(dict[str, object], named[name])
        return {"id": self.tool_call_id, "type": "function", **fields, **named}

    @property
    def arguments(self) -> str:
        return "{}" if isinstance(self.input, UnsetType) else bytes(self.input).decode()

    @property
    def is_tool(self) -> bool:
        return self.type.startswith("tool-") or self.type == "dynamic-tool"


_part = msgspec.json.Decoder(MessagePart)


def provider_fields(metadata: Raw | UnsetType) -> dict[str, object]:
    """Returns the fields in `{"<provider>": {...}}`, of all providers; none of what has another form."""
    if isinstance(metadata, UnsetType):
        return {}
    try:
        providers = msgspec.json.decode(metadata, type=dict[str, dict[str, object]])
    except msgspec.DecodeError:
        return {}
    providers.pop(AGENT, None)
    return {name: value for fields in providers.values() for name, value in fields.items()}


def parts_of(message: UIMessage) -> list[MessagePart]:
    """Returns the parts as we read them; raises BadRequest when one is not an object with a type."""
    try:
        return [_part.decode(raw) for raw in message.parts]
    except msgspec.DecodeError as err:
        raise BadRequest(f"a part of message {message.id[:64]!r} is not valid: {err}") from err


def text_of(message: UIMessage) -> str:
    return "".join(part.text for part in parts_of(message) if part.type == "text")


def merge_tool_results(
    stored_message: UIMessage, posted_message: UIMessage, asked: Container[str] = ()
) -> UIMessage | None:
    """Returns the stored answer with the tool results that a client adds to it; None when it adds none.

    Nothing else of a posted answer is believed: a client that was cut off posts a part of the text as the whole. A
    result that is stored stays; only a call that was allowed may still get its output. No client has results of calls
    that the gateway makes, nor of those in `asked`, by id, which are answered by events of their own.
    """
    answers = {p.tool_call_id: (p, raw) for p, raw in _tools(posted_message) if p.state in FINAL_TOOL_STATES}
    if not answers:
        return None
    parts = list(stored_message.parts)
    is_changed = False
    for index, (part, raw) in enumerate(zip(parts_of(stored_message), stored_message.parts, strict=True)):
        is_clients = part.is_tool and not part.provider_executed and part.tool_call_id not in asked
        answer, answer_raw = answers.get(part.tool_call_id, (None, raw)) if is_clients else (None, raw)
        if answer is not None and _may_follow(part, answer):
            parts[index] = _with_result(raw, answer_raw)
            is_changed = True
    return msgspec.structs.replace(stored_message, parts=parts) if is_changed else None


def _may_follow(call: MessagePart, answer: MessagePart) -> bool:
    """Returns whether an answer to a call is news: nothing is before an output, and what was denied has none."""
    if call.state == APPROVED:
        return answer.state in OUTPUT_STATES and bool(call.approval and call.approval.approved)
    if call.state == "approval-requested" and call.approval is not None and answer.approval is not None:
        return answer.approval.id == call.approval.id
    return call.state not in FINAL_TOOL_STATES


def ends_with_result(message: UIMessage) -> bool:
    """Returns whether an answer ends with a tool that has been answered: nothing that was said after it is shown."""
    parts = [part for part in parts_of(message) if part.type != "step-start"]
    return bool(parts) and parts[-1].is_tool and parts[-1].state in FINAL_TOOL_STATES


def _with_result(call: Raw, result: Raw) -> Raw:
    """Returns the call as the model made it, with what the client says came of it."""
    fields = msgspec.json.decode(result, type=dict[str, Raw])
    outcome = {name: value for name, value in fields.items() if name not in CALL_FIELDS}
    return Raw(msgspec.json.encode(msgspec.json.decode(call, type=dict[str, Raw]) | outcome))


def _tools(message: UIMessage) -> Iterable[tuple[MessagePart, Raw]]:
    return ((part, raw) for part, raw in zip(parts_of(message), message.parts, strict=True) if part.is_tool)


UpstreamMessage = dict[str, object]


def to_upstream(messages: Iterable[UIMessage]) -> list[UpstreamMessage]:
    """Returns the conversation as an OpenAI-compatible server takes it; reasoning and data parts stay here.

    What a provider added to an answer stands under SIGNED, by the provider's name: only that provider is to get it.
    """
    conversation = list(messages)
    names = names_of(message.metadata for message in conversation if message.role == "user")
    return joined([turn for message in conversation for turn in turns_of(message, names)])


def turns_of(message: UIMessage, names: Mapping[str, str] = NOBODY) -> list[UpstreamMessage]:
    """Returns one message of a conversation as an OpenAI-compatible server takes it: an answer, step by step.

    `names` are those of the authors, where a conversation has several (`names_of`).
    """
    if message.role != "assistant":
        turn: UpstreamMessage = {"role": message.role, "content": _content(parts_of(message))}
        name = names.get(author_of(message.metadata)) if names and message.role == "user" else None
        return [turn | {"name": name} if name else turn]
    pieces = unfolded(message)
    return _assistant(parts_of(message)) if pieces[0] is message else [turn for p in pieces for turn in turns_of(p)]


def unfolded(message: UIMessage) -> list[UIMessage]:
    """Returns an answer with each message that it has taken as one of its own, at its place; else the message alone.

    The last piece of the answer keeps its id. Raises BadRequest when such a part is not valid.
    """
    places = [place for place, raw in enumerate(message.parts) if bytes(memoryview(raw)[:26]).startswith(_STEER_LEADS)]
    if not places or message.role != "assistant":
        return [message]
    pieces: list[UIMessage] = []
    begin = 0
    for place in places:
        if place > begin:
            piece = f"{message.id}.{len(pieces)}"
            pieces.append(UIMessage(id=piece, role="assistant", parts=message.parts[begin:place]))
        try:
            steer = msgspec.json.decode(message.parts[place], type=_Steer)
        except msgspec.DecodeError as err:
            raise BadRequest(f"a part of message {message.id[:64]!r} is not valid: {err}") from err
        pieces.append(UIMessage(id=steer.id, role="user", parts=steer.data.parts or steer.parts))
        begin = place + 1
    rest = message.parts[begin:]
    return [*pieces, msgspec.structs.replace(message, parts=rest)] if rest else pieces


def bytes_of_parts(messages: Iterable[UIMessage]) -> int:
    """Returns the bytes of all parts of the messages, as they came."""
    return sum([len(memoryview(part)) for message in messages for part in message.parts])


def count_of_parts(message: UIMessage) -> int:
    """Returns the number of parts that a message counts for: one, when it has none."""
    return len(message.parts) or 1


def joined(messages: Iterable[UpstreamMessage]) -> list[UpstreamMessage]:
    """Returns the messages with turns of one role in a row made one: strict templates refuse two."""
    conversation: list[UpstreamMessage] = []
    turn: list[UpstreamMessage] = []
    for message in messages:
        last = turn[-1] if turn else {}
        is_other = message["role"] != last.get("role") or message.get("name") != last.get("name")
        if turn and (is_other or message["role"] == "tool" or "tool_calls" in last):
            conversation.append(_one(turn))
            turn = []
        turn.append(message)
    return [*conversation, _one(turn)] if turn else conversation


def _one(turn: list[UpstreamMessage]) -> UpstreamMessage:
    """Returns the messages of one turn as one: texts with an empty line between, then lists of parts."""
    if len(turn) == 1:
        return turn[0]
    fields = {name: value for message in turn for name, value in message.items()}
    contents = [message["content"] for message in turn]
    full = [content for content in contents if content] or contents[-1:]
    texts = list(takewhile(_is_text, full))
    if len(texts) > 1:
        full = ["\n\n".join(map(str, texts)), *full[len(texts) :]]
    return {
        **fields,
        "content": full[0] if len(full) == 1 else [part for each in full for part in _content_parts(each)],
    }


def _is_text(content: object) -> bool:
    return isinstance(content, str)


def _content_parts(content: object) -> list[object]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return cast("list[object]", content)


def _content(parts: list[MessagePart]) -> str | list[dict[str, object]]:
    """Returns texts and files in their order; one text where nothing else is among them."""
    content: list[dict[str, object]] = []
    for is_file, run in groupby((part for part in parts if part.type in ("text", "file")), _is_file):
        if is_file:
            content += [content_part(part.media_type, part.url, part.filename or "") for part in run]
        elif text := "".join(part.text for part in run):
            content.append({"type": "text", "text": text})
    texts = [str(part["text"]) for part in content if part["type"] == "text"]
    return "\n\n".join(texts) if len(texts) == len(content) else content


def _is_file(part: MessagePart) -> bool:
    return part.type == "file"


def _assistant(parts: list[MessagePart]) -> list[UpstreamMessage]:
    """Returns one answer step by step: what was said, the tools that were called, their results, what was said then."""
    conversation: list[UpstreamMessage] = []
    texts: list[str] = []
    calls: list[MessagePart] = []
    unknown: list[Raw] = []
    for part in parts:
        if part.type in ("text", "step-start"):
            if calls:
                conversation += _step(texts, calls, unknown)
                texts, calls, unknown = [], [], []
            texts.append(part.text)
        elif part.is_tool and part.state in FINAL_TOOL_STATES:
            calls.append(part)
        if not part.is_tool and not isinstance(part.provider_fields, UnsetType):
            unknown.append(part.provider_fields)
    return conversation + _step(texts, calls, unknown)


def _step(texts: list[str], calls: list[MessagePart], unknown: list[Raw]) -> list[UpstreamMessage]:
    text = "".join(texts)
    signed = by_provider(unknown)
    more: UpstreamMessage = {SIGNED: signed} if signed else {}
    if not calls:
        return [{"role": "assistant", "content": text, **more}] if text else []
    tool_calls = [part.call(part.arguments) for part in calls]
    results: list[UpstreamMessage] = [
        {"role": "tool", "tool_call_id": part.tool_call_id, "content": _result(part)} for part in calls
    ]
    return [{"role": "assistant", "content": text or None, "tool_calls": tool_calls, **more}, *results]


def _result(part: MessagePart) -> str:
    if part.state == "output-available":
        return "null" if part.output is UNSET else bytes(part.output).decode()
    approval = part.approval or Approval()
    verdict = ALLOWED if part.state == APPROVED and approval.approved else NOT_ALLOWED
    return part.error_text or (f"{verdict}: {approval.reason}" if approval.reason else verdict)
