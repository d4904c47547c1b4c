"""One try of a call, as the transports below a session see it, and the bounds of what a server may say.

A session's package keeps its transports apart from its calls, so each learns of the other here: a transport which key
goes with a request, the caller whether the request has left.
"""

from contextvars import ContextVar
from itertools import count

import msgspec

from gateway.chat.tools.lines import Overlong, cut_result

MAX_MESSAGE_BYTES = 4 << 20
"""Bytes of a message that is read as a whole, unless a tool's output may have a quarter of more."""
MESSAGES_PER_S = 100
"""Notifications and requests of a server that are heard in a second; more of them are dropped."""


class Attempt:
    """One try of a call: its key, and what became of its request."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.is_sent = False
        """Whether the request may have reached the server; while it is not, the call was certainly not made."""
        self.reason = ""
        """Why it failed, where a transport knows."""
        self.is_session_lost = False
        """Whether the server refused it only because it knows the session no more."""


ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
"""The try that the messages of the current context belong to."""


class Envelope(msgspec.Struct):
    """What the transports look at of a message."""

    method: str = ""
    id: msgspec.Raw = msgspec.Raw()


class Hearing:
    """Decides what of a server's messages is heard, on one connection."""

    def __init__(self, max_output_bytes: int) -> None:
        self.max_bytes = max(MAX_MESSAGE_BYTES, 4 * max_output_bytes)
        self.head_bytes = max_output_bytes + 1024
        self.dropped = 0
        """How many messages were not heard: no JSON, too large for an id to be found, or too many at once."""
        self._second = 0
        self._heard = count()

    def heard(self, line: bytes | Overlong, now: float, request_id: bytes | None = None) -> bytes | None:
        """Returns a line's message, cut where it is over-long; None when it is not heard.

        `request_id` is the JSON of the id that the message answers, where that is known.
        """
        if isinstance(line, Overlong):
            message = cut_result(line, request_id)
        else:
            message = line if self._is_message(line, int(now)) else None
        if message is None and (isinstance(line, Overlong) or line.strip()):
            self.dropped += 1
        return message

    def _is_message(self, line: bytes, second: int) -> bool:
        try:
            envelope = msgspec.json.decode(line, type=Envelope)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if envelope.method:
            if second != self._second:
                self._second, self._heard = second, count()
            return next(self._heard) < MESSAGES_PER_S
        return bool(bytes(envelope.id))
