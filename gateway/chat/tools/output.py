"""Makes the output of a call from what its server answered, and cuts one that is too large. Pure.

What is structured comes first, else texts as one string, else the list of contents as the server gave it. Progress is
told at most PACE_S apart, and the newest is never lost.
"""

import asyncio
from collections.abc import Sequence
from typing import cast

import msgspec
from msgspec import Raw

from gateway.chat.tools.toolbox import OnProgress, ToolResult

PACE_S = 0.25
"""Seconds between two pieces of progress that are told."""
MAX_MESSAGE = 1000
"""Characters of what a tool says of its progress."""
ERROR_BYTES = 4096
"""Bytes of what a tool says went wrong."""


def tool_result(
    structured: object, content: Sequence[object], *, is_error: bool, max_bytes: int, size: int | None = None
) -> ToolResult:
    """Returns a call's result; `structured` is msgspec.UNSET where there is none.

    `size` is how many bytes the server sent, where `content` is only what was kept of them.
    """
    value = structured if structured is not msgspec.UNSET else _plain(content)
    output = bounded(value, max_bytes, size)
    if not is_error:
        return ToolResult(output=output)
    words = " ".join(_texts(content)) or bytes(output).decode()
    return ToolResult(output=output, error_text=_cut_text(words, ERROR_BYTES) or "the tool failed and says no more")


def bounded(value: object, max_bytes: int, size: int | None = None) -> Raw:
    """Returns a value as JSON of at most `max_bytes`; a larger one as a string that is cut and says so."""
    whole = msgspec.json.encode(value)
    if len(whole) <= max_bytes and size is None:
        return Raw(whole)
    text = value if isinstance(value, str) else whole.decode()
    note = f"\n[cut: the tool gave {size or len(whole)} bytes, more than the {max_bytes} of TRILANE_LIMIT_TOOL_BYTES]"
    kept = room = max(0, max_bytes - len(msgspec.json.encode(note)))
    while True:
        begin = _cut_text(text, kept)
        needed = len(msgspec.json.encode(begin)) - 2
        if needed <= room:
            return Raw(msgspec.json.encode(begin + note))
        kept = min(kept - 1, kept * room // needed)  # what is escaped needs more than one byte for each


def _plain(content: Sequence[object]) -> object:
    texts = _texts(content)
    return "\n".join(texts) if len(texts) == len(content) else content


def _texts(content: Sequence[object]) -> list[str]:
    items = [cast("dict[str, object]", item) for item in content if isinstance(item, dict)]
    return [str(item.get("text", "")) for item in items if item.get("type") == "text"]


def _cut_text(text: str, max_bytes: int) -> str:
    return text.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")


class ProgressPace:
    """Passes on what a tool says of its progress: the first at once, then the newest every PACE_S."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._newest: Raw | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def tell(self, progress: float, total: float | None, message: str | None) -> None:
        fields = {"progress": progress, "total": total, "message": message[:MAX_MESSAGE] if message else None}
        self._newest = Raw(msgspec.json.encode({name: value for name, value in fields.items() if value is not None}))
        if self._timer is None and not self._is_over:
            self._pass_on()

    def close(self) -> None:
        """Tells nothing more: the call is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._is_over = True

    def _pass_on(self) -> None:
        newest, self._newest = self._newest, None
        self._timer = self._loop.call_later(PACE_S, self._pass_on) if newest is not None else None
        if newest is not None:
            self._on_progress(newest)
