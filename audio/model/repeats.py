"""Tells what somebody says again and again from a decoder that is caught in a loop. Pure.

Both have the same text, and a decoder says a few too many as well. But what was said has its time in the audio: what a
decoder adds has none, or is more than anybody says.
"""

from collections import Counter
from collections.abc import Sequence

from audio.model.transcriber import Word, key_of

REPEATED = 3
"""Number of words that make an answer doubtful when they come twice in a row."""
SHORTER = 1 / 3
"""The share of what a word takes in the middle of all that take any time, from which it was said as well."""
FASTEST = 6.0
"""The most words that somebody says in a second."""
HALF = 1 / 2
"""Share of the words that was said, of a phrase that the decoder doubled."""


def has_repeats(text: str) -> bool:
    """Tells whether REPEATED words or more come twice in a row."""
    words = [key_of(word) for word in text.split()]
    return any(
        words[at : at + length] == words[at + length : at + 2 * length]
        for length in range(REPEATED, len(words) // 2 + 1)
        for at in range(len(words) - 2 * length + 1)
    )


def said_of(words: Sequence[Word]) -> list[Word]:
    """Returns words less those that repeat others in far less time than they take."""
    counts = Counter(key_of(word.text) for word in words)
    lengths = sorted(word.end - word.start for word in words if word.end > word.start)
    least_s = SHORTER * lengths[len(lengths) // 2] if lengths else 0.0
    return [word for word in words if word.end - word.start > least_s or counts[key_of(word.text)] == 1]


def are_said(words: Sequence[Word]) -> bool:
    """Tells whether a text that repeats itself does so because somebody did, by the times of its words."""
    said = said_of(words)
    if not said:
        return False
    seconds = said[-1].end - said[0].start
    is_one_word = len({key_of(word.text) for word in words}) == 1  # and no phrase that was doubled
    return len(said) <= FASTEST * seconds and (is_one_word or len(said) > HALF * len(words))
