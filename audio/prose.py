"""Finals that are joined read as prose: a sentence that goes on behind the end of a segment has no stop there. Pure.

A model ends what it is given with a stop and begins it with a capital, also where the audio was cut in a sentence. What
is certain is mended, by the words on both sides and the pause between them, and nothing else: a name keeps its capital,
and a segment by itself its text. Words are known in English; a small letter behind a stop tells in every language.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from audio.messages import Final

STOPS = ".…"
ENDS = (*STOPS, "?", "!")
CUT_S = 0.3
"""Seconds between two segments below which there was no silence: one was cut in two because it was too long."""
LONG_S = 0.8
"""Seconds between two segments from which the next one is a sentence of its own, if nothing else tells."""
LEAST_WORDS = 3
"""Words that a sentence has at the least: a shorter one is an answer, or a number, and is given no stop."""
ABBREVIATIONS = frozenset(("mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e"))
UNENDING = frozenset(
    (
        *("a", "an", "the", "and", "or", "nor", "but", "my", "your", "our", "their", "every", "because", "if"),
        *("unless", "although", "whereas", "than"),
    )
)
"""Words that no sentence ends with."""
RARE_ENDS = frozenset(("of", "to", "from", "with", "into", "at", "by", "for", "as", "that", "which", "who", "whose"))
"""Words that few sentences end with: none that was cut."""
JOINING = frozenset(("and", "or", "but", "nor", "which", "because", "than", "of", "to", "with", "from", "whose"))
"""Words that go on with a sentence that was cut."""
SMALL = (
    UNENDING
    | RARE_ENDS
    | JOINING
    | frozenset(("so", "in", "on", "without", "whom", "when", "where", "while", "since", "until", "though", "whether"))
    | frozenset(("after", "before", "it", "he", "she", "they", "we", "you", "this", "these", "those", "there", "his"))
    | frozenset(("her", "its", "is", "are", "was", "were", "be", "been", "has", "have", "had", "do", "does", "did"))
    | frozenset(("will", "would", "can", "could", "should", "not", "then", "also", "about", "over", "under", "between"))
    | frozenset(("through", "during", "against", "among", "what", "how", "why"))
)
"""Words that are no name, so that they have a small letter within a sentence."""


class GrowingProse:
    """The text of finals that come one by one; what was returned of it does not change any more."""

    __slots__ = ("_last", "text")

    def __init__(self) -> None:
        self.text = ""
        self._last: Final | None = None

    def add(self, final: Final) -> str:
        """Returns what the next final adds, without the stop at its end: its sentence may go on."""
        addition = ""
        if self._last is not None:
            before, final = _met(self._last, final)
            addition = before.text[len(_settled(self._last.text)) :] + " "
        self._last = final
        addition += _settled(final.text)
        self.text += addition
        return addition

    def end(self) -> str:
        """Returns the stop at the end of all, if there is one."""
        rest = "" if self._last is None else self._last.text[len(_settled(self._last.text)) :]
        self.text += rest
        return rest


def as_prose(finals: Sequence[Final]) -> list[Final]:
    """Returns finals, in their order, of which marks and capitals where two meet are those of one text.

    Words are changed as the text is. Finals of two channels do not meet: they are two people's.
    """
    result = list(finals)
    for first, second in pairwise([at for at, final in enumerate(result) if final.text]):
        result[first], result[second] = _met(result[first], result[second])
    return result


def _met(before: Final, after: Final) -> tuple[Final, Final]:
    if before.channel != after.channel:
        return before, after
    is_english = before.language == after.language == "en"
    end, start = seam(before.text, after.text, after.start - before.end, is_english=is_english)
    return _with_text(before, end, -1), _with_text(after, start, 0)


def _settled(text: str) -> str:
    return text.rstrip(STOPS)


def _with_text(final: Final, text: str, place: int) -> Final:
    """Returns a final with another text, of which only the word at a place is another one."""
    if text == final.text:
        return final
    words = list(final.words or ())
    if words:
        words[place] = msgspec.structs.replace(words[place], text=text.split()[place])
    return msgspec.structs.replace(final, text=text, words=words if final.words is not None else None)


def seam(before: str, after: str, pause_s: float, *, is_english: bool) -> tuple[str, str]:
    """Returns two texts, neither of them empty, as they meet in one: `pause_s` is between their segments."""
    last, first = _bare(before.split()[-1]), _bare(after.split()[0])
    if after[:1].islower():
        return _unstopped(before), after
    if not after[:1].isupper():
        return before, after
    if _goes_on(before, last, first, pause_s, is_english=is_english):
        return _unstopped(before), _small(after) if is_english and first in SMALL else after
    is_sentence = len(before.split()) >= LEAST_WORDS and before[-1:].isalnum()
    return (f"{before}." if is_sentence and pause_s >= LONG_S else before), after


def _goes_on(before: str, last: str, first: str, pause_s: float, *, is_english: bool) -> bool:
    """Tells whether a sentence goes on with a text that has a capital."""
    is_cut = pause_s < CUT_S
    if is_english and (last in UNENDING or (is_cut and (last in RARE_ENDS or first in JOINING))):
        return not before.endswith(("?", "!"))
    return before[-1:] in (",", ";", "-", "—") or (is_cut and not before.endswith(ENDS))


def _bare(word: str) -> str:
    """Returns a word in lower case, without marks."""
    return word.lower().strip(".,;:?!…\"'()[]-—")


def _unstopped(text: str) -> str:
    return text if _bare(text.split()[-1]) in ABBREVIATIONS else text.rstrip(STOPS) or text


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]
