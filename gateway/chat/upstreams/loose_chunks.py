"""Reads a chunk of any shape: what we need of it, from whatever type it comes as, and what we do not know, as it came.

This is the rare road, taken by chunks that `chunks.py` does not read strictly. A text is a text also as a list of
parts, an object or a number; half of a surrogate pair waits for its other half in the next delta.
"""

from typing import cast

import msgspec
from msgspec import UNSET, UnsetType

from gateway.chat.upstreams.chunks import AnswerChunk, Choice, ExtendedDelta, ExtendedToolCall, Function, ManyChoices
from gateway.chat.upstreams.loose_fields import (
    JsonFields,
    finish_word,
    first_of,
    first_text,
    object_of,
    objects_of,
    others_of,
    usage_figures,
    whole_number,
)
from gateway.core.loose_json import split_half, strict_json, strict_raw, whole_text

DELTA_FIELDS = {"content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "role"}
CHOICE_FIELDS = {"index", "delta", "message", "text", "finish_reason", "usage"}
MEDIA_FIELDS = {"audio", "images", "image", "video"}
THOUGHTS = {"thinking", "reasoning", "reasoning_text", "reasoning.text", "thought", "summary_text"}
LEGACY_INDEX = -1
"""The place of the one call that `function_call` can make."""


def _as_delta(choice: JsonFields) -> JsonFields:
    """Returns a choice whose whole message, if it has one, is its delta."""
    fields = others_of(choice, {"message", "delta"})
    return {**fields, "delta": choice.get("delta") or choice.get("message") or {}}


class SpokenText(msgspec.Struct):
    """The text of a field in all shapes, by what it is, and the parts of it that are none."""

    text: str = ""
    thought: str = ""
    refusal: str = ""
    rest: list[object] = []

    def add(self, value: object, *, is_thought: bool = False) -> None:
        match value:
            case str():
                if is_thought:
                    self.thought += value
                else:
                    self.text += value
            case list():
                for part in cast(list[object], value):
                    self.add(part, is_thought=is_thought)
            case dict():
                self._add_part(dict(cast(JsonFields, value)), is_thought=is_thought)
            case bool() | None:
                pass
            case _:
                self.add(str(value), is_thought=is_thought)

    def _add_part(self, part: JsonFields, *, is_thought: bool) -> None:
        kind = part.pop("type", None)
        part.pop("index", None)
        is_thought = is_thought or (isinstance(kind, str) and kind in THOUGHTS)
        name = next((name for name in ("thinking", "refusal", "text", "content", "value") if name in part), None)
        if name == "refusal" and isinstance(part["refusal"], str):
            self.refusal += str(part.pop("refusal"))
        elif name is not None:
            self.add(part.pop(name), is_thought=is_thought or name == "thinking")
            part.pop("closed", None)
        if part:
            self.rest.append(part if kind is None else {"type": kind, **part})


class LooseReader:
    """Reads the chunks of one stream; between two of them it keeps halves of surrogate pairs."""

    def __init__(self, answers: int = 1) -> None:
        """Reads the answer of index 0 when more than one of `answers` were asked for, else the first of each chunk."""
        self._answers = answers
        self._halves: dict[str, str] = {}

    @property
    def has_half(self) -> bool:
        """Returns whether the next chunk must be read here too, because it may hold the other half of a pair."""
        return bool(self._halves)

    def chunk(self, fields: JsonFields, *, takes_message: bool) -> ManyChoices:
        """Returns the chunk; of one that is a whole message, the message when `takes_message`."""
        choices = objects_of(fields.get("choices"))
        usage = usage_figures(fields.get("usage"))
        for place in (*choices, object_of(fields.get("x_groq"))):
            usage = usage or usage_figures(place.get("usage"))
        read = choices[:1]
        if self._answers > 1:
            read = [choice for choice in choices if not whole_number(choice.get("index"))][:1]
        spoken = [self._choice(choice, takes_message=takes_message) for choice in read]
        others = [_as_delta(choice) for choice in choices if not read or choice is not read[0]]
        return ManyChoices(choices=spoken, usage=usage, others=others)

    def halves(self) -> AnswerChunk:
        """Returns what is left of pairs whose other halves did not come."""
        left, self._halves = {name: whole_text(half) for name, half in self._halves.items()}, {}
        delta = ExtendedDelta(
            content=left.get("content"), reasoning_content=left.get("reasoning"), refused=left.get("refusal", "")
        )
        if "arguments" in left:
            delta.tool_calls = [ExtendedToolCall(function=Function(arguments=left["arguments"]))]
        return AnswerChunk(choices=[Choice(delta=delta)])

    def _choice(self, choice: JsonFields, *, takes_message: bool) -> Choice:
        spoken = choice.get("delta")
        if not spoken and takes_message:
            spoken = choice.get("message")
        delta = self._delta(cast(JsonFields, spoken) if isinstance(spoken, dict) else {"content": spoken})
        if isinstance(choice.get("text"), str) and not delta.content:
            delta.content = self._text("content", cast(str, choice["text"]))
        if unknown := others_of(choice, CHOICE_FIELDS):
            beside = {} if isinstance(delta.unknown, UnsetType) else msgspec.json.decode(delta.unknown, type=JsonFields)
            delta.unknown = strict_raw({**beside, "choice": unknown})
        return Choice(delta=delta, finish_reason=finish_word(choice.get("finish_reason")))

    def _delta(self, fields: JsonFields) -> ExtendedDelta:
        spoken = SpokenText()
        spoken.add(fields.get("content"))
        refusal = SpokenText()
        refusal.add(fields.get("refusal"))
        thought = SpokenText()
        thought.add(fields.get("reasoning_content") or fields.get("reasoning"), is_thought=True)
        calls = [self._call(call) for call in objects_of(fields.get("tool_calls"))]
        if function := object_of(fields.get("function_call")):
            legacy = self._call({"function": function})
            legacy.index = LEGACY_INDEX
            calls.append(legacy)
        unknown = others_of(fields, DELTA_FIELDS)
        if rest := spoken.rest + refusal.rest + thought.rest:
            unknown["content_parts"] = rest
        return ExtendedDelta(
            content=self._text("content", spoken.text) or None,
            reasoning_content=self._text("reasoning", thought.text + thought.thought + spoken.thought) or None,
            refused=self._text("refusal", refusal.text + refusal.refusal + spoken.refusal),
            tool_calls=calls,
            unknown=strict_raw(unknown) if unknown else UNSET,
            is_media=bool(unknown.keys() & MEDIA_FIELDS),
        )

    def _call(self, call: JsonFields) -> ExtendedToolCall:
        is_custom = isinstance(call.get("custom"), dict)
        function = object_of(call.get("custom" if is_custom else "function"))
        if isinstance(call.get("function"), str):
            function: JsonFields = {"name": call["function"]}
        name = first_text(function, call, names=("name",))
        arguments = first_of(function, call, names=("arguments", "input", "parameters"))
        piece = arguments if isinstance(arguments, str | None) else strict_json(arguments).decode()
        unknown = others_of(call, {"index", "id", "function", "custom", "name", "arguments", "input", "parameters"})
        if unknown.get("type") in ("function", "custom"):
            del unknown["type"]
        if beside := others_of(function, {"name", "arguments", "input", "parameters"}):
            unknown["custom" if is_custom else "function"] = beside
        call_id = call.get("id")
        return ExtendedToolCall(
            index=whole_number(call.get("index")),
            id=whole_text(call_id) if isinstance(call_id, str) else None if call_id is None else str(call_id)[:64],
            function=Function(name=name and whole_text(name), arguments=piece and self._text("arguments", piece)),
            is_custom=is_custom,
            unknown=strict_raw(unknown) if unknown else UNSET,
        )

    def _text(self, name: str, text: str) -> str:
        """Returns a text without halves of pairs: with the one kept before it, and less the one that it ends in."""
        if not text:
            return ""
        text, half = split_half(self._halves.pop(name, "") + text)
        if half:
            self._halves[name] = half
        return whole_text(text)
