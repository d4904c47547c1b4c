"""Anthropic's JavaScript SDK, and the AI SDK's provider for it in three versions, work unmodified against `/v1`."""

import subprocess
from typing import Any

import msgspec
import pytest

from loadtests.upstream.shapes import words
from tests.clients.node import install, tool
from tests.clients.test_openai_sdk import THOUGHT
from tests.conftest import Gateway

CUT = "ended without a finish_reason"
VERSIONS = ("5", "6", "7")
of_each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def answers(gateway: Gateway) -> dict[str, Any]:
    """Returns the answer to each question of `js/anthropic.mjs`."""
    script = install() / "anthropic.mjs"
    process = subprocess.run([tool("node"), str(script), gateway.url], capture_output=True, timeout=120)
    assert process.returncode == 0, process.stderr.decode()
    return msgspec.json.decode(process.stdout)


def test_an_answer_arrives_whole_with_its_figures(answers: dict[str, Any]) -> None:
    message, usage = answers["whole"], answers["whole"]["usage"]
    assert [(block["type"], block["text"]) for block in message["content"]] == [("text", words(20))]
    assert (message["stop_reason"], usage["input_tokens"], usage["output_tokens"]) == ("end_turn", 7, 20)


def test_a_stream_is_put_together_by_the_sdk(answers: dict[str, Any]) -> None:
    thinking, text = answers["streamed"]["content"]
    assert (thinking["thinking"], text["text"]) == (THOUGHT, words(20))
    calls = [(call["id"], call["input"]["day"]) for call in answers["calls"]["content"]]
    assert calls == [("call_0", 0), ("call_1", 1)]


def test_what_failed_is_raised(answers: dict[str, Any]) -> None:
    assert (answers["cut"]["error"], answers["cut"]["status"]) == ("InternalServerError", 502)
    assert CUT in answers["cutStream"]["message"]
    assert (answers["limited"]["error"], answers["limited"]["status"]) == ("RateLimitError", 429)


def test_tokens_are_counted(answers: dict[str, Any]) -> None:
    assert answers["counted"]["input_tokens"] > 5


@of_each_version
def test_the_ai_sdk_generates(version: str, answers: dict[str, Any]) -> None:
    answer = answers[f"generated{version}"]
    assert (answer["text"], answer["finishReason"]) == (words(20), "stop")
    assert (answer["usage"]["inputTokens"], answer["usage"]["outputTokens"]) == (7, 20)


@of_each_version
def test_the_ai_sdk_streams(version: str, answers: dict[str, Any]) -> None:
    assert answers[f"streamed{version}"] == {"text": words(20), "reasoning": THOUGHT}


@of_each_version
def test_the_ai_sdk_calls_tools_in_steps(version: str, answers: dict[str, Any]) -> None:
    assert answers[f"steps{version}"] == {"text": words(20), "results": ["rain in Zürich on day 0"]}


@of_each_version
def test_the_ai_sdk_tells_of_a_cut(version: str, answers: dict[str, Any]) -> None:
    answer = answers[f"cut{version}"]
    assert answer["text"] == words(10)
    assert any(CUT in error for error in answer["errors"])
