"""What a client of each dialect takes a run for: put together by its own SDK where that is written in Python."""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple, cast

from anthropic.lib.streaming._messages import accumulate_event
from openai import Omit
from openai._models import construct_type
from openai.lib.streaming.chat._completions import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

from events.log.port import Block
from gateway.chat.dialects.agui import AguiEvents
from gateway.chat.dialects.agui_forms import AguiRun
from gateway.chat.dialects.anthropic import MessageEvents
from gateway.chat.dialects.openai import CompletionFrames
from gateway.chat.dialects.responses import ResponseEvents
from gateway.chat.dialects.ui_message import UIFrames
from gateway.chat.records.record import RECORD
from gateway.chat.records.response_record import StoredResponse
from tests.support.sse_decoder import SseDecoder

Kinds = tuple[str, ...]


class RunView(NamedTuple):
    """A run as one client has it."""

    text: str
    reasoning: str
    calls: Mapping[str, tuple[str, str]]
    """Name and arguments of each call, by its id."""
    order: Kinds | None
    """What was begun one after the other, each kind once where it follows itself; None where nobody can tell."""
    usage: tuple[int, ...]
    """Tokens: in, of those cached, out, of those thought. Empty where there are none."""
    end: tuple[str, str]
    """`finish` and why, `error` and its text, or `stopped`."""


def events_of(frames: bytes) -> list[dict[str, Any]]:
    """Returns the JSON of each event of a stream, which a `[DONE]` may end."""
    return [json.loads(event.data) for event in SseDecoder("").feed(frames) if event.data != "[DONE]"]


def block_of(records: Iterable[bytes]) -> Block:
    return Block(first=1, data=list(records), name=RECORD, time_ms=0)


def _in_order(kinds: Iterable[str]) -> Kinds:
    return tuple(kind for kind, _ in groupby(kinds))


def ui_view(records: list[bytes]) -> RunView:
    """As the AI SDK has it."""
    texts, calls, kinds = {"text": "", "reasoning": ""}, dict[str, tuple[str, str]](), list[str]()
    usage: dict[str, int] = {}
    end = ("", "")
    for chunk in events_of(b"".join(UIFrames("r")("e", block_of(records)))):
        usage = chunk.get("messageMetadata", {}).get("usage") or usage
        match chunk["type"]:
            case "text-delta" | "reasoning-delta":
                kind = chunk["type"].removesuffix("-delta")
                texts[kind] += chunk["delta"]
                kinds.append(kind)
            case "tool-input-start":
                calls[chunk["toolCallId"]] = chunk["toolName"], ""
                kinds.append("call")
            case "tool-input-delta":
                name, arguments = calls[chunk["toolCallId"]]
                calls[chunk["toolCallId"]] = name, arguments + chunk["inputTextDelta"]
            case "finish":
                end = ("finish", chunk["finishReason"])
            case "error":
                end = ("error", chunk["errorText"])
            case "abort":
                end = ("stopped", "")
            case _:
                pass
    names = ("inputTokens", "cachedTokens", "outputTokens", "reasoningTokens")
    figures = tuple(usage.get(name, 0) for name in names) if usage else ()
    return RunView(texts["text"], texts["reasoning"], calls, _in_order(kinds), figures, end)


FINISHED = {"content_filter": "content-filter", "tool_calls": "tool-calls"}


def completion_view(records: list[bytes]) -> RunView:
    """As OpenAI's SDK has a chat completion."""
    frames = CompletionFrames("r", "m", 7, include_usage=True)
    state = ChatCompletionStreamState(input_tools=Omit(), response_format=Omit())
    reasoning = ""
    end, has_begun = ("", ""), False
    for chunk in events_of(b"".join(frames("e", block_of(records)))):
        if error := chunk.get("error"):
            end = ("stopped", "") if error["code"] == "aborted" else ("error", error["message"])
            continue
        has_begun = True
        for choice in chunk["choices"]:
            reasoning += choice["delta"].get("reasoning_content") or ""
            if reason := choice["finish_reason"]:
                end = ("finish", str(FINISHED.get(reason, reason)))
        list(state.handle_chunk(ChatCompletionChunk.model_validate(chunk)))
    if not has_begun:
        return RunView("", "", {}, None, (), end)
    completion: Any = state.current_completion_snapshot
    message, told = completion.choices[0].message, completion.usage
    calls = {call.id: (call.function.name, call.function.arguments) for call in message.tool_calls or ()}
    usage = () if told is None else _openai_usage(told, told.prompt_tokens, told.completion_tokens)
    return RunView(message.content or "", reasoning, calls, None, usage, end)


