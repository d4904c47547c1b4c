"""The flat fields of OpenAI's beta are understood as those of the GA, and no client gets a type it cannot know."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from openai.types.beta.realtime import TranscriptionSession as BetaSession
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from audio.dialects.realtime.beta import input_change
from audio.dialects.realtime.messages import SessionChange
from audio.lane import KEPT_S
from audio.model.fake import speech_of
from gateway.errors import BadRequest
from tests.audio.dialects.realtime.caller import COMPLETED, MANUAL, WORDS_1, WORDS_2, Event, call
from tests.audio.lanes import place
from tests.support.virtual_time import simulated

KNOWN: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
GAP = "input_audio_buffer.gap"


def is_known(event: Event) -> bool:
    """Tells whether OpenAI's SDK has a type for an event, and reads it as that; of PCM it knows but one rate."""
    text = json.dumps(event).replace('"rate": 16000', '"rate": 24000')
    return KNOWN.validate_json(text).type == event["type"]


FLAT = [
    ({"input_audio_format": "pcm16"}, {"format": {"type": "audio/pcm", "rate": 24_000}}),
    ({"input_audio_format": "g711_ulaw"}, {"format": {"type": "audio/pcmu"}}),
    ({"input_audio_format": "g711_alaw"}, {"format": {"type": "audio/pcma"}}),
    ({"input_audio_format": None}, {"format": {"type": "audio/pcm", "rate": 24_000}}),
    (
        {"input_audio_transcription": {"model": "whisper-1", "language": "en", "prompt": "names"}},
        {"transcription": {"model": "whisper-1", "language": "en", "prompt": "names", "keywords": None}},
    ),
    ({"turn_detection": None}, {"turn_detection": None}),
    (
        {"turn_detection": {"type": "server_vad", "silence_duration_ms": 700.0, "create_response": False}},
        {
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 700,
            }
        },
    ),
    (
        {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}},
        {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}},
    ),
    ({"input_audio_noise_reduction": {"type": "near_field"}}, {"noise_reduction": None}),
    ({"modalities": ["text"], "instructions": "hi", "voice": "alloy"}, {}),
]


@simulated
@pytest.mark.parametrize(("flat", "nested"), FLAT)
async def test_a_flat_field_is_understood_in_every_update(flat: Event, nested: Event) -> None:
    async with place() as at:
        for kind in ("session.update", "transcription_session.update"):
            caller = await call(at)
            await caller.send(kind, session=flat)
            assert not caller.of("error")
            if kind == "session.update":
                [updated] = caller.of("session.updated")
                assert nested.items() <= updated["session"]["audio"]["input"].items()
            else:
                [updated] = caller.of("transcription_session.updated")
                secret = {"value": "", "expires_at": 0}  # theirs has one over HTTP
                BetaSession.model_validate({**updated["session"], "client_secret": secret})
                said = {name: value for name, value in flat.items() if name == "input_audio_format" and value}
                assert said.items() <= updated["session"].items()
                assert updated["session"]["input_audio_noise_reduction"] is None
                turn_detection = nested.get("turn_detection", updated["session"]["turn_detection"])
                assert updated["session"]["turn_detection"] == turn_detection
            caller.cut()


@simulated
async def test_what_a_flat_update_asks_for_holds() -> None:
    async with place() as at:
        caller = await call(at)
        await caller.send(
            "transcription_session.update",
            session={"turn_detection": None, "input_audio_transcription": {"prompt": "hello"}},
        )
        await caller.speak(speech_of([*WORDS_1, *WORDS_2]))
        assert not caller.of(COMPLETED)
        await caller.send("input_audio_buffer.commit")
        assert caller.text == ["w1 w2 w3 w4"]
        assert at.model.calls[-1][0].prompt == "hello"
        caller.cut()


@simulated
@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"input_audio_format": "pcm24"}, "session.input_audio_format"),
        ({"input_audio_format": {"type": "audio/pcm"}}, "session.input_audio_format"),
        ({"turn_detection": {"type": "none"}}, "session.turn_detection.type"),
        ({"turn_detection": {"type": "server_vad", "threshold": 7}}, "session.turn_detection.threshold"),
        ({"input_audio_transcription": {"language": 7}}, "session.input_audio_transcription.language"),
        ({"turn_detection": None, "audio": {"input": {"turn_detection": None}}}, "session.turn_detection"),
        (
            {"input_audio_format": "pcm16", "audio": {"input": {"format": {"type": "audio/pcmu"}}}},
            "session.input_audio_format",
        ),
    ],
)
async def test_a_flat_field_that_cannot_be_obeyed_is_refused_by_its_name(session: Event, param: str) -> None:
    async with place() as at:
        caller = await call(at)
        for kind in ("session.update", "transcription_session.update"):
            await caller.send(kind, session=session)
            error = caller.of("error")[-1]["error"]
            assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert len(caller.of("error")) == 2
        caller.cut()


def test_a_field_in_two_places_is_named() -> None:
    both = {"input_audio_transcription": {}, "audio": {"input": {"transcription": {"model": "a"}}}}
    with pytest.raises(BadRequest, match=r"`input_audio_transcription` and `audio\.input\.transcription` are"):
        input_change(msgspec.convert(both, SessionChange))


# Types of events


@simulated
async def test_every_event_is_of_a_type_that_openai_has() -> None:
    async with place() as at:
        first = await call(at)
        await first.update({"include": ["item.input_audio_transcription.logprobs"]})
        await first.speak(speech_of(WORDS_1))
        at.model.failing = 9
        await first.speak(speech_of([(5, 0.4, 1.0)]))
        at.model.failing = 0
        await first.send("response.create")
        await first.send("input_audio_buffer.clear")
        first.cut()
        await asyncio.sleep(KEPT_S + 1)
        again = await call(at, None, session=first.session)
        events = [*first.events, *again.events]
        assert {"session.created", "session.updated", COMPLETED, "error"} < {event["type"] for event in events}
        assert all(is_known(event) for event in events)
        failed = "conversation.item.input_audio_transcription.failed"
        assert first.of(failed), "the loss is told all the same"
        assert again.events[0]["gap"]["reason"] == "resumed_elsewhere"
        again.cut()


@simulated
async def test_a_client_that_asked_for_extensions_gets_events_of_ours() -> None:
    async with place() as at:
        first = await call(at, MANUAL, has_extensions=True)
        await first.speak(speech_of(WORDS_1))
        first.cut()
        await asyncio.sleep(KEPT_S + 1)
        again = await call(at, None, session=first.session, has_extensions=True)
        [gap] = again.of(GAP)
        assert {**again.events[0]["gap"], "type": GAP, "event_id": gap["event_id"]} == gap
        again.cut()
        plain = await call(at, None, session=first.session)
        assert not plain.of(GAP)
        plain.cut()
