"""The parts of an answer grow here, in the form in which an AI SDK client keeps them. Pure.

Texts and arguments are kept in pieces and joined once, when somebody wants the message: nothing here touches what was
there before, however long an answer gets.
"""

from collections.abc import Container, Iterable
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw

from gateway.chat.records.provider_fields import folded
from gateway.chat.records.record import CHOICES, Data, TextKind
from gateway.core.loose_json import json_on_one_line

STEP_START = Raw(b'{"type":"step-start"}')
"""Parts two steps: tools called in one step ran side by side, in two steps one after the other."""
NOT_JSON = "the arguments are not valid JSON"
NO_ARGUMENTS = "the arguments did not come"
_json = msgspec.json.Encoder().encode


class TextPart(msgspec.Struct):
    kind: TextKind
    pieces: list[str]
    provider_fields: list[Raw] = []
    """The fields of the provider that came with its pieces."""


class CallKind(NamedTuple):
    """Who makes a call, and how clients show it; see ToolPart."""

    is_executed: bool = False
    is_dynamic: bool = False


class ToolPart(msgspec.Struct):
    """A call of a tool, and what became of it."""

    call_id: str
    name: str
    arguments: list[str]
    is_custom: bool = False
    """Whether its input is any text, and not JSON."""
    is_executed: bool = False
    """Whether the gateway or an agent runs it, so that no client does."""
    is_dynamic: bool | None = None
    """Whether clients are not expected to know the tool by its name; None: as `is_executed`."""
    has_arguments: bool = False
    """Whether arguments came, be they empty."""
    complete: bool = False
    """Whether all arguments are there, and the answer did not fail before they were."""
    error: str = ""
    """What is wrong with a call that nobody can run."""
    result: dict[str, object] | None = None
    """Fields that its output, or a question about it, adds to the part."""
    provider_fields: list[Raw] = []

    @property
    def kind(self) -> CallKind:
        return CallKind(self.is_executed, self.is_executed if self.is_dynamic is None else self.is_dynamic)

    @property
    def has_output(self) -> bool:
        return self.result is not None and str(self.result["state"]).startswith("output-")

    def input(self) -> Raw | str:
        """Returns the arguments as JSON on one line; as text when they are no JSON. No arguments are no fields."""
        text = "".join(self.arguments)
        if self.is_custom:
            return Raw(_json(text))
        on_one_line = json_on_one_line(text or "{}")
        return Raw(on_one_line) if on_one_line else text

    def end(self, *, was_cut: bool) -> None:
        """Notes that no more arguments will come, and what is wrong with them; `was_cut` when more were to come."""
        self.complete = True
        if not self.error and not self.arguments and (was_cut or not self.has_arguments):
            self.error = NO_ARGUMENTS
        elif not self.error and isinstance(self.input(), str):
            self.error = NOT_JSON


class ChoicesPart(msgspec.Struct):
    """Other answers to the same request."""

    pieces: list[Raw]
    """Lists of choices, as they came."""


Part = TextPart | ToolPart | ChoicesPart | Raw


class _Earlier(msgspec.Struct, rename="camel"):
    """What is looked at of a part that an earlier run has written."""

    type: str
    tool_call_id: str = ""
    id: object = None
    """Of a data part, when the client that wrote it has given one."""

    @property
    def is_tool(self) -> bool:
        return self.type.startswith("tool-") or self.type == "dynamic-tool"


_earlier = msgspec.json.Decoder(_Earlier).decode


