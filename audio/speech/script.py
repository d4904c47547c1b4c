"""What a voice says of a text, line by line, and what it leaves out: clauses, made speakable, as they are complete."""

from collections.abc import Callable, Iterable

import msgspec

from audio.speech.clauses import Clause, ClauseCutter, Skipped, TextPiece
from audio.speech.speakable import speakable

CODE_NOTICE = "There is code on the screen."
"""The words that stand for the first block of code of an answer."""


class SpokenLine(msgspec.Struct, frozen=True):
    """A clause as it is spoken."""

    start: int
    end: int
    """The clause's place in the text, in code points."""
    text: str
    """The words that are spoken, which may be others than those that are written."""


class SpeechScript:
    """The lines of one text."""

    def __init__(self, can_say: Callable[[str], bool], code_notice: str = CODE_NOTICE) -> None:
        """`can_say` tells whether the voice can say some words."""
        self._cutter = ClauseCutter()
        self._can_say = can_say
        self._code_notice = code_notice

    def feed(self, text: str) -> list[SpokenLine | Skipped]:
        """Returns what is complete with this text."""
        return self._lines(self._cutter.feed(text))

    def hurry(self) -> list[SpokenLine | Skipped]:
        """Returns the first line, if it is long enough to be said before its pause has come; else it comes soon."""
        return self._lines(self._cutter.hurry())

    def flush(self) -> list[SpokenLine | Skipped]:
        """Returns the rest. To be called once."""
        return self._lines(self._cutter.flush())

    def _lines(self, pieces: Iterable[TextPiece]) -> list[SpokenLine | Skipped]:
        lines: list[SpokenLine | Skipped] = []
        for piece in pieces:
            if isinstance(piece, Clause):
                lines += self._said(piece)
                continue
            lines.append(piece)
            if piece.reason == "code" and self._code_notice:
                lines.append(SpokenLine(piece.end, piece.end, self._code_notice))
                self._code_notice = ""
        return lines

    def _said(self, clause: Clause) -> list[SpokenLine | Skipped]:
        words = speakable(clause.text)
        if not words:
            return []  # marks alone, which nobody misses
        if not self._can_say(words):
            return [Skipped(clause.start, clause.end, "unspeakable")]
        return [SpokenLine(clause.start, clause.end, words)]
