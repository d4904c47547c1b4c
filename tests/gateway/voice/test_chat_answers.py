"""A turn is asked in its chat once, whoever else writes there; the chat knows how far its answer was spoken."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.access.grants import Grants, Principal
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeToolbox
from gateway.errors import Forbidden, NotFound, UpstreamRefused
from gateway.voice.answers import AnswerEnd, AnswerPiece, AnswerText, Question, SpokenState
from gateway.voice.chat_answers import ChatAnswers
from tests.support.chats import user
from tests.support.completions import END, HELLO
from tests.support.followers import LOCAL
from tests.support.scripted_upstream import ScriptedBody
from tests.support.tool_stage import ToolStage, says, staged
from tests.support.virtual_time import simulated

QUESTION = Question("v_s_512", "Where is Paris?", "s", 512, 9000)
PARIS = "Paris is in France. It lies on the Seine."


@asynccontextmanager
async def chat(*answers: ScriptedBody) -> AsyncIterator[tuple[ToolStage, ChatAnswers]]:
    async with staged(FakeToolbox(), *answers) as stage:
        yield stage, ChatAnswers(stage.lane, stage.core.log, stage.core.hub)


async def read(answer: AnswerText) -> list[AnswerPiece]:
    await answer.begin()
    pieces = [piece async for piece in answer.pieces()]
    answer.close()
    return pieces


def text_of(pieces: list[AnswerPiece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


@simulated
async def test_a_turn_is_a_message_of_the_chat_and_its_run_is_read_as_text() -> None:
    async with chat(says(PARIS)) as (stage, answers):
        pieces = await read(await answers.ask(LOCAL, "c", QUESTION, ""))
        assert text_of(pieces) == PARIS
        assert pieces[-1] == AnswerEnd("finish")
        question, answer = (await stage.snapshot()).messages
        assert (question.id, question.role, answer.role) == ("v_s_512", "user", "assistant")
        metadata = json.loads(bytes(question.metadata))  # type: ignore[arg-type]
        assert metadata["spoken"] == {"session": "s", "start": 512, "end": 9000}


@simulated
async def test_a_turn_that_is_heard_again_is_the_same_run_even_where_it_is_heard_otherwise() -> None:
    async with chat(says(PARIS)) as (stage, answers):
        first = await answers.ask(LOCAL, "c", QUESTION, "")
        await read(first)
        again = await answers.ask(LOCAL, "c", QUESTION._replace(text="Where was Paris?"), "")
        assert text_of(await read(again)) == PARIS
        assert again.run_id == first.run_id
        assert [message.id for message in (await stage.snapshot()).messages] == ["v_s_512", f"msg-{first.run_id}"]


@simulated
async def test_a_turn_waits_for_the_answer_of_another_device() -> None:
    busy = ScriptedBody(HELLO)
    async with chat(busy, says(PARIS)) as (stage, answers):
        sending = asyncio.create_task(stage.send(SendRequest(id="c", message=user("u1", "Hi"))))
        await asyncio.sleep(0.1)
        answer = await answers.ask(LOCAL, "c", QUESTION, "")
        assert answer.run_id == ""
        reading = asyncio.create_task(read(answer))
        await asyncio.sleep(1)
        assert not reading.done()
        busy.send(END)
        busy.end()
        assert text_of(await reading) == PARIS
        assert answer.run_id != ""
        await sending
        assert len((await stage.snapshot()).messages) == 4


@simulated
async def test_an_answer_that_was_asked_for_before_is_read_again() -> None:
    async with chat(says(PARIS)) as (_, answers):
        asked = await answers.ask(LOCAL, "c", QUESTION, "")
        await read(asked)
        pieces = [piece async for piece in (await answers.open(LOCAL, "c", asked.run_id)).pieces()]
        assert text_of(pieces) == PARIS
        with pytest.raises(NotFound, match="no run"):
            await answers.open(LOCAL, "c", "nothing")


@simulated
async def test_the_chat_is_told_how_far_an_answer_was_spoken_and_the_next_prompt_ends_there() -> None:
    async with chat(says(PARIS), says("Yes.")) as (stage, answers):
        asked = await answers.ask(LOCAL, "c", QUESTION, "")
        await read(asked)
        await answers.tell(LOCAL, "c", "s", SpokenState(asked.run_id, "interrupted", 19), stops=True)
        answer = await stage.answer()
        assert json.loads(bytes(answer.metadata))["speech"] == {  # type: ignore[arg-type]
            "session": "s",
            "state": "interrupted",
            "chars": 19,
        }
        await read(await answers.ask(LOCAL, "c", QUESTION._replace(message_id="v_s_99", text="Really?"), ""))
        prompt = [turn["content"] for turn in stage.upstream.requests[-1][0]["messages"]]  # type: ignore
        assert prompt == ["Where is Paris?", "Paris is in France. —", "Really?"]


@simulated
async def test_an_interruption_stops_the_run_that_is_still_written() -> None:
    async with chat(ScriptedBody(HELLO)) as (_, answers):
        asked = await answers.ask(LOCAL, "c", QUESTION, "")
        reading = asyncio.create_task(read(asked))
        await asyncio.sleep(0.1)
        await answers.tell(LOCAL, "c", "s", SpokenState(asked.run_id, "interrupted", 2), stops=True)
        assert (await reading)[-1] == AnswerEnd("stopped", "stopped")


@pytest.mark.parametrize("is_written", [True, False])
@simulated
async def test_a_stop_from_another_device_reaches_whoever_speaks_even_when_all_is_written(is_written: bool) -> None:
    async with chat(says(PARIS) if is_written else ScriptedBody(HELLO)) as (stage, answers):
        asked = await answers.ask(LOCAL, "c", QUESTION, "")
        stops: list[str] = []
        asked.on_stop = lambda: stops.append("stop")
        await asked.begin()
        await asyncio.sleep(0.1)
        await answers.tell(LOCAL, "c", "s", SpokenState(asked.run_id, "speaking", 0), stops=False)
        assert await stage.lane.chats.stop(LOCAL, "c", None) == asked.run_id
        await asyncio.sleep(0.1)
        assert stops == ["stop"]
        asked.close()


@simulated
async def test_nothing_is_stopped_once_the_answer_was_spoken() -> None:
    async with chat(says(PARIS)) as (stage, answers):
        asked = await answers.ask(LOCAL, "c", QUESTION, "")
        await read(asked)
        for state in ("speaking", "spoken"):
            await answers.tell(LOCAL, "c", "s", SpokenState(asked.run_id, state, 41), stops=False)
        assert await stage.lane.chats.stop(LOCAL, "c", None) is None


@simulated
async def test_only_who_may_ask_in_a_chat_converses_in_it() -> None:
    async with chat() as (_, answers):
        await answers.admit(LOCAL, "c")
        with pytest.raises(Forbidden) as refusal:
            await answers.admit(Principal(sub="me", grants=Grants(chat=False)), "c")
        assert refusal.value.code == "chat_forbidden"


@simulated
async def test_what_an_upstream_refuses_is_the_end_of_the_answer() -> None:
    refused = UpstreamRefused("slowly", code="rate_limited", status=429)
    async with chat(refused) as (_, answers):  # type: ignore[arg-type]
        pieces = await read(await answers.ask(LOCAL, "c", QUESTION, ""))
        assert pieces == [AnswerEnd("failed", "rate_limited")]
