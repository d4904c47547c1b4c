"""OpenAI's JavaScript SDK works unmodified against `/v1`."""

import subprocess
from typing import Any

import msgspec
import pytest

from loadtests.upstream.shapes import words
from tests.clients.node import install, tool
from tests.conftest import Gateway


@pytest.fixture(scope="module")
def answers(gateway: Gateway) -> dict[str, Any]:
    """Returns the answer to each question of `js/openai.mjs`."""
    script = install() / "openai.mjs"
    process = subprocess.run([tool("node"), str(script), gateway.url], capture_output=True, timeout=60)
    assert process.returncode == 0, process.stderr.decode()
    return msgspec.json.decode(process.stdout)


def text_of(outcome: dict[str, Any], field: str = "content") -> str:
    choices = [choice for chunk in outcome["chunks"] for choice in chunk["choices"]]
    return "".join(choice["delta"].get(field) or "" for choice in choices)


def test_a_whole_answer_arrives_with_its_figures(answers: dict[str, Any]) -> None:
    [choice] = answers["whole"]["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (words(20), "stop")
    assert answers["whole"]["usage"]["total_tokens"] == 27


def test_a_streamed_answer_arrives_with_its_usage(answers: dict[str, Any]) -> None:
    outcome = answers["streamed"]
    assert text_of(outcome) == words(20)
    *_, finish, usage = outcome["chunks"]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 20)
    assert "error" not in outcome


def test_tool_calls_are_assembled_by_the_sdk(answers: dict[str, Any]) -> None:
    [choice] = answers["assembled"]["choices"]
    calls = [(call["id"], call["function"]["arguments"]) for call in choice["message"]["tool_calls"]]
    assert calls == [(f"call_{day}", f'{{"city":"Zürich","day":{day}}}') for day in range(2)]
    assert choice["finish_reason"] == "tool_calls"


def test_reasoning_is_kept_apart(answers: dict[str, Any]) -> None:
    assert text_of(answers["reasoning"], "reasoning_content") == "r0 r1 r2 r3 r4 "
    assert text_of(answers["reasoning"]) == words(20)


def test_half_an_answer_is_never_a_success(answers: dict[str, Any]) -> None:
    whole, stream = answers["cut"], answers["cutStream"]
    assert (whole["error"], whole["status"], whole["code"]) == ("InternalServerError", 502, "upstream_cut")
    assert (stream["error"], stream["code"]) == ("APIError", "upstream_cut")
    assert text_of(stream) == words(10)


@pytest.mark.parametrize("question", ["limited", "limitedStream"])
def test_a_rate_limit_says_when_to_return(question: str, answers: dict[str, Any]) -> None:
    outcome = answers[question]
    assert (outcome["error"], outcome["status"], outcome["retryAfter"]) == ("RateLimitError", 429, "7")
    assert "Rate limit reached" in outcome["message"]


def test_the_models_are_listed(answers: dict[str, Any]) -> None:
    assert answers["models"] == ["ok"]