class MessageParts:
    """Parts in order; `base` are those that an earlier run has written, when this one continues its answer."""

    def __init__(self, base: Iterable[Raw] = ()) -> None:
        self._parts: list[Part] = list(base)
        self._step_is_new = True
        self._choices: ChoicesPart | None = None
        earlier = [_earlier(part) for part in self._parts if isinstance(part, Raw)]
        self._earlier_calls = {part.tool_call_id: place for place, part in enumerate(earlier) if part.is_tool}
        self._data_places = {
            (part.type, part.id): place for place, part in enumerate(earlier) if isinstance(part.id, str) and part.id
        }
        """Where data stands, by type and id."""

    def step(self) -> None:
        """Begins another step, to which all that follows belongs."""
        self._step_is_new = True

    def text(self, kind: TextKind) -> TextPart:
        """Opens a text; whoever writes it adds to its pieces."""
        part = TextPart(kind, [])
        self._add(part)
        return part

    def tool(self, call_id: str, name: str) -> ToolPart:
        part = ToolPart(call_id, name, [])
        self._add(part)
        return part

    def outcome(self, call_id: str, fields: dict[str, object]) -> None:
        """Adds what became of a call to its part, which an earlier run has written."""
        place = self._earlier_calls.get(call_id)
        if place is not None and isinstance(part := self._parts[place], Raw):
            self._parts[place] = Raw(_json(msgspec.json.decode(part, type=dict[str, Raw]) | fields))

    def newest_call(self) -> ToolPart:
        """Returns the call that was opened last."""
        return next(part for part in reversed(self._parts) if isinstance(part, ToolPart))

    def calls_of_clients(self) -> list[ToolPart]:
        """Returns the calls of this run that are complete and without a result, and that a client is to make."""
        calls = [part for part in self._parts if isinstance(part, ToolPart) and part.complete]
        return [call for call in calls if not call.is_executed and not call.error and call.result is None]

    def whole(self, part: Raw) -> None:
        """Adds a part that comes in one piece."""
        self._add(part)

    def earlier_call(self, call_id: str) -> Raw | None:
        """Returns the part of a call of an earlier run."""
        place = self._earlier_calls.get(call_id)
        part = self._parts[place] if place is not None else None
        return part if isinstance(part, Raw) else None

    def call_ids(self) -> Container[str]:
        """Returns the ids of the calls of earlier runs."""
        return self._earlier_calls

    def data(self, data: Data) -> None:
        """Adds what is not transient; a later one of the same type and id takes the place of the earlier one."""
        if data.transient:
            return
        if data.type == CHOICES:
            self._choices_part().pieces.append(data.data)
            return
        part = Raw(_json(data))
        place = self._data_places.get((data.type, data.id))
        if place is not None:
            self._parts[place] = part
            return
        self._add(part)
        if data.id:
            self._data_places[data.type, data.id] = len(self._parts) - 1

    def _choices_part(self) -> ChoicesPart:
        if self._choices is None:
            self._choices = ChoicesPart([])
            self._add(self._choices)
        return self._choices

    def _add(self, part: Part) -> None:
        if self._step_is_new and self._parts:
            self._parts.append(STEP_START)
        self._step_is_new = False
        self._parts.append(part)

    def encoded(self) -> list[Raw]:
        """Returns each part as JSON."""
        return [part if isinstance(part, Raw) else Raw(_json(_fields(part))) for part in self._parts]


def _fields(part: TextPart | ToolPart | ChoicesPart) -> dict[str, object]:
    if isinstance(part, ChoicesPart):
        return {"type": CHOICES, "data": Raw(b"[%b]" % b",".join(bytes(piece)[1:-1] for piece in part.pieces))}
    return _text_fields(part) if isinstance(part, TextPart) else _tool_fields(part)


def _text_fields(part: TextPart) -> dict[str, object]:
    fields: dict[str, object] = {"type": part.kind, "text": "".join(part.pieces), "state": "done"}
    metadata = folded(part.provider_fields)
    return fields if metadata is UNSET else {**fields, "providerMetadata": metadata}


def _tool_fields(part: ToolPart) -> dict[str, object]:
    fields: dict[str, object] = {"type": f"tool-{part.name}", "toolCallId": part.call_id}
    if part.kind.is_dynamic:
        fields |= {"type": "dynamic-tool", "toolName": part.name}
    if part.is_executed:
        fields["providerExecuted"] = True
    metadata = folded(part.provider_fields)
    if metadata is not UNSET:
        fields["callProviderMetadata"] = metadata
    arguments = part.input()
    if part.complete and (part.error or isinstance(arguments, str)):
        text = "".join(part.arguments)
        return {**fields, "state": "output-error", "rawInput": text, "errorText": part.error or NOT_JSON}
    if isinstance(arguments, Raw):
        state = "input-available" if part.complete else "input-streaming"
        return {**fields, "state": state, "input": arguments, **(part.result or {})}
    return {**fields, "state": "input-streaming", "input": {}}
