"""Puts the calls of tools together from the pieces in which upstreams send them. Pure.

OpenAI's servers give each call an index, and its id and name with the first piece. Others leave out the index, the id
or both, change the id from piece to piece, or tell the name late. What is said of a call that nobody has named is kept
until its name comes; one that never gets a name is recorded as a call that failed, so that nothing is lost in silence.
"""

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.chunks import ExtendedToolCall, Function, ToolCall
from gateway.core.loose_json import is_json

NO_NAME = "the model did not say which tool it calls"
NAMELESS = "unknown"
_NO_FUNCTION = Function()


class OpenCall(msgspec.Struct):
    """A call of which pieces may still come."""

    id: str
    """The upstream's id; empty when it gave none."""
    name: str = ""
    recorded_id: str = ""
    """The id in the records; empty while the call has no name, so that it is not recorded."""
    pieces: list[str] = []
    has_arguments: bool = False
    """Whether any arguments came, be they empty."""
    is_custom: bool = False
    fields: list[Raw] = []
    """Fields of the provider that wait for the name."""

    @property
    def is_whole(self) -> bool:
        """Returns whether its arguments are a whole JSON object, to which nothing can be added."""
        return bool(self.pieces) and self.pieces[-1].rstrip().endswith("}") and is_json("".join(self.pieces))


class ToolCalls:
    """The calls of one completion."""

    def __init__(self, recorder: Recorder, provider: str) -> None:
        """Records into `recorder`; fields that we do not know under the name `provider`."""
        self._recorder = recorder
        self._provider = provider
        self._by_index: dict[int, OpenCall] = {}
        self._by_id: dict[str, OpenCall] = {}
        self._calls: list[OpenCall] = []
        self._last: OpenCall | None = None
        self.are_any = False
        """Whether a tool was called."""

    def write(self, piece: ToolCall, out: list[bytes]) -> None:
        """Records a piece, with the call that it belongs to."""
        function = piece.function or _NO_FUNCTION
        name, arguments = function.name or "", function.arguments
        call = self._known_call(piece, name, arguments or "")
        if call is None:
            call = OpenCall(piece.id or "")
            self._calls.append(call)
        if piece.index is not None:
            self._by_index[piece.index] = call
        if piece.id:
            self._by_id[piece.id] = call
            call.id = call.id or piece.id
        self._last = call
        if isinstance(piece, ExtendedToolCall) and not isinstance(piece.unknown, UnsetType):
            call.fields.append(Raw(msgspec.json.encode({self._provider: piece.unknown})))
        if not call.name and name:
            call.is_custom = isinstance(piece, ExtendedToolCall) and piece.is_custom
            if call.is_custom:
                call.fields.append(Raw(msgspec.json.encode({self._provider: {"type": "custom"}})))
            self._name(call, name, out)
        if arguments is not None:
            self._add(call, arguments, out)
        if call.recorded_id and call.fields:
            self._recorder.tool_fields(call.recorded_id, call.fields)
            call.fields = []

    def end(self, out: list[bytes]) -> None:
        """Records calls that never got a name, as calls that failed, and which calls are made without arguments.

        Beside a call with a name, an id alone is none: some servers give every piece another one, the empty last too.
        """
        are_any = self.are_any
        for call in self._calls:
            if not call.name and ("".join(call.pieces).strip() or (call.id and not are_any)):
                self._name(call, NAMELESS, out)
                self._recorder.tool_failed(call.recorded_id, NO_NAME)
            elif call.recorded_id and call.has_arguments and not call.pieces:
                self._recorder.tool_arguments(call.recorded_id, "", out)

    def _known_call(self, piece: ToolCall, name: str, arguments: str) -> OpenCall | None:
        """Returns the call that a piece belongs to; None for the first piece of another one."""
        same_id = self._by_id.get(piece.id) if piece.id else None
        indexed = None if piece.index is None else self._by_index.get(piece.index)
        if same_id is not None and (not name or same_id.name in ("", name)):
            is_elsewhere = piece.index is not None and indexed is not same_id
            return None if name and is_elsewhere and same_id.is_whole else same_id
        if name:
            return self._named_call(piece, name, self._last if piece.index is None else indexed)
        if indexed is not None:
            return None if piece.id and indexed.is_whole else indexed
        if piece.id and piece.index is not None:
            return None
        if self._last is None or (arguments and self._last.is_whole):
            return None
        return self._last if arguments or not piece.id or not self._last.name else None

    def _named_call(self, piece: ToolCall, name: str, candidate: OpenCall | None) -> OpenCall | None:
        """Returns the call at the piece's place when it waits for this name, or when its name is said once more."""
        if candidate is None:
            return None
        if not candidate.name:
            is_another = piece.index is None and piece.id and candidate.id
            return None if is_another else candidate
        is_named_again = candidate.name == name and not candidate.is_whole
        is_begun = bool(candidate.pieces) or (piece.index is not None and not piece.id)
        return candidate if is_named_again and is_begun else None

    def _name(self, call: OpenCall, name: str, out: list[bytes]) -> None:
        self.are_any = True
        call.name = name
        call.recorded_id = self._recorder.tool_input(call.id, name, out, is_custom=call.is_custom)
        if call.pieces:
            self._recorder.tool_arguments(call.recorded_id, "".join(call.pieces), out)

    def _add(self, call: OpenCall, arguments: str, out: list[bytes]) -> None:
        call.has_arguments = True
        if not arguments:
            return
        call.pieces.append(arguments)
        if call.recorded_id:
            self._recorder.tool_arguments(call.recorded_id, arguments, out)
