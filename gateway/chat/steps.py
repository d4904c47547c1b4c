"""Which producer of a run is next, when a model writes it: model, tools, what came meanwhile, model, tools ...

A step is one call of the model and the calls that it asks for. The run ends with the model's last word, unless a
message has come that it may take, or with a step that waits: for a person who is asked, or for a client that runs a
tool of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec

from gateway.chat.history import History
from gateway.chat.inbox import Inbox
from gateway.chat.producers.completion import CompletionProducer
from gateway.chat.producers.producer import Producer
from gateway.chat.producers.tools import Call, ToolsProducer
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.messages import APPROVED, UIMessage, UpstreamMessage, joined, parts_of, turns_of
from gateway.chat.records.recorder import Recorder
from gateway.chat.steers import SteersProducer
from gateway.chat.tools.toolbox import Tool, Toolbox
from gateway.chat.upstreams.upstream import OWN_TOOLS, Request
from gateway.errors import TrilaneError

AskModel = Callable[[Request], CompletionProducer]
"""A function that returns the producer of one answer of the model."""


class ToolPolicy(msgspec.Struct, frozen=True):
    """The tools of the gateway, and the bounds of a run that uses them."""

    toolbox: Toolbox
    max_steps: int
    """Maximum calls of the model."""
    ask_s: float
    """Seconds in which a person can answer."""


class Steps:
    """The producers of one run, in order. It is iterated once."""

    def __init__(
        self,
        info: RunInfo,
        request: Request,
        recorder: Recorder,
        policy: ToolPolicy,
        ask_model: AskModel,
        decided: list[Call],
        inbox: Inbox,
        steps: int = 0,
    ) -> None:
        """Makes the calls in `decided` first; `request` has the conversation up to this run's message.

        `steps` is how many there were before another process took this run over.
        """
        self._info = info
        self._request = request
        self._recorder = recorder
        self._policy = policy
        self._ask_model = ask_model
        self._decided = decided
        self._inbox = inbox
        self._steps = steps
        self._tools = policy.toolbox.offered(info.sub)
        recorder.executed_tools = frozenset(tool.name for tool in self._tools)

    def __iter__(self) -> Iterator[Producer]:
        if self._decided or self._recorder.is_waiting:
            tools = self._make_calls(self._decided)
            yield tools
            if tools.asks or self._recorder.is_waiting:
                return
        while True:
            while self._inbox.is_cut or self._inbox.steers():
                self._inbox.is_cut = False
                yield SteersProducer(self._inbox)
            if self._steps >= self._policy.max_steps:
                raise self._too_many()
            self._steps += 1
            completion = self._ask_model(self._next_request())
            yield completion
            if completion.reason == "tool-calls":
                if not self._recorder.calls_own_tools:
                    return
                yield self._make_calls(None)
                if self._recorder.is_waiting:
                    return
            elif self._steps >= self._policy.max_steps:
                return
            elif not self._inbox.is_cut:
                if not self._inbox.steers():
                    return
                steers = SteersProducer(self._inbox, completion.reason)
                yield steers
                if not steers.has_taken:
                    return

    def _too_many(self) -> TrilaneError:
        limit = self._policy.max_steps
        return TrilaneError(
            f"the model called tools in each of {limit} steps: no more are made (TRILANE_MAX_STEPS)",
            code="too_many_steps",
        )

    def _make_calls(self, calls: list[Call] | None) -> ToolsProducer:
        return ToolsProducer(self._policy.toolbox, self._info, calls, ask_s=self._policy.ask_s)

    def _next_request(self) -> Request:
        """Returns the request of the next step, whose conversation ends with what this message has so far."""
        request = dict(self._request)
        parts = self._recorder.parts.encoded()
        so_far = turns_of(UIMessage(id=self._info.message_id, role="assistant", parts=parts)) if parts else []
        if so_far:
            request["messages"] = joined([*cast("list[UpstreamMessage]", request["messages"]), *so_far])
        if told := [_specification(tool) for tool in self._tools if tool.is_told]:
            request[OWN_TOOLS] = told
        return request


def decided_calls(history: History, answer: UIMessage) -> list[Call]:
    """Returns the calls of an answer that people have decided about and that have no result yet."""
    newest = {ask.tool_call_id: ask for ask in history.asks.values() if ask.message_id == answer.id}
    calls: list[Call] = []
    for part in parts_of(answer):
        ask = newest.get(part.tool_call_id) if part.is_tool and part.state == APPROVED else None
        decision = history.decisions.get(ask.approval_id) if ask is not None else None
        if ask is not None and decision is not None:
            call = Call(call_id=ask.tool_call_id, name=ask.tool_name, arguments=ask.input, ask=ask, decision=decision)
            calls.append(call)
    return calls


def without_answer(conversation: Sequence[UIMessage], answer: UIMessage | None) -> Sequence[UIMessage]:
    """Returns a conversation without the answer at its end, which the run adds to each of its requests."""
    return conversation[:-1] if answer is not None and conversation[-1].id == answer.id else conversation


def _specification(tool: Tool) -> dict[str, object]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
