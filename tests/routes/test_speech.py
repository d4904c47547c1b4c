"""The route of speech answers while the sound is made, refuses, and ends with its client; its voice is a tone."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from audio.dialects.speech import MAX_INPUT, SpokenRequest, order_of
from audio.model.fake_voice import FakeVoice, samples_of, tone_of
from audio.model.voice import SpeechTask
from audio.speech.lane import SpeechLane
from events.log.memory import MemoryLog
from gateway.access.grants import EVERYTHING, Principal
from gateway.core.process import Core
from gateway.core.usage import SETTLED, UsageRow, decode_row, usage_topic
from gateway.errors import BadRequest, TrilaneError
from gateway.settings import Settings
from routes import speech
from routes.speech import SpeechAnswer
from tests.support.virtual_time import simulated

ME = Principal(sub="me", grants=EVERYTHING)
THREE = "The first sentence is here. The second sentence is here. The third sentence is here."
SENTENCES = ["The first sentence is here.", "The second sentence is here.", "The third sentence is here."]


def pcm_of(text: str, speed: float = 1.0) -> bytes:
    tone = tone_of(SpeechTask(text=text, speed=speed))
    return np.rint(tone * 32767).astype("<i2").tobytes()


class Client:
    """One request, as an ASGI application sees it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.has_ended = False
        self.reads = asyncio.Event()
        self.reads.set()
        self._has_left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self._has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.bodies.append(message["body"])
            self.has_ended = not message.get("more_body", False)

    def leave(self) -> None:
        self._has_left.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(frame.removeprefix("data: ")) for frame in self.body.decode().split("\n\n") if frame]


class Server:
    """A lane with a tone for a voice."""

    def __init__(self, voice: FakeVoice | None = None) -> None:
        self.voice = voice or FakeVoice()
        self.log = MemoryLog()
        self.core = Core(self.log, Settings())
        self.lane = SpeechLane(self.core, self.voice)

    async def say(self, client: Client, text: str, **fields: Any) -> None:
        await self.log.open()
        order = order_of(SpokenRequest(input=text, **{"response_format": "pcm", **fields}), self.lane.booth)
        await SpeechAnswer(self.lane, order, ME)({"path": "/v1/audio/speech"}, client.receive, client.send)

    async def rows(self) -> list[UsageRow]:
        read = await self.log.read(usage_topic("me"), 0)
        return [
            decode_row(data, block.time_ms) for block in read.blocks if block.name == SETTLED for data in block.data
        ]


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as error:
        order_of(SpokenRequest(**{"input": THREE, **fields}), Server().lane.booth)
    return error.value


# In a loop of its own: an encoder works on a thread, which knows no virtual time


def run(test: Callable[[], Any]) -> None:
    async def within_deadline() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(within_deadline())


async def until(met: Callable[[], object]) -> None:
    while not met():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.002)


def test_the_sound_of_all_clauses_is_sent_and_counted() -> None:
    async def play() -> None:
        server, client = Server(), Client()
        await server.say(client, THREE, speed=2.0)
        assert (client.status, client.headers["content-type"], client.has_ended) == (200, "audio/pcm", True)
        assert client.bodies[:3] == [pcm_of(sentence, 2.0) for sentence in SENTENCES]
        (row,) = await server.rows()
        spoken_ms = sum(samples_of(sentence, 2.0) for sentence in SENTENCES) / 24
        assert (row.kind, row.lane, row.model, row.outcome) == ("speech", "audio", "fake", "finish")
        assert abs(row.quantities["spokenMs"] - spoken_ms) < 2

    run(play)


def test_the_first_clause_is_sent_before_the_second_is_made_and_one_is_made_ahead() -> None:
    async def play() -> None:
        server, client = Server(), Client()
        client.reads.clear()
        saying = asyncio.ensure_future(server.say(client, THREE))
        await until(lambda: len(server.voice.tasks) == 2)
        await asyncio.sleep(0.05)
        assert [task.text for task in server.voice.tasks] == SENTENCES[:2], "the reader has none of it yet"
        client.reads.set()
        await saying
        assert [task.text for task in server.voice.tasks] == SENTENCES

    run(play)


def test_a_client_that_leaves_ends_the_speech_and_is_counted_what_was_made() -> None:
    async def play() -> None:
        server, client = Server(), Client()
        client.reads.clear()
        saying = asyncio.ensure_future(server.say(client, " ".join([THREE] * 20)))
        await until(lambda: len(server.voice.tasks) == 2)
        client.leave()
        await saying
        assert len(server.voice.tasks) == 2
        assert not client.has_ended
        (row,) = await server.rows()
        assert row.outcome == "abort"
        assert row.quantities["spokenMs"] <= 1620 * 2
        assert server.lane.booth.speakers == 0

    run(play)


