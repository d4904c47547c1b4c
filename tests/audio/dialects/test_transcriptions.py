"""OpenAI's transcription API accepts and refuses the fields of a request, and streams the answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from audio.dialects import transcriptions
from audio.dialects.transcriptions import (
    MAX_UNSENT_BYTES,
    SEND_S,
    TranscriptionRequest,
    TranscriptSource,
    parse_request,
)
from audio.messages import Final
from audio.model.desk import Desk
from audio.model.fake import FakeSpeechDetector, FakeTranscriber
from audio.model.models import Models
from audio.text_forms import TextForms
from audio.upload import FileTranscription, Progress
from gateway.errors import BadRequest, TrilaneError
from tests.support.virtual_time import simulated


def request(**fields: str | list[str]) -> TranscriptionRequest:
    """Parses a form; `__` at the end of a field's name stands for brackets."""
    form = {name.replace("__", "[]"): value if isinstance(value, list) else [value] for name, value in fields.items()}
    model = FakeTranscriber(languages=("en", "fr"))
    return parse_request(form, Models(model, Desk(model), FakeSpeechDetector(), name="fake"))


# The fields


def test_without_fields_it_is_json_in_a_language_to_be_detected() -> None:
    form = request()
    assert (form.format, form.stream, form.language, form.prompt) == ("json", False, None, "")
    assert (form.options.words, form.options.interim_results) == (False, False)


def test_unknown_fields_are_ignored() -> None:
    assert request(model="whisper-99", chunking_strategy="auto", x="1") == request()


def test_an_empty_field_is_one_that_was_left_out() -> None:
    assert (
        request(language="", response_format="", stream="", temperature="", timestamp_granularities__="") == request()
    )


@pytest.mark.parametrize("brackets", ["timestamp_granularities", "timestamp_granularities__"])
def test_lists_come_with_brackets_and_without(brackets: str) -> None:
    form = request(response_format="verbose_json", **{brackets: ["word", "segment"]})
    assert form.granularities == ["word", "segment"]
    assert form.options.words


def test_of_a_long_prompt_the_end_is_kept() -> None:
    assert request(prompt="x" * 5000 + "end").prompt == "x" * 997 + "end"


@pytest.mark.parametrize(("name", "code"), [("fr", "fr"), ("French", "fr"), ("EN", "en"), ("fr-CA", "fr")])
def test_a_language_may_be_a_code_or_a_name(name: str, code: str) -> None:
    assert request(language=name).language == code


def test_forms_of_text_keywords_and_one_language_are_options() -> None:
    form = request(
        prompt="A talk.", keywords__=["Trilane", "Kyutai"], languages__="fr", numerals="words", profanity="mask"
    )
    assert (form.prompt, form.language) == ("A talk. Trilane, Kyutai", "fr")
    assert form.options.forms == TextForms(numerals="words", masks_profanity=True)
    assert request(redact__=["card", "email"]).options.forms == TextForms(redact=("card", "email"))
    assert request(profanity="", numerals="as-heard", keywords__="").options.forms is None


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": "xml"}, "response_format", "'xml': want one of json, text, verbose_json, srt, vtt"),
    ({"stream": "maybe"}, "stream", "'maybe': want one of true, false"),
    ({"temperature": "2"}, "temperature", "'2': want a number from 0 to 1"),
    ({"temperature": "nan"}, "temperature", "'nan': want a number"),
    ({"temperature": "warm"}, "temperature", "'warm': want a number"),
    ({"language": "tlh"}, "language", "'tlh': the model fake does not know it; want a BCP-47 tag such as"),
    ({"languages__": ["en", "fr"]}, "languages[]", "'en, fr': want one, or none"),
    (
        {"prompt": "x" * 900, "keywords__": "y" * 101},
        "keywords[]",
        "have 101 characters; beside the prompt 99 are read",
    ),
    ({"known_speaker_names__": ["Ann"]}, "known_speaker_names[]", "'Ann': voices are not told apart"),
    ({"redact__": "name"}, "redact[]", "'name': want number or card or email or phone"),
    ({"numerals": "roman"}, "numerals", "'roman': want one of digits, words, as-heard"),
    ({"response_format": "diarized_json", "channels": "mixed"}, "channels", "'mixed': diarized_json tells who spoke"),
    ({"include__": "logprobs"}, "include[]", "'logprobs': log probabilities of tokens are not kept"),
    ({"include__": "moods"}, "include[]", "'moods': want logprobs"),
    ({"response_format": "verbose_json", "timestamp_granularities__": ["word", "letter"]}, "timestamp", "want word or"),
    ({"timestamp_granularities__": "word"}, "timestamp_granularities", "response_format=verbose_json"),
    ({"response_format": "srt", "stream": "true"}, "stream", "json or text, not with srt"),
]


