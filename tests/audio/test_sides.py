"""The two channels of a session are one stream: in order, each with its own segments, and none heard twice."""

import asyncio
from typing import Any

import numpy as np
import pytest

from audio.dialects.trilane import Start, terms_of
from audio.model.fake import FakeTranscriber, speech_of
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.errors import BadRequest
from tests.audio.lanes import Client, Place, check_numbers, events, place
from tests.support.virtual_time import simulated

Words = list[tuple[int, float, float]]
CALL = {"channels": 2, "split": True}
CALLER: Words = [(301, 0.512, 0.128), (302, 0.512, 6.0), (303, 0.512, 3.0)]
"""The levels of both sides are alike: a far softer one that goes like the other would be its echo."""
AGENT: Words = [(500, 0.512, 0.128), (501, 0.512, 1.0)]


def call(caller: Words, agent: Words, agent_after_s: float = 2.5) -> Samples:
    """Returns both sides, the agent's beginning later."""
    one = speech_of(caller)
    other = np.concatenate([np.zeros(int(agent_after_s * SAMPLE_RATE), np.float32), speech_of(agent)])
    both = np.zeros((max(len(one), len(other)), 2), np.float32)
    both[: len(one), 0], both[: len(other), 1] = one, other
    return both


def told(client: Client) -> list[tuple[int, int, str]]:
    """Returns channel, segment and text of the finals, in the order in which they came."""
    return [(final["channel"], final["segment"], final["text"]) for final in client.of("final")]


@simulated
async def test_each_side_has_its_segments_and_all_come_in_one_order() -> None:
    async with place() as at:
        client = await at.connect(**CALL)
        await client.speak(call(CALLER, AGENT))
        client.live.stop()
        await client.wait_closed()
        assert told(client) == [(0, 0, "w301 w302"), (1, 0, "w500 w501"), (0, 1, "w303")]
        ends = [final["end"] for final in client.of("final")]
        assert ends == sorted(ends)
        for kind in ("speech_started", "speech_stopped", "partial"):
            assert {message["channel"] for message in client.of(kind)} == {0, 1}
        [done] = client.of("done")
        assert done["segments"] == 3
        assert done["duration"] == pytest.approx(len(call(CALLER, AGENT)) / SAMPLE_RATE, abs=0.001)
        check_numbers(client)
        acks = [ack["samples"] for ack in client.of("ack")]
        assert acks == sorted(acks)


@simulated
async def test_a_final_waits_for_what_the_other_side_had_said_before() -> None:
    async with place() as at:
        at.model = FakeTranscriber(workers=2, holds=True)
        client = await at.connect(**CALL, interim_results=False)
        await client.speak(call([(301, 1.024, 3.0)], [(500, 1.024, 2.0)], agent_after_s=0.512))
        assert told(client) == [], "both are with the model"
        calls = at.model._pending
        calls.reverse()  # the model is done with the later one first
        at.model.release()
        await asyncio.sleep(0.5)
        assert told(client) == [(0, 0, "w301"), (1, 0, "w500")]
        client.cut()


@simulated
async def test_two_who_talk_at_once_are_both_heard() -> None:
    async with place() as at:
        client = await at.connect(**CALL)
        words = range(301, 309)
        one = [(word, 0.512, 0.128 if word % 3 else 1.0) for word in words]
        other = [(word + 100, 0.512, 0.128 if word % 2 else 1.0) for word in words]
        await client.speak(call(one, other, agent_after_s=0.3))
        client.live.stop()
        await client.wait_closed()
        for channel, numbers in ((0, words), (1, range(401, 409))):
            said = " ".join(text for side, _, text in told(client) if side == channel)
            assert said == " ".join(f"w{number}" for number in numbers)


@simulated
async def test_a_side_that_is_silent_costs_the_model_nothing() -> None:
    async def tasks(audio: Samples, **start: Any) -> int:
        async with place() as at:
            client = await at.connect(**start)
            await client.speak(audio)
            client.live.stop()
            await client.wait_closed()
            return sum(len(call) for call in at.model.calls)

    alone = await tasks(speech_of(CALLER))
    assert await tasks(call(CALLER, []), **CALL) == alone


@simulated
async def test_markers_and_flushes_are_about_both_sides() -> None:
    async with place() as at:
        client = await at.connect(**CALL)
        await client.speak(call([(301, 0.512, 0.0)], [(500, 0.512, 0.0)], agent_after_s=0.0))
        client.live.mark("m")
        client.live.flush()
        await asyncio.sleep(1)
        assert {channel for channel, _, _ in told(client)} == {0, 1}
        assert [marker["id"] for marker in client.of("marker")] == ["m"]
        client.cut()


async def resumed(at: Place, client: Client, audio: Samples) -> Client:
    """Comes back and sends again from where it is asked to."""
    again = await at.connect(session=client.ready["session"], cursor=client.of("final")[-1]["cursor"], **CALL)
    await asyncio.sleep(0.01)
    await again.speak(audio[again.ready["resumeFrom"] :])
    again.live.stop()
    await again.wait_closed()
    return again


@simulated
async def test_a_call_goes_on_elsewhere_and_no_side_is_heard_twice() -> None:
    """One side talks on while the other has had finals: those are not said again."""
    one: Words = [(number, 0.512, 0.128) for number in range(301, 316)]
    other: Words = [(500, 0.512, 1.0), (501, 0.512, 1.0), (502, 0.512, 1.0)]
    audio = call([*one, (316, 0.512, 2.0)], other, agent_after_s=0.5)
    async with place() as first:
        client = await first.connect(**CALL)
        await client.speak(audio[: 6 * SAMPLE_RATE])
        assert [text for _, _, text in told(client)] == ["w500", "w501", "w502"]
        client.cut()
        async with place(first.core.log) as second:
            again = await resumed(second, client, audio)
        assert again.ready["resumeFrom"] < 2 * SAMPLE_RATE, "the side that still talks is not settled"
        said = {(side, segment): text for side, segment, text in [*told(client), *told(again)]}
        assert [said[1, at] for at in range(3)] == ["w500", "w501", "w502"]
        assert sum(side == 1 for side, _ in said) == 3
        assert not [side for side, _, _ in told(again) if side == 1]
        assert said[0, 0].split() == [f"w{number}" for number in range(301, 317)]
        stored = await events(first, f"audio/{client.ready['session']}")
        assert [event["channel"] for event in stored] == [1, 1, 1, 0]


@simulated
async def test_a_session_stays_as_it_began() -> None:
    async with place() as at:
        for before, after in ((CALL, {}), ({"channels": 2}, CALL)):
            client = await at.connect(**before)
            await asyncio.sleep(0.01)
            with pytest.raises(BadRequest, match="this session began otherwise"):
                await at.connect(session=client.ready["session"], **after)
            client.cut()


def test_what_has_no_two_sides_cannot_be_split() -> None:
    with pytest.raises(BadRequest, match="split=true with channels=1: want channels=2"):
        terms_of(Start(split=True))
