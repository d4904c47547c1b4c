"""Sees to it that speech is heard: the words of a segment are laid beside what the speech detector says of it. Pure.

Speech without a word is decoded again by itself, and what then still says nothing is reported as a gap. Whisper leaves
out whole phrases where people talk over each other; and the first word of its alignment begins where the audio does.
Times are seconds from the segment's first sample.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from audio.model.transcriber import SAMPLE_RATE, Transcription, Word, key_of
from audio.model.vad import FRAME

FRAME_S = FRAME / SAMPLE_RATE
LOST_S = 0.3
"""Seconds of speech that may be without a word: an alignment is right to so much."""
STRETCH_S = 0.5
"""Seconds of speech beside a word that are taken for a part of it: an alignment may be late by so much."""
NEAR_S = 0.1
"""Seconds within which a word is right beside a stretch."""
LONGEST_S, LONGER_S, DIGIT_S = 1.5, 0.15, 0.6
"""The longest that a word takes: so many seconds, and so many more for each of its letters, or of its digits."""
MERGED_S = 0.5
"""Seconds without speech over which two stretches of it are decoded together: words have more context."""
MARGIN_S = 0.2
"""Seconds around speech that is decoded again."""
DECODES = 4
"""Maximum number of stretches of one segment that are decoded again; what is left is a gap."""
SAME_SHARE = 0.8
"""Share of the audio of a decode from which another one is about the same."""
LEAST_CONFIDENCE = 0.4
"""Confidence of words heard on second thoughts: a decoder that is given little finds words in noise, too."""
UNINTELLIGIBLE = "unintelligible"


class Stretch(NamedTuple):
    """A stretch of a segment, in seconds from its first sample."""

    start: float
    end: float


class LostStretch(NamedTuple):
    """A stretch of speech that has no words, and why."""

    start: float
    end: float
    reason: str


class HeardSegment:
    """What is heard of one segment that is over."""

    __slots__ = ("_again", "_certain", "_decodes", "_speech", "answer", "is_begun", "lost")

    def __init__(self, speech: Sequence[bool], certain: Sequence[bool] | None = None) -> None:
        """`speech` tells of each frame of the segment whether it is speech, `certain` whether it would begin a segment.

        What dies away after a word is speech, and nobody misses words there.
        """
        self._speech = speech
        self._certain = speech if certain is None else certain
        self._again: list[Stretch] = []
        self._decodes = 0
        self.is_begun = False
        """Whether the model has answered about the segment."""
        self.answer = Transcription(text="")
        """The words so far."""
        self.lost: list[LostStretch] = []
        """The speech that will have no words."""

    @property
    def again(self) -> Stretch | None:
        """Returns the next stretch to be decoded again, with its margin."""
        if not self._again:
            return None
        span = self._again[0]
        return Stretch(max(0.0, span.start - MARGIN_S), min(self._length_s, span.end + MARGIN_S))

    @property
    def _length_s(self) -> float:
        return len(self._speech) * FRAME_S

    def take(self, answer: Transcription) -> None:
        """Takes the model's answer: the first one is about the whole segment, others are about `again`."""
        if not self.is_begun:
            self._begin(answer)
            return
        place, span = self.again, self._again.pop(0)
        assert place is not None
        self._decodes += 1
        words = self._inside(answer, span, place.start)
        if not words:
            self._lose([span], UNINTELLIGIBLE)
            return
        self._insert(words, answer)
        inner = [one for one in self._uncovered(self.answer.words) if span.start < one.end and one.start < span.end]
        self._decode_again(inner)

    def give_up(self, reason: str) -> None:
        """Notes that the model decodes no more of the segment."""
        self._lose(self._again if self.is_begun else [Stretch(0.0, self._length_s)], reason)
        self._again = []

    def _begin(self, answer: Transcription) -> None:
        self.is_begun = True
        if answer.text and not answer.words:
            self.answer = answer  # a model without times: there is nothing to compare
            return
        said = without_silent_repeats(answer.words, self._speech)
        words = stretched(trimmed(said, self._speech), self._speech)
        text = answer.text if len(said) == len(answer.words) else " ".join(word.text for word in said)
        self.answer = msgspec.structs.replace(answer, text=text, words=words)
        self._decode_again(self._uncovered(words), unheard_s=0.0 if words else self._length_s)

    def _uncovered(self, words: Sequence[Word]) -> list[Stretch]:
        """Returns the stretches whose words are missed: what only dies away after a word is none."""
        return [span for span in merged(uncovered(words, self._speech), words) if self._is_certain(span)]

    def _decode_again(self, spans: Sequence[Stretch], unheard_s: float = 0.0) -> None:
        """Has stretches decoded: none that is most of `unheard_s`, which said nothing, and will not say more."""
        for span in spans:
            has_room = self._decodes + len(self._again) < DECODES
            if has_room and not 0 < unheard_s < (span.end - span.start + 2 * MARGIN_S) / SAME_SHARE:
                self._again.append(span)
            else:
                self._lose([span], UNINTELLIGIBLE)

    def _lose(self, spans: Sequence[Stretch], reason: str) -> None:
        self.lost = sorted([*self.lost, *(LostStretch(*span, reason) for span in spans)])

    def _is_certain(self, span: Stretch) -> bool:
        first, last = _frames(span.start, span.end, self._certain)
        return sum(self._certain[first:last]) * FRAME_S > LOST_S

    def _inside(self, answer: Transcription, span: Stretch, offset_s: float) -> list[Word]:
        """Returns the words of a second decode that are about a stretch, less those that its neighbours have."""
        if answer.confidence < LEAST_CONFIDENCE:
            return []
        moved = [shifted(word, offset_s) for word in answer.words]
        words = [word for word in trimmed(moved, self._speech) if span.start < (word.start + word.end) / 2 < span.end]
        before = [word for word in self.answer.words if word.start < span.start]
        after = [word for word in self.answer.words if word.start >= span.start]
        if words and before and key_of(words[0].text) == key_of(before[-1].text):
            del words[0]
        if words and after and key_of(words[-1].text) == key_of(after[0].text):
            del words[-1]
        return words

    def _insert(self, words: list[Word], answer: Transcription) -> None:
        """Puts words in between, by their time."""
        old = self.answer
        together = sorted([*old.words, *words], key=lambda word: word.start)
        weight = len(words) / len(together)
        self.answer = msgspec.structs.replace(
            old,
            text=" ".join(word.text for word in together),
            words=stretched(together, self._speech),
            confidence=old.confidence * (1 - weight) + answer.confidence * weight,
            language=old.language if old.words else answer.language,
        )