def test_events_have_the_same_sound_and_a_count_in_the_end() -> None:
    async def play() -> None:
        server, client = Server(), Client()
        await server.say(client, THREE, stream_format="sse")
        assert client.headers["content-type"].startswith("text/event-stream")
        *deltas, done = client.events
        assert {event["type"] for event in deltas} == {"speech.audio.delta"}
        assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == b"".join(map(pcm_of, SENTENCES))
        assert done["type"] == "speech.audio.done"
        assert done["usage"] == {"input_tokens": 21, "output_tokens": 98, "total_tokens": 119}

    run(play)


def test_a_voice_that_fails_at_once_is_an_answer_of_its_own() -> None:
    async def play() -> None:
        server, client = Server(), Client()
        server.voice.failing = 1
        await server.say(client, THREE)
        assert (client.status, json.loads(client.body)["code"], client.has_ended) == (500, "voice_failed", True)
        (row,) = await server.rows()
        assert (row.outcome, row.quantities["spokenMs"]) == ("error", 0)

    run(play)


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_voice_that_fails_later_cuts_the_sound_and_ends_the_events_with_an_error(stream_format: str) -> None:
    class FailsLater(FakeVoice):
        async def speak(self, task: SpeechTask) -> Any:
            if len(self.tasks) == 1:
                self.failing = 1
            return await super().speak(task)

    async def play() -> None:
        server, client = Server(FailsLater()), Client()
        await server.say(client, THREE, stream_format=stream_format)
        assert client.status == 200
        if stream_format == "sse":
            assert (client.events[-1]["error"]["code"], client.has_ended) == ("voice_failed", True)
        else:
            assert (client.body, client.has_ended) == (pcm_of(SENTENCES[0]), False)
        assert [row.outcome for row in await server.rows()] == ["error"]

    run(play)


@simulated
async def test_a_reader_that_reads_nothing_is_cut() -> None:
    server, client = Server(), Client()
    client.reads.clear()
    await server.say(client, THREE)
    assert not client.has_ended
    assert server.lane.booth.speakers == 0


def test_a_drain_waits_for_what_is_said_and_admits_nothing_more() -> None:
    async def play() -> None:
        server, client, late = Server(FakeVoice(holds=True)), Client(), Client()
        saying = asyncio.ensure_future(server.say(client, THREE))
        await until(lambda: server.voice.tasks)
        drain = asyncio.ensure_future(server.lane.drain())
        await asyncio.sleep(0.01)
        await server.say(late, THREE)
        assert (late.status, json.loads(late.body)["code"]) == (503, "draining")
        assert not drain.done()
        server.voice.release()
        await saying
        await drain
        assert client.has_ended

    run(play)


def test_what_is_not_said_is_told_in_a_header() -> None:
    async def play() -> None:
        server, client = Server(FakeVoice(unspeakable="会")), Client()
        await server.say(client, "Here is some code:\n```\nx\n```\nAnd this is Chinese.\n\n会议")
        assert client.headers["x-trilane-warning"] == (
            "not said: characters 19 to 28 (code); not said: characters 51 to 53 (unspeakable)"
        )
        assert client.body == pcm_of("Here is some code:") + pcm_of("And this is Chinese.")

    run(play)


# What is refused


@pytest.mark.parametrize(
    ("fields", "code", "param", "words"),
    [
        ({"input": ""}, "invalid_value", "input", "nothing to say"),
        ({"input": "**"}, "invalid_value", "input", "(no words)"),
        ({"input": "```\nx\n```"}, "invalid_value", "input", "(code)"),
        ({"input": "x" * (MAX_INPUT + 1)}, "invalid_value", "input", "4097 characters, and at most 4096"),
        ({"instructions": "x" * (MAX_INPUT + 1)}, "invalid_value", "instructions", "at most 4096"),
        ({"voice": "emma"}, "voice_unknown", "voice", "'emma'"),
        ({"model": "whisper-1"}, "model_not_found", "model", "'whisper-1' here; there is fake"),
        ({"response_format": "m4a"}, "invalid_value", "response_format", "'m4a': want one of mp3, opus"),
        ({"speed": 5.0}, "invalid_value", "speed", "'5': want 0.25 to 4"),
        ({"speed": float("nan")}, "invalid_value", "speed", "want 0.25 to 4"),
        ({"stream_format": "ws"}, "invalid_value", "stream_format", "want one of audio, sse"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(fields: dict[str, Any], code: str, param: str, words: str) -> None:
    error = refused(**fields)
    assert (error.code, error.extra["param"]) == (code, param)
    assert words in error.detail


@pytest.mark.parametrize("model", ["", "tts-1", "tts-1-hd", "gpt-4o-mini-tts", "fake"])
@pytest.mark.parametrize("voice", ["", "alloy", "tone", {"id": "tone"}])
def test_openais_names_and_ours_are_taken(model: str, voice: Any) -> None:
    body = json.dumps({"input": THREE, "model": model, "voice": voice, "unknown": 1}).encode()
    order = order_of(speech.decode(body, SpokenRequest), Server().lane.booth)
    assert {task.voice for task in order.tasks} == {"tone"}


def test_a_body_that_is_none_is_refused() -> None:
    with pytest.raises(TrilaneError, match="input"):
        speech.decode(b'{"voice":"alloy"}', SpokenRequest)
