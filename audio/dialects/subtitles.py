"""A transcript in OpenAI's formats: json, verbose_json, text, SubRip and WebVTT. Pure.

This departs from OpenAI's on purpose in one place: subtitles and segments are cut by the times of their words (at the
ends of sentences and at pauses, two lines at most), because what the model hears at once may be 24 s long.
"""

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from audio.languages import name_of
from audio.messages import Final
from audio.model.transcriber import Word

LINE = 42
"""Maximum characters of a line; a subtitle has two at most. The guidelines of broadcasters agree on that."""
MAX_CUE_S = 7.0
PAUSE_S = 0.8
SENTENCE_ENDS = tuple(".?!。？！…")  # noqa: RUF001 - as Whisper writes them
CLAUSE_ENDS = tuple(",;:，；：、")  # noqa: RUF001 - as Whisper writes them
SEEKS_PER_S = 100
"""Frames a second of OpenAI's `seek`, which counts 10 ms each."""


class AudioUsage(msgspec.Struct, frozen=True):
    """The length of the audio in whole seconds, by which OpenAI bills."""

    seconds: int
    type: Literal["duration"] = "duration"


class PlainTranscript(msgspec.Struct, frozen=True, omit_defaults=True):
    """A transcript in the format `json`."""

    text: str
    usage: AudioUsage
    warnings: list[str] | None = None
    """Sentences of our own about what of the file was left out."""


class VerboseSegment(msgspec.Struct, frozen=True, kw_only=True):
    """One segment. Its tokens are not kept; no decode is sampled, so its temperature is 0."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int] = []
    temperature: float = 0.0
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float = 0.0
    speaker: str | UnsetType = UNSET
    """The side that spoke, where channels were heard apart."""


class VerboseWord(msgspec.Struct, frozen=True):
    word: str
    start: float
    end: float


class VerboseTranscript(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A transcript in the format `verbose_json`."""

    task: str
    language: str
    duration: float
    text: str
    words: list[VerboseWord] | None = None
    segments: list[VerboseSegment] | None = None
    usage: AudioUsage
    warnings: list[str] | None = None
    """Sentences of our own about what of the file was left out."""


class DiarizedSegment(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="transcript.text.segment"):
    """What one side said, in the format `diarized_json` and in the events of its stream."""

    id: str
    start: float
    end: float
    speaker: str
    """The side: A is the first channel."""
    text: str