def _openai_usage(usage: Any, tokens_in: int, tokens_out: int) -> tuple[int, ...]:
    cached = (getattr(usage, "prompt_tokens_details", None) or usage.input_tokens_details).cached_tokens
    thought = (getattr(usage, "completion_tokens_details", None) or usage.output_tokens_details).reasoning_tokens
    return tokens_in, cached, tokens_out, thought


INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content-filter"}


def response_view(records: list[bytes]) -> RunView:
    """As OpenAI's SDK has a response: what it has put together and what the last event says are the same."""
    stored = StoredResponse(run_id="r", sub="s", created_at=7, model="m", echo=cast(Any, b"{}"), input=[])
    state: Any = ResponseStreamState(input_tools=Omit(), text_format=Omit())
    snapshot: Any = None
    last: Any = None
    reasoning = ""
    for event in events_of(ResponseEvents(stored).feed(records)):
        if event["type"] == "error":
            continue
        if event["type"] == "response.reasoning_text.delta":
            reasoning += event["delta"]
        typed: Any = construct_type(type_=cast(Any, ResponseStreamEvent), value=event)
        snapshot = state.accumulate_event(typed) if snapshot is None else snapshot
        state.handle_event(typed)
        last = getattr(typed, "response", None) or last
    text, calls, kinds = "", dict[str, tuple[str, str]](), list[str]()
    for item in last.output:
        if item.type == "function_call":
            calls[item.call_id] = item.name, item.arguments
            kinds.append("call")
        elif item.type == "reasoning":
            kinds.append("reasoning")
        else:
            text += "".join(part.text for part in item.content)
            kinds.append("text")
    match last.status:
        case "failed":
            end = ("error", last.error.message)
        case "cancelled":
            end = ("stopped", "")
        case "incomplete":
            end = ("finish", INCOMPLETE[last.incomplete_details.reason])
        case _:
            end = ("finish", "tool-calls" if calls else "stop")
    usage = () if last.usage is None else _openai_usage(last.usage, last.usage.input_tokens, last.usage.output_tokens)
    return RunView(text, reasoning, calls, _in_order(kinds), usage, end)


STOPPED_BY = {
    "end_turn": "stop",
    "max_tokens": "length",
    "tool_use": "tool-calls",
    "refusal": "content-filter",
}


def message_view(records: list[bytes]) -> RunView:
    """As Anthropic's SDK has a message; of calls, which it decodes, the arguments are as they came."""
    message: Any = None
    buffers: dict[int, bytes] = {}
    arguments: dict[int, str] = {}
    end = ("", "")
    for event in events_of(MessageEvents("r", "m").feed(records)):
        if event["type"] == "error":
            text = event["error"]["message"]
            end = ("stopped", "") if text == "the answer was stopped" else ("error", text)
        elif event["type"] != "ping":
            delta = event.get("delta") or {}
            if delta.get("type") == "input_json_delta":
                index = event["index"]
                arguments[index] = arguments.get(index, "") + delta["partial_json"]
            message = accumulate_event(event=cast(Any, event), current_snapshot=message, json_bufs=buffers)
    if message is None:
        return RunView("", "", {}, (), (), end)
    texts, calls, kinds = {"text": "", "thinking": ""}, dict[str, tuple[str, str]](), list[str]()
    for index, block in enumerate(message.content):
        if block.type == "tool_use":
            calls[block.id] = block.name, arguments.get(index, "")
            kinds.append("call")
        else:
            texts[block.type] += getattr(block, block.type)
            kinds.append("reasoning" if block.type == "thinking" else "text")
    usage: tuple[int, ...] = ()
    if message.stop_reason is not None:
        end = ("finish", STOPPED_BY[message.stop_reason])
        told = message.usage
        cached = told.cache_read_input_tokens or 0
        details = getattr(told, "output_tokens_details", None)
        thought = 0 if details is None else details.thinking_tokens
        usage = told.input_tokens + cached, cached, told.output_tokens, thought
    return RunView(texts["text"], texts["thinking"], calls, _in_order(kinds), usage, end)


