"""OpenAI's JavaScript SDK works unmodified over `/v1/realtime`: its client for Node, and the one for browsers."""

import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.clients.audio.voice import KEY, PACE, errors, speech, transcribing_gateway
from tests.clients.node import install, tool

COMPLETED = "conversation.item.input_audio_transcription.completed"
MAX_WRONG = 4
Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """Returns what each client of `js/realtime.mjs` received."""
    folder = tmp_path_factory.mktemp("realtime-js")
    pcm = folder / "speech.pcm"
    pcm.write_bytes(speech())
    script = install() / "realtime.mjs"
    gateway = transcribing_gateway(folder)
    try:
        gateway.start()
        process = subprocess.run(
            [tool("node"), str(script), gateway.url, KEY, str(pcm), str(PACE)], capture_output=True, timeout=60
        )
        assert process.returncode == 0, process.stderr.decode()
        yield msgspec.json.decode(process.stdout)
    finally:
        gateway.stop()


def of(outcomes: Outcome, kind: str) -> list[Outcome]:
    return [event for event in outcomes["events"] if event["type"] == kind]


@pytest.mark.parametrize("client", ["ws", "browser"])
def test_a_session_is_created_then_updated(outcomes: Outcome, client: str) -> None:
    kinds = [event["type"] for event in outcomes[client]["events"]]
    assert kinds[:2] == ["session.created", "session.updated"]
    assert outcomes[client]["closed"] == 1000


@pytest.mark.parametrize("client", ["ws", "browser"])
def test_a_bad_event_is_an_error_and_the_session_goes_on(outcomes: Outcome, client: str) -> None:
    error = of(outcomes[client], "error")[0]["error"]
    assert (error["code"], error["event_id"]) == ("unknown_event", "mine")


def test_a_text_is_spoken(outcomes: Outcome) -> None:
    speech = outcomes["speech"]
    assert (speech["type"], speech["head"]) == ("audio/wav", "RIFF")
    assert 1 < speech["bytes"] / 48_000 < 4


def test_turns_are_found_and_transcribed(outcomes: Outcome) -> None:
    text = " ".join(event["transcript"] for event in of(outcomes["ws"], COMPLETED))
    assert errors(text) <= MAX_WRONG, text
    begun_items = [event["item_id"] for event in of(outcomes["ws"], "input_audio_buffer.speech_started")]
    assert [event["item_id"] for event in of(outcomes["ws"], COMPLETED)] == begun_items


def test_a_browser_commits_with_a_key_that_is_not_echoed(outcomes: Outcome) -> None:
    [completion] = of(outcomes["browser"], COMPLETED)
    assert errors(completion["transcript"]) <= 1, completion["transcript"]
    assert outcomes["browser"]["protocol"] == "realtime"
    assert not of(outcomes["browser"], "input_audio_buffer.speech_started")