class DiarizedTranscript(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A transcript in the format `diarized_json`."""

    task: str
    duration: float
    text: str
    segments: list[DiarizedSegment]
    usage: AudioUsage
    warnings: list[str] | None = None
    """Sentences of our own about what of the file was left out."""


class Subtitle(NamedTuple):
    """A part of a final that fits into one subtitle."""

    start: float
    end: float
    text: str
    side: str = ""
    """The name of the side that spoke; empty where channels were not heard apart."""


def speaker_of(final: Final) -> str:
    """Returns the name of the side that spoke, by its channel."""
    return "AB"[final.channel or 0]


def dialogue(finals: Iterable[Final]) -> str:
    """Returns the text, and where channels were heard apart a line for each final, with the side that spoke."""
    spoken = [final for final in finals if final.text]
    if all(final.channel is None for final in spoken):
        return joined(spoken)
    return "\n".join(f"{speaker_of(final)}: {final.text}" for final in spoken)


def diarized_segment(final: Final) -> DiarizedSegment:
    return DiarizedSegment(
        id=f"seg_{final.segment}",
        start=final.start,
        end=final.end,
        speaker=speaker_of(final),
        text=final.text,
    )


def diarized(finals: Sequence[Final], duration_s: float, warnings: list[str] | None) -> DiarizedTranscript:
    """Returns the transcript with a segment for each final, of the side that spoke."""
    return DiarizedTranscript(
        task="transcribe",
        duration=round(duration_s, 3),
        text=joined(finals),
        segments=[diarized_segment(final) for final in finals if final.text],
        usage=usage(duration_s),
        warnings=warnings,
    )


def joined(finals: Iterable[Final]) -> str:
    return " ".join(final.text for final in finals if final.text)


def usage(duration_s: float) -> AudioUsage:
    return AudioUsage(math.ceil(duration_s))


def plain(finals: Sequence[Final], duration_s: float) -> PlainTranscript:
    return PlainTranscript(joined(finals), usage(duration_s))


def verbose(
    finals: Sequence[Final], duration_s: float, language: str, *, words: bool, segments: bool
) -> VerboseTranscript:
    """Returns the transcript, with all `words` and with its `segments` where they are wanted."""
    spans = [(final, span) for final in finals for span in spans_of(final)] if segments else []
    return VerboseTranscript(
        task="transcribe",
        language=name_of(language),
        duration=round(duration_s, 3),
        text=joined(finals),
        words=[VerboseWord(word.text, word.start, word.end) for word in _words(finals)] if words else None,
        segments=[_segment(number, *pair) for number, pair in enumerate(spans)] if segments else None,
        usage=usage(duration_s),
    )


def _words(finals: Iterable[Final]) -> Iterator[Word]:
    for final in finals:
        yield from final.words or ()


def _segment(number: int, final: Final, span: Subtitle) -> VerboseSegment:
    raw = span.text.encode()
    return VerboseSegment(
        id=number,
        seek=int(final.start * SEEKS_PER_S),
        start=span.start,
        end=span.end,
        no_speech_prob=final.no_speech_prob or 0.0,
        speaker=span.side or UNSET,
        text=" " + span.text,  # as Whisper's tokens have it, so that segments joined are the text
        avg_logprob=round(math.log(max(final.confidence, 1e-6)), 4),
        compression_ratio=round(len(raw) / len(zlib.compress(raw)), 4),
    )


# Spans


def spans_of(final: Final) -> Iterator[Subtitle]:
    """Yields the parts of a final, cut by its words; one without words is whole."""
    words = final.words or []
    if not final.text:
        return
    side = "" if final.channel is None else speaker_of(final)
    if not words:
        yield Subtitle(final.start, final.end, final.text, side)
        return
    places = [*_places(final.text, words), len(final.text)]
    first = 0
    for at in range(1, len(words) + 1):
        for cut in _cuts(words, places, first, at):
            text = final.text[places[first] : places[cut]].strip()
            yield Subtitle(words[first].start, words[cut - 1].end, text, side)
            first = cut


def _cuts(words: Sequence[Word], places: Sequence[int], first: int, at: int) -> Iterator[int]:
    """Yields the words before which spans end, of those from `first` up to `at`."""
    if at == len(words) or _is_over(words, places, first, at):
        yield at
    elif _is_full(words, places, first, at):
        clauses = [end for end in range(first + 1, at) if words[end - 1].text.endswith(CLAUSE_ENDS)]
        yield clauses[-1] if clauses and places[clauses[-1]] - places[first] > LINE // 2 else at


def _places(text: str, words: Sequence[Word]) -> list[int]:
    """Returns where each word begins in the text: some languages have no spaces to join words with."""
    places: list[int] = []
    at = 0
    for word in words:
        place = text.find(word.text, at)
        places.append(at if place < 0 else place)
        at = places[-1] + (0 if place < 0 else len(word.text))
    places[0] = 0
    return places


def _is_over(words: Sequence[Word], places: Sequence[int], first: int, at: int) -> bool:
    """Tells whether a sentence ends before word `at`, or a pause precedes it."""
    is_sentence = places[at] - places[first] > LINE // 2 and words[at - 1].text.endswith(SENTENCE_ENDS)
    return is_sentence or words[at].start - words[at - 1].end > PAUSE_S


def _is_full(words: Sequence[Word], places: Sequence[int], first: int, at: int) -> bool:
    """Tells whether the span from `first` has no room for word `at`."""
    is_long = places[at] - places[first] + len(words[at].text) > 2 * LINE
    return is_long or words[at].end - words[first].start > MAX_CUE_S


# Subtitles


def _lines(span: Subtitle) -> str:
    """Breaks a text that is too long for one line into two of about one length; the side that spoke comes first."""
    text = (f"{span.side}: " if span.side else "") + span.text.replace("-->", "->")
    spaces = [at for at, letter in enumerate(text) if letter == " "]
    if len(text) <= LINE or not spaces:
        return text
    middle = min(spaces, key=lambda at: abs(2 * at - len(text)))
    return text[:middle] + "\n" + text[middle + 1 :]


def srt(span: Subtitle, number: int) -> str:
    """Returns a subtitle as SubRip has it; numbers count from 1."""
    return f"{number}\n{_time(span.start, ',')} --> {_time(span.end, ',')}\n{_lines(span)}\n\n"


VTT_HEAD = "WEBVTT\n\n"


def vtt(span: Subtitle) -> str:
    """Returns a subtitle as WebVTT (W3C) has it; VTT_HEAD comes before the first."""
    text = _lines(span).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{_time(span.start, '.')} --> {_time(span.end, '.')}\n{text}\n\n"


def _time(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