class AguiClient:
    """A client of AG-UI: it checks the order of events as `@ag-ui/client` does, and keeps messages as that does."""

    def __init__(self, messages: list[dict[str, Any]] | None = None) -> None:
        self.messages: list[dict[str, Any]] = messages or []
        self.ids: list[str] = []
        self.end: dict[str, Any] = {}
        self._has_begun = False
        self._open: set[str] = set()

    def feed(self, frames: bytes) -> None:
        for event in SseDecoder("").feed(frames):
            self.ids.append(event.id)
            self._take(json.loads(event.data))

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert not self.end, "nothing follows an end"
        assert self._has_begun == (kind != "RUN_STARTED"), "the first event, and it alone, begins the run"
        self._has_begun = True
        match kind:
            case "MESSAGES_SNAPSHOT":
                self.messages = event["messages"]
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START":
                self._begin(event["messageId"])
                if self._message(event["messageId"]) is None:
                    self.messages.append({"id": event["messageId"], "role": event["role"], "content": ""})
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                assert event["messageId"] in self._open
                assert event["delta"]
                message = self._message(event["messageId"])
                assert message is not None
                message["content"] += event["delta"]
            case "TEXT_MESSAGE_END" | "REASONING_MESSAGE_END":
                self._open.remove(event["messageId"])
            case "TOOL_CALL_START":
                self._begin(event["toolCallId"])
                self._begin_call(event)
            case "TOOL_CALL_ARGS":
                assert event["toolCallId"] in self._open
                self._call(event["toolCallId"])["function"]["arguments"] += event["delta"]
            case "TOOL_CALL_END":
                self._open.remove(event["toolCallId"])
            case "TOOL_CALL_RESULT":
                told = {"id": event["messageId"], "toolCallId": event["toolCallId"], "content": event["content"]}
                self.messages.append({"role": "tool", **told})
            case "RUN_FINISHED" | "RUN_ERROR":
                assert not self._open or kind == "RUN_ERROR"
                self.end = event
            case _:
                pass

    def _begin(self, name: str) -> None:
        assert name not in self._open
        self._open.add(name)

    def _begin_call(self, event: dict[str, Any]) -> None:
        if any(call["id"] == event["toolCallId"] for one in self.messages for call in one.get("toolCalls", ())):
            return
        if not self.messages or self.messages[-1]["id"] != event["parentMessageId"]:
            assert self._message(event["parentMessageId"]) is None, "a message is begun once"
            self.messages.append({"id": event["parentMessageId"], "role": "assistant"})
        function = {"name": event["toolCallName"], "arguments": ""}
        calls = self.messages[-1].setdefault("toolCalls", [])
        calls.append({"id": event["toolCallId"], "type": "function", "function": function})

    def _message(self, message_id: str) -> dict[str, Any] | None:
        return next((message for message in self.messages if message["id"] == message_id), None)

    def _call(self, call_id: str) -> dict[str, Any]:
        calls = [call for message in self.messages for call in message.get("toolCalls", ())]
        return next(call for call in calls if call["id"] == call_id)


def lines_of(records: Iterable[bytes]) -> list[bytes]:
    """Returns records as a dialect with cursors reads them."""
    return [b"r.e.%d %b" % (offset, record) for offset, record in enumerate(records, 1)]


RUN = AguiRun(thread_id="t", run_id="client-run")


def agui_view(records: list[bytes]) -> RunView:
    """As AG-UI's client has it."""
    client = AguiClient()
    client.feed(AguiEvents("r", RUN).feed(lines_of(records)))
    texts, calls, kinds = {"assistant": "", "reasoning": ""}, dict[str, tuple[str, str]](), list[str]()
    for message in client.messages:
        texts[message["role"]] += message.get("content") or ""
        if "content" in message:
            kinds.append("reasoning" if message["role"] == "reasoning" else "text")
        for call in message.get("toolCalls", ()):
            calls[call["id"]] = call["function"]["name"], call["function"]["arguments"]
            kinds.append("call")
    last = client.end
    told = (last.get("usage") or [None])[0]
    names = ("inputTokens", "cachedInputTokens", "outputTokens", "reasoningTokens")
    usage = tuple(told[name] for name in names) if told else ()
    end = ("finish", last.get("metadata", {}).get("finishReason", ""))
    if last["type"] == "RUN_ERROR":
        end = ("stopped", "") if last.get("code") == "aborted" else ("error", last["message"])
    elif last["outcome"]["type"] == "cancelled":
        end = ("stopped", "")
    return RunView(texts["assistant"], texts["reasoning"], calls, _in_order(kinds), usage, end)


VIEWS: dict[str, Callable[[list[bytes]], RunView]] = {
    "ui-message": ui_view,
    "completion": completion_view,
    "response": response_view,
    "message": message_view,
    "ag-ui": agui_view,
}
