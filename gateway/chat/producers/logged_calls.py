"""The calls of a worker's agent that the log has, for an agent that is entered once more: what is not done again. Pure.

An agent that is entered again begins anew, and comes to its calls in the same order. Each has its number in its id, so
the parts of the answer tell all that is needed, whichever process they are read in.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.producers.tools import Call
from gateway.chat.records.messages import OUTPUT_STATES, STEER, MessagePart, UIMessage, unfolded
from gateway.chat.workers.protocol import BeginCall, CallResult
from gateway.errors import UpstreamError

_part = msgspec.json.Decoder(MessagePart).decode


class LoggedCalls:
    """What an answer has so far, as an agent that is entered comes to it."""

    def __init__(self, entered_for: str, parts: Iterable[Raw], calls: Mapping[str, Call]) -> None:
        """Takes the parts of the answer, and what is known of its calls without a result, by id.

        `entered_for` is the id of the run with which the agent was entered first. A client can know it only once that
        run has begun, and nothing that it posts from then on changes this answer.
        """
        self._prefix = f"{entered_for}."
        self._calls = calls
        self._known: list[MessagePart] = []
        self.own_ids: set[str] = set()
        """Ids of the other calls that the agent has shown."""
        self.said = ""
        """The text after the last of these calls, as far as the agent has not said it again."""
        self.steers: dict[int, list[UIMessage]] = {}
        """Messages that it took, by the number of the logged call after which it did."""
        self._again = ""
        self._count = 0
        for raw in parts:
            part = _part(raw)
            if part.type == STEER:
                self.steers.setdefault(len(self._known), []).extend(unfolded(_answer(raw)))
            elif part.is_tool and part.tool_call_id.startswith(self._prefix):
                self._known.append(part)
                self.said = ""
            elif part.is_tool:
                self.own_ids.add(part.tool_call_id)
            elif part.type == "text":
                self.said += part.text

    @property
    def is_replaying(self) -> bool:
        """Returns whether what the agent says now was said before."""
        return self._count < len(self._known)

    def begin(self, begun: BeginCall) -> CallResult | Call | None:
        """Returns what became of a call, or the call as it is to be made; None for one that is new.

        Raises UpstreamError (`agent_changed`) for one that is not the next.
        """
        if begun.n != self._count + 1:
            raise UpstreamError(f"call number {begun.n}: the next is number {self._count + 1}", code="bad_chunk")
        self._count += 1
        if self._count > len(self._known):
            return None
        part = self._known[self._count - 1]
        if part.tool != begun.name:
            raise _changed(f"call number {begun.n} was {part.tool!r} and is now {begun.name!r}")
        if begun.kind == "approve" and _value(part.arguments) != _value(bytes(begun.input)):
            raise _changed(f"what {begun.name!r} asks about, call number {begun.n}, is not what was asked before")
        if part.state in OUTPUT_STATES:
            return _result(begun.n, part)
        return self._calls.get(part.tool_call_id) or Call(
            call_id=part.tool_call_id, name=part.tool, arguments=Raw(part.arguments.encode())
        )

    def id_of(self, number: int) -> str:
        return f"{self._prefix}{number}"

    def rest_of(self, piece: str) -> str | None:
        """Returns what is new of a piece of the text that follows; None when it is another text than before."""
        if self.said.startswith(piece):
            self.said, self._again = self.said[len(piece) :], self._again + piece
            return ""
        said, self.said = self.said, ""
        return piece[len(said) :] if piece.startswith(said) else None

    def all_again(self, piece: str) -> str:
        """Returns the whole of a text that is another one than before."""
        return self._again + piece


def _answer(part: Raw) -> UIMessage:
    return UIMessage(id="", role="assistant", parts=[part])


def _changed(what: str) -> UpstreamError:
    return UpstreamError(
        f"the agent does not go on as it began: {what}. What it does between its calls must be the same each time",
        code="agent_changed",
    )


def _result(number: int, part: MessagePart) -> CallResult:
    if part.state == "output-available":
        return CallResult(call=number, output=Raw(b"null") if isinstance(part.output, UnsetType) else part.output)
    if part.state == "output-error":
        return CallResult(call=number, error_text=part.error_text)
    reason = part.approval.reason if part.approval is not None else None
    return CallResult(call=number, denied=True, reason=reason or "")


def _value(text: str | bytes) -> object:
    return msgspec.json.decode(text)
