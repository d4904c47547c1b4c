"""A spoken conversation: turns are asked once, answers are heard, interrupted, left and gone on with elsewhere."""

import asyncio

import pytest

from audio.model.fake_voice import FakeVoice
from audio.model.voice import VOICE_RATE
from audio.speech.pacing import AHEAD_S
from gateway.errors import RateLimited
from gateway.voice.answers import AnswerEnd
from gateway.voice.barge_in import RESUME_S
from tests.audio.lanes import MoodyLog
from tests.gateway.voice.talk import (
    FIRST,
    QUESTION,
    SECOND,
    TEXT,
    WHOLE_S,
    ScriptedAnswers,
    asking,
    sound_of,
    talking,
)
from tests.support.virtual_time import simulated

INTERRUPTION = [(3, 0.4, 0.1), (4, 0.4, 0.1), (5, 0.4, 1.6)]
NOISE = [(number, 0.02, 0.0) for number in (8, 9) * 10]
"""Speech for a detector, and no words: long enough to pause an answer, and too short to interrupt it."""


@simulated
async def test_a_question_is_answered_aloud() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        await caller.listen(WHOLE_S + 1)
        (turn,) = caller.of("turn")
        session = caller.of("ready")[0]["session"]
        first = turn["turn"]
        assert (turn["text"], turn["run"], turn["messageId"]) == ("w1 w2", "r1", f"v_{session}_{first}")
        assert caller.states == ["thinking", "speaking", "spoken"]
        assert [(said["clause"], said["from"], said["to"]) for said in caller.of("speech")] == [
            (1, 0, len(FIRST)),
            (2, len(FIRST) + 1, len(TEXT)),
        ]
        assert caller.sound == sound_of(FIRST, SECOND)
        assert talk.answers.told == [("r1", "speaking", 0), ("r1", "spoken", len(TEXT))]
        assert [message["seq"] for message in caller.messages] == list(range(1, len(caller.messages) + 1))


@simulated
async def test_frames_come_as_they_are_heard_and_after_their_clause_was_told() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        await caller.listen(WHOLE_S + 1)
        began = caller.frames[0][0]
        for came_at, _, at, sound in caller.frames:
            assert (at + len(sound) / 2) / VOICE_RATE <= came_at - began + AHEAD_S + 0.01
        assert max(len(sound) for *_, sound in caller.frames) <= 2 * VOICE_RATE / 10


@simulated
async def test_words_interrupt_and_only_what_was_heard_is_told() -> None:
    talk_answers = ScriptedAnswers()
    async with talking(talk_answers) as talk:
        caller = await asking(talk)
        spoken_from = len(caller.frames)
        await caller.say(*INTERRUPTION)
        states = caller.states
        assert states[: states.index("interrupted") + 1] == ["thinking", "speaking", "paused", "interrupted"]
        assert spoken_from > 0
        interrupted = next(reply for reply in caller.of("reply") if reply["state"] == "interrupted")
        run, state, chars = talk.answers.told[1]
        assert (run, state, chars) == ("r1", "interrupted", interrupted["chars"])
        assert 0 < chars < len(TEXT)
        assert TEXT[chars] == " "
        assert talk.answers.stops == ["r1"]
        assert [turn["text"] for turn in caller.of("turn")] == ["w1 w2", "w3 w4 w5"]
        assert len(talk.answers.asked) == 2


@simulated
async def test_no_frame_comes_once_somebody_speaks() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        begins = asyncio.get_running_loop().time()
        await caller.say((3, 0.8, 0.0))
        late = [came_at for came_at, *_ in caller.frames if came_at > begins + 0.3]
        assert late == []


@simulated
async def test_a_short_noise_pauses_and_the_answer_goes_on_without_a_sample_lost() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        talk.place.model.holds = True
        await caller.say(*NOISE)
        await caller.listen(RESUME_S + 0.4)
        assert caller.states[-1] == "paused", "words may still come of it"
        talk.place.model.holds = False
        talk.place.model.release()
        await caller.listen(WHOLE_S + 3)
        assert "interrupted" not in caller.states
        assert caller.sound == sound_of(FIRST, SECOND)
        assert len(talk.answers.asked) == 1


@simulated
async def test_with_barge_in_off_what_is_said_is_the_next_turn() -> None:
    async with talking() as talk:
        caller = await asking(talk, bargeIn="off")
        await caller.say(*INTERRUPTION)
        await caller.listen(2 * WHOLE_S + 3)
        assert caller.states == ["thinking", "speaking", "spoken"] * 2
        assert [turn["text"] for turn in caller.of("turn")] == ["w1 w2", "w3 w4 w5"]


@pytest.mark.parametrize(
    ("text", "has_echo", "turns"),
    [
        ("And so we come to w3 w4 w5.", True, 1),
        ("And so we come to w3 w4 w5.", False, 2),
        ("This is the end of it.", True, 2),
    ],
)
@simulated
async def test_the_end_of_an_answer_is_no_turn_where_a_microphone_picks_it_up(
    text: str, has_echo: bool, turns: int
) -> None:
    async with talking(ScriptedAnswers(text)) as talk:
        caller = await talk.call()
        [conversation] = talk.lane._conversations
        conversation._has_echo = has_echo
        await caller.say(*QUESTION)
        await caller.listen(len(sound_of(text)) / 2 / VOICE_RATE - 0.9)
        while caller.states[-1] != "spoken":
            await caller.listen(0.1)
        await caller.say(*INTERRUPTION)
        assert len(caller.of("turn")) == turns


