"""SseDecoder reads an event stream as the HTML standard does: bytes in, split anywhere; events out."""

import codecs
import re
from typing import NamedTuple

_LINE_END = re.compile(r"\r\n|\r|\n")


class Event(NamedTuple):
    """An event as an EventSource dispatches it."""

    event: str
    data: str
    id: str
    """The last id seen, of this event or an earlier one."""


class SseDecoder:
    """Interprets an event stream by section 9.2.6 of the standard."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_ms: int | None = None
        self.comments: list[str] = []
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._first = True
        self._event, self._id, self._data = "", last_id, list[str]()

    def feed(self, piece: bytes) -> list[Event]:
        text = self._rest + self._text.decode(piece)
        if self._first and text:
            text = text.removeprefix("\ufeff")
            self._first = False
        events: list[Event] = []
        start = 0
        for end in _LINE_END.finditer(text):
            if end[0] == "\r" and end.end() == len(text):
                break  # perhaps the first half of CRLF
            self._line(text[start : end.start()], events)
            start = end.end()
        self._rest = text[start:]
        return events

    def _line(self, line: str, events: list[Event]) -> None:
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "":
                self.comments.append(value)
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdecimal():
                self.retry_ms = int(value)
            case _:
                pass

    def _dispatch(self, events: list[Event]) -> None:
        self.last_id = self._id
        if self._data:
            events.append(Event(self._event or "message", "\n".join(self._data), self.last_id))
        self._event, self._data = "", []