@pytest.mark.parametrize(("fields", "name", "message"), BAD, ids=lambda value: str(value)[:30])
def test_a_bad_value_is_refused_with_field_value_and_what_is_allowed(fields: Any, name: str, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        request(**fields)
    assert message in error.value.detail
    assert error.value.detail.startswith(name)
    assert str(error.value.extra["param"]).startswith(name)


# The stream


class ScriptedTranscription(FileTranscription):
    """Yields the results that a test gave it."""

    def __init__(self, *results: Final | Progress | Exception, holds: bool = False) -> None:
        self.script = results
        self.holds = holds
        self.samples = 3 * 16_000
        self.is_closed = False

    @property
    def warnings(self) -> list[str]:
        return []

    async def results(self) -> AsyncIterator[Any]:  # type: ignore[override]
        try:
            for result in self.script:
                await asyncio.sleep(0.4)
                if isinstance(result, Exception):
                    raise result
                yield result
            if self.holds:
                await asyncio.Event().wait()
        finally:
            self.is_closed = True


def final(text: str) -> Final:
    return Final(segment=0, text=text, start=0, end=1, confidence=1, language="en")


class Run:
    """Holds one source that is being filled, and notes what was released."""

    def __init__(self, transcription: ScriptedTranscription) -> None:
        self.transcription = transcription
        self.is_released = False
        self.wakes = 0
        self.source = TranscriptSource(transcription, self._release)
        self.source.on_wake = self._wake

    async def _release(self) -> None:
        self.is_released = True

    def _wake(self) -> None:
        self.wakes += 1

    def events(self) -> list[dict[str, Any]]:
        lines = (self.source.poll() or b"").decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line and not line.startswith(":")]


@asynccontextmanager
async def filling(*results: Final | Progress | Exception, holds: bool = False) -> AsyncIterator[Run]:
    run = Run(ScriptedTranscription(*results, holds=holds))
    async with asyncio.TaskGroup() as group:
        run.source.start(group)
        yield run
        run.source.close()
    assert run.is_released
    assert run.transcription.is_closed


@simulated
async def test_deltas_joined_are_the_text_of_the_last_event() -> None:
    async with filling(final("one"), final(""), final("two")) as run:
        await asyncio.sleep(0.5)
        assert run.events() == [{"type": "transcript.text.delta", "delta": "one"}]
        assert not run.source.ended
        await asyncio.sleep(5)
        *deltas, last = run.events()
        assert [event["delta"] for event in deltas] == [" two"]
        assert (last["type"], last["text"]) == ("transcript.text.done", "one two")
        assert last["usage"] == {"type": "duration", "seconds": 3}
        assert run.source.ended
        assert run.source.complete
        assert run.is_released


@simulated
async def test_a_source_has_not_ended_before_all_of_it_was_polled() -> None:
    async with filling(final("one")) as run:
        await asyncio.sleep(5)
        assert run.wakes
        assert not run.source.ended
        run.events()
        assert run.source.ended


@simulated
async def test_progress_is_a_comment_once_a_second_at_most() -> None:
    async with filling(*(Progress(second, 60.0) for second in range(10)), final("one")) as run:
        await asyncio.sleep(5)
        comments = [line for line in (run.source.poll() or b"").decode().splitlines() if line.startswith(":")]
        assert comments == [": 2.0 of 60.0 s", ": 5.0 of 60.0 s", ": 8.0 of 60.0 s"]


@simulated
async def test_a_failure_is_the_last_event_of_a_stream_that_ends_well() -> None:
    async with filling(final("one"), TrilaneError("the model failed", code="transcription_failed")) as run:
        await asyncio.sleep(5)
        error = {"message": "the model failed", "type": "server_error", "param": None}
        assert run.events()[-1] == {"error": {**error, "code": "transcription_failed"}}
        assert (run.source.ended, run.source.complete) == (True, True)


@simulated
async def test_a_client_that_leaves_ends_the_work() -> None:
    async with filling(final("one"), holds=True) as run:
        await asyncio.sleep(5)
        assert not run.is_released
        run.source.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert run.transcription.is_closed
        assert (run.source.ended, run.source.complete) == (True, False)


@simulated
async def test_the_work_waits_for_a_slow_client_and_goes_on() -> None:
    async with filling(*(final("x" * 1000) for _ in range(200))) as run:
        await asyncio.sleep(SEND_S - 1)
        count = len(run.events())
        assert count <= MAX_UNSENT_BYTES // 1000 + 1
        await asyncio.sleep(SEND_S - 1)
        assert 0 < len(run.events()) < 200 - count
        assert not run.source.ended


@simulated
async def test_a_client_that_reads_nothing_for_long_is_cut() -> None:
    async with filling(*(final("x" * 1000) for _ in range(200))) as run:
        await asyncio.sleep(0.4 * 200 + SEND_S)
        assert (run.source.ended, run.source.complete) == (True, False)
        assert run.is_released


@simulated
async def test_a_fault_of_ours_cuts_the_stream() -> None:
    with pytest.raises(ExceptionGroup) as error:
        async with filling(final("one"), ZeroDivisionError()) as run:
            await asyncio.sleep(5)
    assert isinstance(error.value.exceptions[0], ZeroDivisionError)
    assert (run.source.ended, run.source.complete) == (True, False)


def test_the_times_of_words_are_only_made_where_they_are_needed() -> None:
    assert {format_ for format_ in transcriptions.ANSWER_FORMATS if request(response_format=format_).options.words} == {
        "verbose_json",
        "srt",
        "vtt",
    }
