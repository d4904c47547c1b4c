"""A transcript is written in each of OpenAI's formats."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from openai.types.audio import TranscriptionVerbose

from audio.dialects import subtitles
from audio.dialects.subtitles import LINE, MAX_CUE_S, Subtitle, joined, plain, spans_of, srt, verbose, vtt
from audio.languages import NAMES, code_of, name_of
from audio.messages import Final
from audio.model.transcriber import Word


def final(text: str, start: float = 0.0, word_s: float = 0.4, pauses: dict[str, float] | None = None) -> Final:
    """Returns a final whose words all have the same length; a pause follows the words that are named."""
    words: list[Word] = []
    at = start
    for word in text.split():
        words.append(Word(word, round(at, 3), round(at + word_s, 3), 0.9))
        at += word_s + (pauses or {}).get(word, 0.0)
    return Final(segment=0, text=text, start=start, end=at, confidence=0.8, language="en", words=words)


def decode(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


TALK = "It was late. Nobody in the house was awake, and the old clock on the wall had stopped at seven. Who was there?"


def texts(one: Final) -> list[str]:
    return [span.text for span in spans_of(one)]


# Where a final is cut


def test_subtitles_end_with_sentences_and_have_two_lines_at_most() -> None:
    assert texts(final(TALK)) == [
        "It was late. Nobody in the house was awake,",
        "and the old clock on the wall had stopped at seven.",
        "Who was there?",
    ]


def test_subtitles_hold_every_word_once_and_in_order() -> None:
    long = " ".join(f"word{n}{'.' if n % 17 == 0 else ',' * (n % 5 == 0)}" for n in range(300))
    one = final(long, 3.0, 0.3)
    spans = list(spans_of(one))
    assert " ".join(span.text for span in spans) == long
    assert all(len(span.text) <= 2 * LINE and span.end - span.start <= MAX_CUE_S for span in spans)
    assert all(before.end <= after.start for before, after in pairwise(spans))


def test_a_pause_ends_a_subtitle() -> None:
    assert texts(final("one two three", pauses={"two": 1.0})) == ["one two", "three"]


def test_a_language_without_spaces_stays_without() -> None:
    words = [Word("你好", 0.0, 0.5, 1.0), Word("世界。", 0.5, 1.0, 1.0), Word("再见", 3.0, 3.5, 1.0)]
    one = Final(segment=0, text="你好世界。再见", start=0, end=4, confidence=1, language="zh", words=words)
    assert texts(one) == ["你好世界。", "再见"]


@pytest.mark.parametrize("words", [None, []])
def test_without_words_a_final_is_one_subtitle(words: list[Word] | None) -> None:
    one = Final(segment=0, text="hello", start=1.0, end=2.0, confidence=1, language="en", words=words)
    assert list(spans_of(one)) == [Subtitle(1.0, 2.0, "hello")]


def test_a_word_that_the_text_does_not_have_loses_nothing() -> None:
    words = [Word("one", 0.0, 0.5, 1.0), Word("twoo", 0.5, 1.0, 1.0), Word("three", 1.0, 1.5, 1.0)]
    one = Final(segment=0, text="one two three", start=0, end=2, confidence=1, language="en", words=words)
    assert texts(one) == ["one two three"]


def test_a_final_that_says_nothing_has_no_subtitle() -> None:
    assert texts(Final(segment=0, text="", start=0, end=1, confidence=0, language="en")) == []


# How it is written


def test_a_transcript_is_written_as_subrip() -> None:
    assert srt(Subtitle(3661.5, 3663.0004, "Hello."), 12) == "12\n01:01:01,500 --> 01:01:03,000\nHello.\n\n"


def test_webvtt_escapes_what_is_markup_in_it() -> None:
    assert vtt(Subtitle(0.0, 0.9996, "a <b> & c")) == "00:00:00.000 --> 00:00:01.000\na &lt;b&gt; &amp; c\n\n"


def test_an_arrow_in_the_text_is_none_of_the_format() -> None:
    assert srt(Subtitle(0, 1, "a --> b"), 1).count("-->") == 1
    assert vtt(Subtitle(0, 1, "a --> b")).count("-->") == 1


def test_a_long_subtitle_is_in_two_lines_of_one_length() -> None:
    subtitle = srt(Subtitle(0, 5, "It was late, and nobody in the house was awake any more"), 1)
    assert subtitle.splitlines()[2:4] == ["It was late, and nobody in", "the house was awake any more"]


# JSON


def test_json_is_the_text_and_the_seconds_that_began() -> None:
    finals = [
        final("Hello there."),
        Final(segment=1, text="", start=2, end=3, confidence=0, language="en"),
        final("Bye."),
    ]
    transcript = decode(plain(finals, 8.47))
    assert transcript == {"text": "Hello there. Bye.", "usage": {"type": "duration", "seconds": 9}}


def test_verbose_json_is_what_the_sdk_expects() -> None:
    finals = [final(TALK), final("And then.", 20.0)]
    transcript = decode(verbose(finals, 31.25, "en", words=True, segments=True))
    transcription = TranscriptionVerbose.model_validate(transcript)
    assert (transcript["task"], transcription.language, transcription.duration) == ("transcribe", "english", 31.25)
    assert transcription.text == joined(finals)
    assert [word.word for word in transcription.words or []] == transcription.text.split()
    segments = transcription.segments or []
    assert "".join(segment.text for segment in segments).strip() == transcription.text
    assert [segment.id for segment in segments] == [0, 1, 2, 3]
    assert [segment.seek for segment in segments] == [0, 0, 0, 2000]
    assert segments[0].avg_logprob == pytest.approx(-0.2231)
    assert transcription.usage is not None
    assert transcription.usage.seconds == 32


def test_fields_that_were_not_requested_are_left_out() -> None:
    assert "words" not in decode(verbose([final("a")], 1, "en", words=False, segments=True))
    assert "segments" not in decode(verbose([final("a")], 1, "en", words=True, segments=False))


def test_a_confidence_of_zero_has_a_logarithm() -> None:
    one = Final(segment=0, text="hm", start=0, end=1, confidence=0.0, language="en")
    assert decode(verbose([one], 1, "en", words=False, segments=True))["segments"][0]["avg_logprob"] < -10


# Languages


@pytest.mark.parametrize(
    ("name", "code"), [("en", "en"), ("EN", "en"), ("English", "en"), (" yue ", "yue"), ("xx", "xx")]
)
def test_a_language_is_known_by_code_and_name(name: str, code: str) -> None:
    assert code_of(name) == code


def test_each_language_has_a_name() -> None:
    assert len(NAMES) == 100
    assert (name_of("haw"), name_of("ht"), name_of("xx")) == ("hawaiian", "haitian creole", "xx")


def test_the_head_of_webvtt_is_its_signature() -> None:
    assert subtitles.VTT_HEAD.startswith("WEBVTT\n\n")
