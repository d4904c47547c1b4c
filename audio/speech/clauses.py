"""Cuts an answer into clauses while it is still written. Pure: text goes in as it comes, clauses come out.

A clause is what a voice says in one breath. It is cut where a reader would pause: the first one early, because somebody
waits for it, the others as whole sentences. It is never cut inside a number, an abbreviation, an address, the text of a
link or code between backticks, as long as that is not longer than a clause may be. Blocks of code and tables are not
cut, they are skipped as a whole.

Each character is looked at once, whenever it comes, and what is held is at most one clause and the word behind it. All
offsets are code points of the whole text.
"""

import re
from typing import Literal

import msgspec

MAX_CLAUSE = 300
"""Maximum characters of a clause, unless a single word is longer."""
MAX_WORD = 1000
"""Characters after which a word is cut, too."""
SHORTEST = 20
"""Minimum characters of a clause: a shorter sentence is said together with the next."""
FIRST_COMMA = 40
"""Characters from which the first clause may end at a comma."""
HURRIED = 60
"""Characters from which the first clause may end between any two words, when it took too long."""

SkipReason = Literal["code", "table", "unspeakable"]


class Clause(msgspec.Struct, frozen=True):
    """A piece of the text that is to be said."""

    start: int
    end: int
    text: str
    """The text as it was written, `end - start` characters of it."""


class Skipped(msgspec.Struct, frozen=True):
    """A piece of the text that is only for the eye."""

    start: int
    end: int
    reason: SkipReason


TextPiece = Clause | Skipped

_ABBREVIATIONS = """
mr mrs ms dr prof rev gen col capt sgt lt st jr sr vs etc approx no nos fig figs eq eqs sec ch vol pp p ed eds al cf
e.g i.e a.m p.m u.s u.k inc ltd co corp dept est min max jan feb mar apr jun jul aug sep sept oct nov dec mon tue
wed thu fri ca ref refs incl excl resp
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
"""Words that a full stop does not end a sentence after, in lower case and without it."""
_SENTENCE = re.compile(r"""[.!?…。！？]["”’)\]*_'»]*$""")  # noqa: RUF001 - as Chinese and Japanese write them
_PAUSE = re.compile(r"""[:;]["”’)\]*_']*$""")  # noqa: RUF001 - a quotation's end
_COMMA = re.compile(r"""[,–—]["”’)*_]*$""")  # noqa: RUF001 - dashes
_BLOCK = re.compile(r"[-*+•>#|0-9]")
_WORD_END = re.compile(r"\s|(?<=[。！？])")  # noqa: RUF001 - no space follows these
_WORD = re.compile(r"\S")
_FENCE = re.compile(r"`{3,}|~{3,}")
_NUMBERED = re.compile(r"\d{1,3}[.)]$")
_OPENING = "([{\"“‘'*_"  # noqa: RUF001 - a quotation's beginning