@simulated
async def test_a_button_ends_a_reply_at_the_sample_that_was_heard() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        caller.send({"type": "interrupt", "run": "r1", "samples": 2400})
        await asyncio.sleep(0.1)
        assert caller.of("reply")[-1]["state"] == "interrupted"
        assert talk.answers.told[-1][:2] == ("r1", "interrupted")


@simulated
async def test_a_report_of_more_than_was_sent_ends_the_connection() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        caller.send({"type": "played", "run": "r1", "samples": 10_000_000})
        await asyncio.sleep(0.1)
        assert caller.of("error")[-1]["code"] == "bad_played"
        assert caller.close_code is not None


@simulated
async def test_what_is_typed_is_answered_aloud() -> None:
    async with talking() as talk:
        caller = await talk.call()
        caller.send({"type": "text", "id": "m9", "text": "What is it?"})
        await caller.listen(WHOLE_S + 1)
        (turn,) = caller.of("turn")
        assert (turn["messageId"], turn["text"]) == ("m9", "What is it?")
        assert "turn" not in turn
        assert caller.sound == sound_of(FIRST, SECOND)


@simulated
async def test_an_answer_is_read_on_from_a_character() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        await caller.listen(WHOLE_S + 1)
        caller.frames.clear()
        caller.send({"type": "speak", "run": "r1", "from": len(FIRST) + 1})
        await caller.listen(WHOLE_S + 1)
        assert caller.sound == sound_of(SECOND)


@simulated
async def test_a_stop_from_elsewhere_is_silence() -> None:
    async with talking() as talk:
        caller = await asking(talk)
        assert talk.answers.newest is not None
        talk.answers.newest.on_stop()
        count = len(caller.frames)
        await caller.listen(1)
        assert (caller.states[-1], len(caller.frames)) == ("stopped", count)


@simulated
async def test_a_refusal_of_the_upstream_fails_the_reply_and_not_the_conversation() -> None:
    answers = ScriptedAnswers()
    answers.refusal = RateLimited("slowly", code="rate_limited", retry_after="1")
    async with talking(answers) as talk:
        caller = await talk.call()
        await caller.say(*QUESTION)
        assert [(reply["state"], reply["reason"]) for reply in caller.of("reply")] == [("failed", "rate_limited")]
        answers.refusal = None
        await caller.say(*QUESTION)
        assert caller.states[-1] == "speaking"


@simulated
async def test_a_run_that_fails_says_so() -> None:
    answers = ScriptedAnswers("")
    answers.end = AnswerEnd("failed", "upstream_500")
    async with talking(answers) as talk:
        caller = await talk.call()
        await caller.say(*QUESTION)
        failed = caller.of("reply")[-1]
        assert (failed["state"], failed["reason"]) == ("failed", "upstream_500")
        assert caller.close_code is None


@simulated
async def test_a_voice_that_breaks_leaves_the_text() -> None:
    voice = FakeVoice()
    async with talking(voice=voice) as talk:
        caller = await talk.call()
        voice.failing = 99
        await caller.say(*QUESTION)
        await caller.listen(1)
        last = caller.of("reply")[-1]
        assert (last["state"], last["reason"]) == ("text_only", "voice_failed")


@simulated
async def test_nothing_is_said_that_is_not_in_the_log() -> None:
    log = MoodyLog()
    async with talking(log=log) as talk:
        caller = await talk.call()
        await caller.say((1, 0.4, 0.1), (2, 0.4, 0.9))
        log.pending = []
        await caller.listen(1.5)
        assert not caller.of("speech")
        assert not caller.frames
        await log.release()
        await caller.listen(0.5)
        assert caller.of("speech")
        assert caller.frames


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ({"voice": {"name": "marvin"}}, "voice_unknown"),
        ({"voice": {"sampleRate": 8000}}, "bad_message"),
        ({"channels": 2, "split": True}, "bad_start"),
    ],
)
@simulated
async def test_what_cannot_be_a_conversation_is_refused(start: dict[str, object], code: str) -> None:
    async with talking() as talk:
        caller = await talk.call(**start)
        assert caller.of("error")[0]["code"] == code
        assert caller.close_code is not None


@simulated
async def test_a_voice_without_room_takes_no_conversation() -> None:
    async with talking() as talk:
        talk.lane.speech.booth._max_speakers = 0
        caller = await talk.call()
        assert (caller.of("error")[0]["code"], caller.close_code) == ("voice_full", 1013)


@simulated
async def test_a_unit_without_chats_takes_no_conversation() -> None:
    async with talking() as talk:
        talk.lane._answers = None
        caller = await talk.call()
        assert caller.of("error")[0]["code"] == "bad_start"


@simulated
async def test_a_session_that_is_linked_to_no_chat_loads_no_voice_and_has_no_companion() -> None:
    async with talking() as talk:
        caller = await talk.call(linkChat=None)
        await caller.say(*QUESTION)
        assert caller.of("final")
        assert not caller.of("turn")
        assert "turn" not in caller.of("final")[0]
        assert not talk.voice.is_open
        assert talk.lane._conversations == {}
