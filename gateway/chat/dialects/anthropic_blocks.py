"""The blocks of a message in Anthropic's format, of which one at a time is told piece by piece. Pure.

A run's calls of tools may be written side by side. So a block that begins while another is open waits, and what comes
of it is told in one piece when its turn has come.
"""

from typing import Literal, cast

import msgspec

from gateway.core.loose_json import is_json

BlockKind = Literal["text", "thinking", "tool_use", "mcp_tool_use", "mcp_tool_result"]
DELTAS: dict[BlockKind, tuple[bytes, bytes]] = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
    "mcp_tool_use": (b"input_json_delta", b"partial_json"),
}
"""The type of a block's pieces, and the field that holds one."""
UNREADABLE = "unreadable"
"""The field that an input has, in a whole message, whose arguments are no JSON object: the arguments as they came."""
CALLS = ("tool_use", "mcp_tool_use")
_json = msgspec.json.Encoder().encode


class MessageBlock:
    """One block: its fields, and its text or arguments in pieces, each as it stands within quotes in JSON."""

    def __init__(self, kind: BlockKind, fields: dict[str, object]) -> None:
        self.kind = kind
        self.is_done = False
        self.pieces: list[bytes] = []
        self._fields = fields

    def begun(self) -> dict[str, object]:
        """Returns it as its first event has it."""
        return {"type": self.kind, **self._fields}

    def whole(self) -> dict[str, object]:
        """Returns it as a whole message has it."""
        if self.kind in ("text", "thinking"):
            return {"type": self.kind, **self._fields, self.kind: self._text()}
        if self.kind in CALLS:
            return {"type": self.kind, **self._fields, "input": _object(self._text())}
        return self.begun()

    @property
    def may_end(self) -> bool:
        """Returns whether nothing can be added to it: what began after it has its turn then."""
        return self.is_done or self.kind not in CALLS or is_json(self._text())

    def _text(self) -> str:
        return msgspec.json.decode(b'"%b"' % b"".join(self.pieces), type=str)


class MessageBlocks:
    """All blocks of a message, and the frames that tell them."""

    def __init__(self, *, keeps_text: bool) -> None:
        """`keeps_text`: whether `whole` will be asked for; else the pieces of a text are let go once they are told."""
        self._keeps_text = keeps_text
        self._blocks: list[MessageBlock] = []
        self._told = 0
        """The number of blocks that are told to their end."""
        self._has_begun = False
        """Whether the next one, which is then the open one, has been told of."""
        self._lead = b""

    def whole(self) -> list[dict[str, object]]:
        return [block.whole() for block in self._blocks]

    def open(self, kind: BlockKind, fields: dict[str, object], out: list[bytes]) -> MessageBlock:
        """Begins a block behind all others."""
        block = MessageBlock(kind, fields)
        self._blocks.append(block)
        self._advance(out)
        return block

    def add(self, block: MessageBlock, piece: bytes, out: list[bytes]) -> None:
        """Adds a piece, a text in JSON without its quotes."""
        is_open = self._has_begun and self._told < len(self._blocks) and self._blocks[self._told] is block
        if self._keeps_text or not is_open or block.kind in CALLS:
            block.pieces.append(piece)
        if is_open:
            out.append(b'%b%b"}}\n\n' % (self._lead, piece))

    def end(self, block: MessageBlock, out: list[bytes]) -> None:
        """Notes that nothing more of it comes."""
        block.is_done = True
        self._advance(out)

    def end_all(self, out: list[bytes]) -> None:
        for block in self._blocks[self._told :]:
            block.is_done = True
        self._advance(out)

    def _advance(self, out: list[bytes]) -> None:
        """Tells blocks in turn, as far as they have come: up to one that may still grow."""
        while self._told < len(self._blocks):
            block = self._blocks[self._told]
            if not self._has_begun:
                self._begin(block, out)
            is_last = self._told == len(self._blocks) - 1
            if not block.is_done and (is_last or not block.may_end):
                return
            out.append(frame("content_block_stop", {"index": self._told}))
            block.is_done = True
            if not self._keeps_text:
                block.pieces = []
            self._told += 1
            self._has_begun = False

    def _begin(self, block: MessageBlock, out: list[bytes]) -> None:
        self._has_begun = True
        empty: dict[str, object] = {block.kind: ""} if block.kind in DELTAS else {}
        if block.kind in CALLS:
            empty = {"input": {}}
        out.append(frame("content_block_start", {"index": self._told, "content_block": {**block.begun(), **empty}}))
        if block.kind not in DELTAS:
            return
        kind, field = DELTAS[block.kind]
        lead = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":"'
        self._lead = lead % (self._told, kind, field)
        if block.pieces:
            out.append(b'%b%b"}}\n\n' % (self._lead, b"".join(block.pieces)))


def frame(event: str, fields: dict[str, object]) -> bytes:
    """Returns an event; its type stands both beside and in its data."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), _json({"type": event, **fields}))


def _object(arguments: str) -> object:
    if not arguments.strip():
        return {}
    try:
        decoded: object = msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {UNREADABLE: arguments}
    return cast("object", decoded) if isinstance(decoded, dict) else {UNREADABLE: arguments}
