"""All agents, in order of preference. Failover is that of models: before the first record, never after."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from events.log.hub import Hub
from events.log.port import EventLog
from gateway.chat.agents.agent import Agent, AgentStream
from gateway.chat.agents.prompt import AgentPrompt
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.circuit import Circuit, Trial
from gateway.chat.upstreams.failover import begun
from gateway.chat.upstreams.operator_rules import allowing
from gateway.chat.upstreams.router import Router
from gateway.chat.upstreams.transport import HttptoolsTransport
from gateway.chat.upstreams.try_span import INVOKE_AGENT, TrySpan
from gateway.chat.upstreams.upstream import Request
from gateway.chat.upstreams.way_out import way_out
from gateway.chat.workers.agent import WorkAgent
from gateway.chat.workers.desk import WorkDesk
from gateway.chat.workers.exchange import WorkExchange
from gateway.chat.workers.session import ClaimedRun
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.core.tracing import Span


class OpenedAgent(msgspec.Struct):
    """An answer that has begun, and its records so far."""

    agent: Agent
    stream: AgentStream
    records: list[bytes]
    span: TrySpan | None = None


class Agents:
    """The agents of an installation, each chosen by a model's name."""

    def __init__(self, agents: Sequence[Agent | WorkAgent], first_token_s: float, *, is_first: bool = False) -> None:
        """Takes them in order of preference; `is_first` when one of them answers requests that name no model."""
        self.all = agents
        self.desk = next((agent.desk for agent in agents if isinstance(agent, WorkAgent)), WorkDesk())
        """The desk at which runs of those agents wait that workers run."""
        self.router = Router()
        self._exchange: WorkExchange | None = None
        self._first_token_s = first_token_s
        self._default = agents[0].names[0] if is_first and agents else ""

    def in_flight(self) -> dict[str, int]:
        """Returns how many requests each agent is answering."""
        return {agent.settings.name: agent.in_flight for agent in self.all}

    def circuits(self) -> dict[str, Circuit]:
        """Returns the circuit of each agent that is asked over HTTP, by its name."""
        asked = [agent.settings.name for agent in self.all if isinstance(agent, Agent)]
        return {name: self.router.circuit(name) for name in asked}

    def models(self) -> list[tuple[str, str]]:
        """Returns the name of every model that stands for an agent, each with the name of its upstream."""
        return [(name, agent.settings.name) for agent in self.all for name in agent.names]

    async def start(self, event_log: EventLog, hub: Hub) -> None:
        """Starts the processes of agents that are ours, and joins those elsewhere whose workers come to any process."""
        from_elsewhere = frozenset(agent.settings.name for agent in self.all if self.has_worker_of(agent.settings.name))
        if from_elsewhere:
            self._exchange = WorkExchange(event_log, hub, self.desk, from_elsewhere)
            await self._exchange.open()
        for agent in self.all:
            if isinstance(agent, WorkAgent):
                agent.start()

    def claimed(self, run_id: str, lease: str) -> ClaimedRun:
        """Returns the claim that a worker's lease names. Raises TrilaneError (409 `fenced`) where it names none."""
        return (self._exchange or self.desk).session(run_id, lease)

    def run_by_worker(self, model: str) -> WorkAgent | None:
        """Returns the agent that a model's name stands for, where workers run it."""
        first = next(iter(self.serving(model)), None)
        return first if isinstance(first, WorkAgent) else None

    def has_worker_of(self, name: str) -> bool:
        """Returns whether workers elsewhere run an agent of this name."""
        return any(isinstance(one, WorkAgent) and one.child is None and one.name == name for one in self.all)

    def waits_s(self, agent: WorkAgent) -> float:
        """Returns for how many seconds a run of an agent waits for a worker."""
        return agent.settings.first_token_s or self._first_token_s

    def serving(self, model: str) -> list[Agent | WorkAgent]:
        """Returns the agents that a model's name stands for; none where it is a model's, or one that nobody knows."""
        chosen = model or self._default
        return [agent for agent in self.all if chosen and (chosen in agent.names or chosen == agent.settings.name)]

    async def open(
        self, prompt: AgentPrompt, request: Request, model: str, recorder: Recorder, run_span: "Span | None" = None
    ) -> tuple[OpenedAgent, Trial]:
        """Opens the first agent that gives a record; `run_span` gets a child for each try.

        The caller ends the trial with the answer. Raises what `Upstreams.open` raises.
        """
        serving = [agent for agent in self.serving(model) if isinstance(agent, Agent)]
        allowed = allowing([agent.settings for agent in serving], request)

        async def attempt(agent: Agent) -> OpenedAgent:
            span = None if run_span is None else TrySpan(run_span, agent.settings, model, operation=INVOKE_AGENT)
            try:
                opened = await self._first_record(agent, prompt, recorder, span)
            except BaseException as err:
                if span is not None:
                    span.fail(err)
                raise
            if span is not None:
                span.note_first_token()
            return opened

        candidates = [agent for agent in serving if agent.settings.name in allowed]
        return await self.router.first(candidates, prompt.chat_id or prompt.run_id, attempt)

    async def _first_record(
        self, agent: Agent, prompt: AgentPrompt, recorder: Recorder, span: TrySpan | None
    ) -> OpenedAgent:
        limit = agent.settings.first_token_s or self._first_token_s
        opening = agent.open(prompt, recorder, b"" if span is None else span.head)
        stream, records = await begun(opening, _are_any, agent.settings.name, limit)
        if stream.error is not None and not records:
            stream.abort()
            raise stream.error
        return OpenedAgent(agent, stream, records, span)

    async def aclose(self) -> None:
        for agent in self.all:
            await agent.aclose()
        if self._exchange is not None:
            await self._exchange.aclose()


def _are_any(records: list[bytes]) -> bool:
    return bool(records)


def open_agents(settings: Settings) -> Agents:
    """Returns the agents that the operator's settings name. Raises ConfigurationError as `open_upstreams` does."""
    desk = WorkDesk()
    agents = [
        WorkAgent(upstream, desk)
        if upstream.kind in ("python", "worker")
        else Agent(upstream, HttptoolsTransport(way_out(upstream, settings.network)))
        for upstream in settings.all_upstreams
        if upstream.kind != "openai"
    ]
    is_first = bool(settings.upstreams) and settings.upstreams[0].kind != "openai"
    return Agents(agents, settings.first_token_s, is_first=is_first)
