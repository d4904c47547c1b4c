"""The lane's own dialect checks `start`, and applies a client's messages to its session."""

import asyncio
from math import inf
from typing import Any

import numpy as np
import pytest

from audio.decoders.formats import MAX_FRAME_BYTES
from audio.dialects.trilane import (
    START_S,
    Flush,
    Keepalive,
    Listening,
    Mark,
    Start,
    Stop,
    decode,
    request_of,
    serve,
    terms_of,
)
from audio.model.fake import speech_of
from audio.model.transcriber import SAMPLE_RATE, Samples
from audio.model.vad import FRAME
from audio.options import MAX_SEGMENT, ON, PREFIX, SessionOptions
from audio.text_forms import TextForms
from gateway.access.grants import Grants, Principal
from gateway.errors import BadRequest
from tests.audio.asgi_client import AsgiClient
from tests.audio.lanes import ME, Place, place
from tests.support.virtual_time import simulated

WORDS = [(1, 0.4, 0.1), (2, 0.4, 1.0)]


def pcm(samples: Samples) -> bytes:
    return np.rint(samples * 2**15).astype("<i2").tobytes()


async def dial(at: Place, who: Principal = ME, query: dict[str, str] | None = None) -> AsgiClient:
    """Opens a connection that has not sent `start` yet."""
    client = AsgiClient()
    client.serving = asyncio.ensure_future(serve(Listening(at.lane), client.socket, who, query or {}))
    await asyncio.sleep(0.01)
    return client


async def begin(at: Place, query: dict[str, str] | None = None, **start: Any) -> AsgiClient:
    client = await dial(at, query=query)
    client.send({"type": "start", **start})
    await asyncio.sleep(0.01)
    return client


async def speak(client: AsgiClient, samples: Samples) -> None:
    """Sends audio at the pace of speech."""
    data = pcm(samples)
    for at in range(0, len(data), 3200):
        client.send(data[at : at + 3200])
        await asyncio.sleep(0.1)


# Messages


def test_each_message_of_a_client_is_known() -> None:
    assert decode('{"type":"flush"}') == Flush()
    assert decode('{"type":"stop"}') == Stop()
    assert decode('{"type":"keepalive"}') == Keepalive()
    assert decode('{"type":"marker","id":"a"}') == Mark(id="a")
    assert decode('{"type":"start","sampleRate":8000}') == Start(sample_rate=8000)


LENIENT = [
    ('{"type":"start","sampleRate":48000.0,"channels":2.0,"endpointingMs":3e2}', (48_000, 2, 300)),
    ('{"type":"start","sampleRate":null,"channels":null,"endpointingMs":null,"encoding":null}', (16_000, 1, 500)),
    ('{"type":"start","session":null,"cursor":null,"topic":null,"language":null,"prompt":null}', (16_000, 1, 500)),
    ('{"type":"start","words":null,"interimResults":null,"of another version":null}', (16_000, 1, 500)),
]


@pytest.mark.parametrize(("text", "values"), LENIENT)
def test_null_is_absent_and_whole_floats_are_integers_in_start(text: str, values: tuple[int, int, int]) -> None:
    start = decode(text)
    assert isinstance(start, Start)
    assert (start.sample_rate, start.channels, start.endpointing_ms) == values
    assert decode('{"type":"marker","id":7.0}') == Mark(id=7)
    assert decode('{"type":"flush","id":null}') == Flush()


def test_half_a_surrogate_pair_is_never_an_error() -> None:
    assert decode('{"type":"marker","id":"\\ud83d"}') == Mark(id="\ufffd")
    assert decode('{"type":"start","prompt":"\\ude00 \\ud83d\\ude00","channels":1.0}') == Start(
        prompt="\ufffd \U0001f600"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"type":"begin"}',
        '{"type":"flush","now":true}',
        '{"type":"marker","id":1.5}',
        '{"type":"start","sampleRate":16000.5}',
        '{"type":"start","channels":true}',
        '{"type":"start","sampleRate":48001}',
        '{"type":"start","seq":7}',
    ],
)
def test_a_message_outside_the_protocol_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(BadRequest, match="not one of this protocol") as error:
        decode(text)
    assert error.value.code == "bad_message"


