"""A conversation that is cut goes on at the same sample, in this process or another, and is left when nobody comes."""

import asyncio

import pytest

from gateway.voice.reply_log import LEFT_S
from tests.audio.lanes import MoodyLog
from tests.gateway.voice.talk import (
    FIRST,
    SECOND,
    WHOLE_S,
    ScriptedAnswers,
    Talk,
    asking,
    sound_of,
    talking,
)
from tests.support.virtual_time import simulated


@pytest.mark.parametrize("at_s", [0.0, 0.5, 1.3])
@simulated
async def test_another_process_goes_on_at_the_same_sample(at_s: float) -> None:
    log, answers = MoodyLog(), ScriptedAnswers()
    async with talking(answers, log=log) as one:
        caller = await asking(one)
        await caller.listen(at_s)
        played = caller.frames[-1][2] // 2
        session = caller.of("ready")[0]["session"]
        cursor = caller.of("final")[-1]["cursor"]
        caller.leave()
        async with Talk(answers, log=log).opened() as two:
            again = await two.call(session=session, cursor=cursor, played={"run": "r1", "samples": played})
            standing = again.of("ready")[0]["reply"]
            assert (standing["run"], standing["state"]) == ("r1", "speaking")
            assert standing["at"] >= played
            assert "restated" not in standing
            await again.listen(WHOLE_S + 1)
            assert again.frames[0][2] == standing["at"]
            assert again.sound == sound_of(FIRST, SECOND)[2 * standing["at"] :]
            assert again.states[-1] == "spoken"
            assert len(answers.asked) == 1


@simulated
async def test_a_client_that_comes_back_to_this_process_hears_the_rest() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        played = caller.frames[2][2]
        session, cursor = caller.of("ready")[0]["session"], caller.of("final")[-1]["cursor"]
        caller.send({"type": "played", "run": "r1", "samples": played})
        await asyncio.sleep(0.01)
        caller.leave()
        await asyncio.sleep(20)
        again = await talk.call(session=session, cursor=cursor, played={"run": "r1", "samples": played})
        await again.listen(WHOLE_S + 1)
        at = again.of("ready")[0]["reply"]["at"]
        assert at == played
        assert again.sound == sound_of(FIRST, SECOND)[2 * at :]
        assert again.of("speech")[0]["clause"] == 1


@simulated
async def test_who_does_not_come_back_leaves_the_rest_to_be_read() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        caller.leave()
        await asyncio.sleep(LEFT_S + 2)
        assert talk.answers.told[-1][1] == "unspoken"


@simulated
async def test_a_turn_that_is_heard_again_is_the_same_message() -> None:
    log, answers = MoodyLog(), ScriptedAnswers()
    async with talking(answers, log=log) as one:
        caller = await one.call()
        await caller.say((1, 0.4, 0.1), (2, 0.4, 0.8))  # the final has come, and the turn is not over
        session = caller.of("ready")[0]["session"]
        assert caller.of("final")
        assert not caller.of("turn")
        caller.leave()
        await asyncio.sleep(0.01)
        async with Talk(answers, log=log).opened() as two:
            again = await two.call(session=session)
            await again.listen(2)
            assert len(answers.asked) == 1
            assert answers.asked[0].text == "w1 w2"


@simulated
async def test_a_process_that_leaves_sends_its_callers_elsewhere_and_nothing_is_lost() -> None:
    log, answers = MoodyLog(), ScriptedAnswers()
    async with talking(answers, log=log) as one:
        caller = await asking(one)
        await asyncio.wait_for(one.place.lane.drain(), 1)
        assert caller.of("drain")
        assert caller.close_code == 1012
        at = caller.frames[4][2]
        session, cursor = caller.of("ready")[0]["session"], caller.of("final")[-1]["cursor"]
        async with Talk(answers, log=log).opened() as two:
            again = await two.call(session=session, cursor=cursor, played={"run": "r1", "samples": at})
            await again.listen(WHOLE_S + 1)
            assert again.frames[0][2] == at
            assert again.sound == sound_of(FIRST, SECOND)[2 * at :]
    assert [state for _, state, _ in answers.told] == ["speaking", "speaking", "spoken"]


@simulated
async def test_who_stops_the_session_leaves_the_rest_to_be_read() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        caller.send({"type": "stop"})
        await asyncio.sleep(1)
        assert caller.close_code == 1000
        assert talk.answers.told[-1][1] == "unspoken"
        assert talk.lane._conversations == {}