def trimmed(words: Sequence[Word], speech: Sequence[bool]) -> list[Word]:
    """Returns words without the silence at their beginning and end; a word without any speech stays as it is."""
    result: list[Word] = []
    for word in words:
        first, last = round(word.start / FRAME_S), min(len(speech), round(word.end / FRAME_S))
        said = [at for at in range(first, last) if speech[at]]
        if said:
            start, end = max(word.start, said[0] * FRAME_S), min(word.end, (said[-1] + 1) * FRAME_S)
            word = msgspec.structs.replace(word, start=round(start, 3), end=round(end, 3))
        result.append(word)
    return result


def without_silent_repeats(words: Sequence[Word], speech: Sequence[bool]) -> list[Word]:
    """Returns words less the last ones that repeat words before them while nobody speaks."""
    result = list(words)
    while len(result) > 1 and key_of(result[-1].text) in {key_of(word.text) for word in result[:-1]}:
        first, last = _frames(result[-1].start + FRAME_S, result[-1].end, speech)
        if any(speech[first:last]):
            break
        result.pop()
    return result


def stretched(words: Sequence[Word], speech: Sequence[bool]) -> list[Word]:
    """Returns words with what no word covers right beside them, where that is short: the end of a long vowel."""
    result = list(words)
    for span in uncovered(words, speech):
        before = next((at for at in reversed(range(len(result))) if abs(result[at].end - span.start) < NEAR_S), None)
        after = next((at for at in range(len(result)) if abs(result[at].start - span.end) < NEAR_S), None)
        if span.end - span.start > STRETCH_S or before is after is None:
            continue
        middle = span.end if after is None else span.start if before is None else (span.start + span.end) / 2
        if before is not None:
            result[before] = msgspec.structs.replace(result[before], end=round(middle, 3))
        if after is not None:
            result[after] = msgspec.structs.replace(result[after], start=round(middle, 3))
    return result


def uncovered(words: Sequence[Word], speech: Sequence[bool]) -> list[Stretch]:
    """Returns the stretches of speech, longer than LOST_S, that no word covers."""
    is_lost = list(speech)
    for word in words:
        longest_s = LONGEST_S + sum(DIGIT_S if letter.isdigit() else LONGER_S for letter in word.text)
        end_s = word.end if word.end - word.start < longest_s + LOST_S else word.start + longest_s
        first, last = _frames(word.start, end_s, speech)
        is_lost[first:last] = [False] * (last - first)
    spans: list[Stretch] = []
    at = 0
    for lost, run in groupby(is_lost):
        length = len(list(run))
        if lost and length * FRAME_S > LOST_S:
            spans.append(Stretch(at * FRAME_S, (at + length) * FRAME_S))
        at += length
    return spans


def merged(spans: Sequence[Stretch], words: Sequence[Word]) -> list[Stretch]:
    """Returns stretches less the pauses of up to MERGED_S between them, where no word is."""
    result: list[Stretch] = []
    for span in spans:
        last = result[-1] if result else None
        has_word = last is not None and any(last.start < word.start < span.start for word in words)
        if last is not None and not has_word and span.start - last.end <= MERGED_S:
            result[-1] = Stretch(last.start, span.end)
        else:
            result.append(span)
    return result


def shifted(word: Word, by_s: float) -> Word:
    """Returns a word at another time."""
    return Word(word.text, round(word.start + by_s, 3), round(word.end + by_s, 3), word.probability)


def _frames(start_s: float, end_s: float, speech: Sequence[bool]) -> tuple[int, int]:
    """Returns the first of the frames from `start_s` to `end_s`, and the one after the last."""
    first = max(0, int(start_s / FRAME_S))
    return first, max(first, min(len(speech), int(end_s / FRAME_S + 0.999)))
