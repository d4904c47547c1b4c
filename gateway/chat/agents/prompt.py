"""What an agent is asked, whichever protocol it speaks, and what it asks in return. Pure.

Agents believe what they are sent: some run a posted call with whatever input it was posted with. So a call that
somebody has allowed is sent as our log has it, and a call that our log does not have is not sent at all.
"""

from collections.abc import Collection
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.records.asks import decision_data
from gateway.chat.records.chat_record import Answered, Ask, Trigger
from gateway.chat.records.messages import OUTPUT_STATES, MessagePart, UIMessage, parts_of
from gateway.chat.records.provider_fields import AGENT
from gateway.chat.upstreams.loose_fields import JsonFields, object_of


class AgentDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to something that an agent asked about a call."""

    tool_call_id: str
    approved: bool | None
    """Whether the call may be made; None when nobody answered, and nobody will."""
    reason: str = ""
    input: Raw | UnsetType = UNSET
    """The input that the call is to be made with, where it is not the agent's."""
    output: Raw | UnsetType = UNSET
    """The answer itself, where it is more than yes or no."""
    approval_id: str = ""
    """The id of an ask that clients were told of as an approval; empty for another."""
    told: Raw = Raw(b"{}")
    """What clients are told of the answer to that."""


def decision_of(ask: Ask, answered: Answered) -> AgentDecision:
    """Returns the answer to an ask, as the log has it."""
    is_persons = answered.actor.via == "user"
    return AgentDecision(
        tool_call_id=ask.tool_call_id,
        approved=answered.approved if is_persons else None,
        reason=answered.reason,
        input=answered.input,
        output=answered.output,
        approval_id=ask.approval_id if ask.kind == "approval" else "",
        told=Raw(msgspec.json.encode(decision_data(ask, answered))),
    )


class AgentAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an agent asks at the end of a run; the next run brings it the answer."""

    approval_id: str
    """Our id of the ask, which stands in its record."""
    interrupt_id: str
    """The agent's own id of it."""
    tool_call_id: str
    """The call that it is about; one of ours when it is about none, with the question as its input."""
    kind: Literal["approval", "input"]
    message: str = ""
    response_schema: Raw | UnsetType = UNSET
    """The JSON schema of the answer."""
    expires_at: str = ""
    """A time as in ISO 8601."""
    is_editable: bool = False
    """Whether the agent takes another input for the call."""


class AgentFields(msgspec.Struct, rename="camel", omit_defaults=True):
    """What is kept of an agent's own names with a part of its answer, because it wants them back."""

    message_id: str = ""
    """Its id of the message that the part belongs to."""
    result_id: str = ""
    """Its id of the message that holds the result of a call."""
    encrypted_value: str = ""
    interrupt_id: str = ""
    """Its id of what it asks about a call, until the answer has been sent."""
    asked: Raw | UnsetType = UNSET
    """What it said when it asked, and wants to hear again or to have answered in its own form."""

    def settle(self) -> None:
        """Forgets what it asked: it has been told the answer."""
        self.interrupt_id, self.asked = "", UNSET

    @property
    def asked_with(self) -> JsonFields:
        return {} if isinstance(self.asked, UnsetType) else object_of(msgspec.json.decode(self.asked))

    def as_metadata(self) -> Raw:
        return Raw(msgspec.json.encode({AGENT: self}))


class _KeptMetadata(msgspec.Struct):
    agent: AgentFields = msgspec.field(default_factory=AgentFields)


def agent_fields(metadata: Raw | UnsetType) -> AgentFields:
    """Returns what was kept of the agent's own names; nothing where there is none."""
    if isinstance(metadata, UnsetType):
        return AgentFields()
    try:
        return msgspec.json.decode(metadata, type=_KeptMetadata).agent
    except msgspec.DecodeError:
        return AgentFields()


class AgentPrompt(msgspec.Struct, kw_only=True):
    """One request to an agent."""

    chat_id: str
    run_id: str
    messages: list[UIMessage]
    """The conversation, of which the last answer is gone on from when it comes last."""
    trigger: Trigger = "submit-message"
    message_id: str = ""
    """Id of the message that is edited, regenerated or continued; empty when the client names none."""
    system: str = ""
    functions: list[JsonFields] = []
    """The client's own tools, as OpenAI has them."""
    extra: dict[str, Raw] = {}
    """Fields of the request that are not ours."""
    stored: Collection[str] = ()
    """Ids of the messages that the log had before this request."""
    entered_for: str = ""
    """Id of the run with which this agent was entered first: another one than this where it parked, and is entered
    again with the answer. No client can make it one."""
    parts_before: int = 0
    """How many parts the answer had then: of those that a client may have posted no call counts as made."""
    decisions: list[AgentDecision] = []
    """The answers to what the agent has asked; those that its parts tell are found without."""

    @property
    def client_tools(self) -> set[str]:
        """Returns the names of the tools that the client runs."""
        return {str(object_of(function.get("function")).get("name")) for function in self.functions}

    def open_questions(self) -> list[tuple[MessagePart, AgentFields]]:
        """Returns the calls of the newest answer that the agent waits to hear about."""
        newest = next((message for message in reversed(self.messages) if message.role == "assistant"), None)
        if newest is None or newest.id not in self.stored:
            return []
        asked = [(part, agent_fields(part.call_provider_metadata)) for part in parts_of(newest) if part.is_tool]
        return [(part, fields) for part, fields in asked if fields.interrupt_id]

    def answers(self) -> list[tuple[MessagePart, AgentFields, AgentDecision]]:
        """Returns the answer to each of them: as it was decided, else as its part tells."""
        decided = {decision.tool_call_id: decision for decision in self.decisions}
        return [(part, fields, decided.get(part.tool_call_id) or _told(part)) for part, fields in self.open_questions()]

    def believed(self) -> list[UIMessage]:
        """Returns the conversation without the calls that nobody but the client says somebody has allowed."""
        return [
            message if message.role != "assistant" or message.id in self.stored else _without_allowed(message)
            for message in self.messages
        ]


def _told(part: MessagePart) -> AgentDecision:
    approval = part.approval
    reason = (approval.reason if approval is not None else None) or ""
    call_id = part.tool_call_id
    match part.state:
        case "output-available":
            output = Raw(b"null") if isinstance(part.output, UnsetType) else part.output
            return AgentDecision(tool_call_id=call_id, approved=True, output=output)
        case "approval-responded" | "output-denied" if approval is not None and approval.approved is not None:
            return AgentDecision(tool_call_id=call_id, approved=approval.approved, reason=reason)
        case _:
            return AgentDecision(tool_call_id=call_id, approved=None)


def _without_allowed(message: UIMessage) -> UIMessage:
    parts = zip(parts_of(message), message.parts, strict=True)
    kept = [raw for part, raw in parts if not part.is_tool or part.state in OUTPUT_STATES]
    return message if len(kept) == len(message.parts) else msgspec.structs.replace(message, parts=kept)
