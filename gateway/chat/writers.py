"""Chooses who writes a run: a model with its tools, an agent, or a worker. Each try is a child of the run's span."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gateway.chat.agent_turns import AgentTurns
from gateway.chat.agents.agents import Agents
from gateway.chat.agents.completion_prompt import prompt_of_completion
from gateway.chat.agents.prompt import AgentPrompt
from gateway.chat.inbox import Inbox
from gateway.chat.producers.agent import AgentProducer
from gateway.chat.producers.completion import CompletionProducer
from gateway.chat.producers.producer import Producer
from gateway.chat.producers.tools import Call
from gateway.chat.producers.worker import WorkerProducer
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.recorder import Recorder
from gateway.chat.steps import Steps, ToolPolicy
from gateway.chat.tools.traced import TracedToolbox
from gateway.chat.topics import chat_topic
from gateway.chat.upstreams.failover import Upstreams
from gateway.chat.upstreams.upstream import Request, Upstream
from gateway.chat.workers.agent import WorkAgent

if TYPE_CHECKING:
    from gateway.core.tracing import Span


class Writers:
    """Makes the producers of runs. `span` is that of the run; None where there are no traces."""

    def __init__(self, upstreams: Upstreams, agents: Agents, tools: ToolPolicy, between_tokens_s: float) -> None:
        self._upstreams = upstreams
        self._agents = agents
        self._tools = tools
        self._between_tokens_s = between_tokens_s

    def once(self, info: RunInfo, span: "Span | None", request: Request) -> Producer:
        """Returns who writes a run that belongs to no chat."""
        if not self._agents.serving(info.model):
            return self._completion(info, span, self._upstreams.all, request)
        prompt = prompt_of_completion(request, info.run_id)
        if (agent := self._agents.run_by_worker(info.model)) is not None:
            return self._worker(agent, info, span, prompt)
        return self._agent(info, span, request, prompt)

    def of_chat(
        self,
        info: RunInfo,
        span: "Span | None",
        request: Request,
        recorder: Recorder,
        prompt: AgentPrompt | None,
        calls: list[Call],
        inbox: Inbox,
        steps: int = 0,
    ) -> Iterable[Producer]:
        """Returns who writes a run of a chat, in turn: first the `calls`; an agent makes its own, asked by `prompt`."""
        if prompt is None:
            completion = partial(self._completion, info, span, self._upstreams.all)
            return Steps(info, request, recorder, self._policy(span), completion, calls, inbox, steps)
        if (agent := self._agents.run_by_worker(info.model)) is None:
            return AgentTurns(info, prompt, recorder, partial(self._agent, info, span, request), inbox)
        inbox.can_cut = False  # it comes to all of its calls once more when it is asked again
        return [self._worker(agent, info, span, prompt, calls, inbox)]

    def _policy(self, span: "Span | None") -> ToolPolicy:
        tools = self._tools
        return tools if span is None else msgspec.structs.replace(tools, toolbox=TracedToolbox(tools.toolbox, span))

    def _completion(
        self, info: RunInfo, span: "Span | None", among: Sequence[Upstream], request: Request
    ) -> CompletionProducer:
        """Returns who asks a model; `among`: the upstreams that there were when its run began."""
        return CompletionProducer(
            self._upstreams,
            request,
            info.model,
            prompt_bytes=info.prompt_bytes,
            between_tokens_s=self._between_tokens_s,
            run_span=span,
            key=affinity_of(info, request),
            among=among,
        )

    def _agent(self, info: RunInfo, span: "Span | None", request: Request, prompt: AgentPrompt) -> AgentProducer:
        limit_s = self._between_tokens_s
        return AgentProducer(self._agents, prompt, request, info, between_tokens_s=limit_s, run_span=span)

    def _worker(
        self,
        agent: WorkAgent,
        info: RunInfo,
        span: "Span | None",
        prompt: AgentPrompt,
        calls: Sequence[Call] = (),
        inbox: Inbox | None = None,
    ) -> WorkerProducer:
        return WorkerProducer(
            agent,
            prompt,
            info,
            calls,
            self._policy(span).toolbox,
            lambda asked, model: self._completion(
                msgspec.structs.replace(info, model=model), span, self._upstreams.all, asked
            ),
            ask_s=self._tools.ask_s,
            wait_s=self._agents.waits_s(agent),
            steers=inbox,
            run_span=span,
        )


def affinity_of(info: RunInfo, request: Request) -> str:
    """Returns the key by which a run's requests go to one of several upstreams that share a place: that of its chat.

    Without a chat, what the client itself names for that (OpenAI's `prompt_cache_key`); else nothing is shared.
    """
    if info.chat_id:
        return info.topic or chat_topic(info.sub, info.chat_id)
    cache_key = request.get("prompt_cache_key")
    return f"{info.sub}/{cache_key}" if isinstance(cache_key, str) and cache_key else info.run_id