def test_start_is_translated_into_a_request_to_the_lane() -> None:
    start = Start(
        session="s", cursor="c", language="en-GB", topic="t", sample_rate=8000, words=True, endpointing_ms=900
    )
    request = request_of(start)
    assert (request.session, request.cursor, request.topic) == ("s", "c", "t")
    assert request.resends
    terms = request.terms("notes of another dialect")
    assert terms == terms_of(start)
    assert (terms.sample_rate, terms.options.language) == (8000, "en")
    assert (terms.options.words, terms.options.endpointing_s, terms.options.turns) == (True, 0.9, False)
    assert (terms.options.threshold, terms.options.prefix_s) == (ON, PREFIX / SAMPLE_RATE)


def test_what_counts_as_speech_is_the_clients_wish() -> None:
    start = decode('{"type":"start","threshold":0.3,"prefixMs":320}')
    assert isinstance(start, Start)
    options = terms_of(start).options
    assert (options.threshold, options.prefix_s) == (0.3, 0.32)


@pytest.mark.parametrize("field", ['"threshold":1.5', '"threshold":-0.1', '"prefixMs":5001', '"prefixMs":-1'])
def test_a_wish_that_nothing_can_be_is_refused(field: str) -> None:
    with pytest.raises(BadRequest, match="not one of this protocol"):
        decode(f'{{"type":"start",{field}}}')


def test_forms_of_text_and_likely_words_are_options() -> None:
    start = decode('{"type":"start","numerals":"digits","profanity":"mask","redact":["card"],"keywords":["Trilane"]}')
    assert isinstance(start, Start)
    options = terms_of(start).options
    assert options.forms == TextForms(numerals="digits", masks_profanity=True, redact=("card",))
    assert (options.interim_results, options.prompt) == (False, "Trilane")
    for refused in ('"numerals":"roman"', '"redact":["name"]', '"profanity":"drop"', '"keywords":[""]'):
        with pytest.raises(BadRequest):
            decode(f'{{"type":"start",{refused}}}')
    with pytest.raises(BadRequest, match="prompt and keywords have 1006 characters: at most 1000"):
        terms_of(Start(prompt="x" * 1000, keywords=["yyyyy"]))


