"""OpenAI's JavaScript SDK, and the AI SDK's default OpenAI provider in each version, work unmodified on Responses."""

import subprocess
from typing import Any

import msgspec
import pytest

from loadtests.upstream.answer import Answer
from loadtests.upstream.shapes import chunk, words
from loadtests.upstream.stream import finish, start
from tests.clients.node import install, tool
from tests.conftest import Gateway, UpstreamThread

AI_SDKS = ("ai5", "ai6", "ai7")
OBJECT = '{"city":"Zürich","day":1}'
CALLS = [{"city": "Zürich", "day": 0}, {"city": "Zürich", "day": 1}]
THOUGHT = "r0 r1 r2 r3 r4 "


async def an_object(answer: Answer) -> None:
    """Answers with one object, in two pieces."""
    await start(answer)
    for piece in (OBJECT[:9], OBJECT[9:]):
        await answer.frame(chunk(answer.ask, {"content": piece}))
    await finish(answer)


@pytest.fixture(scope="module")
def answers(gateway: Gateway, upstream: UpstreamThread) -> dict[str, Any]:
    """Returns the answer to each question of `js/responses.mjs`, by client."""
    upstream.fake.script("json-object", an_object)
    upstream.fake.script("o3", "reasoning")  # the provider asks only models that it knows for their thoughts
    script = install() / "responses.mjs"
    process = subprocess.run([tool("node"), str(script), gateway.url], capture_output=True, timeout=90)
    assert process.returncode == 0, process.stderr.decode()
    return msgspec.json.decode(process.stdout)


@pytest.fixture(params=AI_SDKS)
def ai(request: pytest.FixtureRequest, answers: dict[str, Any]) -> dict[str, Any]:
    return answers[request.param]


def reason(told: Any) -> str:
    """Returns why an answer ended: a word, or from version 6 of the provider on an object."""
    return told["unified"] if isinstance(told, dict) else told


def test_openais_sdk_reads_a_response_whole_and_streamed(answers: dict[str, Any]) -> None:
    told = answers["openai"]
    assert told["whole"]["output_text"] == words(20)
    assert "error" not in told["streamed"]
    events = told["streamed"]["events"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == words(20)
    arguments = [msgspec.json.decode(item["arguments"]) for item in told["assembled"]["output"]]
    assert arguments == CALLS


def test_openais_sdk_raises_what_is_not_whole(answers: dict[str, Any]) -> None:
    told = answers["openai"]
    assert (told["cut"]["code"], told["cut"]["events"][-1]["type"]) == ("upstream_cut", "response.failed")
    assert (told["limited"]["status"], told["limited"]["code"]) == (429, "upstream_rate_limited")


def test_openais_sdk_goes_on_behind_an_event(answers: dict[str, Any]) -> None:
    told = answers["openai"]["resumed"]
    assert len(told["rest"]) > 20
    assert told["again"] == told["rest"]


def test_the_ai_sdk_reads_an_answer_with_its_figures(ai: dict[str, Any]) -> None:
    assert (ai["whole"]["text"], reason(ai["whole"]["finishReason"])) == (words(20), "stop")
    assert (ai["streamed"]["text"], ai["streamed"].get("error")) == (words(20), None)
    [(why, usage)] = ai["streamed"]["finish"]
    assert (reason(why), usage["inputTokens"], usage["outputTokens"]) == ("stop", 7, 20)


@pytest.mark.parametrize("question", ["tools", "unstored"])
def test_the_ai_sdk_runs_its_tools_in_two_steps(question: str, ai: dict[str, Any]) -> None:
    told = ai[question]
    calls = CALLS if question == "tools" else CALLS[:1]
    assert ("error" not in told, told["calls"]) == (True, calls), told
    assert told["results"] == ["sun in Zürich"] * len(calls)
    assert told["text"] == words(20)


def test_the_ai_sdk_runs_its_tools_without_a_stream(ai: dict[str, Any]) -> None:
    assert ai["wholeTools"] == {"text": words(20), "steps": 2}


def test_the_ai_sdk_shows_thoughts(ai: dict[str, Any]) -> None:
    assert (ai["reasoning"]["reasoning"], ai["reasoning"]["text"]) == (THOUGHT, words(20))


def test_the_ai_sdk_makes_an_object(ai: dict[str, Any]) -> None:
    assert ai["object"] == msgspec.json.decode(OBJECT)


def test_the_ai_sdk_tells_what_is_not_whole(ai: dict[str, Any]) -> None:
    [(why, _)] = ai["length"]["finish"]
    assert reason(why) == "length"
    assert "error" in ai["cut"], ai["cut"]
    assert (ai["limited"]["status"], ai["tooLong"]["status"]) == (429, 400)
    assert ai["tooLong"]["code"] == "context_length_exceeded"
