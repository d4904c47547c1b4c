"""Which producer of a run is next, when an agent writes it: the agent, and once more for a message that cannot wait.

An agent is told nothing while it answers. A message that is to be taken at once closes its connection, and it is asked
again, with what it has written so far and that message; any other waits until it has answered.
"""

from collections.abc import Callable, Iterator

import msgspec

from gateway.chat.agents.prompt import AgentPrompt
from gateway.chat.inbox import Inbox
from gateway.chat.producers.producer import Producer
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.messages import UIMessage, unfolded
from gateway.chat.records.recorder import Recorder
from gateway.chat.steers import SteersProducer

AskAgent = Callable[[AgentPrompt], Producer]
"""A function that returns the producer of one answer of the agent."""


class AgentTurns:
    """The producers of one run, in order. It is iterated once."""

    def __init__(
        self, info: RunInfo, prompt: AgentPrompt, recorder: Recorder, ask_agent: AskAgent, inbox: Inbox
    ) -> None:
        self._info = info
        self._prompt = prompt
        self._recorder = recorder
        self._ask_agent = ask_agent
        self._inbox = inbox
        # Whether it has heard an answer that it waited for could not be known, and it must not act on that twice.
        inbox.can_cut = not prompt.open_questions()

    def __iter__(self) -> Iterator[Producer]:
        prompt = self._prompt
        while True:
            yield self._ask_agent(prompt)
            if not self._inbox.is_cut:
                return
            self._inbox.is_cut = False
            yield SteersProducer(self._inbox)
            prompt = self._prompt_so_far()

    def _prompt_so_far(self) -> AgentPrompt:
        """Returns what it is asked now, whose conversation ends with what this message has so far."""
        message_id = self._info.message_id
        before = [message for message in self._prompt.messages if message.id != message_id]
        so_far = UIMessage(id=message_id, role="assistant", parts=self._recorder.parts.encoded())
        return msgspec.structs.replace(self._prompt, messages=[*before, *unfolded(so_far)], message_id="")
