"""A conversation with real ears and the real voice: asked, answered, interrupted, cut, continued and stopped."""

import asyncio
import io
import re
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest

from audio.model.voice import VOICE_RATE
from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from tests.conftest import UNMEASURED, Gateway, UpstreamThread, serving
from tests.gateway.voice.phone import calling

SHORT = "Paris is the capital of France."
LONG = (
    "London is the capital of England. It was founded by the Romans almost two thousand years ago. Today nine million "
    "people live there. The river Thames runs through the middle of the city, and many bridges cross it."
)
MIDDLE = "Rome is the capital of Italy. It was founded by two brothers, almost three thousand years ago."
TEXTS = {"France": SHORT, "Italy": MIDDLE}
SENTENCES = re.findall(r"[^.]+\.", MIDDLE)
pytestmark = [pytest.mark.paced, pytest.mark.timeout(240)]


async def answer(answer: Answer) -> None:
    """Answers a question by the country in it, twenty words a second."""
    await answer.head()
    text = next((text for country, text in TEXTS.items() if country in answer.ask.text), LONG)
    for place, word in enumerate(text.split(" ")):
        await asyncio.sleep(0.05)
        await answer.frame(shapes.chunk(answer.ask, {"content": f" {word}" if place else word}))
    await answer.frame(shapes.chunk(answer.ask, {}, "stop"))
    await answer.frame("[DONE]")
    await answer.end()


@pytest.fixture(scope="module")
def gateways(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Runs two processes on one log."""
    upstream.fake.script("talk", answer)
    folder = tmp_path_factory.mktemp("voice")
    processes = [serving(folder, upstream.url, TRILANE_MODEL="talk", **UNMEASURED) for _ in range(2)]
    for process in processes:
        process.unit = "all"
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Gateway.start, processes))
        yield processes
    finally:
        for process in processes:
            process.stop()


def speech(gateway: Gateway, text: str) -> bytes:
    """Returns 16-bit samples of a text, as the gateway's voice says it."""
    order = {"model": "tts-1", "voice": "heart", "input": text, "response_format": "pcm"}
    response = httpx2.post(f"{gateway.url}/v1/audio/speech", json=order, timeout=60)
    assert response.status_code == 200, response.text
    return response.content


def heard(gateway: Gateway, pcm: bytes) -> list[str]:
    """Returns the words that the gateway's ears hear in samples."""
    file = io.BytesIO()
    with wave.open(file, "wb") as whole:
        whole.setnchannels(1)
        whole.setsampwidth(2)
        whole.setframerate(VOICE_RATE)
        whole.writeframes(pcm)
    files = {"file": ("answer.wav", file.getvalue())}
    response = httpx2.post(
        f"{gateway.url}/v1/audio/transcriptions", files=files, data={"model": "whisper-1"}, timeout=60
    )
    assert response.status_code == 200, response.text
    return words(response.json()["text"])


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def snapshot(gateway: Gateway, chat: str) -> list[dict[str, object]]:
    return httpx2.get(f"{gateway.url}/api/chat/{chat}").json()["messages"]


def test_a_question_is_answered_aloud_and_the_next_one_interrupts(
    gateways: list[Gateway], upstream: UpstreamThread
) -> None:
    gateway = gateways[0]
    about_france, about_london, stop = (
        speech(gateway, text)
        for text in (
            "What is the capital of France?",
            "Please tell me about London.",
            "Wait, what about bridges?",
        )
    )

    async def converse() -> None:
        async with calling(gateway.port, "asked") as phone:
            phone.say(about_france)
            await phone.state("spoken")
            assert "france" in words(phone.of("turn")[0]["text"])
            assert len({*words(SHORT)} & {*heard(gateway, phone.sound())}) >= 4, "most of it is understood"
            phone.frames.clear()
            phone.say(about_london)
            await phone.state("speaking", 2)
            await phone.until(lambda: len(phone.frames) > 20, "half a second of the answer is heard")
            phone.say(stop)
            interrupted = await phone.state("interrupted")
            count = len(phone.frames)
            await phone.until(lambda: len(phone.of("turn")) == 3, "the interruption is a turn")
            assert len(phone.frames) == count, "nothing is said meanwhile"
            chars = interrupted["chars"]
            assert 0 < chars < len(LONG)
            await phone.state("speaking", 3)
            asked = upstream.fake.requests[-1].ask
            assert asked is not None
            prompt = [message["content"] for message in asked.body["messages"]]
            assert prompt[1] == SHORT, "what was heard to its end is told whole"
            assert prompt[3] == f"{LONG[:chars]} —"

    asyncio.run(converse())
    stored = snapshot(gateway, "asked")
    assert [message["role"] for message in stored[:5]] == ["user", "assistant"] * 2 + ["user"]


def test_a_cut_answer_goes_on_at_the_same_sample_in_another_process(gateways: list[Gateway]) -> None:
    here, there = gateways
    question = speech(here, "What is the capital of Italy?")

    async def converse() -> None:
        async with calling(here.port, "cut") as phone:
            phone.say(question)
            await phone.until(lambda: len(phone.frames) > 25, "a second of the answer is heard")
            session, cursor = phone.of("ready")[0]["session"], phone.of("final")[-1]["cursor"]
            run = phone.of("turn")[0]["run"]
        played = phone.frames[-1][1] - VOICE_RATE
        before = phone.sound()
        start = {"session": session, "cursor": cursor, "played": {"run": run, "samples": played}}
        async with calling(there.port, "cut", **start) as phone:
            standing = phone.of("ready")[0]["reply"]
            at = standing["at"]
            assert standing == {"run": run, "state": "speaking", "at": at}
            await phone.state("spoken")
            whole = before[: 2 * at] + phone.sound(at)
            assert phone.frames[0][1] == at
            assert len(phone.of("turn")) == 0
        clauses = b"".join(speech(there, sentence.strip()) for sentence in SENTENCES)
        ours, theirs = (np.frombuffer(pcm, "<i2").astype(int) for pcm in (whole, clauses))
        assert len(ours) == len(theirs)
        assert np.abs(ours - theirs).max() <= 1, "the answer without a cut"

    asyncio.run(converse())
    assert len(snapshot(here, "cut")) == 2


def test_a_stop_from_another_device_is_silence(gateways: list[Gateway]) -> None:
    here, there = gateways
    question = speech(here, "Please tell me about London.")

    async def converse() -> None:
        async with calling(here.port, "stopped") as phone:
            phone.say(question)
            await phone.until(lambda: len(phone.frames) > 20, "the answer is spoken")
            run = phone.of("turn")[0]["run"]
            stopped = await asyncio.to_thread(httpx2.post, f"{there.url}/api/chat/stopped/stop", json={})
            assert stopped.status_code == 200
            await phone.state("stopped")
            count = len(phone.frames)
            await asyncio.sleep(0.5)
            assert len(phone.frames) == count
            assert phone.of("reply")[-1]["run"] == run

    asyncio.run(converse())
