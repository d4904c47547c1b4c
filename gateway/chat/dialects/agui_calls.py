"""The calls of a run as AG-UI tells them: each opened, told piece by piece, ended, and given one result. Pure."""

import msgspec

from gateway.chat.dialects.agui_forms import EventFields


class _ToldCall(msgspec.Struct):
    name: str
    opening: dict[str, object]
    is_open: bool = True
    has_arguments: bool = False


class AguiCalls:
    """The calls of one run, by their ids."""

    def __init__(self) -> None:
        self._calls: dict[str, _ToldCall] = {}
        self._settled: set[str] = set()

    @property
    def are_open(self) -> bool:
        """Whether there is a call whose arguments are not complete."""
        return any(call.is_open for call in self._calls.values())

    def name_of(self, call_id: str) -> str:
        """Returns the name of the called tool; nothing for a call of an earlier run."""
        call = self._calls.get(call_id)
        return call.name if call is not None else ""

    def open(self, call_id: str, name: str, message_id: str) -> EventFields:
        event: EventFields = {"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": name}
        opening = {**event, "parentMessageId": message_id}
        self._calls[call_id] = _ToldCall(name, opening)
        return opening

    def arguments(self, call_id: str, piece: str) -> list[EventFields]:
        call = self._calls.get(call_id)
        if call is None or not call.is_open or not piece:
            return []
        call.has_arguments = True
        return [{"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": piece}]

    def end(self, call_id: str, whole: str) -> list[EventFields]:
        """Ends a call, whose arguments are `whole` where none came in pieces; one that has ended stays as it is."""
        call = self._calls.get(call_id)
        if call is None or not call.is_open:
            return []
        pieces = [] if call.has_arguments else self.arguments(call_id, whole)
        call.is_open = False
        return [*pieces, {"type": "TOOL_CALL_END", "toolCallId": call_id}]

    def end_all(self) -> list[EventFields]:
        return [event for call_id in self._calls for event in self.end(call_id, "")]

    def openings(self) -> list[EventFields]:
        """Returns the beginnings of the calls that are open."""
        return [call.opening for call in self._calls.values() if call.is_open]

    def settle(self, call_id: str) -> bool:
        """Notes that a call has its result; returns whether it had none."""
        is_new = call_id not in self._settled
        self._settled.add(call_id)
        return is_new