class ClauseCutter:
    """Cuts one text."""

    def __init__(self) -> None:
        self._text = ""
        """What came and is not given out."""
        self._base = 0
        """The offset of its first character."""
        self._at = 0
        """How far in it was looked at."""
        self._word = 0
        """The beginning of the word that is looked at, or was last."""
        self._gap = 0
        """The end of the word before the gap that is looked at."""
        self._is_in_word = False
        self._is_line_start = True
        self._ticks = self._brackets = 0
        """Backticks, and brackets of links, that are open."""
        self._cut = 0
        """The last place at which the held text may be cut when it becomes too long."""
        self._pause = 0
        """The last of them at which a reader would pause."""
        self._fence = ""
        """The marks that end the block of code in which we are."""
        self._skip: int | None = None
        """The offset at which a block begins that is skipped."""
        self._is_in_table = False
        self._has_begun = False
        self._is_hurried = False

    def feed(self, text: str) -> list[TextPiece]:
        """Returns what is complete by now."""
        self._text += text
        return self._cut_all(is_last=False)

    def hurry(self) -> list[TextPiece]:
        """Returns the first clause if it is long enough to be said though no pause has come; else soon."""
        self._is_hurried = True
        pieces: list[TextPiece] = []
        if not self._has_begun and not self._is_skipping and self._cut >= HURRIED:
            self._give(pieces, self._cut)
        return pieces

    def flush(self) -> list[TextPiece]:
        """Returns all the rest, as if the text were over. To be called once."""
        return self._cut_all(is_last=True)

    @property
    def _is_skipping(self) -> bool:
        return bool(self._fence) or self._is_in_table

    def _cut_all(self, *, is_last: bool) -> list[TextPiece]:
        pieces: list[TextPiece] = []
        while self._step(pieces, is_last=is_last):
            pass
        if is_last:
            self._end_skip(pieces, len(self._text))
            self._give(pieces, len(self._text))
        return pieces

    def _step(self, pieces: list[TextPiece], *, is_last: bool) -> bool:
        """Looks at the next word, gap or line; returns whether there was enough of it."""
        if self._is_skipping and not self._is_line_start:
            return self._pass_line()
        if self._is_in_word:
            return self._end_word(pieces)
        return self._begin_word(pieces, is_last=is_last)

    # Words and gaps

    def _begin_word(self, pieces: list[TextPiece], *, is_last: bool) -> bool:
        """Goes to the next word, and decides whether a clause ends before it."""
        found = _WORD.search(self._text, self._at)
        end = found.start() if found else len(self._text)
        if "\n" in self._text[self._at : end]:
            self._is_line_start = True
        self._at = end
        if not found:
            if end - self._gap > MAX_CLAUSE:  # so much space ends a clause, too, and is not kept
                self._give(pieces, self._gap)
                self._drop(len(self._text))
            return False
        if self._is_line_start and not self._classify(pieces, is_last=is_last):
            return False
        if self._is_skipping or self._at == len(self._text) or self._text[self._at].isspace():  # of a block that ended
            return True
        self._end_clause(pieces)
        self._is_in_word, self._is_line_start, self._word = True, False, self._at
        return True

    def _end_word(self, pieces: list[TextPiece]) -> bool:
        found = _WORD_END.search(self._text, max(self._at, self._word + 1))
        end = found.start() if found else len(self._text)
        self._count_marks(self._at, end)
        self._at = end
        if end - self._word > MAX_WORD:
            self._give(pieces, self._word)
            self._give(pieces, min(MAX_WORD, len(self._text)))
            self._ticks = self._brackets = 0
            self._is_in_word = self._at > 0
            return self._at < len(self._text)
        if end > MAX_CLAUSE and (place := self._place_to_cut()):
            self._give(pieces, place)
            self._ticks = self._brackets = 0
        if found:
            self._is_in_word = False
            self._gap = self._at
        return bool(found)

    def _place_to_cut(self) -> int:
        """Returns where a sentence is cut that is too long: at a pause if one is near its end, else between words."""
        return self._pause if self._pause >= MAX_CLAUSE // 3 else self._cut or self._word

    def _count_marks(self, start: int, end: int) -> None:
        part = self._text[start:end]
        self._ticks ^= part.count("`") & 1
        self._brackets = max(0, self._brackets + part.count("[") - part.count("]"))

    def _end_clause(self, pieces: list[TextPiece]) -> None:
        """Gives the text before the word that begins here, if a clause ends there."""
        if self._ends_clause(self._text[: self._gap], self._text[self._gap : self._at], self._text[self._at]):
            self._give(pieces, self._gap)
        elif self._gap and not self._is_open:
            self._cut = self._gap
            word = self._text[self._word : self._gap]
            if _COMMA.search(word) or _PAUSE.search(word):
                self._pause = self._gap
            if self._is_hurried and not self._has_begun and self._gap >= HURRIED:
                self._give(pieces, self._gap)

    @property
    def _is_open(self) -> bool:
        return bool(self._ticks or self._brackets)

    def _ends_clause(self, held: str, gap: str, following: str) -> bool:
        """Tells whether a clause ends with `held`, which `gap` and a word that begins with `following` come after."""
        if not held.strip():
            return False
        lines = gap.count("\n")
        if lines > 1 or (lines and _BLOCK.match(following)):
            self._ticks = self._brackets = 0  # no mark goes on over the end of its block
            return True
        length = len(held.lstrip())
        if self._is_open or length < SHORTEST:
            return False
        word = held[self._word :]
        if _SENTENCE.search(word):
            return bool(lines) or _ends_sentence(word, following)
        if self._has_begun:
            return False
        return bool(_PAUSE.search(word)) or (length >= FIRST_COMMA and bool(_COMMA.search(word)))

    def _give(self, pieces: list[TextPiece], end: int) -> None:
        """Gives the held text up to `end`, without the spaces around it."""
        held = self._text[:end]
        text = held.strip()
        if text:
            start = self._base + held.index(text[0])
            pieces.append(Clause(start, start + len(text), text))
            self._has_begun = True
        self._drop(end)

    def _drop(self, end: int) -> None:
        self._text = self._text[end:]
        self._base += end
        self._at = max(0, self._at - end)
        self._word = max(0, self._word - end)
        self._gap = max(0, self._gap - end)
        self._cut = max(0, self._cut - end)
        self._pause = max(0, self._pause - end)

    # Lines that are skipped

    def _classify(self, pieces: list[TextPiece], *, is_last: bool) -> bool:
        """Looks at the beginning of a line; returns whether enough of it is there to say what it is."""
        first = self._text[self._at]
        if first in "`~" and not is_last and len(self._text) - self._at < 3 and len({*self._text[self._at :]}) == 1:
            return False
        marks = _FENCE.match(self._text, self._at)
        if self._fence:
            return self._look_for_fence_end(pieces, marks, is_last=is_last)
        if self._is_in_table and first != "|":
            self._end_skip(pieces, self._at)
        if marks:
            self._begin_skip(pieces)
            self._fence, self._is_line_start = marks[0][:3], False
        elif first == "|" and not self._is_in_table:
            self._begin_skip(pieces)
            self._is_in_table = True
        if self._is_in_table:
            self._is_line_start = False
        return True

    def _look_for_fence_end(self, pieces: list[TextPiece], marks: re.Match[str] | None, *, is_last: bool) -> bool:
        self._is_line_start = False
        if marks is None or marks[0][:3] != self._fence:
            return True
        line_end = self._text.find("\n", self._at)
        if line_end < 0 and not is_last:
            self._is_line_start = True
            return False
        end = line_end if line_end >= 0 else len(self._text)
        if not self._text[marks.end() : end].strip():
            self._end_skip(pieces, end)
        return True

    def _begin_skip(self, pieces: list[TextPiece]) -> None:
        self._give(pieces, self._at)
        self._ticks = self._brackets = 0
        self._skip = self._base

    def _end_skip(self, pieces: list[TextPiece], end: int) -> None:
        if self._skip is None:
            return
        reason: SkipReason = "code" if self._fence else "table"
        stop = self._base + len(self._text[:end].rstrip())
        pieces.append(Skipped(self._skip, max(stop, self._skip), reason))
        self._fence, self._is_in_table, self._skip = "", False, None
        self._drop(end)
        self._is_line_start = True

    def _pass_line(self) -> bool:
        """Forgets what has come of a line that is skipped."""
        end = self._text.find("\n", self._at)
        self._is_line_start = end >= 0
        self._is_in_word = False
        self._drop_skipped(end if end >= 0 else len(self._text))
        return end >= 0

    def _drop_skipped(self, end: int) -> None:
        self._at = self._word = self._gap = self._cut = self._pause = end
        self._drop(end)


def _ends_sentence(word: str, following: str) -> bool:
    """Tells whether a sentence ends with `word`, which has a mark of the end, before a word that begins so."""
    if following.islower():
        return False
    bare = word.rstrip("\"”’)]*_'»")  # noqa: RUF001 - a quotation's end
    if not bare.endswith(".") or bare.endswith("..."):
        return True
    name = bare.rstrip(".").lstrip(_OPENING)
    is_initial = len(name) == 1 and name.isalpha() and name.isupper() and name != "I"
    return not (is_initial or _NUMBERED.match(bare.lstrip(_OPENING)) or name.lower() in ABBREVIATIONS)
