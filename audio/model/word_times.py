"""Mends the words that an alignment has found: what was said once is there once, and every word has a length. Pure."""

from collections.abc import Sequence

import msgspec

from audio.model.transcriber import Word, key_of

SHORTEST_S = 0.04
"""Minimum length of a word: two steps of the alignment."""


def joined(pieces: Sequence[Word], *, has_spaces: bool) -> list[Word]:
    """Returns the words of pieces of text, which begin with a space where a word does.

    An alignment cuts "i.e." and "42-line" in two, and what is only punctuation is no word anywhere: it takes no time.
    """
    words: list[Word] = []
    for piece in pieces:
        word = msgspec.structs.replace(piece, text=piece.text.strip())
        if words and has_spaces and not piece.text.startswith(" "):
            words[-1] = _together(words[-1], word)
        elif word.text:
            words.append(word)
    result: list[Word] = []
    for word in words:
        if result and not key_of(word.text):
            result[-1] = _together(result[-1], word)
        else:
            result.append(word)
    return result


def _together(one: Word, other: Word) -> Word:
    """Returns a word of two pieces; what is only punctuation takes no time, and says nothing about the word."""
    text = one.text + other.text
    if not key_of(other.text):
        return msgspec.structs.replace(one, text=text)
    if not key_of(one.text):
        return msgspec.structs.replace(other, text=text)
    return Word(text, one.start, other.end, min(one.probability, other.probability))


def without_echo(words: Sequence[Word]) -> list[Word]:
    """Returns words less a last phrase that repeats the one before it in no time: the decoder said it, nobody else."""
    keys = [key_of(word.text) for word in words]
    for length in range(len(words) // 2, 0, -1):
        took_s = words[-1].end - words[-length].start
        if keys[-length:] == keys[-2 * length : -length] and took_s < SHORTEST_S * length:
            return list(words[:-length])
    return list(words)


def with_lengths(words: Sequence[Word], end_s: float) -> list[Word]:
    """Returns words in order, each SHORTEST_S long at the least, none after `end_s` where there is room for them."""
    starts, ends = [float(word.start) for word in words], [float(word.end) for word in words]
    for at in range(len(words)):
        starts[at] = max(starts[at], ends[at - 1] if at else 0.0)
        ends[at] = max(ends[at], starts[at] + SHORTEST_S)
    latest = end_s
    for at in reversed(range(len(words))):
        ends[at] = max(min(ends[at], latest), SHORTEST_S)
        starts[at] = latest = max(min(starts[at], ends[at] - SHORTEST_S), 0.0)
    return [
        msgspec.structs.replace(word, start=round(start, 3), end=round(end, 3))
        for word, start, end in zip(words, starts, ends, strict=True)
    ]