def test_endpointing_may_be_off_and_a_segment_shorter() -> None:
    options = terms_of(Start(endpointing_ms=0, utterance_end_ms=1500, max_segment_ms=5000)).options
    assert (options.endpointing_s, options.utterance_end_s) == (inf, 1.5)
    assert 4.9 * SAMPLE_RATE < options.max_segment <= 5 * SAMPLE_RATE
    assert options.max_segment % FRAME == 0
    assert (terms_of(Start()).options, terms_of(Start()).options.max_segment) == (SessionOptions(), MAX_SEGMENT)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (Start(endpointing_ms=50), "endpointingMs=50: want 0 .off. or at least 100"),
        (Start(endpointing_ms=700, utterance_end_ms=600), "utteranceEndMs=600: want at least endpointingMs, .* 700"),
    ],
)
def test_values_that_do_not_go_together_are_refused(start: Start, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        terms_of(start)


# Opening


@simulated
async def test_a_connection_without_a_start_is_closed() -> None:
    async with place() as at:
        client = await dial(at)
        await asyncio.sleep(START_S - 1)
        assert client.close_code is None
        await asyncio.sleep(2)
        assert (client.messages[0]["code"], client.close_code) == ("bad_start", 4500)


@simulated
async def test_a_client_that_leaves_before_start_leaves_nothing() -> None:
    async with place() as at:
        client = await dial(at)
        client.leave()
        await asyncio.sleep(0.1)
        assert (client.messages, client.close_code) == ([], None)
        assert not at.lane._sessions


@simulated
@pytest.mark.parametrize("first", [b"\0\0", '{"type":"flush"}', '{"type":"start","sampleRate":7}'])
async def test_another_first_message_is_refused(first: bytes | str) -> None:
    async with place() as at:
        client = await dial(at)
        client.send(first)
        await asyncio.sleep(0.1)
        [error] = client.messages
        assert (error["type"], error["seq"], client.close_code) == ("error", 1, 4500)
        assert not at.lane._sessions


@simulated
async def test_a_token_without_the_lane_is_refused() -> None:
    async with place() as at:
        client = await dial(at, Principal(sub="me", grants=Grants(audio=False)))
        client.send({"type": "start"})
        await asyncio.sleep(0.1)
        assert (client.messages[0]["code"], client.close_code) == ("forbidden", 1008)


@simulated
async def test_session_and_cursor_may_stand_in_the_query() -> None:
    async with place() as at:
        first = await begin(at)
        await speak(first, speech_of(WORDS))
        first.leave()
        await asyncio.sleep(1)
        ready, [final] = first.messages[0], first.of("final")
        again = await begin(at, {"session": ready["session"], "cursor": final["cursor"]})
        assert again.messages[0]["session"] == ready["session"]
        assert not again.of("final")
        both = await begin(at, {"session": "0" * 36, "cursor": final["cursor"]}, session=ready["session"])
        assert both.messages[0]["session"] == ready["session"], "`start` comes before the query"


@simulated
async def test_after_a_resume_seq_goes_on_from_the_cursor() -> None:
    async with place() as at:
        first = await begin(at)
        await speak(first, speech_of([*WORDS, (3, 0.4, 1.0)]))
        first.leave()
        ready, final = first.messages[0], first.of("final")[0]
        again = await begin(at, session=ready["session"], cursor=final["cursor"])
        await asyncio.sleep(1)
        assert [message["seq"] for message in again.messages[:2]] == [final["seq"] + 1, final["seq"] + 2]
        assert [message["text"] for message in again.of("final")] == ["w3"]


@simulated
async def test_audio_of_a_resumed_session_goes_on_where_ready_says() -> None:
    async with place() as at:
        first = await begin(at, sampleRate=8000)
        first.send(bytes(2 * 4000))
        await asyncio.sleep(0.1)
        first.leave()
        again = await begin(at, session=first.messages[0]["session"], sampleRate=48_000)
        assert again.messages[0]["resumeFrom"] == pytest.approx(24_000, rel=0.2), "in the samples that it names now"


# Talking


@simulated
async def test_a_session_from_start_to_done() -> None:
    async with place() as at:
        client = await begin(at)
        await speak(client, speech_of(WORDS))
        client.send({"type": "keepalive"})
        client.send({"type": "stop"})
        await asyncio.sleep(1)
        assert [message["text"] for message in client.of("final")] == ["w1 w2"]
        assert client.messages[-1]["type"] == "done"
        assert client.close_code == 1000
        assert [message["seq"] for message in client.messages] == list(range(1, len(client.messages) + 1))


@simulated
async def test_flush_makes_final_what_came_so_far() -> None:
    async with place() as at:
        client = await begin(at, interimResults=False)
        await speak(client, speech_of([(1, 0.8, 0.0)]))
        assert not client.of("final")
        client.send({"type": "flush"})
        await asyncio.sleep(0.2)
        assert [message["text"] for message in client.of("final")] == ["w1"]


@simulated
async def test_stop_takes_what_the_decoder_holds_back() -> None:
    async with place() as at:
        client = await begin(at, sampleRate=8000)
        data = bytes(2 * 8000)
        for at_byte in range(0, len(data), 1600):
            client.send(data[at_byte : at_byte + 1600])
        client.send({"type": "stop"})
        await asyncio.sleep(1)
        assert client.messages[-1]["duration"] == pytest.approx(1.0, abs=0.04)


@simulated
async def test_a_frame_that_is_too_large_is_1009() -> None:
    async with place() as at:
        client = await begin(at)
        client.send(bytes(MAX_FRAME_BYTES))
        await asyncio.sleep(0.1)
        assert client.close_code is None
        client.send(bytes(MAX_FRAME_BYTES + 2))
        await asyncio.sleep(0.1)
        assert (client.messages[-1]["code"], client.close_code) == ("too_large", 1009)


@simulated
async def test_a_second_start_is_refused() -> None:
    async with place() as at:
        client = await begin(at)
        client.send({"type": "start"})
        await asyncio.sleep(0.1)
        assert (client.messages[-1]["code"], client.close_code) == ("bad_start", 4500)


@simulated
async def test_messages_of_a_connection_that_was_replaced_do_nothing() -> None:
    async with place() as at:
        older = await begin(at)
        session = older.messages[0]["session"]
        older.send({"type": "marker", "id": 1})
        newer = await begin(at, session=session)
        older.send({"type": "stop"})
        await asyncio.sleep(0.5)
        assert older.close_code == 4503
        assert (newer.close_code, newer.of("done")) == (None, [])
